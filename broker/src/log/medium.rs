//! Where a read may find its bytes: what only the disk has must not be read on a thread that serves connections.

use std::io;

use crate::io::disk::ReadAt;

/// Where a read may find its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    /// In memory only: what is not there is `WouldBlock`.
    PageCache,
    /// On the disk, too, which may take milliseconds.
    Disk,
}

impl Medium {
    /// Reads at most `buffer.len()` bytes; 0 at the end.
    pub(super) fn read_at(self, file: &dyn ReadAt, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match self {
            Self::PageCache => file.read_cached_at(buffer, position),
            Self::Disk => file.read_at(buffer, position),
        }
    }
}
