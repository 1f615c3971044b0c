//! Walks over the batches of a segment file, checking each: for recovery, compaction, `chronik dump` and fuzzing.

use std::io;
use std::sync::Arc;

use crate::io::disk::ReadAt;

use super::batch::{BatchError, BatchHeader, HEADER_BYTES};
use super::compression::{DecompressError, decompress};
use super::config::Compression;
use super::record::Records;
use super::validate::Marker;

/// Bytes read at a time; a larger batch is read whole.
const CHUNK_BYTES: usize = 1 << 20;

/// Why a scan cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The file could not be read.
    #[error("reading at {position}: {source}")]
    Io {
        /// Where.
        position: u64,
        /// Why.
        source: io::Error,
    },
    /// No whole batch begins here: the end of what was written, or damage.
    #[error("no batch at {position}: {source}")]
    Batch {
        /// Where.
        position: u64,
        /// What is wrong.
        source: BatchError,
    },
}

/// One batch of a segment file, its CRC checked.
#[derive(Debug, Clone, Copy)]
pub struct ScannedBatch<'a> {
    /// Where it begins in the file.
    pub position: u64,
    /// Its header.
    pub header: BatchHeader,
    /// All its bytes.
    pub bytes: &'a [u8],
}

impl<'a> ScannedBatch<'a> {
    /// The records' bytes, decompressed into `unpacked` when they are compressed.
    pub fn payload<'b>(&self, limit: usize, unpacked: &'b mut Vec<u8>) -> Result<&'b [u8], DecompressError>
    where
        'a: 'b,
    {
        let payload = &self.bytes[HEADER_BYTES..];
        if self.header.compression() == Compression::None {
            return Ok(payload);
        }
        decompress(self.header.compression(), payload, limit, unpacked)?;
        Ok(unpacked)
    }

    /// The marker in a control batch; `None` in others, and where compaction has removed it.
    pub fn marker(&self) -> Option<Marker> {
        if !self.header.is_control() {
            return None;
        }
        let first = Records::new(&self.bytes[HEADER_BYTES..], self.header.count).next()?.ok()?;
        Marker::read(&first)
    }
}

/// Walks over the batches between two positions of a file.
pub struct BatchScanner {
    file: Arc<dyn ReadAt>,
    /// Where the next batch begins.
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    /// The position of the buffer's first byte.
    buffered_from: u64,
}

impl BatchScanner {
    /// From `position`, where a batch begins, to `end` or the file's end.
    pub fn new(file: Arc<dyn ReadAt>, position: u64, end: u64) -> io::Result<Self> {
        let end = end.min(file.len()?);
        Ok(Self { file, position, end, buffer: Vec::new(), buffered_from: position })
    }

    /// Where the next batch begins: after an error, where the whole batches end.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next batch; `None` at the end. After an error the scan is over.
    pub fn next_batch(&mut self) -> Option<Result<ScannedBatch<'_>, ScanError>> {
        if self.position >= self.end {
            return None;
        }
        let position = self.position;
        match self.load() {
            Ok(header) => {
                self.position += header.size() as u64;
                let start = (position - self.buffered_from) as usize;
                Some(Ok(ScannedBatch { position, header, bytes: &self.buffer[start..start + header.size()] }))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Brings the batch at the position into the buffer and checks it.
    fn load(&mut self) -> Result<BatchHeader, ScanError> {
        let position = self.position;
        let refused = |source| ScanError::Batch { position, source };
        self.fill(HEADER_BYTES)?;
        let header = BatchHeader::read(self.rest()).map_err(refused)?;
        if header.size() as u64 > self.end - position {
            let available = (self.end - position) as usize;
            return Err(refused(BatchError::Truncated { needed: header.size(), available }));
        }
        self.fill(header.size())?;
        BatchHeader::read_stored(self.rest()).map_err(refused)
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[(self.position - self.buffered_from) as usize..]
    }

    /// Makes `needed` bytes from the position available, or all that there are.
    fn fill(&mut self, needed: usize) -> Result<(), ScanError> {
        let left = (self.end - self.position) as usize;
        if self.rest().len() >= needed.min(left) {
            return Ok(());
        }
        self.buffer.clear();
        self.buffer.resize(needed.max(CHUNK_BYTES).min(left), 0);
        self.buffered_from = self.position;
        let mut done = 0;
        while done < self.buffer.len() {
            let position = self.position + done as u64;
            match self.file.read_at(&mut self.buffer[done..], position) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(source) => return Err(ScanError::Io { position, source }),
            }
        }
        self.buffer.truncate(done);
        Ok(())
    }
}
