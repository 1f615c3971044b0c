//! Files and folders behind a trait, so that the WAL and the logs run on a simulated disk in tests.

pub mod aligned;
pub mod real;
pub mod sim;

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

/// What positions, lengths and memory addresses of direct reads and writes are multiples of: a page, and the largest
/// sector of today's disks.
pub const BLOCK_BYTES: u64 = 4096;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist; read only.
    Read,
    /// It must exist; read and write.
    Write,
    /// Read and write; made, empty, when it does not exist.
    Create,
    /// Read and write; it must not exist.
    CreateNew,
    /// It must exist; read and write past the page cache (`O_DIRECT`), so that what is written goes to the disk as it
    /// is, not with the rest of the cache's unit of up to 1 MiB. Positions, lengths and the parts' addresses and
    /// lengths are multiples of [`BLOCK_BYTES`]. Durable after a sync, as ever. What the page cache holds of the file
    /// is dropped. Where the file system can't do it, the page cache is used.
    Direct,
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name in its folder.
    pub name: String,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// A file system. Paths are those that the configuration gives, absolute or relative.
///
/// What is written or renamed survives a power loss only after `sync_data`/`sync_all` of the file and, for a
/// new, renamed or removed name, `sync_dir` of its folder.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes a folder and those above it.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Renames, replacing what `to` named.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with all that is in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The entries of a folder, in no particular order.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Whether something has this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes everything ever written to the file system that holds `path` durable, names included (syncfs).
    fn sync_filesystem(&self, path: &Path) -> io::Result<()>;
    /// Bytes that can still be written below `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Locks a file against other processes until the returned guard is dropped; `WouldBlock` when another holds it. The
    /// file that has this name is locked: not one that was removed meanwhile.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

/// What can be read at any position. No cursor is shared.
pub trait ReadAt: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads at most `buffer.len()` bytes; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Like [`Self::read_at`], but never waits for the disk: `WouldBlock` when memory does not hold the first byte.
    /// Where the system can't tell, it reads.
    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Reads exactly `buffer.len()` bytes; `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_at(&mut buffer[done..], position + done as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => done += n,
            }
        }
        Ok(())
    }
}

/// An open file. Every call names its position.
pub trait DiskFile: ReadAt {
    /// Writes all of `parts`, back to back.
    fn write_all_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Cuts or extends (with zeros).
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Makes the contents durable (fdatasync).
    fn sync_data(&self) -> io::Result<()>;
    /// Like [`Disk::sync_filesystem`], for the file system that holds this file. Fails when anything that was written to
    /// it since this file was opened could not be written back, whoever else was told of that.
    fn sync_filesystem(&self) -> io::Result<()>;
    /// Makes the contents and the metadata durable (fsync).
    fn sync_all(&self) -> io::Result<()>;
}

/// Whether the process, or the system, has no file descriptor left: nothing was opened, and what is open is as it was.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Removes a file that may be gone already.
pub fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes a folder and those above it, so that they survive a power loss.
pub fn create_dir_durably(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let mut changed = Vec::new();
    let mut missing = path;
    while !disk.exists(missing)? {
        let Some(above) = missing.parent() else { break };
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        changed.push(above);
        missing = above;
    }
    disk.create_dir_all(path)?;
    changed.into_iter().try_for_each(|folder| disk.sync_dir(folder))
}
