//! `GroupCommitWal`: bytes, files, group commit. Knows no Kafka and no Raft.
//!
//! Its promise: what it reported as flushed survives `kill -9` and power loss; what it did not report may vanish,
//! and then vanishes from the end only.
//!
//! An append goes to the commit journal with all others of its round: one write, past the page cache, and one fsync for
//! everyone. To its file it is written through the page cache, a small one later, with what follows it. Read on in this
//! order: `queue` (what callers ask), `committer` (a round from taking to telling), `round` (its appends by file), `file`
//! and `tail` (what of a file is not written yet), `journal` (the format) and `journal::ring` (its files), `background`
//! (syncing what the journal covers), `ballast` (the room for it), `recovery` (replay), `driver` (the threads).

mod background;
mod ballast;
mod committer;
mod core;
mod driver;
mod file;
mod handles;
pub mod journal;
mod queue;
mod recovery;
mod round;
mod stats;
mod tail;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use self::core::Core;
pub use self::driver::Stepper;
use self::driver::{Task, Threads};
pub use self::file::WalFile;
use self::queue::{Done, Operation};
pub use self::stats::{FSYNC_BUCKETS_US, WalStats};
use crate::io::disk::Disk;

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
    /// Room for appends that are in the journal and not yet in their files; so much of the disk is kept for them.
    /// 0: every append is written to its file at once, as it is with [`Durability::Os`].
    pub deferred_bytes: u64,
    /// Free bytes below which appends are refused.
    pub reserve_bytes: u64,
    /// Files kept open at most. With [`Durability::Fsync`] rounds wait while that many wait for their sync.
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
    /// No file descriptor was left to open it with.
    #[error("no file descriptor is left to open {0}")]
    NoDescriptor(PathBuf),
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
        source: io::Error,
    },
    /// The journal is not as it was written.
    #[error("the commit journal {path} is corrupt: {what}")]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The WAL has ended, by shutdown or by an error.
    #[error("the WAL has ended")]
    Ended,
}

/// Says what was attempted on what.
trait IoContext<T> {
    fn on(self, action: &'static str, path: &Path) -> Result<T, WalError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn on(self, action: &'static str, path: &Path) -> Result<T, WalError> {
        self.map_err(|source| WalError::Io { action, path: path.to_owned(), source })
    }
}

/// Whether there was no room, for which an append is refused; every other error of a write is final.
fn is_full_error(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Who is told how far a file's appends are durable. Called on the WAL thread: returns at once, never blocks.
pub trait FlushListener: Send + Sync {
    /// All appends up to the one with this token are durable and readable. Tokens of one file only grow.
    fn flushed(&self, token: u64);
    /// The append with this token, and all later ones to that file until `GroupCommitWal::resume`, were refused and
    /// left no bytes. Said once, for the first of them.
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
pub struct Admission {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Admission {
    /// No room taken: for appends whose size is bounded otherwise, and for tests.
    pub const fn unbounded() -> Self {
        Self { _permit: None }
    }
}

/// The WAL: a journal shared by all files, and the thread that commits to it.
pub struct GroupCommitWal {
    core: Arc<Core>,
    work: Work,
}

/// Who does its work.
enum Work {
    Threads(Threads),
    Task(Arc<Task>),
    /// A `Stepper`, when told.
    Stepped,
}

/// How long each round takes: see [`Drive::Task`].
pub type Pace = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Where a WAL's work is done.
#[derive(Clone)]
pub enum Drive {
    /// On threads of its own, which wait for the disk.
    Threads,
    /// As a task of the ambient runtime, each round after so long: for the simulation, where no disk is waited for.
    Task(Pace),
}

/// Told of an error after which nothing may be acknowledged; ends the process.
pub type OnFatal = Box<dyn Fn(&WalError) + Send + Sync>;

fn end_process(error: &WalError) {
    tracing::error!(%error, "the WAL cannot vouch for its data any more");
    // Logging may be asynchronous, and this process has no later.
    eprintln!("chronik: fatal: {error}");
    std::process::abort();
}

impl GroupCommitWal {
    /// Opens the journal in `dir`, writes what it still holds back to the files it names (syncing them and their
    /// folders), and starts the commit thread. When it returns, every append ever reported as flushed is in its file.
    ///
    /// A failing write or sync ends the process: after it the page cache cannot be trusted.
    pub fn open(disk: Arc<dyn Disk>, dir: PathBuf, options: WalOptions) -> Result<Arc<Self>, WalError> {
        Self::open_with(disk, dir, options, Drive::Threads, Box::new(end_process))
    }

    /// Like `open`, with another end than the process's: after `on_fatal` returns, nothing is ever acknowledged again.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        options: WalOptions,
        drive: Drive,
        on_fatal: OnFatal,
    ) -> Result<Arc<Self>, WalError> {
        let (core, committer) = driver::open(disk, &dir, options)?;
        let work = match drive {
            Drive::Threads => Work::Threads(Threads::start(core.clone(), committer, on_fatal)),
            Drive::Task(pace) => Work::Task(Task::start(core.clone(), committer, on_fatal, pace)),
        };
        Ok(Arc::new(Self { core, work }))
    }

    /// Like `open`, without threads: the given stepper does their work when told, for simulations. `retire`,
    /// `sync_all` and `shutdown` would wait for it, so the stepper has its own.
    pub fn open_stepped(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        options: WalOptions,
    ) -> Result<(Arc<Self>, Stepper), WalError> {
        let (core, committer) = driver::open(disk, &dir, options)?;
        let stepper = Stepper::new(core.clone(), committer);
        Ok((Arc::new(Self { core, work: Work::Stepped }), stepper))
    }

    /// Registers a file (it may not exist yet: the first append makes it, and its folder's entry is made durable
    /// before that append is reported).
    pub fn file(&self, path: PathBuf, listener: Weak<dyn FlushListener>) -> Arc<WalFile> {
        WalFile::new(path, self.core.cache.clone(), self.core.ballast.clone(), listener)
    }

    /// Waits until `bytes` more may be queued. More than the whole queue holds waits until it is empty.
    pub async fn admit(&self, bytes: usize) -> Admission {
        self.core.admissions.admit(bytes).await
    }

    /// Whether appends are refused now because the disk is full (or its reserve reached).
    pub fn is_full(&self) -> bool {
        // While full, nothing is appended, so nobody else looks whether space has returned.
        self.core.is_full() && self.core.look().unwrap_or(true)
    }

    /// Queues an append. The caller's order for a file is the file's order.
    pub fn append(&self, file: &Arc<WalFile>, append: Append) {
        self.core.queue.push(Operation::Append(file.clone(), append));
    }

    /// Takes appends to a file again after a refusal; the next one's position is the end that the refusal left.
    pub fn resume(&self, file: &Arc<WalFile>) {
        self.core.queue.push(Operation::Resume(file.clone()));
    }

    /// Before anything but an append changes a file (cut, replaced, deleted): waits until all its queued appends are
    /// committed and synced in the file itself, and its journal records will never be replayed. Blocks: call from a
    /// thread that may. Afterwards it may be appended to again, at any position.
    pub fn retire(&self, file: &Arc<WalFile>) -> Result<(), WalError> {
        // Spares the commit thread the sync of what is written so far. An error shows there again: the file stays
        // unsynced, and the committer's own attempt is final.
        if let Err(error) = file.sync() {
            let error = WalError::Io { action: "sync", path: file.path().to_owned(), source: error };
            self.fail(&error);
            return Err(error);
        }
        self.ask(|done| Operation::Retire(file.clone(), done))
    }

    /// Syncs every file that has appends not yet synced in the file itself. Blocks.
    pub fn sync_all(&self) -> Result<(), WalError> {
        self.ask(Operation::SyncAll)
    }

    /// Commits what is queued, syncs every file, and ends the thread. Blocks.
    pub fn shutdown(&self) -> Result<(), WalError> {
        let closed = self.ask(Operation::Shutdown);
        if let Work::Threads(threads) = &self.work {
            threads.join();
        }
        closed
    }

    /// What it has counted.
    pub fn stats(&self) -> WalStats {
        self.core.counters.read(self.core.admissions.held())
    }

    fn ask(&self, operation: impl FnOnce(Done) -> Operation) -> Result<(), WalError> {
        if let Work::Task(task) = &self.work {
            return task.ask(operation);
        }
        let (done, answer) = mpsc::sync_channel(1);
        self.core.queue.push(operation(done));
        answer.recv().map_err(|_| WalError::Ended)
    }

    fn fail(&self, error: &WalError) {
        match &self.work {
            Work::Threads(threads) => threads.fail(error),
            Work::Task(task) => task.fail(error),
            Work::Stepped => {}
        }
    }
}

impl Drop for GroupCommitWal {
    fn drop(&mut self) {
        self.core.queue.close();
        if let Work::Threads(threads) = &self.work {
            threads.join();
        }
    }
}
