//! Settings of consumer groups and of client-metrics subscriptions, by Kafka's names. They are kept and shown; the
//! protocols that read them (KIP-848, KIP-714 and later) are not served yet.

use super::definition::Update::ClusterWide;
use super::definition::Valid::{Any, AtLeast, Between, OneOf, ShareOffsetReset};
use super::definition::{Definition, inert};
use super::value::Kind::{Boolean, Int, List, String};

/// Every group setting, by name.
pub const GROUP: &[Definition] = &[
    inert("consumer.assignment.interval.ms", Int, Some("1000"), AtLeast(0), ClusterWide),
    inert("consumer.heartbeat.interval.ms", Int, Some("5000"), AtLeast(1), ClusterWide),
    inert("consumer.session.timeout.ms", Int, Some("45000"), AtLeast(1), ClusterWide),
    inert("errors.deadletterqueue.copy.record.enable", Boolean, Some("false"), Any, ClusterWide),
    inert("errors.deadletterqueue.topic.name", String, Some(""), Any, ClusterWide),
    inert("share.assignment.interval.ms", Int, Some("1000"), AtLeast(0), ClusterWide),
    inert("share.auto.offset.reset", String, Some("latest"), ShareOffsetReset, ClusterWide),
    inert("share.delivery.count.limit", Int, Some("5"), AtLeast(2), ClusterWide),
    inert("share.heartbeat.interval.ms", Int, Some("5000"), AtLeast(1), ClusterWide),
    inert(
        "share.isolation.level",
        String,
        Some("read_uncommitted"),
        OneOf(&["read_committed", "read_uncommitted"]),
        ClusterWide,
    ),
    inert("share.partition.max.record.locks", Int, Some("2000"), AtLeast(100), ClusterWide),
    inert("share.record.lock.duration.ms", Int, Some("30000"), AtLeast(1000), ClusterWide),
    inert("share.renew.acknowledge.enable", Boolean, Some("true"), Any, ClusterWide),
    inert("share.session.timeout.ms", Int, Some("45000"), AtLeast(1), ClusterWide),
    inert("streams.assignment.interval.ms", Int, Some("1000"), AtLeast(0), ClusterWide),
    inert("streams.assignor.name", String, None, Any, ClusterWide),
    inert("streams.heartbeat.interval.ms", Int, Some("5000"), AtLeast(1), ClusterWide),
    inert("streams.initial.rebalance.delay.ms", Int, Some("3000"), AtLeast(0), ClusterWide),
    inert("streams.num.standby.replicas", Int, Some("0"), AtLeast(0), ClusterWide),
    inert("streams.rack.aware.assignment.tags", List, Some(""), Any, ClusterWide),
    inert("streams.session.timeout.ms", Int, Some("45000"), AtLeast(1), ClusterWide),
];

/// Every setting of a client-metrics subscription, by name.
pub const CLIENT_METRICS: &[Definition] = &[
    inert("interval.ms", Int, Some("300000"), Between(100, 3_600_000), ClusterWide),
    inert("match", List, Some(""), Any, ClusterWide),
    inert("metrics", List, Some(""), Any, ClusterWide),
];

/// The broker setting that a group without its own value takes.
pub fn group_synonym(name: &str) -> Option<&'static str> {
    Some(match name {
        "consumer.assignment.interval.ms" => "group.consumer.assignment.interval.ms",
        "consumer.heartbeat.interval.ms" => "group.consumer.heartbeat.interval.ms",
        "consumer.session.timeout.ms" => "group.consumer.session.timeout.ms",
        "errors.deadletterqueue.copy.record.enable" => "errors.deadletterqueue.copy.record.enable",
        "errors.deadletterqueue.topic.name" => "errors.deadletterqueue.topic.name",
        "share.assignment.interval.ms" => "group.share.assignment.interval.ms",
        "share.auto.offset.reset" => "share.auto.offset.reset",
        "share.delivery.count.limit" => "group.share.delivery.count.limit",
        "share.heartbeat.interval.ms" => "group.share.heartbeat.interval.ms",
        "share.isolation.level" => "share.isolation.level",
        "share.partition.max.record.locks" => "group.share.partition.max.record.locks",
        "share.record.lock.duration.ms" => "group.share.record.lock.duration.ms",
        "share.renew.acknowledge.enable" => "share.renew.acknowledge.enable",
        "share.session.timeout.ms" => "group.share.session.timeout.ms",
        "streams.assignment.interval.ms" => "group.streams.assignment.interval.ms",
        "streams.assignor.name" => "group.streams.assignors",
        "streams.heartbeat.interval.ms" => "group.streams.heartbeat.interval.ms",
        "streams.initial.rebalance.delay.ms" => "group.streams.initial.rebalance.delay.ms",
        "streams.num.standby.replicas" => "group.streams.num.standby.replicas",
        "streams.rack.aware.assignment.tags" => "group.streams.rack.aware.assignment.tags",
        "streams.session.timeout.ms" => "group.streams.session.timeout.ms",
        _ => return None,
    })
}
