//! Settings of the group coordinator: Kafka's names, Kafka's defaults.

use std::time::Duration;

use crate::config::BrokerSettings;

/// The topic that holds the state of all groups.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// What the group coordinator is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOptions {
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout: Duration,
    /// `group.max.size`, members.
    pub max_size: usize,
    /// How long a member that does not know its id yet may wait for its join to be answered (Kafka fixes it at 5 minutes).
    pub new_member_join_timeout: Duration,
    /// `offset.metadata.max.bytes`: of one committed offset's metadata, in UTF-16 code units as Kafka counts.
    pub offset_metadata_max: usize,
    /// `offsets.commit.timeout.ms`: how long a commit may wait for its replicas.
    pub commit_timeout: Duration,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval: Duration,
    /// `offsets.topic.num.partitions`, used when the topic is made.
    pub offsets_topic_partitions: i32,
    /// `offsets.topic.replication.factor`, used when the topic is made.
    pub offsets_topic_replication_factor: i16,
    /// `offsets.topic.segment.bytes`, used when the topic is made.
    pub offsets_topic_segment_bytes: u32,
}

impl GroupOptions {
    /// As the broker is set; the settings are read-only, so those at the start hold.
    pub fn of(settings: &BrokerSettings) -> Self {
        let millis = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        Self {
            initial_rebalance_delay: millis(settings.group_initial_rebalance_delay_ms.into()),
            min_session_timeout: millis(settings.group_min_session_timeout_ms.into()),
            max_session_timeout: millis(settings.group_max_session_timeout_ms.into()),
            max_size: settings.group_max_size as usize,
            offset_metadata_max: usize::try_from(settings.offset_metadata_max_bytes).unwrap_or(0),
            commit_timeout: millis(settings.offsets_commit_timeout_ms.into()),
            offsets_retention: millis(i64::from(settings.offsets_retention_minutes) * 60_000),
            offsets_retention_check_interval: millis(settings.offsets_retention_check_interval_ms),
            offsets_topic_partitions: settings.offsets_topic_num_partitions,
            offsets_topic_replication_factor: settings.offsets_topic_replication_factor,
            offsets_topic_segment_bytes: settings.offsets_topic_segment_bytes as u32,
            ..Self::default()
        }
    }
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::from_secs(3),
            min_session_timeout: Duration::from_secs(6),
            max_session_timeout: Duration::from_mins(30),
            max_size: i32::MAX as usize,
            new_member_join_timeout: Duration::from_mins(5),
            offset_metadata_max: 4096,
            commit_timeout: Duration::from_secs(5),
            offsets_retention: Duration::from_hours(7 * 24),
            offsets_retention_check_interval: Duration::from_mins(10),
            offsets_topic_partitions: 50,
            offsets_topic_replication_factor: 3,
            offsets_topic_segment_bytes: 100 * 1024 * 1024,
        }
    }
}
