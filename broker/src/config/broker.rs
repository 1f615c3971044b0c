//! Settings of brokers that Chronik acts on, by Kafka's names.

use std::sync::LazyLock;

use super::broker_inert::INERT;
use super::definition::Valid::{Any, AtLeast, Between, GzipLevel, OneOf};
use super::definition::{Definition, settings, sorted};

settings! {
    /// The effective settings of this broker.
    BrokerSettings, ACTIVE {
        advertised_listeners: Option<Vec<String>> = List "advertised.listeners", None, Any, ReadOnly,
            "The address that clients are told (`advertised_addr`).";
        auto_create_topics_enable: bool = Boolean "auto.create.topics.enable", Some("true"), Any, ReadOnly,
            "A Metadata request may create a topic that it names and that does not exist.";
        auto_leader_rebalance_enable: bool = Boolean "auto.leader.rebalance.enable", Some("true"), Any, ReadOnly,
            "Whether leadership is given back to preferred replicas.";
        broker_id: i32 = Int "broker.id", Some("-1"), Any, ReadOnly,
            "The same as `node.id`.";
        broker_rack: Option<String> = String "broker.rack", None, Any, ReadOnly,
            "The rack (zone) that this broker stands in.";
        compression_gzip_level: i32 = Int "compression.gzip.level", Some("-1"), GzipLevel, ClusterWide,
            "gzip level, 1 to 9, or -1 for the codec's own.";
        compression_lz4_level: i32 = Int "compression.lz4.level", Some("9"), Between(1, 17), ClusterWide,
            "lz4 level, 1 to 17: 9 is the fast one, as in Kafka; the others look harder, higher ones longer.";
        compression_type: String = String "compression.type", Some("producer"), OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), ClusterWide,
            "How batches are stored: `producer` keeps what the producer sent.";
        compression_zstd_level: i32 = Int "compression.zstd.level", Some("3"), Between(-131_072, 22), ClusterWide,
            "zstd level, -131072 to 22.";
        connections_max_idle_ms: i64 = Long "connections.max.idle.ms", Some("600000"), Any, ReadOnly,
            "A connection without requests for so long is closed, ms.";
        default_replication_factor: i32 = Int "default.replication.factor", Some("1"), Any, ReadOnly,
            "Replicas of a topic that is created without a number.";
        delete_topic_enable: bool = Boolean "delete.topic.enable", Some("true"), Any, ReadOnly,
            "Topics may be deleted.";
        fetch_max_bytes: i32 = Int "fetch.max.bytes", Some("57671680"), AtLeast(1024), ReadOnly,
            "Largest Fetch response, bytes.";
        group_initial_rebalance_delay_ms: i32 = Int "group.initial.rebalance.delay.ms", Some("3000"), Any, ReadOnly,
            "How long an empty group waits for more members before its first rebalance, ms.";
        group_max_session_timeout_ms: i32 = Int "group.max.session.timeout.ms", Some("1800000"), Any, ReadOnly,
            "Longest session timeout that a group member may ask for, ms.";
        group_max_size: i32 = Int "group.max.size", Some("2147483647"), AtLeast(1), ReadOnly,
            "Most members of a group.";
        group_min_session_timeout_ms: i32 = Int "group.min.session.timeout.ms", Some("6000"), Any, ReadOnly,
            "Shortest session timeout that a group member may ask for, ms.";
        listeners: Vec<String> = List "listeners", Some("PLAINTEXT://:9092"), Any, ReadOnly,
            "Where Kafka clients are served (`kafka_addr`).";
        leader_imbalance_check_interval_seconds: i64 = Long "leader.imbalance.check.interval.seconds", Some("300"), AtLeast(1), ReadOnly,
            "How often it is looked for leaders that are not the preferred ones, seconds.";
        log_cleaner_backoff_ms: i64 = Long "log.cleaner.backoff.ms", Some("15000"), AtLeast(0), ClusterWide,
            "Pause of the compactor when nothing was to do, ms.";
        log_cleaner_dedupe_buffer_size: i64 = Long "log.cleaner.dedupe.buffer.size", Some("134217728"), Any, ClusterWide,
            "Memory for the compactor's map of keys, bytes.";
        log_cleaner_delete_retention_ms: i64 = Long "log.cleaner.delete.retention.ms", Some("86400000"), AtLeast(0), ClusterWide,
            "Tombstones of compacted topics are kept for so long, ms.";
        log_cleaner_io_max_bytes_per_second: f64 = Double "log.cleaner.io.max.bytes.per.second", Some("1.7976931348623157E308"), Any, ClusterWide,
            "The compactor reads and writes at most so much a second, bytes.";
        log_cleaner_max_compaction_lag_ms: i64 = Long "log.cleaner.max.compaction.lag.ms", Some("9223372036854775807"), AtLeast(1), ClusterWide,
            "A record is compacted at the latest when it is so old, ms.";
        log_cleaner_min_cleanable_ratio: f64 = Double "log.cleaner.min.cleanable.ratio", Some("0.5"), Between(0, 1), ClusterWide,
            "Share of a log that must be uncompacted before it is compacted.";
        log_cleaner_min_compaction_lag_ms: i64 = Long "log.cleaner.min.compaction.lag.ms", Some("0"), AtLeast(0), ClusterWide,
            "A record stays uncompacted for so long, ms.";
        log_cleanup_policy: Vec<String> = List "log.cleanup.policy", Some("delete"), OneOf(&["compact", "delete"]), ClusterWide,
            "What happens to old segments: `delete`, `compact` or both.";
        log_dir: Vec<String> = List "log.dir", Some("/tmp/kafka-logs"), Any, ReadOnly,
            "The same as `log.dirs`.";
        log_dirs: Option<Vec<String>> = List "log.dirs", None, Any, ReadOnly,
            "The data folder (`data_dir`): one.";
        log_index_interval_bytes: i32 = Int "log.index.interval.bytes", Some("4096"), AtLeast(0), ClusterWide,
            "Bytes between two entries of an offset index.";
        log_message_timestamp_after_max_ms: i64 = Long "log.message.timestamp.after.max.ms", Some("3600000"), AtLeast(0), ClusterWide,
            "A record's timestamp may be ahead of the broker's clock by so much, ms.";
        log_message_timestamp_before_max_ms: i64 = Long "log.message.timestamp.before.max.ms", Some("9223372036854775807"), AtLeast(0), ClusterWide,
            "A record's timestamp may be behind the broker's clock by so much, ms.";
        log_message_timestamp_type: String = String "log.message.timestamp.type", Some("CreateTime"), OneOf(&["CreateTime", "LogAppendTime"]), ClusterWide,
            "`CreateTime`: as the producer says; `LogAppendTime`: when it was appended.";
        log_retention_bytes: i64 = Long "log.retention.bytes", Some("-1"), Any, ClusterWide,
            "Largest size of a partition before old segments go, bytes; -1 without a limit.";
        log_retention_check_interval_ms: i64 = Long "log.retention.check.interval.ms", Some("300000"), AtLeast(1), ReadOnly,
            "How often segments to delete are looked for, ms.";
        log_retention_hours: i32 = Int "log.retention.hours", Some("168"), Any, ReadOnly,
            "Age at which segments go, hours; `log.retention.minutes` and `log.retention.ms` go before it.";
        log_retention_minutes: Option<i32> = Int "log.retention.minutes", None, Any, ReadOnly,
            "Age at which segments go, minutes; `log.retention.ms` goes before it.";
        log_retention_ms: Option<i64> = Long "log.retention.ms", None, Any, ClusterWide,
            "Age at which segments go, ms; -1 without a limit.";
        log_roll_hours: i32 = Int "log.roll.hours", Some("168"), AtLeast(1), ReadOnly,
            "Age at which a new segment begins, hours; `log.roll.ms` goes before it.";
        log_roll_ms: Option<i64> = Long "log.roll.ms", None, Any, ClusterWide,
            "Age at which a new segment begins, ms.";
        log_segment_bytes: i32 = Int "log.segment.bytes", Some("1073741824"), AtLeast(1_048_576), ClusterWide,
            "Size at which a new segment begins, bytes.";
        log_segment_delete_delay_ms: i64 = Long "log.segment.delete.delay.ms", Some("60000"), AtLeast(0), ClusterWide,
            "A deleted segment's file stays for so long, ms.";
        max_connections: i32 = Int "max.connections", Some("2147483647"), AtLeast(0), ClusterWide,
            "Connections in all.";
        max_connections_per_ip: i32 = Int "max.connections.per.ip", Some("2147483647"), AtLeast(0), ClusterWide,
            "Connections from one address.";
        max_incremental_fetch_session_cache_slots: i32 = Int "max.incremental.fetch.session.cache.slots", Some("1000"), AtLeast(0), ReadOnly,
            "Fetch sessions kept (KIP-227).";
        max_request_partition_size_limit: i32 = Int "max.request.partition.size.limit", Some("2000"), AtLeast(1), ReadOnly,
            "Most partitions in one DescribeTopicPartitions response.";
        message_max_bytes: i32 = Int "message.max.bytes", Some("1048588"), AtLeast(0), ClusterWide,
            "Largest record batch that topics accept by default, bytes.";
        min_insync_replicas: i32 = Int "min.insync.replicas", Some("1"), AtLeast(1), ClusterWide,
            "In-sync replicas that a write with acks=all needs.";
        node_id: Option<i32> = Int "node.id", None, AtLeast(0), ReadOnly,
            "This broker's id in its cluster (`node_id`).";
        num_partitions: i32 = Int "num.partitions", Some("1"), AtLeast(1), ReadOnly,
            "Partitions of a topic that is created without a number.";
        offset_metadata_max_bytes: i32 = Int "offset.metadata.max.bytes", Some("4096"), Any, ReadOnly,
            "Longest metadata that may come with a committed offset, bytes.";
        offsets_commit_timeout_ms: i32 = Int "offsets.commit.timeout.ms", Some("5000"), AtLeast(1), ReadOnly,
            "How long an offset commit may wait for its replicas, ms.";
        offsets_retention_check_interval_ms: i64 = Long "offsets.retention.check.interval.ms", Some("600000"), AtLeast(1), ReadOnly,
            "How often expired offsets are looked for, ms.";
        offsets_retention_minutes: i32 = Int "offsets.retention.minutes", Some("10080"), AtLeast(1), ReadOnly,
            "Offsets of a group without members are kept for so long, minutes.";
        offsets_topic_num_partitions: i32 = Int "offsets.topic.num.partitions", Some("50"), AtLeast(1), ReadOnly,
            "Partitions of `__consumer_offsets`; fixed once the topic exists.";
        offsets_topic_replication_factor: i16 = Short "offsets.topic.replication.factor", Some("3"), AtLeast(1), ReadOnly,
            "Replicas of `__consumer_offsets`; unless given, no more than there are brokers.";
        offsets_topic_segment_bytes: i32 = Int "offsets.topic.segment.bytes", Some("104857600"), AtLeast(1), ReadOnly,
            "Segment size of `__consumer_offsets`, bytes.";
        producer_id_expiration_ms: i32 = Int "producer.id.expiration.ms", Some("86400000"), AtLeast(1), ClusterWide,
            "An idempotent producer's state is forgotten when it was idle for so long, ms.";
        replica_lag_time_max_ms: i64 = Long "replica.lag.time.max.ms", Some("30000"), Any, ReadOnly,
            "A follower that has not reached, for so long, the log end as it was that long ago leaves the ISR, ms.";
        replica_selector_class: Option<String> = String "replica.selector.class", None, Any, ReadOnly,
            "Which replica consumers read: the leader, or with Kafka's RackAwareReplicaSelector one of their own rack.";
        socket_listen_backlog_size: i32 = Int "socket.listen.backlog.size", Some("50"), AtLeast(1), ReadOnly,
            "Connections that wait to be accepted.";
        socket_receive_buffer_bytes: i32 = Int "socket.receive.buffer.bytes", Some("102400"), Any, ReadOnly,
            "Receive buffer of a connection, bytes; -1 leaves it to the system.";
        socket_request_max_bytes: i32 = Int "socket.request.max.bytes", Some("104857600"), AtLeast(1), ReadOnly,
            "Largest request, bytes; a larger one closes its connection.";
        socket_send_buffer_bytes: i32 = Int "socket.send.buffer.bytes", Some("102400"), Any, ReadOnly,
            "Send buffer of a connection, bytes; -1 leaves it to the system.";
        unclean_leader_election_enable: bool = Boolean "unclean.leader.election.enable", Some("false"), Any, ClusterWide,
            "A replica outside the ISR may lead when no other can; this loses messages.";
    }
}

static ALL: LazyLock<Vec<Definition>> = LazyLock::new(|| sorted(&[ACTIVE, INERT]));

/// Every broker setting, by name.
pub fn broker_definitions() -> &'static [Definition] {
    &ALL
}

/// One broker setting.
pub fn broker_definition(name: &str) -> Option<&'static Definition> {
    ALL.binary_search_by_key(&name, |definition| definition.name).ok().map(|index| &ALL[index])
}

/// The settings that say the same in other units, the strongest first: the first that is set counts.
pub fn alternatives(name: &str) -> &'static [&'static str] {
    match name {
        "log.retention.ms" | "log.retention.minutes" | "log.retention.hours" => {
            &["log.retention.ms", "log.retention.minutes", "log.retention.hours"]
        }
        "log.roll.ms" | "log.roll.hours" => &["log.roll.ms", "log.roll.hours"],
        "log.roll.jitter.ms" | "log.roll.jitter.hours" => &["log.roll.jitter.ms", "log.roll.jitter.hours"],
        "log.flush.interval.ms" | "log.flush.scheduler.interval.ms" => {
            &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"]
        }
        _ => &[],
    }
}

/// Which replica consumers read (`replica.selector.class`, KIP-392): of Kafka's own classes, by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaSelector {
    /// The leader.
    Leader,
    /// One of the consumer's rack, where there is one that is up to date.
    RackAware,
}

impl ReplicaSelector {
    fn of(class: Option<&str>) -> Result<Self, String> {
        match class {
            None | Some("" | "org.apache.kafka.common.replica.LeaderSelector") => Ok(Self::Leader),
            Some("org.apache.kafka.common.replica.RackAwareReplicaSelector") => Ok(Self::RackAware),
            Some(other) => Err(format!(
                "replica.selector.class={other} is unknown; there are org.apache.kafka.common.replica.LeaderSelector \
                 and org.apache.kafka.common.replica.RackAwareReplicaSelector"
            )),
        }
    }
}

impl BrokerSettings {
    /// Which replica consumers read.
    pub fn replica_selector(&self) -> ReplicaSelector {
        ReplicaSelector::of(self.replica_selector_class.as_deref())
            .expect("a class that is known because `check` refused all others")
    }

    /// Whether the settings can hold together; otherwise which can't.
    pub fn check(&self) -> Result<(), String> {
        let no_age = |name: &str, age: Option<i64>| match age {
            Some(age) if age == 0 || age < -1 => Err(format!("{name}={age} must be -1 or at least 1")),
            _ => Ok(()),
        };
        no_age("log.retention.ms", self.log_retention_ms)?;
        no_age("log.retention.minutes", self.log_retention_minutes.map(i64::from))?;
        no_age("log.retention.hours", Some(i64::from(self.log_retention_hours)))?;
        if self.log_roll_ms.is_some_and(|age| age < 1) {
            return Err("log.roll.ms must be at least 1".to_owned());
        }
        let ordered = |low: &str, lower: i64, high: &str, higher: i64| {
            if lower <= higher { Ok(()) } else { Err(format!("{low}={lower} is more than {high}={higher}")) }
        };
        ordered(
            "group.min.session.timeout.ms",
            i64::from(self.group_min_session_timeout_ms),
            "group.max.session.timeout.ms",
            i64::from(self.group_max_session_timeout_ms),
        )?;
        ReplicaSelector::of(self.replica_selector_class.as_deref())?;
        ordered(
            "log.cleaner.min.compaction.lag.ms",
            self.log_cleaner_min_compaction_lag_ms,
            "log.cleaner.max.compaction.lag.ms",
            self.log_cleaner_max_compaction_lag_ms,
        )
    }
}
