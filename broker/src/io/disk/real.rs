//! The machine's disk, through plain system calls.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, FlockOperation, OFlags, fadvise, flock, statvfs, syncfs};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use smallvec::SmallVec;

use super::aligned::AlignedBuffer;
use super::{BLOCK_BYTES, DirEntry, Disk, DiskFile, OpenMode, ReadAt};

/// Parts that one `pwritev` takes at most (`IOV_MAX` on Linux).
const MAX_PARTS: usize = 1024;

/// The file system of this machine. Files are opened with `O_CLOEXEC`, as std does.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
            OpenMode::Direct => return Ok(Arc::new(RealFile(open_direct(path)?))),
        }
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirEntry { name, is_dir: entry.file_type()?.is_dir() });
            }
        }
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(or_here(path))?.sync_all()
    }

    fn sync_filesystem(&self, path: &Path) -> io::Result<()> {
        Ok(syncfs(File::open(or_here(path))?)?)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = statvfs(or_here(path))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        loop {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            if is_at(&file, path)? {
                // The lock goes with the descriptor.
                return Ok(Box::new(file));
            }
        }
    }
}

/// Whether an open file still is the one that has this name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(why) => Err(why),
    }
}

/// The parent of a bare relative name is the empty path, which means the working folder.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Opens past the page cache; through it where the file system can't do otherwise.
fn open_direct(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let cached = options.open(path)?;
    // Every direct write would have to find and drop its part.
    fadvise(&cached, 0, None, Advice::DontNeed)?;
    let direct = options.custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path);
    match direct.and_then(|file| reads_block(&file).map(|()| file)) {
        // Some say so when it is opened, others (with larger sectors, or through FUSE) when it is used.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            tracing::info!(path = %path.display(), "no direct I/O here: writing through the page cache");
            Ok(cached)
        }
        opened => opened,
    }
}

fn reads_block(file: &File) -> io::Result<()> {
    let mut memory = AlignedBuffer::default();
    let block = memory.gather(std::iter::once([0; BLOCK_BYTES as usize].as_slice()));
    file.read_at(block, 0).map(|_| ())
}

struct RealFile(File);

impl ReadAt for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buffer, position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        loop {
            match preadv2(&self.0, &mut [IoSliceMut::new(buffer)], position, ReadWriteFlags::NOWAIT) {
                Err(Errno::INTR) => {}
                // Old kernels and some file systems don't know the flag.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return self.read_at(buffer, position),
                other => return Ok(other?),
            }
        }
    }
}

impl DiskFile for RealFile {
    fn write_all_at(&self, parts: &[IoSlice<'_>], mut position: u64) -> io::Result<()> {
        if let [only] = parts {
            return self.0.write_all_at(only, position);
        }
        let mut copy: SmallVec<[IoSlice<'_>; 64]> = SmallVec::from_slice(parts);
        let mut left: &mut [IoSlice<'_>] = &mut copy;
        // Drops empty parts, so that a write of nothing is never issued.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let count = left.len().min(MAX_PARTS);
            match rustix::io::pwritev(&self.0, &left[..count], position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    position += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_filesystem(&self) -> io::Result<()> {
        Ok(syncfs(&self.0)?)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectored_writes_of_any_number_of_parts_arrive_whole() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = RealDisk.open(&folder.path().join("f"), OpenMode::CreateNew).expect("made");
        let parts: Vec<Vec<u8>> = (0..3000_u32).map(|n| vec![n as u8; (n % 7) as usize]).collect();
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        file.write_all_at(&slices, 5).expect("written");
        let expected: Vec<u8> = std::iter::repeat_n(0, 5).chain(parts.concat()).collect();
        let mut read = vec![0; expected.len()];
        file.read_exact_at(&mut read, 0).expect("read");
        assert_eq!(read, expected);
        assert_eq!(file.len().expect("length"), expected.len() as u64);
        let end = file.read_exact_at(&mut [0; 8], expected.len() as u64 - 4).expect_err("beyond the end");
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_direct_file_takes_whole_blocks_and_reads_them_back_through_the_cache_too() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("f");
        let missing = RealDisk.open(&path, OpenMode::Direct).err().expect("it must exist");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let cached = RealDisk.open(&path, OpenMode::CreateNew).expect("made");
        cached.write_all_at(&[IoSlice::new(&[1; 12288])], 0).and_then(|()| cached.sync_all()).expect("written");
        let direct = RealDisk.open(&path, OpenMode::Direct).expect("opened");
        let mut memory = AlignedBuffer::default();
        let block = memory.gather(std::iter::once([2; 4000].as_slice()));
        direct.write_all_at(&[IoSlice::new(block)], 4096).and_then(|()| direct.sync_data()).expect("written");
        let mut read = vec![9; 12288];
        cached.read_exact_at(&mut read, 0).expect("read");
        assert_eq!(read, [vec![1; 4096], vec![2; 4000], vec![0; 96], vec![1; 4096]].concat());
    }

    #[test]
    fn a_cached_read_gives_what_the_page_cache_holds_and_waits_for_nothing_else() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("f");
        let file = RealDisk.open(&path, OpenMode::CreateNew).expect("made");
        file.write_all_at(&[IoSlice::new(&vec![7; 1 << 20])], 0).and_then(|()| file.sync_all()).expect("written");
        let mut bytes = vec![0; 1 << 20];
        assert_eq!(file.read_cached_at(&mut bytes, 0).expect("it was just written"), 1 << 20);
        assert_eq!(bytes, vec![7; 1 << 20]);
        assert_eq!(file.read_cached_at(&mut bytes, 1 << 20).expect("the end is known"), 0);
        fadvise(File::open(&path).expect("there"), 0, None, Advice::DontNeed).expect("dropped");
        match file.read_cached_at(&mut bytes, 0) {
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            // A file system in memory, or one that can't tell.
            Ok(read) => assert_eq!(bytes[..read], vec![7; read]),
        }
    }

    #[test]
    fn a_lock_is_held_until_its_guard_goes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        let guard = RealDisk.lock(&path).expect("the first gets it");
        let refused = RealDisk.lock(&path).err().expect("the second does not");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(guard);
        drop(RealDisk.lock(&path).expect("free again"));
    }

    #[test]
    fn a_file_that_was_removed_is_known_from_the_one_that_has_its_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        let removed = File::create(&path).expect("made");
        assert!(is_at(&removed, &path).expect("looked"));
        fs::remove_file(&path).expect("removed");
        assert!(!is_at(&removed, &path).expect("looked"));
        let named = File::create(&path).expect("made");
        assert!(!is_at(&removed, &path).expect("looked") && is_at(&named, &path).expect("looked"));
    }

    #[test]
    fn folders_are_listed_synced_and_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let nested = folder.path().join("a/b");
        RealDisk.create_dir_all(&nested).expect("made");
        RealDisk.open(&nested.join("x"), OpenMode::Create).expect("made");
        RealDisk.rename(&nested.join("x"), &nested.join("y")).expect("renamed");
        assert_eq!(RealDisk.list(&nested).expect("listed"), [DirEntry { name: "y".into(), is_dir: false }]);
        RealDisk.sync_dir(&nested).expect("synced");
        RealDisk.sync_filesystem(&nested).expect("synced");
        assert!(RealDisk.free_bytes(&nested).expect("known") > 0);
        RealDisk.remove_dir_all(&folder.path().join("a")).expect("removed");
        assert!(!RealDisk.exists(&nested).expect("known"));
        let missing = RealDisk.open(&nested.join("y"), OpenMode::Read).err().expect("gone");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
