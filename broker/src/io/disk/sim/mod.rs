//! A disk in memory for tests and simulations: deterministic, and honest about what a power loss takes away.
//!
//! Nothing is durable before it is synced: a crash keeps an arbitrary, seeded subset of the unsynced sectors, lengths
//! and names, so writes are dropped, reordered and torn. Every operation that changes something is a fault point
//! before and after it; errors can be injected and space can run out. Not used by a release's own paths.

mod file;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use self::file::FileData;
use self::names::{Inode, Names, Node};
use super::{BLOCK_BYTES, DirEntry, Disk, DiskFile, OpenMode, ReadAt};

/// Bytes that the disk writes at once or not at all.
pub const SECTOR: usize = 512;

/// An operation, for choosing which fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Bytes are read.
    Read,
    /// A file or folder is made.
    Create,
    /// Bytes are written.
    Write,
    /// A file is cut or extended.
    SetLen,
    /// A file's contents are made durable.
    Sync,
    /// Names are made durable.
    SyncDir,
    /// A name changes.
    Rename,
    /// A name goes.
    Remove,
}

struct Fault {
    operation: Operation,
    path: String,
    countdown: u64,
    error: i32,
}

struct State {
    files: BTreeMap<Inode, FileData>,
    names: Names,
    locks: BTreeSet<PathBuf>,
    faults: Vec<Fault>,
    capacity: Option<u64>,
    used: u64,
    operations: u64,
    crash_at: Option<u64>,
    crashed: bool,
    /// Whether the page cache holds nothing.
    cold: bool,
}

/// A simulated disk; clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

fn crashed() -> io::Error {
    io::Error::other("the simulated machine has crashed")
}

impl SimDisk {
    /// An empty disk without a limit.
    pub fn new() -> Self {
        Self::from_parts(BTreeMap::new(), Names::new(), None)
    }

    fn from_parts(files: BTreeMap<Inode, FileData>, names: Names, capacity: Option<u64>) -> Self {
        let used = files.values().filter(|file| !file.unlinked).map(FileData::len).sum();
        let state = State {
            files,
            names,
            locks: BTreeSet::new(),
            faults: Vec::new(),
            capacity,
            used,
            operations: 0,
            crash_at: None,
            crashed: false,
            cold: false,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Fault points passed so far: two for each changing operation, one before and one after it.
    pub fn fault_points(&self) -> u64 {
        self.state.lock().operations
    }

    /// Stops the machine at the `n`-th fault point from now (1 is the next): from there on everything fails.
    pub fn crash_at(&self, n: u64) {
        assert!(n > 0, "the next fault point is number 1");
        let mut state = self.state.lock();
        state.crash_at = Some(state.operations + n);
    }

    /// Takes a planned `crash_at` back.
    pub fn cancel_crash(&self) {
        self.state.lock().crash_at = None;
    }

    /// Whether the machine has stopped.
    pub fn has_crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// The disk after a power loss: of what was not synced an arbitrary subset, chosen by `seed`, is there.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let mut state = self.state.lock();
        state.crashed = true;
        let mut random = SmallRng::seed_from_u64(seed);
        let names = state.names.after_power_loss(&mut random);
        let files = names
            .file_inodes()
            .into_iter()
            .map(|inode| (inode, state.files[&inode].after_power_loss(&mut random)))
            .collect();
        Self::from_parts(files, names, state.capacity)
    }

    /// The disk after the process died and the machine did not: everything written is there, unsynced as before;
    /// locks are free, planned faults forgotten.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut state = self.state.lock();
        state.crashed = true;
        // A file whose removal is not durable may yet come back: all of them stay.
        Self::from_parts(state.files.clone(), state.names.clone(), state.capacity)
    }

    /// Bounds the disk; `None` lifts the bound. Beyond it writes stop half-way with `StorageFull`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Whether reads have to wait for the disk from now on, which `read_cached_at` does not.
    pub fn set_cold(&self, cold: bool) {
        self.state.lock().cold = cold;
    }

    /// Bytes in files.
    pub fn used(&self) -> u64 {
        self.state.lock().used
    }

    /// Makes the `n`-th (1 is the next) such operation on a path that contains `path` fail with this errno.
    pub fn fail(&self, operation: Operation, path: &str, n: u64, errno: i32) {
        assert!(n > 0, "the next operation is number 1");
        self.state.lock().faults.push(Fault { operation, path: path.to_owned(), countdown: n, error: errno });
    }

    /// Runs one changing operation between its two fault points.
    fn change<T>(
        &self,
        operation: Operation,
        path: &Path,
        body: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state.lock();
        state.pass_fault_point()?;
        state.injected(operation, path)?;
        let done = body(&mut state);
        state.pass_fault_point()?;
        done
    }

    fn look<T>(&self, body: impl FnOnce(&State) -> io::Result<T>) -> io::Result<T> {
        let state = self.state.lock();
        if state.crashed { Err(crashed()) } else { body(&state) }
    }
}

impl State {
    fn pass_fault_point(&mut self) -> io::Result<()> {
        self.operations += 1;
        self.crashed |= self.crash_at == Some(self.operations);
        if self.crashed { Err(crashed()) } else { Ok(()) }
    }

    fn injected(&mut self, operation: Operation, path: &Path) -> io::Result<()> {
        let path = path.to_string_lossy();
        let mut hit = None;
        for (index, fault) in self.faults.iter_mut().enumerate() {
            if fault.operation == operation && path.contains(&fault.path) {
                fault.countdown -= 1;
                if fault.countdown == 0 {
                    hit = Some(index);
                }
            }
        }
        match hit {
            Some(index) => Err(io::Error::from_raw_os_error(self.faults.remove(index).error)),
            None => Ok(()),
        }
    }

    fn free(&self) -> u64 {
        self.capacity.map_or(u64::MAX / 2, |capacity| capacity.saturating_sub(self.used))
    }

    fn make_file(&mut self, path: &Path) -> io::Result<Inode> {
        let inode = self.names.make(path, Node::File)?;
        self.files.insert(inode, FileData::default());
        Ok(inode)
    }

    fn unlinked(&mut self, node: Option<Inode>) {
        if let Some(file) = node.and_then(|inode| self.files.get_mut(&inode)) {
            self.used -= file.len();
            file.unlinked = true;
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let found = self.look(|state| state.names.find(path))?;
        let inode = match (found, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some((_, Node::Dir)), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some((inode, Node::File)), _) => inode,
            (None, OpenMode::Read | OpenMode::Write | OpenMode::Direct) => return Err(io::ErrorKind::NotFound.into()),
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                self.change(Operation::Create, path, |state| state.make_file(path))?
            }
        };
        let direct = mode == OpenMode::Direct;
        Ok(Arc::new(SimFile { disk: self.clone(), inode, path: path.to_owned(), direct }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        for folder in path.ancestors() {
            match self.look(|state| state.names.find(folder))? {
                Some((_, Node::Dir)) => break,
                Some((_, Node::File)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => missing.push(folder),
            }
        }
        for folder in missing.into_iter().rev() {
            self.change(Operation::Create, folder, |state| state.names.make(folder, Node::Dir).map(|_| ()))?;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Operation::Rename, to, |state| {
            let replaced = state.names.rename(from, to)?;
            state.unlinked(replaced);
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(Operation::Remove, path, |state| {
            let removed = state.names.remove(path, Node::File)?;
            state.unlinked(Some(removed));
            Ok(())
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        for entry in self.list(path)? {
            let child = path.join(entry.name);
            if entry.is_dir {
                self.remove_dir_all(&child)?;
            } else {
                self.remove_file(&child)?;
            }
        }
        self.change(Operation::Remove, path, |state| state.names.remove(path, Node::Dir).map(|_| ()))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.look(|state| state.names.list(path))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.look(|state| Ok(state.names.find(path)?.is_some()))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change(Operation::SyncDir, path, |state| state.names.sync_dir(path))
    }

    fn sync_filesystem(&self, path: &Path) -> io::Result<()> {
        self.change(Operation::Sync, path, |state| {
            state.names.sync_all();
            state.files.values_mut().for_each(FileData::sync);
            Ok(())
        })
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        self.look(|state| Ok(state.free()))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        drop(self.open(path, OpenMode::Create)?);
        if !self.state.lock().locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(LockGuard { disk: self.clone(), path: path.to_owned() }))
    }
}

struct LockGuard {
    disk: SimDisk,
    path: PathBuf,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.disk.state.lock().locks.remove(&self.path);
    }
}

struct SimFile {
    disk: SimDisk,
    inode: Inode,
    path: PathBuf,
    direct: bool,
}

impl SimFile {
    /// What a direct file asks of its callers, and a real disk would answer with EINVAL.
    fn check_alignment(&self, memory: &[u8], position: u64) {
        let aligned = [position, memory.len() as u64, memory.as_ptr().addr() as u64].map(|n| n % BLOCK_BYTES) == [0; 3];
        assert!(
            aligned || !self.direct,
            "{} bytes at {position} of {} keep to whole blocks, in memory too",
            memory.len(),
            self.path.display()
        );
    }

    fn change<T>(&self, operation: Operation, body: impl FnOnce(&mut State, Inode) -> io::Result<T>) -> io::Result<T> {
        self.disk.change(operation, &self.path, |state| body(state, self.inode))
    }
}

impl State {
    fn file(&mut self, inode: Inode) -> &mut FileData {
        self.files.get_mut(&inode).expect("an inode lives as long as its disk, because it is never freed")
    }

    /// Writes as much as there is room for.
    fn write(&mut self, inode: Inode, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let free = self.free();
        let file = self.file(inode);
        let length = file.len();
        let whole: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let growth = (position + whole).saturating_sub(length);
        let fits = if growth <= free { whole } else { (length + free).saturating_sub(position).min(whole) };
        let mut left = fits as usize;
        let mut at = position;
        for part in parts {
            let taken = &part[..part.len().min(left)];
            file.write(taken, at);
            at += taken.len() as u64;
            left -= taken.len();
        }
        let (unlinked, grown) = (file.unlinked, file.len() - length);
        if !unlinked {
            self.used += grown;
        }
        if fits < whole { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl ReadAt for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.disk.look(|state| Ok(state.files[&self.inode].len()))
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.check_alignment(buffer, position);
        // Changes nothing, so it is no fault point.
        let mut state = self.disk.state.lock();
        if state.crashed {
            return Err(crashed());
        }
        state.injected(Operation::Read, &self.path)?;
        Ok(state.files[&self.inode].read(buffer, position))
    }

    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let cold = self.disk.state.lock().cold;
        if cold { Err(io::ErrorKind::WouldBlock.into()) } else { self.read_at(buffer, position) }
    }
}

impl DiskFile for SimFile {
    fn write_all_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        for part in parts {
            self.check_alignment(part, position);
        }
        self.change(Operation::Write, |state, inode| state.write(inode, parts, position))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(Operation::SetLen, |state, inode| {
            let free = state.free();
            let file = state.file(inode);
            let before = file.len();
            if length.saturating_sub(before) > free {
                return Err(io::ErrorKind::StorageFull.into());
            }
            file.set_len(length);
            if !file.unlinked {
                state.used = state.used - before + length;
            }
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn sync_filesystem(&self) -> io::Result<()> {
        self.disk.sync_filesystem(&self.path)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.change(Operation::Sync, |state, inode| {
            state.file(inode).sync();
            Ok(())
        })
    }
}

/// How much of a list of unsynced things a power loss leaves.
fn survivors(random: &mut SmallRng, count: usize) -> Vec<bool> {
    let prefix = random.random_range(0..=count);
    match random.random_range(0..4) {
        0 => vec![true; count],
        1 => vec![false; count],
        2 => (0..count).map(|index| index < prefix).collect(),
        _ => (0..count).map(|_| random.random()).collect(),
    }
}

#[cfg(test)]
mod tests;
