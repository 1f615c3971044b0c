//! The end of a file that its journal records hold and the file does not yet.
//!
//! A write through the page cache costs a few µs however little it writes. What a round has journalled is durable, so
//! small appends are kept here and written together, long after they were acknowledged; those who read the file see them
//! all the same.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::file::WalFile;
use crate::io::disk::DiskFile;

/// Appends that follow what is written.
#[derive(Default)]
pub(super) struct Tail {
    start: u64,
    bytes: Vec<u8>,
    /// There was no room for it. Nothing is added before it is written.
    pub(super) stuck: bool,
}

/// Where a read finds its bytes.
enum Source {
    /// So many were copied out of the tail.
    Tail(usize),
    /// In the file, at most so many before the tail begins.
    File(usize),
}

impl Tail {
    /// Where it starts in the file.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// What is to be written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Adds an append. Returns the bytes added.
    pub(super) fn push(&mut self, position: u64, parts: &[IoSlice<'_>]) -> usize {
        if self.bytes.is_empty() {
            self.start = position;
        }
        assert_eq!(self.end(), position, "an append starts where the one before ended");
        let before = self.bytes.len();
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.bytes.len() - before
    }

    /// It is in the file. Returns how many bytes it had.
    pub(super) fn written(&mut self) -> usize {
        self.stuck = false;
        std::mem::take(&mut self.bytes).len()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> Source {
        if self.bytes.is_empty() {
            return Source::File(buffer.len());
        }
        let Some(skipped) = position.checked_sub(self.start) else {
            return Source::File((self.start - position).min(buffer.len() as u64) as usize);
        };
        let rest = self.bytes.get(skipped as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Source::Tail(count)
    }
}

/// A file and its tail, for reading.
pub(super) struct TailedFile {
    pub(super) file: Arc<WalFile>,
    pub(super) handle: Arc<dyn DiskFile>,
}

/// Whoever changes a file but by appending retires it first, which writes its tail.
fn read_only() -> io::Error {
    io::Error::new(
        io::ErrorKind::ReadOnlyFilesystem,
        "a file whose appends are not all written is changed by the WAL only",
    )
}

impl DiskFile for TailedFile {
    fn len(&self) -> io::Result<u64> {
        let tail = self.file.tail();
        if tail.bytes().is_empty() { self.handle.len() } else { Ok(tail.end()) }
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let source = self.file.tail().read_at(buffer, position);
        match source {
            Source::Tail(count) => Ok(count),
            // Written meanwhile or not: what lies before the tail is in the file.
            Source::File(count) => self.handle.read_at(&mut buffer[..count], position),
        }
    }

    fn write_all_at(&self, _parts: &[IoSlice<'_>], _position: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn set_len(&self, _length: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_filesystem(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_all(&self) -> io::Result<()> {
        Err(read_only())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tail: &Tail, position: u64, count: usize) -> Result<Vec<u8>, usize> {
        let mut buffer = vec![0; count];
        match tail.read_at(&mut buffer, position) {
            Source::Tail(count) => Ok(buffer[..count].to_vec()),
            Source::File(count) => Err(count),
        }
    }

    #[test]
    fn a_read_finds_its_bytes_in_the_file_or_in_the_tail() {
        let mut tail = Tail::default();
        assert_eq!(read(&tail, 0, 10), Err(10));
        assert_eq!(tail.push(100, &[IoSlice::new(b"ab"), IoSlice::new(b"c")]), 3);
        tail.push(103, &[IoSlice::new(b"de")]);
        assert_eq!(read(&tail, 90, 5), Err(5));
        assert_eq!(read(&tail, 98, 5), Err(2), "a read ends where the tail begins");
        assert_eq!(read(&tail, 100, 3), Ok(b"abc".to_vec()));
        assert_eq!(read(&tail, 103, 10), Ok(b"de".to_vec()));
        assert_eq!(read(&tail, 105, 1), Ok(Vec::new()), "the end");
        assert_eq!(read(&tail, 900, 1), Ok(Vec::new()));
        assert_eq!(tail.written(), 5);
        assert_eq!(read(&tail, 103, 10), Err(10));
    }
}
