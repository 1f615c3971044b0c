//! A partition's log on disk: record batches, indexes, leader epochs, producer state, retention, compaction.

pub mod batch;
mod builder;
pub mod compression;
mod config;
mod error;
pub mod record;
mod types;
pub mod validate;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::{LeaderEpoch, Offset, TopicId, TopicPartition};
use crate::io::clock::Clock;
use crate::io::disk::Disk;
use crate::wal::{Admission, GroupCommitWal};

pub use builder::{BatchBuilder, TransactionEnd};
pub use config::{
    CleanupPolicy, Compression, CompressionLevels, LogConfig, StoreOptions, TimestampType, TopicCompression,
};
pub use error::{AppendError, LogError, ReadError, RecordError};
pub use types::{Appended, LogListener, LogOffsets, Origin, ProducerState, ReadBatches, TimestampOffset};

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
