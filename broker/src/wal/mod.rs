//! `GroupCommitWal`: bytes, files, group commit. Knows no Kafka and no Raft.
//!
//! Its promise: what it reported as flushed survives `kill -9` and power loss; what it did not report may vanish,
//! and then vanishes from the end only.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::io::disk::{Disk, DiskFile};

/// What an acknowledgement stands for (`chronik.durability`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On disk: fsynced.
    Fsync,
    /// In the page cache, as Apache Kafka does it.
    Os,
}

/// Sizes and promises of a WAL.
#[derive(Debug, Clone)]
pub struct WalOptions {
    /// Bytes of one journal file.
    pub journal_file_bytes: u64,
    /// Journal files at most; when all wait for their segments, commits wait too.
    pub journal_files: usize,
    /// Bytes admitted and not yet committed; more wait in `admit`.
    pub queue_bytes: usize,
    /// A file with at least so many bytes in one round is synced itself instead of being journalled.
    pub direct_sync_bytes: usize,
    /// Free bytes below which appends are refused.
    pub reserve_bytes: u64,
    /// Files kept open at most.
    pub open_files: usize,
    /// What `flushed` means.
    pub durability: Durability,
}

/// Why an append was not made. The file ends where it ended before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The disk is full, or its reserve is reached.
    #[error("no space left on the disk for {0}")]
    DiskFull(PathBuf),
}

/// What went wrong in the WAL, on what.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
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
}

/// Who is told how far a file's appends are durable. Called on the WAL thread: returns at once, never blocks.
pub trait FlushListener: Send + Sync {
    /// All appends up to the one with this token are durable and readable. Tokens of one file only grow.
    fn flushed(&self, token: u64);
    /// The append with this token, and all later ones to that file until `GroupCommitWal::resume`, were refused and
    /// left no bytes.
    fn refused(&self, token: u64, why: &Refusal);
}

/// One append, queued in the order in which the log decided it.
#[derive(Debug)]
pub struct Append {
    /// Where in the file; always the end of the append before.
    pub position: u64,
    /// What.
    pub data: Bytes,
    /// What `FlushListener::flushed` reports, growing with each append to a file.
    pub token: u64,
    /// The admission that covers `data`; freed at the commit.
    pub admission: Admission,
}

/// Room in the queue, given by `GroupCommitWal::admit`; freed when dropped.
#[derive(Debug)]
pub struct Admission {}

/// A file that is written through the WAL. Its id is never reused among live journal records.
pub struct WalFile {}

impl WalFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        todo!()
    }

    /// The open file, for reading; opened again when the handle was evicted.
    pub fn handle(&self) -> std::io::Result<Arc<dyn DiskFile>> {
        todo!()
    }
}

/// The WAL: a journal shared by all files, and the thread that commits to it.
pub struct GroupCommitWal {}

impl GroupCommitWal {
    /// Opens the journal in `dir`, writes what it still holds back to the files it names (syncing them and their
    /// folders), and starts the commit thread. When it returns, every append ever reported as flushed is in its file.
    pub fn open(_disk: Arc<dyn Disk>, _dir: PathBuf, _options: WalOptions) -> Result<Arc<Self>, WalError> {
        todo!()
    }

    /// Registers a file (it may not exist yet: the first append makes it, and its folder's entry is made durable
    /// before that append is reported).
    pub fn file(&self, _path: PathBuf, _listener: Weak<dyn FlushListener>) -> Arc<WalFile> {
        todo!()
    }

    /// Waits until `bytes` more may be queued.
    pub async fn admit(&self, _bytes: usize) -> Admission {
        todo!()
    }

    /// Whether appends are refused now because the disk is full (or its reserve reached).
    pub fn is_full(&self) -> bool {
        todo!()
    }

    /// Queues an append. The caller's order for a file is the file's order.
    pub fn append(&self, _file: &Arc<WalFile>, _append: Append) {
        todo!()
    }

    /// Takes appends to a file again after a refusal; the next one's position is the end that the refusal left.
    pub fn resume(&self, _file: &Arc<WalFile>) {
        todo!()
    }

    /// Before anything but an append changes a file (cut, replaced, deleted): waits until all its queued appends are
    /// committed and synced in the file itself, and its journal records will never be replayed. Blocks: call from a
    /// thread that may.
    pub fn retire(&self, _file: &Arc<WalFile>) -> Result<(), WalError> {
        todo!()
    }

    /// Syncs every file that has appends not yet synced in the file itself. Blocks.
    pub fn sync_all(&self) -> Result<(), WalError> {
        todo!()
    }

    /// Commits what is queued, syncs every file, and ends the thread. Blocks.
    pub fn shutdown(&self) -> Result<(), WalError> {
        todo!()
    }
}
