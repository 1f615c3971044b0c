//! A partition's log on disk: record batches, indexes, leader epochs, producer state, retention, compaction.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId, TopicPartition};
use crate::io::clock::Clock;
use crate::io::disk::Disk;
use crate::wal::{Admission, GroupCommitWal, WalError};

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
    /// `compression.gzip.level`, `.lz4.level`, `.zstd.level`.
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
    /// lz4's, 1–17.
    pub lz4: i32,
    /// zstd's, −131072–22.
    pub zstd: i32,
}

/// Who made the batches that are appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A client: everything is validated, control batches are refused.
    Client,
    /// A coordinator of this broker: control batches are allowed.
    Coordinator,
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// One past the last record: acknowledged once flushed (and replicated) up to here.
    pub end_offset: Offset,
    /// The time that `LogAppendTime` put on the records, ms.
    pub log_append_time_ms: Option<i64>,
    /// Whether all of it was already there (an idempotent producer's retry).
    pub duplicate: bool,
}

/// One bad record of a refused batch (KIP-467).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    /// Its index in the batch.
    pub index: i32,
    /// What is wrong.
    pub message: String,
}

/// Why an append was refused; nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// CRC, size or structure.
    #[error("corrupt batch: {0}")]
    Corrupt(String),
    /// A record breaks the topic's rules.
    #[error("invalid record: {message}")]
    InvalidRecord {
        /// What is wrong.
        message: String,
        /// Which records.
        records: Vec<RecordError>,
    },
    /// A timestamp out of the topic's bounds.
    #[error("timestamp out of range: {message}")]
    InvalidTimestamp {
        /// What is wrong.
        message: String,
        /// Which records.
        records: Vec<RecordError>,
    },
    /// Magic 0 or 1 and the like.
    #[error("unsupported for the message format: {0}")]
    UnsupportedFormat(String),
    /// Larger than `max.message.bytes`.
    #[error("batch of {size} bytes is larger than max.message.bytes {limit}")]
    TooLarge {
        /// Bytes sent.
        size: usize,
        /// Bytes allowed.
        limit: u32,
    },
    /// Larger than `segment.bytes`.
    #[error("{size} bytes are more than segment.bytes {limit}")]
    LargerThanSegment {
        /// Bytes sent.
        size: usize,
        /// Bytes allowed.
        limit: u32,
    },
    /// A producer's sequence has a gap.
    #[error("out of order sequence: expected {expected}, got {got}")]
    OutOfOrderSequence {
        /// The sequence that would have been right.
        expected: i32,
        /// The sequence sent.
        got: i32,
    },
    /// A fenced incarnation of a producer.
    #[error("producer epoch {got} is older than {current}")]
    InvalidProducerEpoch {
        /// The newest epoch known.
        current: i16,
        /// The epoch sent.
        got: i16,
    },
    /// No state of this producer, and its first sequence is not 0.
    #[error("unknown producer id {0}")]
    UnknownProducer(ProducerId),
    /// The disk is full: retriable.
    #[error("no space left on the disk")]
    DiskFull,
    /// The log is being deleted.
    #[error("the log is closed")]
    Closed,
}

/// Offsets of a log, in the order that always holds:
/// `log_start ≤ high_watermark ≤ flushed_end ≤ log_end` and `last_stable ≤ high_watermark`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOffsets {
    /// The first offset that may be read.
    pub log_start: Offset,
    /// One past the last appended record.
    pub log_end: Offset,
    /// One past the last durable record.
    pub flushed_end: Offset,
    /// One past the last committed record.
    pub high_watermark: Offset,
    /// The first offset of an open transaction, or the high watermark.
    pub last_stable: Offset,
}

/// Batches that were read, ready for the wire.
#[derive(Debug, Clone, Default)]
pub struct ReadBatches {
    /// Whole batches, back to back.
    pub data: Vec<Bytes>,
    /// Transactions aborted in this range (read_committed): producer id and first offset.
    pub aborted: Vec<(ProducerId, Offset)>,
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Before the log start or beyond the bound.
    #[error("offset {offset} is not in {start}..={end}")]
    OutOfRange {
        /// The offset asked for.
        offset: i64,
        /// The log's start.
        start: Offset,
        /// The bound.
        end: Offset,
    },
    /// The disk failed or its bytes are wrong.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log is being deleted.
    #[error("the log is closed")]
    Closed,
}

/// What went wrong in a log, on what.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file operation failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Bytes on the disk are not what was written.
    #[error("{path} is corrupt at byte {position}: {what}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where.
        position: u64,
        /// What is wrong.
        what: String,
    },
    /// The WAL failed.
    #[error(transparent)]
    Wal(#[from] WalError),
}

/// What a timestamp look-up found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// The record's timestamp, ms.
    pub timestamp_ms: i64,
    /// Its offset.
    pub offset: Offset,
    /// The epoch it was written in.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// A producer's state in a partition (DescribeProducers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerState {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Last sequence, −1 when none.
    pub last_sequence: i32,
    /// Last timestamp, ms, −1 when none.
    pub last_timestamp_ms: i64,
    /// The coordinator's epoch of its last marker, −1 when none.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub transaction_start: Option<Offset>,
}

/// Told about a log's progress; called without any lock of the log held.
pub trait LogListener: Send + Sync {
    /// Records up to here are durable.
    fn flushed(&self, end: Offset);
    /// Appends from here on were refused after they had been accepted (the disk is full): the log ends here again.
    fn refused(&self, from: Offset);
}

/// One partition's log. All methods may be called from any thread.
pub struct Log {}

impl Log {
    /// Which partition.
    pub fn id(&self) -> TopicPartition {
        todo!()
    }

    /// Who is told about progress; replaces the one before.
    pub fn set_listener(&self, _listener: std::sync::Weak<dyn LogListener>) {
        todo!()
    }

    /// Takes new settings.
    pub fn set_config(&self, _config: Arc<LogConfig>) {
        todo!()
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<LogConfig> {
        todo!()
    }

    /// Validates client batches (the raw `records` field of a Produce request), gives them offsets and the leader
    /// epoch, and queues them to the WAL. Returns before they are durable: `LogListener::flushed` tells.
    pub fn append_as_leader(
        &self,
        _records: Bytes,
        _epoch: LeaderEpoch,
        _origin: Origin,
        _admission: Admission,
    ) -> Result<Appended, AppendError> {
        todo!()
    }

    /// The offsets, read together.
    pub fn offsets(&self) -> LogOffsets {
        todo!()
    }

    /// Moves the high watermark (it never goes back); bounds compaction, retention, the last stable offset.
    pub fn advance_high_watermark(&self, _to: Offset) {
        todo!()
    }

    /// Reads whole batches from the one that holds `from`, below `upto`, at most `max_bytes` but always one batch when
    /// `at_least_one`. With `committed` also the aborted transactions of the range.
    pub fn read(
        &self,
        _from: Offset,
        _upto: Offset,
        _max_bytes: usize,
        _at_least_one: bool,
        _committed: bool,
    ) -> Result<ReadBatches, ReadError> {
        todo!()
    }

    /// The first record at or after a time, below `upto`.
    pub fn offset_for_timestamp(&self, _timestamp_ms: i64, _upto: Offset) -> Result<Option<TimestampOffset>, LogError> {
        todo!()
    }

    /// The record with the largest timestamp, the first of them, below `upto`.
    pub fn offset_of_max_timestamp(&self, _upto: Offset) -> Result<Option<TimestampOffset>, LogError> {
        todo!()
    }

    /// The newest leader epoch that has records.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        todo!()
    }

    /// The epoch of a record offset.
    pub fn epoch_at(&self, _offset: Offset) -> Option<LeaderEpoch> {
        todo!()
    }

    /// The largest epoch at or below `epoch` and where it ends (KIP-101, KIP-279). `None` when no such epoch is known.
    pub fn end_offset_for_epoch(&self, _epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        todo!()
    }

    /// Starts a leadership at the log's end: records it in the leader-epoch history.
    pub fn begin_epoch(&self, _epoch: LeaderEpoch) -> Result<(), LogError> {
        todo!()
    }

    /// DeleteRecords: moves the log start to `to` (at most the high watermark); whole segments below go away later.
    pub fn delete_records(&self, _to: Offset) -> Result<Offset, ReadError> {
        todo!()
    }

    /// Bytes on disk.
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }

    /// The producers that have state here.
    pub fn producers(&self) -> Vec<ProducerState> {
        todo!()
    }
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

/// All logs of a node, in `data/wal/{topic}/{partition}/`.
pub struct LogStore {}

impl LogStore {
    /// Opens and recovers every log found below `data_dir/wal`. The WAL has been opened before.
    pub fn open(
        _disk: Arc<dyn Disk>,
        _data_dir: PathBuf,
        _wal: Arc<GroupCommitWal>,
        _clock: Arc<dyn Clock>,
        _options: StoreOptions,
        _clean_shutdown: bool,
    ) -> Result<Arc<Self>, LogError> {
        todo!()
    }

    /// The log of a partition, when it exists.
    pub fn get(&self, _id: &TopicPartition) -> Option<Arc<Log>> {
        todo!()
    }

    /// The log of a partition, made when it does not exist. A folder of the same name that belongs to another topic id
    /// is deleted first.
    pub fn open_or_create(
        &self,
        _topic: &str,
        _id: TopicPartition,
        _config: Arc<LogConfig>,
    ) -> Result<Arc<Log>, LogError> {
        todo!()
    }

    /// Closes and deletes a partition's log.
    pub fn delete(&self, _id: &TopicPartition) -> Result<(), LogError> {
        todo!()
    }

    /// All logs.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        todo!()
    }

    /// Topic ids that have logs here, with the names of their folders.
    pub fn topics(&self) -> Vec<(TopicId, String)> {
        todo!()
    }

    /// One round of what happens in the background: roll by age, retention, compaction, checkpoints. Blocks.
    pub fn maintain(&self) -> Result<(), LogError> {
        todo!()
    }

    /// Checkpoints everything after the WAL has synced: the next start scans nothing. Blocks.
    pub fn close(&self) -> Result<(), LogError> {
        todo!()
    }
}
