//! What happens beside the commit thread: writing and syncing what the journal covers, preparing journal files.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::core::Core;
use super::file::{WalFile, all_folders};
use super::journal::Position;
use super::journal::ring::{self, JournalFile};
use super::queue::Done;
use super::{IoContext, WalError};

/// Dirty files up to which each is synced itself. Beyond, one sync of the whole file system is quicker (500 files of one
/// append each: 50 ms instead of 1,000 ms), though it writes what others have left there, too.
pub(super) const FILES_SYNCED_SINGLY: usize = 64;

/// Work for the background thread.
pub(super) enum Job {
    Sync(SyncPass),
    /// A journal file to make, and its bytes.
    Prepare(PathBuf, u64),
    /// The ballast is to be made.
    Ballast,
}

/// What came of a job.
pub(super) enum Outcome {
    Synced(SyncPass),
    /// `None` when the disk is full.
    Prepared(Option<JournalFile>),
    /// The ballast is there, or the disk is full.
    Ballasted,
}

/// Writes and syncs what the journal holds of every file that has records before `upto`; then those are spent.
#[derive(Default)]
pub(super) struct SyncPass {
    pub(super) files: Vec<Arc<WalFile>>,
    pub(super) upto: Position,
    pub(super) waiters: Vec<Done>,
}

impl Job {
    /// Does the work. An error is final: what was to be synced may be lost from the page cache.
    /// The job keeps those who wait for it until it is dropped, so that they hear of the end after its cause was told.
    pub(super) fn run(&mut self, core: &Core) -> Result<Outcome, WalError> {
        match self {
            Self::Sync(pass) => {
                pass.sync(core)?;
                Ok(Outcome::Synced(std::mem::take(pass)))
            }
            Self::Prepare(path, bytes) => {
                let reserve = core.options.reserve_bytes;
                let prepared = core.cache.with_descriptor(|| ring::prepare(core.disk.as_ref(), path, *bytes, reserve));
                let file = prepared.on("prepare journal file", path)?;
                Ok(Outcome::Prepared(file))
            }
            Self::Ballast => {
                let ballast = &core.ballast;
                let made = core.cache.with_descriptor(|| ballast.make(core.options.reserve_bytes));
                made.on("make", ballast.path())?;
                Ok(Outcome::Ballasted)
            }
        }
    }
}

impl SyncPass {
    fn sync(&self, core: &Core) -> Result<(), WalError> {
        if self.files.len() > FILES_SYNCED_SINGLY { self.sync_together(core) } else { self.sync_singly(core) }
    }

    fn sync_together(&self, core: &Core) -> Result<(), WalError> {
        let mut before = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let writes = file.write_tail().on("write", file.path())?;
            before.push((file, writes, file.named().1));
        }
        core.witness.sync_filesystem().on("sync the file system of", &core.root)?;
        for (file, writes, retirements) in before {
            file.set_synced(writes);
            file.set_named(retirements);
        }
        Ok(())
    }

    fn sync_singly(&self, core: &Core) -> Result<(), WalError> {
        let mut unnamed = Vec::new();
        for file in &self.files {
            let (named, retirements) = file.named();
            if !named {
                unnamed.push((file, retirements));
            }
            file.sync().on("sync", file.path())?;
        }
        for folder in all_folders(unnamed.iter().map(|(file, _)| file.path()), &core.root) {
            match core.cache.sync_dir(folder) {
                // A folder may go once its files are retired, which synced their names too.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let mut here = unnamed.iter().filter(|(file, _)| file.path().starts_with(folder));
                    if here.any(|(file, retirements)| file.named().1 == *retirements) {
                        return Err(error).on("sync folder", folder);
                    }
                }
                other => other.on("sync folder", folder)?,
            }
        }
        for (file, retirements) in unnamed {
            file.set_named(retirements);
        }
        Ok(())
    }
}
