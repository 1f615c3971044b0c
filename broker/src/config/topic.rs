//! Settings of topics, by Kafka's names.

use std::sync::LazyLock;

use super::definition::Update::ClusterWide;
use super::definition::Valid::{Any, AtLeast, Between, GzipLevel, OneOf, ThrottledReplicas};
use super::definition::{Definition, inert, settings, sorted};
use super::value::Kind::{Boolean, Int, List, Long};

settings! {
    /// The effective settings of a topic.
    TopicConfig, ACTIVE {
        cleanup_policy: Vec<String> = List "cleanup.policy", Some("delete"), OneOf(&["compact", "delete"]), ClusterWide,
            "What happens to old segments: `delete`, `compact` or both.";
        compression_gzip_level: i32 = Int "compression.gzip.level", Some("-1"), GzipLevel, ClusterWide,
            "gzip level, 1 to 9, or -1 for the codec's own.";
        compression_lz4_level: i32 = Int "compression.lz4.level", Some("9"), Between(1, 17), ClusterWide,
            "lz4 level, 1 to 17: 9 is the fast one, as in Kafka; the others look harder, higher ones longer.";
        compression_type: String = String "compression.type", Some("producer"), OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), ClusterWide,
            "How batches are stored: `producer` keeps what the producer sent.";
        compression_zstd_level: i32 = Int "compression.zstd.level", Some("3"), Between(-131_072, 22), ClusterWide,
            "zstd level, -131072 to 22.";
        delete_retention_ms: i64 = Long "delete.retention.ms", Some("86400000"), AtLeast(0), ClusterWide,
            "Tombstones of a compacted topic are kept for so long, ms.";
        file_delete_delay_ms: i64 = Long "file.delete.delay.ms", Some("60000"), AtLeast(0), ClusterWide,
            "A deleted segment's file stays for so long, ms.";
        index_interval_bytes: i32 = Int "index.interval.bytes", Some("4096"), AtLeast(0), ClusterWide,
            "Bytes between two entries of the offset index.";
        max_compaction_lag_ms: i64 = Long "max.compaction.lag.ms", Some("9223372036854775807"), AtLeast(1), ClusterWide,
            "A record is compacted at the latest when it is so old, ms.";
        max_message_bytes: i32 = Int "max.message.bytes", Some("1048588"), AtLeast(0), ClusterWide,
            "Largest record batch, bytes.";
        message_timestamp_after_max_ms: i64 = Long "message.timestamp.after.max.ms", Some("3600000"), AtLeast(0), ClusterWide,
            "A record's timestamp may be ahead of the broker's clock by so much, ms.";
        message_timestamp_before_max_ms: i64 = Long "message.timestamp.before.max.ms", Some("9223372036854775807"), AtLeast(0), ClusterWide,
            "A record's timestamp may be behind the broker's clock by so much, ms.";
        message_timestamp_type: String = String "message.timestamp.type", Some("CreateTime"), OneOf(&["CreateTime", "LogAppendTime"]), ClusterWide,
            "`CreateTime`: as the producer says; `LogAppendTime`: when it was appended.";
        min_cleanable_dirty_ratio: f64 = Double "min.cleanable.dirty.ratio", Some("0.5"), Between(0, 1), ClusterWide,
            "Share of the log that must be uncompacted before it is compacted.";
        min_compaction_lag_ms: i64 = Long "min.compaction.lag.ms", Some("0"), AtLeast(0), ClusterWide,
            "A record stays uncompacted for so long, ms.";
        min_insync_replicas: i32 = Int "min.insync.replicas", Some("1"), AtLeast(1), ClusterWide,
            "In-sync replicas that a write with acks=all needs.";
        retention_bytes: i64 = Long "retention.bytes", Some("-1"), Any, ClusterWide,
            "Largest size of a partition before old segments go, bytes; -1 without a limit.";
        retention_ms: i64 = Long "retention.ms", Some("604800000"), AtLeast(-1), ClusterWide,
            "Age at which segments go, ms; -1 without a limit.";
        segment_bytes: i32 = Int "segment.bytes", Some("1073741824"), AtLeast(1_048_576), ClusterWide,
            "Size at which a new segment begins, bytes.";
        segment_ms: i64 = Long "segment.ms", Some("604800000"), AtLeast(1), ClusterWide,
            "Age at which a new segment begins, ms.";
        unclean_leader_election_enable: bool = Boolean "unclean.leader.election.enable", Some("false"), Any, ClusterWide,
            "A replica outside the ISR may lead when no other can; this loses messages.";
    }
}

/// What Kafka's topics have and what does nothing in Chronik.
const INERT: &[Definition] = &[
    inert("errors.deadletterqueue.group.enable", Boolean, Some("false"), Any, ClusterWide),
    inert("flush.messages", Long, Some("9223372036854775807"), AtLeast(1), ClusterWide),
    inert("flush.ms", Long, Some("9223372036854775807"), AtLeast(0), ClusterWide),
    inert("follower.replication.throttled.replicas", List, Some(""), ThrottledReplicas, ClusterWide),
    inert("leader.replication.throttled.replicas", List, Some(""), ThrottledReplicas, ClusterWide),
    inert("local.retention.bytes", Long, Some("-2"), AtLeast(-2), ClusterWide),
    inert("local.retention.ms", Long, Some("-2"), AtLeast(-2), ClusterWide),
    inert("max.decompressed.message.bytes", Int, Some("2147483639"), Between(1, 2_147_483_639), ClusterWide),
    inert("preallocate", Boolean, Some("false"), Any, ClusterWide),
    inert("remote.copy.lag.bytes", Long, Some("-1"), AtLeast(-1), ClusterWide),
    inert("remote.copy.lag.ms", Long, Some("0"), AtLeast(-1), ClusterWide),
    inert("remote.log.copy.disable", Boolean, Some("false"), Any, ClusterWide),
    inert("remote.log.delete.on.disable", Boolean, Some("false"), Any, ClusterWide),
    inert("remote.storage.enable", Boolean, Some("false"), Any, ClusterWide),
    inert("segment.index.bytes", Int, Some("10485760"), AtLeast(4), ClusterWide),
    inert("segment.jitter.ms", Long, Some("0"), AtLeast(0), ClusterWide),
];

static ALL: LazyLock<Vec<Definition>> = LazyLock::new(|| sorted(&[ACTIVE, INERT]));

/// Every topic setting, by name.
pub fn topic_definitions() -> &'static [Definition] {
    &ALL
}

/// One topic setting.
pub fn topic_definition(name: &str) -> Option<&'static Definition> {
    ALL.binary_search_by_key(&name, |definition| definition.name).ok().map(|index| &ALL[index])
}

/// The broker setting that a topic without its own value takes.
pub fn broker_synonym(name: &str) -> Option<&'static str> {
    Some(match name {
        "cleanup.policy" => "log.cleanup.policy",
        "compression.gzip.level" => "compression.gzip.level",
        "compression.lz4.level" => "compression.lz4.level",
        "compression.type" => "compression.type",
        "compression.zstd.level" => "compression.zstd.level",
        "delete.retention.ms" => "log.cleaner.delete.retention.ms",
        "file.delete.delay.ms" => "log.segment.delete.delay.ms",
        "flush.messages" => "log.flush.interval.messages",
        "flush.ms" => "log.flush.interval.ms",
        "index.interval.bytes" => "log.index.interval.bytes",
        "local.retention.bytes" => "log.local.retention.bytes",
        "local.retention.ms" => "log.local.retention.ms",
        "max.compaction.lag.ms" => "log.cleaner.max.compaction.lag.ms",
        "max.decompressed.message.bytes" => "max.decompressed.message.bytes",
        "max.message.bytes" => "message.max.bytes",
        "message.timestamp.after.max.ms" => "log.message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms" => "log.message.timestamp.before.max.ms",
        "message.timestamp.type" => "log.message.timestamp.type",
        "min.cleanable.dirty.ratio" => "log.cleaner.min.cleanable.ratio",
        "min.compaction.lag.ms" => "log.cleaner.min.compaction.lag.ms",
        "min.insync.replicas" => "min.insync.replicas",
        "preallocate" => "log.preallocate",
        "remote.copy.lag.bytes" => "log.remote.copy.lag.bytes",
        "remote.copy.lag.ms" => "log.remote.copy.lag.ms",
        "retention.bytes" => "log.retention.bytes",
        "retention.ms" => "log.retention.ms",
        "segment.bytes" => "log.segment.bytes",
        "segment.index.bytes" => "log.index.size.max.bytes",
        "segment.jitter.ms" => "log.roll.jitter.ms",
        "segment.ms" => "log.roll.ms",
        "unclean.leader.election.enable" => "unclean.leader.election.enable",
        _ => return None,
    })
}
