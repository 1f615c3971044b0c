//! One segment: a file of batches and its index.

use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::ids::Offset;
use crate::io::disk::{Disk, ReadAt};
use crate::wal::{FlushListener, GroupCommitWal, Refusal, WalFile};

use super::batch::{BatchError, BatchHeader, HEADER_BYTES};
use super::checkpoint::SegmentCheckpoint;
use super::error::LogError;
use super::files;
use super::index::{IndexEntry, SegmentIndex, Target};
use super::medium::Medium;
use super::scan::{BatchScanner, ScanError};

/// Told by a segment how far its appends are durable.
pub(super) trait SegmentListener: Send + Sync {
    fn segment_flushed(&self, base: Offset, token: u64);
    fn segment_refused(&self, base: Offset, token: u64, why: &Refusal);
    /// `partition.json` is durable: what was appended may count as durable.
    fn identity_flushed(&self);
}

/// A segment's files. What changes with each append is in its `Slot`.
pub(super) struct Segment {
    pub base: Offset,
    pub file: Arc<WalFile>,
    log: Weak<dyn SegmentListener>,
    /// `None` until it is needed.
    index: Mutex<Option<SegmentIndex>>,
}

impl FlushListener for Segment {
    fn flushed(&self, token: u64) {
        if let Some(log) = self.log.upgrade() {
            log.segment_flushed(self.base, token);
        }
    }

    fn refused(&self, token: u64, why: &Refusal) {
        if let Some(log) = self.log.upgrade() {
            log.segment_refused(self.base, token, why);
        }
    }
}

impl Segment {
    /// Registers the segment's file; nothing is read or made yet. A `fresh` one has nothing to index.
    pub(super) fn register(
        wal: &GroupCommitWal,
        folder: &Path,
        base: Offset,
        log: Weak<dyn SegmentListener>,
        fresh: bool,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me: &Weak<Self>| Self {
            base,
            file: wal.file(files::segment_path(folder, base), me.clone()),
            log,
            index: Mutex::new(fresh.then(|| SegmentIndex::empty(files::index_path(folder, base)))),
        })
    }

    /// Registers a file of another name; its index, too, lies beside it.
    pub(super) fn register_at(
        wal: &GroupCommitWal,
        path: std::path::PathBuf,
        base: Offset,
        log: Weak<dyn SegmentListener>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me: &Weak<Self>| Self { base, file: wal.file(path, me.clone()), log, index: Mutex::new(None) })
    }

    fn index_path(&self) -> std::path::PathBuf {
        self.file.path().with_extension("index")
    }

    /// Notes an appended batch. The index of a segment that is appended to is always loaded.
    pub(super) fn note(&self, header: &BatchHeader, position: u32, max_timestamp_before: i64, interval: u32) {
        let relative_offset = (header.base_offset - self.base.get()) as u32;
        if let Some(index) = self.index.lock().as_mut() {
            index.note(IndexEntry { relative_offset, position, max_timestamp_before }, interval);
        }
    }

    /// Makes the index ready: loaded, or built by reading the first `size` bytes of the segment.
    pub(super) fn load_index(&self, disk: &dyn Disk, size: u32, interval: u32) -> Result<(), LogError> {
        if self.index.lock().is_some() {
            return Ok(());
        }
        let opened = if size <= interval {
            Ok(SegmentIndex::empty(self.index_path()))
        } else {
            SegmentIndex::open(disk, self.index_path(), size)
        };
        let index = match opened {
            Ok(index) => index,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => self.build_index(disk, size, interval)?,
            Err(error) => return Err(LogError::io("reading", &self.index_path())(error)),
        };
        self.index.lock().get_or_insert(index);
        Ok(())
    }

    /// Reads the segment and writes its index, if the disk has room for it. Of a file that has lost its end, what is whole
    /// is indexed.
    fn build_index(&self, disk: &dyn Disk, size: u32, interval: u32) -> Result<SegmentIndex, LogError> {
        let mut index = SegmentIndex::empty(self.index_path());
        let mut max_timestamp_before = i64::MIN;
        let there = u32::try_from(self.length()?).map_or(size, |length| length.min(size));
        let mut scanner = self.scanner(0, there)?;
        while let Some(batch) = scanner.next_batch() {
            let batch = match batch {
                Err(ScanError::Batch { source: BatchError::Truncated { .. }, .. }) if there < size => break,
                other => other.map_err(|error| self.scan_error(error))?,
            };
            let relative_offset = (batch.header.base_offset - self.base.get()) as u32;
            let position = batch.position as u32;
            index.note(IndexEntry { relative_offset, position, max_timestamp_before }, interval);
            max_timestamp_before = max_timestamp_before.max(batch.header.max_timestamp);
        }
        match index.store(disk, u32::MAX, true).map_err(LogError::io("writing", &self.index_path())) {
            // What is in memory serves readers until there is room.
            Err(error) if error.is_full() => Ok(index),
            stored => stored.map(|()| index),
        }
    }

    /// Where a search in the first `size` bytes begins. What the index says is checked against the segment: an index
    /// that is not this segment's is thrown away and built again.
    pub(super) fn find(
        &self,
        disk: &dyn Disk,
        target: Target,
        size: u32,
        interval: u32,
    ) -> Result<IndexEntry, LogError> {
        self.load_index(disk, size, interval)?;
        let found = match self.index.lock().as_ref().map(|index| index.find(target)) {
            Some(Ok(entry)) => Ok(entry),
            Some(Err(stored)) => stored.find(disk, target),
            None => Ok(IndexEntry::START),
        };
        match found {
            Ok(entry) if self.begins_batch(Medium::Disk, entry, size)? => return Ok(entry),
            Err(error) if !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound) => {
                return Err(LogError::io("reading", &self.index_path())(error));
            }
            _ => {}
        }
        tracing::warn!(path = %self.index_path().display(), "the index is damaged: it is built again");
        let index = self.build_index(disk, size, interval)?;
        *self.index.lock() = Some(index);
        Ok(IndexEntry::START)
    }

    /// Like `find`, as far as memory tells; what only the disk knows, or would put right, is `WouldBlock`.
    pub(super) fn find_cached(&self, target: Target, size: u32) -> Result<IndexEntry, LogError> {
        let found = self.index.lock().as_ref().map(|index| index.find(target));
        match found {
            Some(Ok(entry)) if self.begins_batch(Medium::PageCache, entry, size)? => Ok(entry),
            _ => Err(LogError::io("reading", &self.index_path())(io::ErrorKind::WouldBlock.into())),
        }
    }

    fn begins_batch(&self, medium: Medium, entry: IndexEntry, size: u32) -> Result<bool, LogError> {
        if entry == IndexEntry::START || entry.position >= size {
            return Ok(true);
        }
        let mut bytes = [0; HEADER_BYTES];
        let mut done = 0;
        while done < bytes.len() {
            let read = medium.read_at(&*self.file, &mut bytes[done..], u64::from(entry.position) + done as u64);
            match read.map_err(LogError::io("reading", self.file.path()))? {
                0 => return Err(LogError::io("reading", self.file.path())(io::ErrorKind::UnexpectedEof.into())),
                count => done += count,
            }
        }
        let header = BatchHeader::read(&bytes);
        Ok(header.is_ok_and(|it| it.base_offset == self.base.get() + i64::from(entry.relative_offset)))
    }

    /// Writes the index of the first `durable` bytes; `all` also frees its memory as far as it can. Appends and readers
    /// don't wait for the disk meanwhile. Only one who cuts or replaces the segment's files may not do so at the same time.
    pub(super) fn store_index(&self, disk: &dyn Disk, durable: u32, all: bool) -> Result<(), LogError> {
        let unstored = self.index.lock().as_ref().and_then(|index| index.unstored(durable, all));
        let Some(unstored) = unstored else { return Ok(()) };
        unstored.write(disk).map_err(LogError::io("writing", &self.index_path()))?;
        if let Some(index) = self.index.lock().as_mut() {
            index.stored(&unstored);
        }
        Ok(())
    }

    /// Forgets what the index says of appends that were taken back; touches no file.
    pub(super) fn forget_index_from(&self, size: u32) {
        if let Some(index) = self.index.lock().as_mut() {
            index.forget(size);
        }
    }

    /// Forgets what the index says of what lies at or behind `size`, in the file too.
    pub(super) fn truncate_index(&self, disk: &dyn Disk, size: u32) -> Result<(), LogError> {
        let mut slot = self.index.lock();
        let Some(index) = slot.as_mut() else { return Ok(()) };
        match index.truncate(disk, size) {
            // Damaged: it is built again when it is needed.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                *slot = None;
                Ok(())
            }
            other => other.map_err(LogError::io("reading", &self.index_path())),
        }
    }

    /// The open file, to be cut.
    pub(super) fn handle(&self) -> Result<Arc<dyn crate::io::disk::DiskFile>, LogError> {
        self.file.handle().map_err(LogError::io("opening", self.file.path()))
    }

    /// The file's length, bytes.
    pub(super) fn length(&self) -> Result<u64, LogError> {
        self.file.len().map_err(LogError::io("reading", self.file.path()))
    }

    /// Walks over the batches between two positions, which the file reaches.
    pub(super) fn scanner(&self, from: u32, to: u32) -> Result<BatchScanner, LogError> {
        let length = self.length()?;
        if length < u64::from(to) {
            let what = format!("the file ends here, {to} bytes were written");
            return Err(LogError::Corrupt { path: self.file.path().to_owned(), position: length, what });
        }
        BatchScanner::new(self.file.clone(), u64::from(from), u64::from(to))
            .map_err(LogError::io("reading", self.file.path()))
    }

    /// Names the file that an error is about.
    pub(super) fn scan_error(&self, error: ScanError) -> LogError {
        let path = self.file.path();
        match error {
            ScanError::Io { source, .. } => LogError::io("reading", path)(source),
            ScanError::Batch { position, source } => {
                LogError::Corrupt { path: path.to_owned(), position, what: source.to_string() }
            }
        }
    }
}

/// A segment in its log, with what changes when it grows.
#[derive(Clone)]
pub(super) struct Slot {
    pub segment: Arc<Segment>,
    /// Bytes appended.
    pub size: u32,
    /// Bytes durable, and so readable.
    pub flushed_size: u32,
    /// One past the last record appended.
    pub end: Offset,
    /// The newest token that is durable.
    pub flushed_token: u64,
    /// Largest timestamp, ms; `i64::MIN` when it is empty.
    pub max_timestamp: i64,
    /// Largest timestamp of the first batch, ms; `i64::MIN` when it is empty.
    pub first_timestamp: i64,
    /// When this node began or opened it, ms: `segment.ms` counts from here where nothing is appended.
    pub since_ms: i64,
}

impl Slot {
    /// An empty segment.
    pub(super) fn empty(segment: Arc<Segment>, since_ms: i64) -> Self {
        let end = segment.base;
        Self {
            segment,
            size: 0,
            flushed_size: 0,
            end,
            flushed_token: 0,
            max_timestamp: i64::MIN,
            first_timestamp: i64::MIN,
            since_ms,
        }
    }

    pub(super) fn base(&self) -> Offset {
        self.segment.base
    }

    /// As it is now, for the checkpoint.
    pub(super) fn checkpoint(&self) -> SegmentCheckpoint {
        SegmentCheckpoint {
            base: self.base(),
            end: self.end,
            size: self.size,
            max_timestamp: self.max_timestamp,
            first_timestamp: self.first_timestamp,
        }
    }

    /// As a checkpoint says; all of it is durable.
    pub(super) fn restored(segment: Arc<Segment>, from: &SegmentCheckpoint, since_ms: i64) -> Self {
        Self {
            size: from.size,
            flushed_size: from.size,
            end: from.end,
            max_timestamp: from.max_timestamp,
            first_timestamp: from.first_timestamp,
            ..Self::empty(segment, since_ms)
        }
    }

    /// Counts a batch in that is at the end of the file. Returns the largest timestamp before it.
    pub(super) fn grow(&mut self, header: &BatchHeader) -> i64 {
        let before = self.max_timestamp;
        self.size += header.size() as u32;
        self.end = header.end();
        self.max_timestamp = before.max(header.max_timestamp);
        if self.first_timestamp == i64::MIN {
            self.first_timestamp = header.max_timestamp;
        }
        before
    }
}
