//! What the committer, the background and the callers share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::ballast::Ballast;
use super::handles::HandleCache;
use super::queue::{Admissions, Queue};
use super::stats::Counters;
use super::{IoContext, WalError, WalOptions};
use crate::io::disk::{Disk, DiskFile};

/// Shares of the reserve that may be written between two looks at the free space.
const LOOKS_PER_RESERVE: u64 = 8;

/// See the module.
pub(super) struct Core {
    pub(super) disk: Arc<dyn Disk>,
    /// The folder that holds the journal's and the files' folders.
    pub(super) root: PathBuf,
    /// A file that is open from the start, through which no error of writing back is missed.
    pub(super) witness: Arc<dyn DiskFile>,
    pub(super) options: WalOptions,
    pub(super) queue: Queue,
    pub(super) admissions: Admissions,
    pub(super) cache: Arc<HandleCache>,
    pub(super) ballast: Arc<Ballast>,
    pub(super) counters: Counters,
    full: AtomicBool,
    written_since_look: AtomicU64,
}

impl Core {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        root: PathBuf,
        witness: Arc<dyn DiskFile>,
        ballast: Ballast,
        options: WalOptions,
    ) -> Result<Self, WalError> {
        let pin_unsynced = options.durability == super::Durability::Fsync;
        let core = Self {
            cache: HandleCache::new(disk.clone(), options.open_files, pin_unsynced),
            ballast: Arc::new(ballast),
            admissions: Admissions::new(options.queue_bytes),
            queue: Queue::default(),
            counters: Counters::default(),
            full: AtomicBool::new(false),
            written_since_look: AtomicU64::new(0),
            disk,
            root,
            witness,
            options,
        };
        core.look()?;
        Ok(core)
    }

    /// A file's path as the journal keeps it: within the folder of the WALs, so that a data folder may be moved, or
    /// mounted elsewhere, even after a crash. Files elsewhere keep their paths.
    pub(super) fn named_in_journal<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// Counts bytes towards the next look at the free space.
    pub(super) fn note_written(&self, bytes: u64) {
        self.written_since_look.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether the reserve is reached; looks when much was written since, and always while it is.
    pub(super) fn check_full(&self) -> Result<bool, WalError> {
        let due = self.written_since_look.load(Ordering::Relaxed) >= self.options.reserve_bytes / LOOKS_PER_RESERVE;
        if due || self.is_full() { self.look() } else { Ok(false) }
    }

    /// As of the last look.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Looks at the free space. Some more than the reserve must be free before appends are taken again.
    pub(super) fn look(&self) -> Result<bool, WalError> {
        let reserve = self.options.reserve_bytes;
        if reserve == 0 {
            return Ok(false);
        }
        let free = self.disk.free_bytes(&self.root).on("ask the free space of", &self.root)?;
        let enough = if self.is_full() { reserve + reserve / LOOKS_PER_RESERVE } else { reserve };
        self.written_since_look.store(0, Ordering::Relaxed);
        let full = free < enough;
        match (self.full.swap(full, Ordering::Relaxed), full) {
            (false, true) => tracing::warn!(
                folder = %self.root.display(),
                free,
                reserve,
                "the disk is full: less than the reserve is free, so appends are refused until there is room"
            ),
            (true, false) => {
                tracing::info!(folder = %self.root.display(), free, "the disk has room: appends are taken again");
            }
            _ => {}
        }
        Ok(full)
    }
}
