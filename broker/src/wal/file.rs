//! A file that is written through the WAL.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::ballast::{Ballast, room_for};
use super::handles::HandleCache;
use super::journal::{FileId, Position};
use super::tail::Tail;
use super::{FlushListener, IoContext, Refusal, WalError, is_full_error};
use crate::io::disk::{DiskFile, OpenMode, ReadAt, is_out_of_descriptors};

/// Bytes of one file that are put off at most: from here on a call to the system is a small part of what they cost.
const TAIL_BYTES: usize = 64 << 10;

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
    ballast: Arc<Ballast>,
    /// Taken before `shared`, after the ballast's `room`; held while it is written.
    tail: Mutex<Tail>,
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
    /// Writes done or put off, and how many of them are synced.
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
    pub(super) fn new(
        path: PathBuf,
        cache: Arc<HandleCache>,
        ballast: Arc<Ballast>,
        listener: Weak<dyn FlushListener>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            path,
            cache,
            me: me.clone(),
            listener,
            used: AtomicBool::new(false),
            ballast,
            tail: Mutex::default(),
            shared: Mutex::default(),
            commit: Mutex::default(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, opened again when the handle was evicted: for what follows a `retire`. Readers read the `WalFile`,
    /// which has more than this while something is put off.
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

    /// Takes what begins at `start`, where the file ends: writes it, or puts it off when it is small. What finds no room,
    /// or no descriptor, is refused; then the file ends where it ended, durably, for what was refused must not come back
    /// after a crash.
    pub(super) fn write(&self, parts: &[IoSlice<'_>], start: u64) -> Result<Option<Refusal>, WalError> {
        let path = self.path.as_path();
        let _spared = self.ballast.spared();
        let mut tail = self.tail.lock();
        if self.put_off(&mut tail, parts, start) {
            return Ok(None);
        }
        let handle = match self.open(OpenMode::Create, true) {
            Err(error) if is_full_error(&error) => return Ok(Some(Refusal::DiskFull(path.to_owned()))),
            Err(error) if is_out_of_descriptors(&error) => return Ok(Some(Refusal::NoDescriptor(path.to_owned()))),
            opened => opened.on("open", path)?,
        };
        let from = if tail.is_empty() { start } else { tail.start() };
        let before = (!tail.is_empty()).then(|| IoSlice::new(tail.bytes()));
        let all: SmallVec<[IoSlice<'_>; 32]> = before.into_iter().chain(parts.iter().copied()).collect();
        let written = handle.write_all_at(&all, from);
        drop(all);
        {
            let mut shared = self.shared.lock();
            shared.writes += 1;
            shared.writing = false;
        }
        match written {
            Err(error) if is_full_error(&error) => {
                handle.set_len(from).on("cut back", path)?;
                handle.sync_all().on("sync", path)?;
                Ok(Some(Refusal::DiskFull(path.to_owned())))
            }
            other => {
                other.on("write", path)?;
                self.forget(&mut tail);
                Ok(None)
            }
        }
    }

    /// Keeps a small append for a later write, if the file is open (so that it needs no descriptor and no name later) and
    /// there will be room. It counts as a write, so that the handle stays until it is synced.
    fn put_off(&self, tail: &mut Tail, parts: &[IoSlice<'_>], start: u64) -> bool {
        let bytes = tail.len() + parts.iter().map(|part| part.len()).sum::<usize>();
        let mut shared = self.shared.lock();
        if bytes > TAIL_BYTES
            || shared.handle.is_none()
            || !self.ballast.take(room_for(bytes) - room_for(tail.len()), &self.me)
        {
            return false;
        }
        shared.writes += 1;
        tail.extend(parts, start);
        true
    }

    /// Writes what was put off; gives the writes done, for `set_synced`.
    pub(super) fn write_tail(&self) -> io::Result<u64> {
        match self.write_tail_into_room() {
            Err(error) if is_full_error(&error) => {
                self.ballast.use_up()?;
                self.write_tail_into_room()
            }
            written => written,
        }
    }

    /// Like `write_tail`, with the room that there is.
    pub(super) fn write_tail_into_room(&self) -> io::Result<u64> {
        let mut tail = self.tail.lock();
        if !tail.is_empty() {
            let handle = self.shared.lock().handle.clone();
            let handle = handle.expect("a file is open from when something is put off until it is synced");
            handle.write_all_at(&[IoSlice::new(tail.bytes())], tail.start())?;
            self.forget(&mut tail);
        }
        Ok(self.shared.lock().writes)
    }

    fn forget(&self, tail: &mut Tail) {
        if tail.is_empty() {
            return;
        }
        self.ballast.give_back(room_for(tail.len()), &self.me);
        tail.written();
    }

    /// Makes all writes done so far durable, and what was put off; but not the file's name.
    pub(super) fn sync(&self) -> io::Result<()> {
        let writes = self.write_tail()?;
        let handle = {
            let shared = self.shared.lock();
            if shared.synced >= writes {
                return Ok(());
            }
            shared.handle.clone()
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
        assert!(self.tail.lock().is_empty(), "a file is retired after all of it was written");
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
    pub(super) fn evict(&self, pin_unsynced: bool, spare_used: bool) -> bool {
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

/// The file with what is put off.
impl ReadAt for WalFile {
    fn len(&self) -> io::Result<u64> {
        let tail = self.tail.lock();
        if tail.is_empty() { self.handle()?.len() } else { Ok(tail.end()) }
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.read_with(buffer, position, |file, buffer| file.read_at(buffer, position))
    }

    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.read_with(buffer, position, |file, buffer| file.read_cached_at(buffer, position))
    }
}

impl WalFile {
    fn read_with(
        &self,
        buffer: &mut [u8],
        position: u64,
        read: impl FnOnce(&dyn DiskFile, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let in_file = {
            let tail = self.tail.lock();
            if tail.is_empty() {
                buffer.len()
            } else if position >= tail.start() {
                return Ok(tail.read(buffer, position));
            } else {
                usize::try_from(tail.start() - position).map_or(buffer.len(), |bytes| bytes.min(buffer.len()))
            }
        };
        read(&*self.handle()?, &mut buffer[..in_file])
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
