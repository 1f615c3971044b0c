//! The journal files in use: one is written, the others wait, oldest first, until what they cover is synced.
//!
//! Files are begun anew strictly in the order of their generations, so what lies on the disk is always an unbroken
//! run of the newest ones: replaying all of it, spent or not, only ever repeats what the files already hold.
//!
//! That would not be so of some of a file's rounds without those that followed, a retirement among them. So a file that
//! holds rounds is begun anew with one block that says nothing: whatever power loss leaves of it, either all the old
//! rounds are there or none is readable.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ALIGNMENT, Encoder, HEADER_BYTES, PATH_BYTES_MAX, Position, Stamp};
use crate::io::disk::{Disk, DiskFile, OpenMode, remove_if_there};

/// Bytes of the first journal file of a new node, so that its first acknowledgement does not wait for many zeros.
const FIRST_FILE_BYTES: u64 = 2 << 20;

/// The least room for a round: header, one entry with the longest path, and a page of data.
const ROUND_BYTES_MIN: u64 = 3 * ALIGNMENT;

/// What a round needs beside the bytes that its budget counts.
const ROUND_OVERHEAD: u64 = 2 * ALIGNMENT;

/// The smallest journal file.
pub(crate) const FILE_BYTES_MIN: u64 = 8 * ALIGNMENT;

/// Bytes that are zeroed between two syncs. Acknowledgements wait behind whatever the disk is busy with: 64 MiB in one sync
/// hold them up for tens of ms, 1 MiB for few.
const ZERO_CHUNK: usize = 1 << 20;

const _: () = assert!(HEADER_BYTES + PATH_BYTES_MAX + 64 <= ROUND_OVERHEAD as usize);

/// One journal file, zero-filled to its capacity, opened for direct writes.
pub(crate) struct JournalFile {
    pub(crate) path: PathBuf,
    pub(crate) handle: Arc<dyn DiskFile>,
    pub(crate) capacity: u64,
    /// 0 when it holds no readable round.
    pub(crate) generation: u64,
}

/// The name of the `number`-th journal file.
pub(crate) fn file_name(number: u64) -> String {
    format!("{number:08}.journal")
}

/// The number in a journal file's name.
pub(crate) fn file_number(name: &str) -> Option<u64> {
    name.strip_suffix(".journal")?.parse().ok()
}

/// Makes a journal file. `None` when the disk has no room for it.
pub(crate) fn prepare(disk: &dyn Disk, path: &Path, bytes: u64, reserve: u64) -> io::Result<Option<JournalFile>> {
    if !make_zeroed(disk, path, bytes, reserve)? {
        return Ok(None);
    }
    let handle = disk.open(path, OpenMode::Direct)?;
    Ok(Some(JournalFile { path: path.to_owned(), handle, capacity: bytes, generation: 0 }))
}

/// Makes a file of zeros, synced, its name durable. False when the disk is full, or would then have less than `reserve`
/// bytes free: nobody relies on the file yet, so that no write to it is anybody's loss.
pub(crate) fn make_zeroed(disk: &dyn Disk, path: &Path, bytes: u64, reserve: u64) -> io::Result<bool> {
    let dir = path.parent().expect("it has a folder, because its path was joined to one");
    if disk.free_bytes(dir)? < bytes.saturating_add(reserve) {
        return Ok(false);
    }
    match fill(disk, path, dir, bytes) {
        Err(error) if crate::wal::is_full_error(&error) => remove_if_there(disk, path).map(|()| false),
        filled => filled.map(|()| true),
    }
}

fn fill(disk: &dyn Disk, path: &Path, dir: &Path, bytes: u64) -> io::Result<()> {
    let handle = disk.open(path, OpenMode::Create)?;
    write_zeros(handle.as_ref(), bytes)?;
    // A file system may find only now that it has no room for what it took.
    handle.sync_all()?;
    disk.sync_dir(dir)
}

/// Overwrites a journal file that holds no readable round, durably: with its first round gone, those behind it would
/// follow a new one at its place, for nobody knows their generation any more.
pub(crate) fn wipe(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<()> {
    let handle = disk.open(path, OpenMode::Write)?;
    write_zeros(handle.as_ref(), bytes)
}

/// Writes zeros, durably.
fn write_zeros(file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_CHUNK.min(bytes as usize)];
    let mut at = 0;
    while at < bytes {
        let chunk = &zeros[..zeros.len().min((bytes - at) as usize)];
        file.write_all_at(&[IoSlice::new(chunk)], at)?;
        file.sync_data()?;
        at += chunk.len() as u64;
    }
    Ok(())
}

/// See the module.
pub(crate) struct Ring {
    dir: PathBuf,
    file_bytes: u64,
    files_max: usize,
    current: JournalFile,
    /// Whether the next round goes over those of an older generation, which must stay whole until it is there.
    over_rounds: bool,
    /// Where the next round goes.
    position: u64,
    /// The others, oldest generation first; fresh ones (generation 0) before all.
    others: VecDeque<JournalFile>,
    next_generation: u64,
    next_round: u64,
    next_file: u64,
    spent: Position,
    spent_durable: Position,
    preparing: bool,
    /// In which generation there was no room for another file: it is asked for again in the next.
    no_room_in: u64,
}

/// What recovery found, for the ring to go on with.
pub(crate) struct Found {
    pub(crate) files: Vec<JournalFile>,
    pub(crate) next_generation: u64,
    pub(crate) next_round: u64,
    pub(crate) next_file: u64,
}

impl Ring {
    /// A ring over the files found, the next round beginning a new generation; makes the first file of a new node.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: PathBuf,
        file_bytes: u64,
        files_max: usize,
        mut found: Found,
    ) -> io::Result<Self> {
        let file_bytes = file_bytes.max(FILE_BYTES_MIN).next_multiple_of(ALIGNMENT);
        found.files.sort_by_key(|file| file.generation);
        let mut others: VecDeque<JournalFile> = found.files.into();
        let mut current = if let Some(oldest) = others.pop_front() {
            oldest
        } else {
            let path = dir.join(file_name(found.next_file));
            found.next_file += 1;
            prepare(disk, &path, file_bytes.min(FIRST_FILE_BYTES), 0)?.ok_or(io::ErrorKind::StorageFull)?
        };
        let over_rounds = current.generation != 0;
        current.generation = found.next_generation;
        let here = Position { generation: current.generation, byte: 0 };
        Ok(Self {
            dir,
            file_bytes,
            files_max,
            current,
            over_rounds,
            position: 0,
            others,
            next_generation: found.next_generation + 1,
            next_round: found.next_round,
            next_file: found.next_file,
            spent: here,
            spent_durable: Position::START,
            preparing: false,
            no_room_in: 0,
        })
    }

    /// Where the next round goes.
    pub(crate) fn end(&self) -> Position {
        Position { generation: self.current.generation, byte: self.position }
    }

    /// What a synced round says is spent.
    pub(crate) fn spent_durable(&self) -> Position {
        self.spent_durable
    }

    /// Whether an empty round must come next, before any other.
    pub(crate) fn wants_empty_round(&self) -> bool {
        self.over_rounds
    }

    /// The file being written, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.current.path
    }

    /// Everything before `upto` is synced in the files themselves.
    pub(crate) fn advance_spent(&mut self, upto: Position) {
        assert!(self.spent <= upto && upto <= self.end(), "spent goes forward and not past the end");
        self.spent = upto;
    }

    /// Bytes that one round may take now, beginning the next file when this one is nearly full; `None` when the
    /// journal is full until more is spent or another file is there.
    pub(crate) fn budget(&mut self) -> Option<u64> {
        let nearly_full = self.remaining() < (self.current.capacity / 8).max(ROUND_BYTES_MIN);
        if nearly_full && !self.begin_next() && self.remaining() < ROUND_BYTES_MIN {
            return None;
        }
        Some(self.remaining().min(self.current.capacity / 2) - ROUND_OVERHEAD)
    }

    fn remaining(&self) -> u64 {
        self.current.capacity - self.position
    }

    fn begin_next(&mut self) -> bool {
        let all_spent = self.spent == self.end();
        match self.others.front() {
            Some(oldest) if oldest.generation < self.spent.generation => {
                let next = self.others.pop_front().expect("it has a front because that was just seen");
                let full = std::mem::replace(&mut self.current, next);
                self.others.push_back(full);
            }
            // The only file: it may be begun anew once nothing in it is needed.
            None if all_spent => {}
            _ => return false,
        }
        self.over_rounds = self.current.generation != 0;
        self.current.generation = self.next_generation;
        self.next_generation += 1;
        self.position = 0;
        if all_spent {
            self.spent = self.end();
        }
        true
    }

    /// Writes a round and syncs it; gives the bytes it takes, padding included. When it fails, nothing of it may be
    /// acknowledged.
    pub(crate) fn commit(
        &mut self,
        encoder: &mut Encoder,
        data: &[&[u8]],
        clean: bool,
        sync: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
    ) -> io::Result<u64> {
        let stamp = Stamp {
            generation: self.current.generation,
            number: self.next_round,
            spent: if clean { self.end() } else { self.spent },
            clean,
        };
        let round = encoder.finish(stamp, data.iter().copied());
        let bytes = round.len() as u64;
        assert!(bytes <= self.remaining(), "a round of {bytes} bytes keeps to its budget");
        assert!(!self.over_rounds || bytes == ALIGNMENT, "old rounds stay whole until one block has ended them all");
        self.current.handle.write_all_at(&[IoSlice::new(round)], self.position)?;
        sync(self.current.handle.as_ref())?;
        self.over_rounds = false;
        self.position += bytes;
        self.next_round += 1;
        self.spent_durable = stamp.spent;
        Ok(bytes)
    }

    /// Whether so much is unspent that a pass over the files is due.
    pub(crate) fn wants_spending(&self) -> bool {
        let since = self.others.iter().filter(|file| file.generation >= self.spent.generation);
        let live = since.map(|file| file.capacity).sum::<u64>() + self.position - self.spent.byte;
        live >= self.file_bytes * self.files_max as u64 / 2
    }

    /// Whether enough was written for it to be worth preparing what much more will need.
    pub(crate) fn is_in_use(&self) -> bool {
        self.position >= self.current.capacity / 4
    }

    /// The path and size of another file to prepare, when one is due. Answer with [`Self::prepared`].
    pub(crate) fn wants_file(&mut self) -> Option<(PathBuf, u64)> {
        let next_is_ready = self.others.front().is_some_and(|next| next.generation < self.spent.generation);
        let due = self.no_room_in != self.current.generation
            && !self.preparing
            && !next_is_ready
            && self.others.len() + 1 < self.files_max
            && self.is_in_use();
        due.then(|| {
            self.preparing = true;
            self.next_file += 1;
            (self.dir.join(file_name(self.next_file - 1)), self.file_bytes)
        })
    }

    /// Takes a prepared file; without one (the disk is full) the ring stays as large as it is for now.
    pub(crate) fn prepared(&mut self, file: Option<JournalFile>) {
        self.preparing = false;
        match file {
            Some(file) => self.others.push_front(file),
            None => self.no_room_in = self.current.generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::sim::{Operation, SimDisk};

    const EIO: i32 = 5;

    #[test]
    fn a_journal_file_is_prepared_in_steps_that_hold_nobody_up() {
        let bytes = 4 * ZERO_CHUNK as u64;
        let dir = Path::new("/data/wal/__commit");
        let path = dir.join(file_name(1));
        let prepared = |failing_sync: Option<u64>| {
            let disk = SimDisk::new();
            disk.create_dir_all(dir).expect("a new disk takes a folder");
            if let Some(sync) = failing_sync {
                disk.fail(Operation::Sync, &path.to_string_lossy(), sync, EIO);
            }
            prepare(&disk, &path, bytes, 0).map(|file| file.is_some())
        };
        // One sync for each step, and one of the whole.
        for sync in 1..=5 {
            assert!(prepared(Some(sync)).is_err(), "there is a sync number {sync}");
        }
        assert!(prepared(None).expect("nothing fails"));
    }
}
