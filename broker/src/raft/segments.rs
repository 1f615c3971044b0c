//! The files of the Raft log: numbered segments, appended to at the end, removed from the front.
//!
//! Every append is synced before the next begins, so only the very last record of the last segment can be torn.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::record::{self, HEADER_BYTES, Tail};
use super::{RaftError, proto};
use crate::io::disk::{Disk, DiskFile, OpenMode};

const EXTENSION: &str = ".log";
/// What an operator can do about a damaged log.
const MEND: &str = "nothing was changed: put the folder back from a back-up";

/// The segments of one folder.
pub struct Segments {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// A segment is full when it has this many bytes; a record is never split.
    segment_bytes: u64,
    sealed: VecDeque<Sealed>,
    active: Option<Active>,
    next_number: u64,
}

/// A segment that takes no more records.
struct Sealed {
    number: u64,
    /// The highest index of an entry in it; 0 when there is none.
    last_index: u64,
}

/// The segment that records are appended to.
struct Active {
    number: u64,
    file: Arc<dyn DiskFile>,
    end: u64,
    last_index: u64,
}

impl Segments {
    /// Opens the folder's segments, cuts a torn tail, and returns every whole record in order.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        segment_bytes: u64,
    ) -> Result<(Self, Vec<proto::LogRecord>), RaftError> {
        let numbers = numbers(disk.as_ref(), dir)?;
        let next_number = numbers.last().map_or(0, |last| last + 1);
        let mut segments =
            Self { disk, dir: dir.to_owned(), segment_bytes, sealed: VecDeque::new(), active: None, next_number };
        let mut records = Vec::new();
        for number in numbers {
            segments.seal();
            let (active, of_segment) = segments.read(number, number + 1 == next_number)?;
            segments.active = Some(active);
            records.extend(of_segment);
        }
        segments.make_durable()?;
        Ok((segments, records))
    }

    /// Refuses what an orderly stop can't have left: a record that is not whole, or no record in the newest segment.
    /// Reads only, so that nothing is changed when it refuses.
    pub fn check_whole(disk: &dyn Disk, dir: &Path) -> Result<(), RaftError> {
        let numbers = numbers(disk, dir)?;
        let Some(newest) = numbers.last() else {
            return Err(RaftError::corrupt(
                dir,
                format!("its log is gone, though the node was stopped cleanly; {MEND}"),
            ));
        };
        for number in &numbers {
            let path = path(dir, *number);
            let file = disk.open(&path, OpenMode::Read).map_err(RaftError::io("open", &path))?;
            let scan = record::scan(*number, &read_whole(file.as_ref(), &path)?);
            if scan.tail != Tail::Clean || (number == newest && scan.payloads.is_empty()) {
                let what = format!("it has no whole record at byte {}, though the node was stopped cleanly", scan.end);
                return Err(RaftError::corrupt(&path, format!("{what}; {MEND}")));
            }
        }
        Ok(())
    }

    /// Makes durable what was found: a killed process may have left the newest file's last record, and its name, in the
    /// page cache only, and what follows builds on them.
    fn make_durable(&self) -> Result<(), RaftError> {
        let Some(active) = &self.active else { return Ok(()) };
        let path = path(&self.dir, active.number);
        active.file.sync_all().map_err(RaftError::io("sync", &path))?;
        self.disk.sync_dir(&self.dir).map_err(RaftError::io("sync", &self.dir))
    }

    /// Appends one record and syncs it: when this returns, the record is durable. After an error nothing is known
    /// about it, and the process must end.
    pub fn append(&mut self, record: &proto::LogRecord) -> Result<(), RaftError> {
        if self.active.as_ref().is_some_and(|active| active.end >= self.segment_bytes) {
            self.seal();
        }
        let new = self.active.is_none();
        if new {
            let number = self.next_number;
            let path = path(&self.dir, number);
            let file = self.disk.open(&path, OpenMode::CreateNew).map_err(RaftError::io("create", &path))?;
            self.active = Some(Active { number, file, end: 0, last_index: 0 });
            self.next_number += 1;
        }
        let active = self.active.as_mut().expect("made above because there was none");
        let path = path(&self.dir, active.number);
        let payload = record.encode_to_vec();
        let header = record::header(active.number, active.end, &payload);
        let parts = [IoSlice::new(&header), IoSlice::new(&payload)];
        active.file.write_all_at(&parts, active.end).map_err(RaftError::io("write", &path))?;
        active.file.sync_data().map_err(RaftError::io("sync", &path))?;
        if new {
            self.disk.sync_dir(&self.dir).map_err(RaftError::io("sync", &self.dir))?;
        }
        active.end += (HEADER_BYTES + payload.len()) as u64;
        active.last_index = active.last_index.max(last_index(record));
        Ok(())
    }

    /// Removes the segments whose entries all lie at or below `index`. The one that is appended to stays, with the
    /// newest hard state.
    ///
    /// Each removal is made durable before the next: a later segment may overwrite entries of an earlier one, so the
    /// earlier must never be what comes back.
    pub fn remove_through(&mut self, index: u64) -> Result<(), RaftError> {
        let has_records = self.active.as_ref().is_some_and(|active| active.end > 0);
        while has_records && self.sealed.front().is_some_and(|segment| segment.last_index <= index) {
            let Some(segment) = self.sealed.pop_front() else { break };
            let path = path(&self.dir, segment.number);
            self.disk.remove_file(&path).map_err(RaftError::io("remove", &path))?;
            self.disk.sync_dir(&self.dir).map_err(RaftError::io("sync", &self.dir))?;
        }
        Ok(())
    }

    fn seal(&mut self) {
        if let Some(active) = self.active.take() {
            self.sealed.push_back(Sealed { number: active.number, last_index: active.last_index });
        }
    }

    fn read(&self, number: u64, is_last: bool) -> Result<(Active, Vec<proto::LogRecord>), RaftError> {
        let path = path(&self.dir, number);
        let file = self.disk.open(&path, OpenMode::Write).map_err(RaftError::io("open", &path))?;
        let bytes = read_whole(file.as_ref(), &path)?;
        let scan = record::scan(number, &bytes);
        let (end, length) = (scan.end as u64, bytes.len());
        match scan.tail {
            Tail::Clean => {}
            Tail::Torn if is_last => {
                tracing::warn!(path = %path.display(), from = end, to = length, "cut a torn write off the metadata log");
                file.set_len(end).map_err(RaftError::io("cut", &path))?;
                file.sync_all().map_err(RaftError::io("sync", &path))?;
            }
            Tail::Torn | Tail::Corrupt => {
                let what = format!("the record at byte {end} is broken, which no crash explains");
                return Err(RaftError::corrupt(&path, format!("{what}; {MEND}")));
            }
        }
        let bytes = Bytes::from(bytes);
        let decode = |payload| proto::LogRecord::decode(bytes.slice(payload));
        let records: Vec<_> = scan
            .payloads
            .into_iter()
            .map(decode)
            .collect::<Result<_, _>>()
            .map_err(|error| RaftError::corrupt(&path, error.to_string()))?;
        let last_index = records.iter().map(last_index).max().unwrap_or(0);
        Ok((Active { number, file, end, last_index }, records))
    }
}

/// The segments in a folder, oldest first.
fn numbers(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, RaftError> {
    let entries = disk.list(dir).map_err(RaftError::io("list", dir))?;
    let mut numbers: Vec<u64> =
        entries.iter().filter_map(|entry| entry.name.strip_suffix(EXTENSION)?.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn read_whole(file: &dyn DiskFile, path: &Path) -> Result<Vec<u8>, RaftError> {
    let length = file.len().map_err(RaftError::io("measure", path))?;
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).map_err(RaftError::io("read", path))?;
    Ok(bytes)
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}{EXTENSION}"))
}

fn last_index(record: &proto::LogRecord) -> u64 {
    record.entries.last().map_or(0, |entry| entry.index)
}
