//! A file that is written through the WAL, and the cache of open handles.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::FlushListener;
use super::journal::{FileId, Position};
use crate::io::disk::{Disk, DiskFile, OpenMode, is_out_of_descriptors};

/// A file that is written through the WAL. Its id is never reused among live journal records.
///
/// After a file was replaced under its path (a compaction's swap), register the path again: this one still stands for
/// the old contents.
pub struct WalFile {
    path: PathBuf,
    cache: Arc<HandleCache>,
    me: Weak<WalFile>,
    pub(super) listener: Weak<dyn FlushListener>,
    /// Whether the handle was used since the cache last looked.
    used: AtomicBool,
    shared: Mutex<Shared>,
    /// Touched by the committer only.
    pub(super) commit: Mutex<CommitState>,
}

/// What the committer, the background sync, readers and `retire` share.
#[derive(Default)]
struct Shared {
    handle: Option<Arc<dyn DiskFile>>,
    /// Whether the cache knows of the handle.
    cached: bool,
    /// A write is under way: the handle must stay.
    writing: bool,
    /// Writes done, and how many of them are synced.
    writes: u64,
    synced: u64,
    /// Whether the names that lead to the file are durable.
    named: bool,
    /// Grows with each `retire`.
    retirements: u64,
    /// `writes` at the last `retire`: nothing is owed to a file that was not written since, and its folder may be gone.
    writes_retired: u64,
}

/// What the committer knows of a file.
#[derive(Default)]
pub(super) struct CommitState {
    /// Its id in the journal, given at its first append after opening or retirement.
    pub(super) id: Option<FileId>,
    /// In which generation its path was last registered.
    pub(super) registered_in: u64,
    /// Its last journal record.
    pub(super) last_record: Option<Position>,
    /// Where its next append must start; unknown before the first and after a retirement.
    pub(super) end: Option<u64>,
    /// Refused appends: nothing more is taken until `resume`.
    pub(super) refusing: bool,
    /// Whether it waits for the next pass of background sync.
    pub(super) dirty: bool,
    /// The round that touches it now and its place there.
    pub(super) round: u64,
    pub(super) slot: usize,
    /// Whether that round retires it.
    pub(super) retiring: bool,
}

impl WalFile {
    pub(super) fn new(path: PathBuf, cache: Arc<HandleCache>, listener: Weak<dyn FlushListener>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            path,
            cache,
            me: me.clone(),
            listener,
            used: AtomicBool::new(false),
            shared: Mutex::default(),
            commit: Mutex::default(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, for reading; opened again when the handle was evicted.
    pub fn handle(&self) -> io::Result<Arc<dyn DiskFile>> {
        self.open(OpenMode::Write, false)
    }

    fn open(&self, mode: OpenMode, to_write: bool) -> io::Result<Arc<dyn DiskFile>> {
        // Only written when it changes, so that readers do not fight over the cache line.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        let mut shared = self.shared.lock();
        let handle = if let Some(handle) = &shared.handle {
            handle.clone()
        } else {
            let handle = self.cache.with_descriptor(|| self.open_on_disk(mode))?;
            shared.handle = Some(handle.clone());
            handle
        };
        shared.writing |= to_write;
        let new = !std::mem::replace(&mut shared.cached, true);
        drop(shared);
        if new {
            self.cache.opened(self.me.clone());
        }
        Ok(handle)
    }

    fn open_on_disk(&self, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let disk = &self.cache.disk;
        match (disk.open(&self.path, mode), self.path.parent()) {
            (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound && mode == OpenMode::Create => {
                disk.create_dir_all(folder)?;
                disk.open(&self.path, mode)
            }
            (opened, _) => opened,
        }
    }

    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        self.shared.lock().handle.is_some()
    }

    /// The open file, for a write that ends with `written`.
    pub(super) fn begin_write(&self) -> io::Result<Arc<dyn DiskFile>> {
        self.open(OpenMode::Create, true)
    }

    /// The write is in the page cache, whole or in part.
    pub(super) fn written(&self) {
        let mut shared = self.shared.lock();
        shared.writes += 1;
        shared.writing = false;
    }

    /// Makes all writes done so far durable, except the file's name.
    pub(super) fn sync(&self) -> io::Result<()> {
        let (handle, writes) = {
            let shared = self.shared.lock();
            if shared.synced == shared.writes {
                return Ok(());
            }
            (shared.handle.clone(), shared.writes)
        };
        let handle = match handle {
            Some(handle) => handle,
            None => match self.handle() {
                // Retired meanwhile, and synced with that: it may be gone.
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_synced(writes) => return Ok(()),
                opened => opened?,
            },
        };
        handle.sync_data()?;
        self.set_synced(writes);
        Ok(())
    }

    /// Writes done so far, for `set_synced`.
    pub(super) fn writes(&self) -> u64 {
        self.shared.lock().writes
    }

    fn is_synced(&self, writes: u64) -> bool {
        self.shared.lock().synced >= writes
    }

    /// The first so many writes are durable.
    pub(super) fn set_synced(&self, writes: u64) {
        let mut shared = self.shared.lock();
        shared.synced = shared.synced.max(writes);
    }

    /// Whether the names that lead to it are durable, or need not be; and its number of retirements, for `set_named`.
    pub(super) fn named(&self) -> (bool, u64) {
        let shared = self.shared.lock();
        (shared.named || shared.writes == shared.writes_retired, shared.retirements)
    }

    /// The names are durable, unless it was retired since `named` was asked.
    pub(super) fn set_named(&self, retirements: u64) {
        let mut shared = self.shared.lock();
        shared.named |= shared.retirements == retirements;
    }

    /// Forgets what was known of it: anything may happen to it now.
    pub(super) fn retired(&self) {
        let mut shared = self.shared.lock();
        assert_eq!(shared.synced, shared.writes, "a file is retired after it was synced");
        shared.handle = None;
        shared.named = false;
        shared.retirements += 1;
        shared.writes_retired = shared.writes;
    }

    /// Makes contents and names durable, of a file that was written. `root` and what is above it are durable already.
    pub(super) fn sync_with_names(&self, root: &Path) -> io::Result<()> {
        self.sync()?;
        let (named, retirements) = self.named();
        if !named {
            for folder in folders_to_sync(&self.path, root) {
                self.cache.sync_dir(folder)?;
            }
            self.set_named(retirements);
        }
        Ok(())
    }

    /// Closes the handle if nothing needs it; whether the cache may forget it. What was used since the last time is
    /// spared once, if there is a choice.
    fn evict(&self, pin_unsynced: bool, spare_used: bool) -> bool {
        // A file that is being opened is in use; and its opener may be the one who looks for a descriptor.
        let Some(mut shared) = self.shared.try_lock() else { return false };
        let unsynced = pin_unsynced && shared.synced < shared.writes;
        let used = self.used.swap(false, Ordering::Relaxed) && spare_used;
        if shared.handle.is_some() && (shared.writing || unsynced || used) {
            return false;
        }
        shared.handle = None;
        shared.cached = false;
        true
    }
}

/// The folders whose entries lead from `root` to a file; its parent only when it lies elsewhere.
pub(super) fn folders_to_sync<'a>(path: &'a Path, root: &'a Path) -> impl Iterator<Item = &'a Path> {
    let below = path.starts_with(root);
    let count = if below { path.components().count() - root.components().count() } else { 1 };
    path.ancestors().skip(1).take(count.max(1))
}

/// The folders of many files, each once.
pub(super) fn all_folders<'a>(paths: impl Iterator<Item = &'a Path>, root: &'a Path) -> BTreeSet<&'a Path> {
    paths.flat_map(|path| folders_to_sync(path, root)).collect()
}

/// Keeps at most so many files open, closing those least recently used (by second chance). A file that is not synced
/// stays open, so that an error of writing it back is reported to its sync and to nobody else.
pub(super) struct HandleCache {
    disk: Arc<dyn Disk>,
    limit: usize,
    pin_unsynced: bool,
    files: Mutex<VecDeque<Weak<WalFile>>>,
}

impl HandleCache {
    pub(super) fn new(disk: Arc<dyn Disk>, limit: usize, pin_unsynced: bool) -> Arc<Self> {
        Arc::new(Self { disk, limit: limit.max(1), pin_unsynced, files: Mutex::default() })
    }

    fn opened(&self, file: Weak<WalFile>) {
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
