//! The end of a file that is in the journal and not yet in the file.
//!
//! A small append costs a call to the system whatever its size, in every round, for every file; the journal has it
//! already. So it waits here for those that follow, and is read from here.

use std::io::IoSlice;

/// See the module.
#[derive(Default)]
pub(super) struct Tail {
    /// Where in the file it begins.
    start: u64,
    bytes: Vec<u8>,
}

impl Tail {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Where its bytes are to be written.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes what follows it.
    pub(super) fn extend(&mut self, parts: &[IoSlice<'_>], position: u64) {
        if self.is_empty() {
            self.start = position;
        }
        assert_eq!(self.end(), position, "what is put off follows what was put off before");
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }

    /// Forgets what was written, and its memory: most files are not appended to for long.
    pub(super) fn written(&mut self) {
        self.bytes = Vec::new();
    }

    /// Reads from `position`, which is not before its start.
    pub(super) fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        let from = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        let rest = self.bytes.get(from..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        count
    }
}
