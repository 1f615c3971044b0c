//! What can go wrong in a log: refused appends, failed reads, failed files.

use std::path::{Path, PathBuf};

use crate::ids::{Offset, ProducerId};
use crate::io::disk::is_out_of_descriptors;
use crate::wal::WalError;

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
    /// A transactional and a plain batch of one producer are mixed.
    #[error("producer {0} has an open transaction: its batches must be transactional")]
    InvalidTransactionState(ProducerId),
    /// A marker of a coordinator that has been replaced.
    #[error("coordinator epoch {got} is older than {current}")]
    CoordinatorFenced {
        /// The newest coordinator epoch known.
        current: i32,
        /// The epoch of the marker.
        got: i32,
    },
    /// The disk is full: retriable.
    #[error("no space left on the disk")]
    DiskFull,
    /// The log is being deleted.
    #[error("the log is closed")]
    Closed,
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

impl LogError {
    /// Names what was attempted, for `map_err`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether the page cache does not hold what was to be read without waiting.
    pub(super) fn would_block(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Whether there was no room, or no file descriptor: what was attempted may be attempted again when there is.
    pub fn is_full(&self) -> bool {
        use std::io::ErrorKind;
        let Self::Io { source, .. } = self else { return false };
        matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) || is_out_of_descriptors(source)
    }
}

impl AppendError {
    /// A batch that breaks the rules as a whole, not in single records.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidRecord { message: message.into(), records: Vec::new() }
    }
}
