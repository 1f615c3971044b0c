//! What a log tells: offsets, outcomes of appends, reads and look-ups.

use bytes::Bytes;

use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Who made the batches that are appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A client: everything is validated, control batches are refused.
    Client,
    /// A coordinator of this broker: control batches are allowed.
    Coordinator,
}

/// What came of an append on a thread that others wait for.
#[derive(Debug)]
pub enum Brief<T> {
    /// It is done.
    Done(T),
    /// It takes long: here are the records again, for a thread that has the time.
    Long(Bytes),
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
    /// The offset behind the last batch; `None` when there is none.
    pub end: Option<Offset>,
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

/// Sees what a leader appends, and what of it is taken back, in their order; called under the log's lock: returns at
/// once, asks the log nothing.
pub trait AppendObserver: Send + Sync {
    /// Batches were appended at `base`, back to back as the log stores them. They are not durable yet, and may still be
    /// refused.
    fn appended(&self, base: Offset, batches: Bytes);
    /// What was appended from here on was refused: the next append begins here again.
    fn refused(&self, from: Offset);
}

/// Told about a log's progress; called without any lock of the log held.
pub trait LogListener: Send + Sync {
    /// Records up to here are durable.
    fn flushed(&self, end: Offset);
    /// Appends from here on were refused after they had been accepted (the disk is full): the log ends here again.
    fn refused(&self, from: Offset);
}
