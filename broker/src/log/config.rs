//! Settings of logs: Kafka's names and meanings.

/// `cleanup.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments go by age and size.
    pub delete: bool,
    /// Of each key only the newest record stays.
    pub compact: bool,
}

/// `message.timestamp.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// As the producer says.
    CreateTime,
    /// When the leader appends.
    LogAppendTime,
}

/// `compression.type` of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicCompression {
    /// As the producer sent it.
    Producer,
    /// Stored so, whatever the producer sent.
    Always(Compression),
}

/// A record batch's compression codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// None.
    None,
    /// gzip.
    Gzip,
    /// snappy, in Java's framing.
    Snappy,
    /// lz4 frames.
    Lz4,
    /// zstd (KIP-110).
    Zstd,
}

/// A topic's effective settings, as far as its logs need them. Kafka's names and meanings.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `retention.bytes`; `None` without a limit.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`; `None` without a limit.
    pub retention_ms: Option<u64>,
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `max.message.bytes`.
    pub max_message_bytes: u32,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `compression.type`.
    pub compression: TopicCompression,
    /// `compression.gzip.level`, `compression.lz4.level`, `compression.zstd.level`.
    pub compression_levels: CompressionLevels,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `min.cleanable.dirty.ratio`.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: u64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: u64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: u64,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: u64,
}

/// Compression levels for `TopicCompression::Always`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionLevels {
    /// gzip's, 1–9 or −1.
    pub gzip: i32,
    /// lz4's, 1–17, of which [`Self::FAST_LZ4`] is the fast one.
    pub lz4: i32,
    /// zstd's, −131072–22.
    pub zstd: i32,
}

/// Settings of a node's logs.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval_ms: u64,
    /// `log.cleaner.backoff.ms`.
    pub cleaner_backoff_ms: u64,
    /// `log.cleaner.dedupe.buffer.size`, bytes.
    pub cleaner_dedupe_bytes: u64,
    /// `log.cleaner.io.max.bytes.per.second`; `None` without a limit.
    pub cleaner_io_bytes_per_second: Option<u64>,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: u64,
}

impl Compression {
    /// The id in a batch's attributes.
    pub fn id(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The codec with this id.
    pub fn from_id(id: i16) -> Option<Self> {
        [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd].into_iter().find(|codec| codec.id() == id)
    }
}

impl CompressionLevels {
    /// The lz4 level that takes the fast compressor: Kafka's default, from before there were levels (KIP-390).
    pub const FAST_LZ4: i32 = 9;
}

impl Default for CompressionLevels {
    /// Kafka's.
    fn default() -> Self {
        Self { gzip: -1, lz4: Self::FAST_LZ4, zstd: 3 }
    }
}

impl Default for LogConfig {
    /// Kafka's.
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY_MS as i64,
            retention_bytes: None,
            retention_ms: Some(7 * DAY_MS),
            cleanup_policy: CleanupPolicy { delete: true, compact: false },
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 60 * 60 * 1000,
            compression: TopicCompression::Producer,
            compression_levels: CompressionLevels::default(),
            index_interval_bytes: 4096,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX as u64,
            delete_retention_ms: DAY_MS,
            file_delete_delay_ms: 60_000,
        }
    }
}
