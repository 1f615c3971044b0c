//! The commit journal's format: how a round is encoded, and how a file's rounds are read back.
//!
//! A journal file holds rounds back to back, each padded with zeros to a multiple of [`ALIGNMENT`], so that no block that
//! holds an acknowledged round is ever written again, and that a round can be written past the page cache:
//!
//! ```text
//!  0  crc32c of all that follows          u32   (all numbers little endian)
//!  4  bytes after the header              u32
//!  8  generation of the file              u64   one more each time any file is begun anew
//! 16  number of the round                 u64   one more each round, over all files
//! 24  spent: generation, position         u64, u64   rounds before need no replay
//! 40  bytes of the entry table            u32
//! 44  flags                               u32   1: written by an orderly shutdown, everything is synced
//! 48  entries, then the data of all `Appended` entries in the same order
//! ```
//!
//! An entry is a kind (u8), a file id (u64) and: 1 registered: path length u16, path; 2 appended: position u64,
//! length u64; 3 synced directly: position u64, length u64; 4 retired: nothing.

pub(super) mod ring;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crc_fast::CrcAlgorithm;

use crate::io::disk::BLOCK_BYTES;
use crate::io::disk::aligned::AlignedBuffer;

/// Where rounds may start, in bytes.
pub const ALIGNMENT: u64 = BLOCK_BYTES;

/// Bytes before a round's entries.
pub const HEADER_BYTES: usize = 48;

/// Bytes of the largest entry that is not a registration.
pub(super) const ENTRY_BYTES: usize = 25;

/// Bytes of a registration beside its path.
pub(super) const REGISTRATION_BYTES: usize = 11;

/// The longest path that a registration holds: Linux's own limit.
pub(super) const PATH_BYTES_MAX: usize = 4096;

const FLAG_CLEAN: u32 = 1;

const REGISTERED: u8 = 1;
const APPENDED: u8 = 2;
const SYNCED: u8 = 3;
const RETIRED: u8 = 4;

/// A file in the journal; never reused among live rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

/// A place in the journal: in which generation, at which byte.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The generation of a journal file.
    pub generation: u64,
    /// Bytes from its start.
    pub byte: u64,
}

impl Position {
    /// Before everything.
    pub const START: Self = Self { generation: 0, byte: 0 };
}

/// What a round says about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// In this journal file, the id stands for this path.
    Registered {
        /// The id.
        file: FileId,
        /// The path, from the folder of the WALs.
        path: &'a Path,
    },
    /// Bytes were appended; here they are.
    Appended {
        /// To which file.
        file: FileId,
        /// Where.
        position: u64,
        /// What.
        data: &'a [u8],
    },
    /// Bytes were appended, and the file was synced itself.
    Synced {
        /// To which file.
        file: FileId,
        /// Where.
        position: u64,
        /// How many.
        length: u64,
    },
    /// The file was synced; its earlier entries must never be replayed.
    Retired {
        /// Which file.
        file: FileId,
    },
}

/// One commit round, read back and verified.
#[derive(Debug, Clone, Copy)]
pub struct Round<'a> {
    /// Where it starts.
    pub position: Position,
    /// Its number, over all files.
    pub number: u64,
    /// Rounds before this place need no replay.
    pub spent: Position,
    /// Whether an orderly shutdown wrote it.
    pub clean: bool,
    /// Bytes it takes, without padding.
    pub bytes: u64,
    table: &'a [u8],
    data: &'a [u8],
}

impl<'a> Round<'a> {
    /// What it says, in order.
    pub fn entries(&self) -> Entries<'a> {
        Entries { table: self.table, data: self.data }
    }
}

/// The entries of a round.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    table: &'a [u8],
    data: &'a [u8],
}

fn take<'a>(bytes: &mut &'a [u8], count: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(count).ok()?)?;
    *bytes = rest;
    Some(taken)
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes, 8).map(|taken| u64::from_le_bytes(taken.try_into().expect("8 bytes because 8 were taken")))
}

impl<'a> Entries<'a> {
    /// The next entry; `None` when it is malformed.
    fn parse(&mut self) -> Option<Entry<'a>> {
        let kind = take(&mut self.table, 1)?[0];
        let file = FileId(take_u64(&mut self.table)?);
        Some(match kind {
            REGISTERED => {
                let length = take(&mut self.table, 2)?;
                let length = u16::from_le_bytes([length[0], length[1]]);
                let path = Path::new(OsStr::from_bytes(take(&mut self.table, length.into())?));
                Entry::Registered { file, path }
            }
            APPENDED => {
                let position = take_u64(&mut self.table)?;
                let length = take_u64(&mut self.table)?;
                position.checked_add(length)?;
                Entry::Appended { file, position, data: take(&mut self.data, length)? }
            }
            SYNCED => Entry::Synced { file, position: take_u64(&mut self.table)?, length: take_u64(&mut self.table)? },
            RETIRED => Entry::Retired { file },
            _ => return None,
        })
    }

    fn well_formed(mut self) -> bool {
        while !self.table.is_empty() {
            if self.parse().is_none() {
                return false;
            }
        }
        self.data.is_empty()
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        if self.table.is_empty() { None } else { self.parse() }
    }
}

/// The readable rounds of a journal file, given all its bytes (any bytes): the first that is incomplete, corrupt, of
/// another generation or out of turn ends them.
pub fn read(bytes: &[u8]) -> Rounds<'_> {
    Rounds { bytes, at: 0, follows: None }
}

/// See [`read`].
#[derive(Debug, Clone)]
pub struct Rounds<'a> {
    bytes: &'a [u8],
    at: u64,
    /// Generation and number that the next round must have.
    follows: Option<(u64, u64)>,
}

impl Rounds<'_> {
    /// Where the next round starts, or would.
    pub fn position(&self) -> u64 {
        self.at
    }
}

impl<'a> Iterator for Rounds<'a> {
    type Item = Round<'a>;

    fn next(&mut self) -> Option<Round<'a>> {
        let bytes = self.bytes.get(usize::try_from(self.at).ok()?..)?;
        let round = parse_round(bytes, self.at)?;
        let expected = self.follows.is_none_or(|follows| follows == (round.position.generation, round.number));
        if !expected {
            return None;
        }
        self.follows = Some((round.position.generation, round.number.checked_add(1)?));
        self.at = self.at.checked_add(round.bytes.checked_next_multiple_of(ALIGNMENT)?)?;
        Some(round)
    }
}

fn parse_round(bytes: &[u8], at: u64) -> Option<Round<'_>> {
    let header = bytes.get(..HEADER_BYTES)?;
    let u32_at = |from: usize| u32::from_le_bytes(header[from..from + 4].try_into().expect("4 bytes"));
    let u64_at = |from: usize| u64::from_le_bytes(header[from..from + 8].try_into().expect("8 bytes"));
    let body = bytes[HEADER_BYTES..].get(..u32_at(4) as usize)?;
    let (table, data) = body.split_at_checked(u32_at(40) as usize)?;
    let generation = u64_at(8);
    if generation == 0 || checksum(&bytes[4..HEADER_BYTES + body.len()]) != u32_at(0) {
        return None;
    }
    Entries { table, data }.well_formed().then_some(Round {
        position: Position { generation, byte: at },
        number: u64_at(16),
        spent: Position { generation: u64_at(24), byte: u64_at(32) },
        clean: u32_at(44) & FLAG_CLEAN != 0,
        bytes: (HEADER_BYTES + body.len()) as u64,
        table,
        data,
    })
}

fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Bytes of memory that an idle encoder keeps.
const KEPT_BYTES: usize = 1 << 20;

/// A round in the making: header and entry table; at the end the whole of it, gathered to be written with one call.
#[derive(Debug)]
pub(super) struct Encoder {
    head: Vec<u8>,
    whole: AlignedBuffer,
}

/// What a round's header says beside its lengths.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) generation: u64,
    pub(super) number: u64,
    pub(super) spent: Position,
    pub(super) clean: bool,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { head: vec![0; HEADER_BYTES], whole: AlignedBuffer::default() }
    }

    /// Forgets the entries.
    pub(super) fn clear(&mut self) {
        self.head.truncate(HEADER_BYTES);
    }

    /// Frees the memory that a large round took.
    pub(super) fn idle(&mut self) {
        self.whole.free_above(KEPT_BYTES);
    }

    fn entry(&mut self, kind: u8, file: FileId) {
        self.head.push(kind);
        self.head.extend_from_slice(&file.0.to_le_bytes());
    }

    pub(super) fn registered(&mut self, file: FileId, path: &Path) {
        let path = path.as_os_str().as_bytes();
        assert!(path.len() <= PATH_BYTES_MAX, "a path that was opened is no longer than the system allows");
        self.entry(REGISTERED, file);
        self.head.extend_from_slice(&(path.len() as u16).to_le_bytes());
        self.head.extend_from_slice(path);
    }

    pub(super) fn appended(&mut self, file: FileId, position: u64, length: u64) {
        self.entry(APPENDED, file);
        self.head.extend_from_slice(&position.to_le_bytes());
        self.head.extend_from_slice(&length.to_le_bytes());
    }

    pub(super) fn synced(&mut self, file: FileId, position: u64, length: u64) {
        self.entry(SYNCED, file);
        self.head.extend_from_slice(&position.to_le_bytes());
        self.head.extend_from_slice(&length.to_le_bytes());
    }

    pub(super) fn retired(&mut self, file: FileId) {
        self.entry(RETIRED, file);
    }

    /// The round with the entries so far and their `data`, padded to whole blocks at an aligned address.
    pub(super) fn finish<'a>(&'a mut self, stamp: Stamp, data: impl Iterator<Item = &'a [u8]> + Clone) -> &'a [u8] {
        let table = self.head.len() - HEADER_BYTES;
        let body = table + data.clone().map(<[u8]>::len).sum::<usize>();
        let body = u32::try_from(body).expect("a round fits in a journal file, because its budget is half of one");
        let header = &mut self.head[..HEADER_BYTES];
        header[4..8].copy_from_slice(&body.to_le_bytes());
        header[8..16].copy_from_slice(&stamp.generation.to_le_bytes());
        header[16..24].copy_from_slice(&stamp.number.to_le_bytes());
        header[24..32].copy_from_slice(&stamp.spent.generation.to_le_bytes());
        header[32..40].copy_from_slice(&stamp.spent.byte.to_le_bytes());
        header[40..44].copy_from_slice(&(table as u32).to_le_bytes());
        header[44..48].copy_from_slice(&(u32::from(stamp.clean) * FLAG_CLEAN).to_le_bytes());
        let whole = self.whole.gather(std::iter::once(self.head.as_slice()).chain(data));
        let crc = checksum(&whole[4..HEADER_BYTES + body as usize]);
        whole[..4].copy_from_slice(&crc.to_le_bytes());
        whole
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp(generation: u64, number: u64) -> Stamp {
        Stamp { generation, number, spent: Position { generation: 1, byte: 8192 }, clean: false }
    }

    fn sample(generation: u64, number: u64, data: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.registered(FileId(7), Path::new("/data/wal/t/0/0.log"));
        encoder.appended(FileId(7), 100, data.len() as u64);
        encoder.synced(FileId(8), 5, 1 << 20);
        encoder.retired(FileId(9));
        encoder.finish(stamp(generation, number), [data].into_iter()).to_vec()
    }

    #[test]
    fn what_was_encoded_is_read() {
        let bytes = [sample(3, 10, b"hello"), sample(3, 11, &[1; 9000])].concat();
        let rounds: Vec<_> = read(&bytes).collect();
        assert_eq!(rounds.len(), 2);
        assert_eq!(rounds[1].position, Position { generation: 3, byte: ALIGNMENT });
        assert_eq!((rounds[0].number, rounds[0].clean), (10, false));
        assert_eq!(rounds[0].spent, Position { generation: 1, byte: 8192 });
        let entries: Vec<_> = rounds[0].entries().collect();
        assert_eq!(
            entries,
            [
                Entry::Registered { file: FileId(7), path: Path::new("/data/wal/t/0/0.log") },
                Entry::Appended { file: FileId(7), position: 100, data: b"hello" },
                Entry::Synced { file: FileId(8), position: 5, length: 1 << 20 },
                Entry::Retired { file: FileId(9) },
            ]
        );
    }

    #[test]
    fn rounds_start_at_block_boundaries_and_a_torn_block_ends_the_replay() {
        let written = [sample(2, 1, b"one block"), sample(2, 2, &[1; 9000]), sample(2, 3, b""), sample(2, 4, b"last")];
        let bytes = written.concat();
        let starts: Vec<u64> = read(&bytes).map(|round| round.position.byte / ALIGNMENT).collect();
        assert_eq!((starts.as_slice(), bytes.len() as u64 / ALIGNMENT), ([0, 1, 4, 5].as_slice(), 6));
        for block in 0..6 {
            for part in [0..512, 0..4096] {
                // The recycled file's old bytes are there where the new ones did not arrive.
                let mut torn = bytes.clone();
                torn[block * 4096..][part].fill(0xa5);
                let whole = starts.iter().filter(|start| **start <= block as u64).count() - 1;
                assert_eq!(read(&torn).count(), whole, "block {block}");
            }
        }
    }

    #[test]
    fn a_recycled_files_old_rounds_are_never_read() {
        let bytes = [sample(4, 10, b"new"), sample(3, 11, b"old generation")].concat();
        assert_eq!(read(&bytes).count(), 1);
        let bytes = [sample(4, 10, b"new"), sample(4, 12, b"out of turn")].concat();
        assert_eq!(read(&bytes).count(), 1);
    }

    #[test]
    fn any_flipped_bit_ends_the_replay() {
        let good = sample(1, 1, b"some data");
        let used = read(&good).next().expect("readable").bytes as usize;
        for bit in 0..used * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bad).count(), 0, "bit {bit}");
        }
        for cut in 0..used {
            assert_eq!(read(&good[..cut]).count(), 0, "cut at {cut}");
        }
        assert_eq!(read(&vec![0; 20_000]).count(), 0, "zeros are no round");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            body in proptest::collection::vec(any::<u8>(), 0..300),
            table in 0_u32..400,
            generation in 0_u64..3,
        ) {
            // A header whose checksum is right over an arbitrary body, so that the entries are parsed too.
            let mut bytes = vec![0; HEADER_BYTES];
            bytes.extend_from_slice(&body);
            bytes[4..8].copy_from_slice(&(body.len() as u32).to_le_bytes());
            bytes[8..16].copy_from_slice(&generation.to_le_bytes());
            bytes[40..44].copy_from_slice(&table.to_le_bytes());
            let crc = checksum(&bytes[4..]);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
            for round in read(&bytes) {
                round.entries().count();
            }
            read(&body).count();
        }
    }
}
