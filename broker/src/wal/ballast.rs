//! Room on the disk for what is not in its file yet: a file of zeros that goes when a full disk has no other.
//!
//! What is acknowledged and only in the journal must find room in its file later, whoever fills the disk meanwhile. So
//! no more is put off than the ballast holds, and nothing without one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::file::WalFile;
use super::journal::ring::make_zeroed;
use crate::io::disk::{BLOCK_BYTES, Disk, OpenMode, remove_if_there};

/// See the module.
pub(super) struct Ballast {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    bytes: u64,
    /// Whether it is there, whole.
    there: AtomicBool,
    /// Bytes of disk that all that is put off needs at most.
    taken: AtomicU64,
    /// Files of which something is put off, by their addresses.
    files: Mutex<BTreeMap<usize, Weak<WalFile>>>,
    /// Held, shared, by who writes to a file what was not put off, and alone by who writes what was into the ballast's
    /// room: nobody else is to take it. Locked before any file's tail.
    room: RwLock<()>,
}

/// What so many bytes of one file need on a disk that gives whole blocks: the first may begin in a block that the file
/// does not have yet.
pub(super) fn room_for(bytes: usize) -> u64 {
    if bytes == 0 { 0 } else { (bytes as u64).next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES }
}

impl Ballast {
    /// In the journal's folder `dir`, as the last run left it. One that was cut short, or is of another size, is removed.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path, bytes: u64) -> io::Result<Self> {
        let path = dir.join("ballast");
        let length = match disk.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            opened => Some(opened?.len()?),
        };
        let there = length == Some(bytes);
        if length.is_some() && !there {
            disk.remove_file(&path)?;
        }
        let (there, taken) = (AtomicBool::new(there), AtomicU64::new(0));
        Ok(Self { disk, path, bytes, there, taken, files: Mutex::default(), room: RwLock::default() })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it should be there and is not.
    pub(super) fn is_wanted(&self) -> bool {
        self.bytes > 0 && !self.there.load(Ordering::Acquire)
    }

    /// Makes it, unless the disk is full or would then have less than `reserve` bytes free.
    pub(super) fn make(&self, reserve: u64) -> io::Result<()> {
        let made = make_zeroed(&*self.disk, &self.path, self.bytes, reserve)?;
        self.there.store(made, Ordering::Release);
        Ok(())
    }

    /// Takes so much more room of it for a file, if there is so much.
    pub(super) fn take(&self, room: u64, file: &Weak<WalFile>) -> bool {
        let taken = |taken: u64| taken.checked_add(room).filter(|all| *all <= self.bytes);
        let there = self.there.load(Ordering::Acquire)
            && self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok();
        if there && room > 0 {
            self.files.lock().entry(file.as_ptr().addr()).or_insert_with(|| file.clone());
        }
        there
    }

    /// Gives back all the room that a file has.
    pub(super) fn give_back(&self, room: u64, file: &Weak<WalFile>) {
        self.taken.fetch_sub(room, Ordering::Relaxed);
        self.files.lock().remove(&file.as_ptr().addr());
    }

    /// For as long as something is written to a file that was not put off.
    pub(super) fn spared(&self) -> RwLockReadGuard<'_, ()> {
        self.room.read()
    }

    /// The disk is full: writes all that is put off, in the room of the ballast. Nothing more is put off until it is made
    /// again.
    pub(super) fn use_up(&self) -> io::Result<()> {
        let _alone = self.room.write();
        if self.there.swap(false, Ordering::AcqRel) {
            tracing::warn!(path = %self.path.display(), "the disk is full: the ballast makes room for what was acknowledged");
            remove_if_there(&*self.disk, &self.path)?;
        }
        let files: Vec<_> = self.files.lock().values().filter_map(Weak::upgrade).collect();
        files.into_iter().try_for_each(|file| file.write_tail_into_room().map(drop))
    }
}
