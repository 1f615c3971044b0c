//! A segment's sparse index: from an offset or a time to the place in the file where the search begins.
//!
//! On disk it is a row of pages, each with a checksum; entries newer than the last page are in memory. A page that
//! does not check out makes the whole index worthless: the caller scans the segment and writes it anew.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::io::disk::{Disk, DiskFile, OpenMode};

const PAGE_BYTES: usize = 512;
const PAGE_HEADER_BYTES: usize = 8;
const ENTRY_BYTES: usize = 16;
/// Entries of a full page.
const PAGE_ENTRIES: usize = (PAGE_BYTES - PAGE_HEADER_BYTES) / ENTRY_BYTES;

/// One place where a batch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The batch's base offset less the segment's.
    pub relative_offset: u32,
    /// Where the batch begins in the file.
    pub position: u32,
    /// The largest timestamp of all batches before it, ms; `i64::MIN` when there is none.
    pub max_timestamp_before: i64,
}

impl IndexEntry {
    /// Where every segment begins.
    pub const START: Self = Self { relative_offset: 0, position: 0, max_timestamp_before: i64::MIN };

    fn encode(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[0..4].copy_from_slice(&self.relative_offset.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.position.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.max_timestamp_before.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let (offset, rest) = bytes.split_first_chunk().expect("16 bytes hold 4");
        let (position, timestamp) = rest.split_first_chunk().expect("12 bytes hold 4");
        Self {
            relative_offset: u32::from_le_bytes(*offset),
            position: u32::from_le_bytes(*position),
            max_timestamp_before: i64::from_le_bytes(*timestamp.first_chunk().expect("8 bytes hold 8")),
        }
    }
}

/// What is searched for.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// The batch that holds this offset, relative to the segment's base.
    Offset(u32),
    /// The first batch whose largest timestamp is at least this, ms.
    Timestamp(i64),
    /// The batch that begins at this position or before it.
    Position(u32),
}

impl Target {
    /// Whether the search may begin at this entry: all before it is too early. Falls from true to false once.
    fn may_begin_at(self, entry: &IndexEntry) -> bool {
        match self {
            Self::Offset(offset) => entry.relative_offset <= offset,
            Self::Timestamp(timestamp) => entry.max_timestamp_before < timestamp,
            Self::Position(position) => entry.position <= position,
        }
    }
}

/// The index of one segment.
#[derive(Debug)]
pub struct SegmentIndex {
    path: PathBuf,
    /// Pages in the file.
    pages: u32,
    /// Entries behind the file's.
    tail: Vec<IndexEntry>,
    last_position: u32,
}

/// The part of an index that is in its file, as it was when it was asked for.
#[derive(Debug, Clone)]
pub struct StoredIndex {
    path: PathBuf,
    pages: u32,
}

impl SegmentIndex {
    /// The index of a new segment; what a file of this name holds is ignored and overwritten.
    pub fn empty(path: PathBuf) -> Self {
        Self { path, pages: 0, tail: Vec::new(), last_position: 0 }
    }

    /// The stored index, as far as it speaks of the segment below `size` bytes. Reads a few pages only; a bad page
    /// that it meets is an `InvalidData` error.
    pub fn open(disk: &dyn Disk, path: PathBuf, size: u32) -> io::Result<Self> {
        let mut index = Self::empty(path);
        let file = match disk.open(&index.path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(io::ErrorKind::InvalidData.into()),
            Err(error) => return Err(error),
        };
        let pages = u32::try_from(file.len()? / PAGE_BYTES as u64).unwrap_or(u32::MAX);
        let last = size.saturating_sub(1);
        let Some(page) = find_page(&*file, pages, Target::Position(last))? else { return Ok(index) };
        let entries = read_page(&*file, page)?;
        let kept = entries.partition_point(|entry| entry.position <= last);
        index.last_position = entries[kept - 1].position;
        if kept == entries.len() {
            index.pages = page + 1;
        } else {
            index.pages = page;
            index.tail = entries[..kept].to_vec();
        }
        Ok(index)
    }

    /// Notes a batch that begins `interval` bytes or more after the last that was noted.
    pub fn note(&mut self, entry: IndexEntry, interval: u32) {
        if entry.position.saturating_sub(self.last_position) >= interval.max(1) {
            self.last_position = entry.position;
            self.tail.push(entry);
        }
    }

    /// Where the search begins, when the entries in memory tell; otherwise the file must be asked.
    pub fn find(&self, target: Target) -> Result<IndexEntry, StoredIndex> {
        let at = self.tail.partition_point(|entry| target.may_begin_at(entry));
        match at.checked_sub(1) {
            Some(at) => Ok(self.tail[at]),
            None if self.pages == 0 => Ok(IndexEntry::START),
            None => Err(StoredIndex { path: self.path.clone(), pages: self.pages }),
        }
    }

    /// Forgets what lies at or behind `size`: the segment was cut. Pages behind are overwritten by the next store.
    pub fn truncate(&mut self, disk: &dyn Disk, size: u32) -> io::Result<()> {
        self.tail.retain(|entry| entry.position < size);
        if let Some(last) = self.tail.last() {
            self.last_position = last.position;
            return Ok(());
        }
        if self.pages > 0 {
            let kept = Self::open(disk, self.path.clone(), size)?;
            debug_assert!(kept.pages <= self.pages, "a cut index does not grow");
            *self = kept;
        } else {
            self.last_position = 0;
        }
        Ok(())
    }

    /// Forgets entries in memory at or behind `size`: appends were taken back. None of them is in the file, because
    /// only durable appends' entries are stored.
    pub fn forget(&mut self, size: u32) {
        self.tail.retain(|entry| entry.position < size);
        self.last_position = self.last_position.min(size);
    }

    /// Writes entries below `durable` bytes to the file: full pages, and with `all` the rest too. Frees their memory.
    /// Not synced: a crash may lose it, and then it is built again.
    pub fn store(&mut self, disk: &dyn Disk, durable: u32, all: bool) -> io::Result<()> {
        if let Some(unstored) = self.unstored(durable, all) {
            unstored.write(disk)?;
            self.stored(&unstored);
        }
        Ok(())
    }

    /// What `store` would write, for those who must not hold the index while the disk works; `None` when there is nothing.
    pub fn unstored(&self, durable: u32, all: bool) -> Option<Unstored> {
        let below = self.tail.partition_point(|entry| entry.position < durable);
        let count = if all { below } else { below / PAGE_ENTRIES * PAGE_ENTRIES };
        let entries = self.tail[..count].to_vec();
        (count > 0).then(|| Unstored { path: self.path.clone(), first_page: self.pages, entries })
    }

    /// Frees the memory of what was written meanwhile. Of an index that was cut or built again since, nothing: what its
    /// file has too much is overwritten, or found out, as after a crash.
    pub fn stored(&mut self, written: &Unstored) {
        if self.pages == written.first_page && self.tail.starts_with(&written.entries) {
            self.pages += written.pages();
            self.tail.drain(..written.entries.len());
            self.tail.shrink_to_fit();
        }
    }

    /// Entries in memory.
    pub fn in_memory(&self) -> usize {
        self.tail.len()
    }
}

/// Entries on their way to the file.
#[derive(Debug)]
pub struct Unstored {
    path: PathBuf,
    first_page: u32,
    entries: Vec<IndexEntry>,
}

impl Unstored {
    fn pages(&self) -> u32 {
        self.entries.len().div_ceil(PAGE_ENTRIES) as u32
    }

    /// Writes them, as the last of the file.
    pub fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        let file = disk.open(&self.path, OpenMode::Create)?;
        let mut bytes = Vec::with_capacity(self.pages() as usize * PAGE_BYTES);
        for (page, entries) in (self.first_page..).zip(self.entries.chunks(PAGE_ENTRIES)) {
            encode_page(page, entries, &mut bytes);
        }
        file.write_all_at(&[IoSlice::new(&bytes)], u64::from(self.first_page) * PAGE_BYTES as u64)?;
        file.set_len(u64::from(self.first_page + self.pages()) * PAGE_BYTES as u64)
    }
}

impl StoredIndex {
    /// Where the search begins. `InvalidData` when the file is damaged.
    pub fn find(&self, disk: &dyn Disk, target: Target) -> io::Result<IndexEntry> {
        let file = disk.open(&self.path, OpenMode::Read)?;
        let Some(page) = find_page(&*file, self.pages, target)? else { return Ok(IndexEntry::START) };
        let entries = read_page(&*file, page)?;
        let at = entries.partition_point(|entry| target.may_begin_at(entry));
        Ok(entries[at - 1])
    }
}

/// The last page whose first entry is not behind the target.
fn find_page(file: &dyn DiskFile, pages: u32, target: Target) -> io::Result<Option<u32>> {
    let (mut low, mut high) = (0, pages);
    while low < high {
        let middle = low + (high - low) / 2;
        if target.may_begin_at(&read_page(file, middle)?[0]) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low.checked_sub(1))
}

fn encode_page(page: u32, entries: &[IndexEntry], into: &mut Vec<u8>) {
    let start = into.len();
    into.resize(start + PAGE_BYTES, 0);
    let bytes = &mut into[start..];
    bytes[4..8].copy_from_slice(&(entries.len() as u32).to_le_bytes());
    for (slot, entry) in bytes[PAGE_HEADER_BYTES..].chunks_exact_mut(ENTRY_BYTES).zip(entries) {
        slot.copy_from_slice(&entry.encode());
    }
    let checksum = page_checksum(page, bytes);
    bytes[0..4].copy_from_slice(&checksum.to_le_bytes());
}

/// A page that is at another place than where it was written does not check out.
fn page_checksum(page: u32, bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(&bytes[4..]) ^ page.wrapping_mul(0x9e37_79b1)
}

/// The entries of a page: at least one, in order.
fn read_page(file: &dyn DiskFile, page: u32) -> io::Result<Vec<IndexEntry>> {
    let mut bytes = [0; PAGE_BYTES];
    match file.read_exact_at(&mut bytes, u64::from(page) * PAGE_BYTES as u64) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(io::ErrorKind::InvalidData.into()),
        other => other?,
    }
    decode_page(page, &bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn decode_page(page: u32, bytes: &[u8; PAGE_BYTES]) -> Option<Vec<IndexEntry>> {
    let stored = u32::from_le_bytes(*bytes.first_chunk()?);
    let count = u32::from_le_bytes(*bytes[4..].first_chunk()?) as usize;
    if stored != page_checksum(page, bytes) || !(1..=PAGE_ENTRIES).contains(&count) {
        return None;
    }
    let slots = bytes[PAGE_HEADER_BYTES..].as_chunks::<ENTRY_BYTES>().0;
    let entries: Vec<_> = slots[..count].iter().map(IndexEntry::decode).collect();
    entries.is_sorted_by_key(|entry| (entry.position, entry.relative_offset)).then_some(entries)
}

/// Reads all entries of an index file, as far as pages are whole. For `chronik dump` and fuzzing.
pub fn read_all(disk: &Arc<dyn Disk>, path: &Path) -> io::Result<Vec<IndexEntry>> {
    let file = disk.open(path, OpenMode::Read)?;
    let pages = u32::try_from(file.len()? / PAGE_BYTES as u64).unwrap_or(u32::MAX);
    let mut entries = Vec::new();
    for page in 0..pages {
        entries.extend(read_page(&*file, page)?);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::sim::SimDisk;
    use proptest::prelude::*;

    fn entries(gaps: &[(u32, u32, i64)]) -> Vec<IndexEntry> {
        let mut last = IndexEntry { max_timestamp_before: 0, ..IndexEntry::START };
        gaps.iter()
            .map(|&(offset, position, timestamp)| {
                last = IndexEntry {
                    relative_offset: last.relative_offset + offset,
                    position: last.position + position,
                    max_timestamp_before: last.max_timestamp_before + timestamp,
                };
                last
            })
            .collect()
    }

    fn find(index: &SegmentIndex, disk: &dyn Disk, target: Target) -> IndexEntry {
        index.find(target).unwrap_or_else(|stored| stored.find(disk, target).expect("readable"))
    }

    fn linear(entries: &[IndexEntry], target: Target) -> IndexEntry {
        entries.iter().copied().take_while(|entry| target.may_begin_at(entry)).last().unwrap_or(IndexEntry::START)
    }

    proptest! {
        #[test]
        fn look_ups_equal_a_linear_scan(
            gaps in prop::collection::vec((1u32..50, 1u32..5000, 0i64..9), 0..200),
            stores in prop::collection::vec(any::<bool>(), 0..5),
            offset in 0u32..8000,
            timestamp in -2i64..900,
        ) {
            let disk = SimDisk::new();
            let expected = entries(&gaps);
            let mut index = SegmentIndex::empty("i".into());
            let step = expected.len() / (stores.len() + 1) + 1;
            let mut stores = stores.into_iter();
            for chunk in expected.chunks(step) {
                for entry in chunk {
                    index.note(*entry, 1);
                }
                if let Some(all) = stores.next() {
                    index.store(&disk, u32::MAX, all).expect("stored");
                }
            }
            for target in [Target::Offset(offset), Target::Timestamp(timestamp), Target::Position(offset * 20)] {
                prop_assert_eq!(find(&index, &disk, target), linear(&expected, target));
            }
        }

        #[test]
        fn a_cut_index_knows_nothing_behind_the_cut(
            gaps in prop::collection::vec((1u32..50, 1u32..5000, 0i64..9), 1..200),
            all in any::<bool>(),
            cut in 0u32..400_000,
        ) {
            let disk = SimDisk::new();
            let mut expected = entries(&gaps);
            let mut index = SegmentIndex::empty("i".into());
            for entry in &expected {
                index.note(*entry, 1);
            }
            index.store(&disk, u32::MAX, all).expect("stored");
            index.truncate(&disk, cut).expect("cut");
            expected.retain(|entry| entry.position < cut);
            let last = expected.last().copied().unwrap_or(IndexEntry::START);
            prop_assert_eq!(find(&index, &disk, Target::Offset(u32::MAX)), last);
            index.store(&disk, u32::MAX, true).expect("stored");
            let again = SegmentIndex::open(&disk, "i".into(), cut);
            if all || gaps.len() >= PAGE_ENTRIES || !expected.is_empty() {
                prop_assert_eq!(find(&again.expect("opened"), &disk, Target::Offset(u32::MAX)), last);
            } else {
                let missing = again.expect_err("there was never anything to write");
                prop_assert_eq!(missing.kind(), io::ErrorKind::InvalidData, "what is missing is built again");
            }
        }

        #[test]
        fn any_bytes_are_refused_or_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), size in any::<u32>()) {
            let disk = SimDisk::new();
            let file = disk.open(Path::new("i"), OpenMode::Create).expect("made");
            file.write_all_at(&[IoSlice::new(&bytes)], 0).expect("written");
            let _ = SegmentIndex::open(&disk, "i".into(), size);
        }
    }

    #[test]
    fn an_index_that_was_cut_while_it_was_written_keeps_what_is_left_in_memory() {
        let disk = SimDisk::new();
        let mut index = SegmentIndex::empty("i".into());
        let noted = entries(&[(1, 5000, 1); 40]);
        for entry in &noted {
            index.note(*entry, 1);
        }
        let unstored = index.unstored(u32::MAX, true).expect("there are some");
        index.truncate(&disk, noted[20].position).expect("cut");
        unstored.write(&disk).expect("written");
        index.stored(&unstored);
        assert_eq!(index.in_memory(), 20);
        assert_eq!(index.find(Target::Offset(u32::MAX)).expect("in memory"), noted[19]);
        index.store(&disk, u32::MAX, true).expect("stored");
        assert_eq!(find(&index, &disk, Target::Offset(u32::MAX)), noted[19]);
        assert_eq!(read_all(&(Arc::new(disk) as Arc<dyn Disk>), Path::new("i")).expect("whole"), noted[..20]);
    }

    #[test]
    fn a_damaged_page_is_found() {
        let disk = SimDisk::new();
        let mut index = SegmentIndex::empty("i".into());
        for entry in entries(&[(1, 5000, 1); 40]) {
            index.note(entry, 1);
        }
        index.store(&disk, u32::MAX, true).expect("stored");
        let file = disk.open(Path::new("i"), OpenMode::Write).expect("opened");
        file.write_all_at(&[IoSlice::new(&[7])], 30).expect("written");
        let error = index.find(Target::Offset(3)).expect_err("on disk").find(&disk, Target::Offset(3));
        assert_eq!(error.expect_err("damaged").kind(), io::ErrorKind::InvalidData);
    }
}
