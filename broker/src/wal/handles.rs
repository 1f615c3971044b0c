//! The cache of open handles.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::file::WalFile;
use crate::io::disk::{Disk, is_out_of_descriptors};

/// Keeps at most so many files open, closing those least recently used (by second chance). A file that is not synced
/// stays open, so that an error of writing it back is reported to its sync and to nobody else.
pub(super) struct HandleCache {
    pub(super) disk: Arc<dyn Disk>,
    limit: usize,
    pin_unsynced: bool,
    files: Mutex<VecDeque<Weak<WalFile>>>,
}

impl HandleCache {
    pub(super) fn new(disk: Arc<dyn Disk>, limit: usize, pin_unsynced: bool) -> Arc<Self> {
        Arc::new(Self { disk, limit: limit.max(1), pin_unsynced, files: Mutex::default() })
    }

    pub(super) fn opened(&self, file: Weak<WalFile>) {
        let mut files = self.files.lock();
        files.push_back(file);
        // Once around takes away the second chances, once more finds what may go.
        for _ in 0..files.len() * 2 {
            if files.len() <= self.limit {
                break;
            }
            let oldest = files.pop_front().expect("there are more than the limit");
            if oldest.upgrade().is_some_and(|file| !file.evict(self.pin_unsynced, true)) {
                files.push_back(oldest);
            }
        }
    }

    /// Does what takes a file descriptor. When none is left (others in this process, or on this machine, may have taken
    /// more than they were thought to), closes every file that may be closed and tries once more.
    pub(super) fn with_descriptor<T>(&self, attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match attempt() {
            Err(error) if is_out_of_descriptors(&error) => {
                let needed =
                    |file: &Weak<WalFile>| file.upgrade().is_some_and(|file| !file.evict(self.pin_unsynced, false));
                self.files.lock().retain(needed);
                attempt()
            }
            done => done,
        }
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        self.with_descriptor(|| self.disk.sync_dir(folder))
    }
}
