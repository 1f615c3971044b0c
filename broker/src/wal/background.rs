//! What happens beside the commit thread: syncing the files that the journal covers, preparing journal files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::{WalFile, all_folders};
use super::journal::Position;
use super::journal::ring::{self, JournalFile};
use super::queue::Done;
use super::{IoContext, WalError};
use crate::io::disk::Disk;

/// Work for the background thread.
pub(super) enum Job {
    Sync(SyncPass),
    /// A journal file to make, and its bytes.
    Prepare(PathBuf, u64),
}

/// What came of a job.
pub(super) enum Outcome {
    Synced(SyncPass),
    /// `None` when the disk is full.
    Prepared(Option<JournalFile>),
}

/// Syncs every file that has journal records before `upto`; then those are spent.
pub(super) struct SyncPass {
    pub(super) files: Vec<Arc<WalFile>>,
    pub(super) upto: Position,
    pub(super) waiters: Vec<Done>,
}

impl Job {
    /// Does the work. An error is final: what was to be synced may be lost from the page cache.
    pub(super) fn run(self, disk: &dyn Disk, root: &Path) -> Result<Outcome, WalError> {
        match self {
            Self::Sync(pass) => {
                pass.sync(disk, root)?;
                Ok(Outcome::Synced(pass))
            }
            Self::Prepare(path, bytes) => {
                let file = ring::prepare(disk, &path, bytes).on("prepare journal file", &path)?;
                Ok(Outcome::Prepared(file))
            }
        }
    }
}

impl SyncPass {
    fn sync(&self, disk: &dyn Disk, root: &Path) -> Result<(), WalError> {
        let mut unnamed = Vec::new();
        for file in &self.files {
            let (named, retirements) = file.named();
            if !named {
                unnamed.push((file, retirements));
            }
            file.sync().on("sync", file.path())?;
        }
        for folder in all_folders(unnamed.iter().map(|(file, _)| file.path()), root) {
            match disk.sync_dir(folder) {
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
