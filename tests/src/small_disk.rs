//! A small file system of its own, which can be filled up. Needs root.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Bytes written at once.
const CHUNK: usize = 64 << 10;

/// A file system in memory; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// One of so many MiB; `None`, and said so, where this user can't have one.
    ///
    /// # Panics
    /// When there is no room for its folder.
    pub fn new(mebibytes: u32) -> Option<Self> {
        let dir = TempDir::new().expect("a temporary folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self { dir });
        }
        crate::skip("needs root to mount a small file system");
        None
    }

    /// A folder on it.
    pub fn folder(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Takes the space until so many bytes are left.
    ///
    /// # Panics
    /// When it can't be written to for another reason than that it is full.
    pub fn fill_up_to(&self, left: u64) {
        let mut filler = File::options().create(true).append(true).open(self.filler()).expect("a file can be made");
        let zeros = vec![0; CHUNK];
        loop {
            let over = free_bytes(self.dir.path()).saturating_sub(left);
            let bytes = usize::try_from(over).map_or(CHUNK, |over| over.min(CHUNK));
            match filler.write_all(&zeros[..bytes]) {
                Ok(()) if bytes == 0 => return,
                Ok(()) => {}
                Err(full) if full.kind() == ErrorKind::StorageFull => return,
                Err(why) => panic!("fill a disk: {why}"),
            }
        }
    }

    /// Gives the space back.
    ///
    /// # Panics
    /// When it was not taken.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.dir.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a node that is being killed may still have files open.
        let _ = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
    }
}

fn free_bytes(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).expect("a file system tells its space");
    stat.f_bavail * stat.f_frsize
}
