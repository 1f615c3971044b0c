//! One record of the Raft log as bytes: a header with its length and two checksums, then the payload.
//!
//! The header's checksum covers where the record lies, so that no bytes in a payload, and no leftover of another file,
//! look like a record. All numbers are little-endian.

use std::ops::Range;

use crc_fast::{CrcAlgorithm, Digest};

/// Bytes before the payload: its length, its checksum, the header's checksum.
pub const HEADER_BYTES: usize = 12;

/// What a disk writes wholly or not at all, at the least.
const SECTOR_BYTES: usize = 512;

/// What a segment's bytes hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Scan {
    /// The payload of each record, in order.
    pub payloads: Vec<Range<usize>>,
    /// Where the last whole record ends.
    pub end: usize,
    /// What follows it.
    pub tail: Tail,
}

/// What follows the last whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    Clean,
    /// The rest of a write that a crash cut short. It was never reported as durable: appends are synced one by one.
    Torn,
    /// A record that was durable, since another one was written after it, or bytes that no cut-short write leaves.
    Corrupt,
}

/// The header of a record at `position` of the segment with this number.
pub fn header(segment: u64, position: u64, payload: &[u8]) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(payload.len()).expect("a record is far below 4 GiB because proposals are bounded");
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..8].copy_from_slice(&crc(&[payload]).to_le_bytes());
    let check = header_crc(segment, position, &header[..8]);
    header[8..].copy_from_slice(&check.to_le_bytes());
    header
}

/// Finds the records in the bytes of a segment. Allocates one range per record, whatever the bytes.
pub fn scan(segment: u64, bytes: &[u8]) -> Scan {
    let mut payloads = Vec::new();
    let mut end = 0;
    while let Some(payload) = payload_at(segment, bytes, end) {
        if !is_intact(bytes, end, &payload) {
            break;
        }
        end = payload.end;
        payloads.push(payload);
    }
    let tail = match bytes.len() {
        length if length == end => Tail::Clean,
        _ if has_later_record(segment, bytes, end) || !is_one_torn_write(segment, bytes, end) => Tail::Corrupt,
        _ => Tail::Torn,
    };
    Scan { payloads, end, tail }
}

/// Whether a whole header of another record lies behind the broken one at `position`.
fn has_later_record(segment: u64, bytes: &[u8], position: usize) -> bool {
    (position + 1..bytes.len()).any(|later| payload_at(segment, bytes, later).is_some())
}

/// Whether a crash during one write can have left the bytes from `position` on: each sector is as it was to be written,
/// or zeros, or missing.
fn is_one_torn_write(segment: u64, bytes: &[u8], position: usize) -> bool {
    if let Some(payload) = payload_at(segment, bytes, position) {
        return payload.end == bytes.len();
    }
    let Some(header) = bytes[position..].get(..HEADER_BYTES) else { return true };
    let in_one_sector = position / SECTOR_BYTES == (position + HEADER_BYTES - 1) / SECTOR_BYTES;
    let intact = u32_at(header, 8) == header_crc(segment, position as u64, &header[..8]);
    !in_one_sector || intact || header.iter().all(|byte| *byte == 0)
}

/// Where the payload of a record at `position` lies, if its header is valid and the payload ends within the bytes.
fn payload_at(segment: u64, bytes: &[u8], position: usize) -> Option<Range<usize>> {
    let header = bytes.get(position..)?.get(..HEADER_BYTES)?;
    let length = u32_at(header, 0) as usize;
    if length == 0 || u32_at(header, 8) != header_crc(segment, position as u64, &header[..8]) {
        return None;
    }
    let start = position + HEADER_BYTES;
    let end = start.checked_add(length)?;
    (end <= bytes.len()).then_some(start..end)
}

fn is_intact(bytes: &[u8], position: usize, payload: &Range<usize>) -> bool {
    u32_at(&bytes[position..], 4) == crc(&[&bytes[payload.clone()]])
}

fn header_crc(segment: u64, position: u64, start: &[u8]) -> u32 {
    crc(&[&segment.to_le_bytes(), &position.to_le_bytes(), start])
}

/// CRC-32C of the parts, back to back.
pub(super) fn crc(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    digest.finalize() as u32
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in payloads {
            let header = header(7, bytes.len() as u64, payload);
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(payload);
        }
        bytes
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 1..8)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(payloads in payloads()) {
            let bytes = segment(&payloads);
            let scan = scan(7, &bytes);
            prop_assert_eq!(scan.tail, Tail::Clean);
            prop_assert_eq!(scan.end, bytes.len());
            let read: Vec<Vec<u8>> = scan.payloads.into_iter().map(|range| bytes[range].to_vec()).collect();
            prop_assert_eq!(read, payloads);
        }

        #[test]
        fn a_torn_end_is_told_from_a_broken_middle(payloads in payloads(), at: prop::sample::Index, flip in 1_u8..) {
            let mut bytes = segment(&payloads);
            let last = bytes.len() - payloads.last().map_or(0, Vec::len) - HEADER_BYTES;
            let broken = at.index(bytes.len());
            bytes[broken] ^= flip;
            let scan = scan(7, &bytes);
            match broken {
                _ if broken < last => prop_assert_eq!(scan.tail, Tail::Corrupt),
                _ if broken < last + HEADER_BYTES => prop_assert_ne!(scan.tail, Tail::Clean),
                _ => prop_assert_eq!(scan.tail, Tail::Torn),
            }
            prop_assert!(scan.end <= broken);
        }

        #[test]
        fn a_cut_leaves_the_whole_records(payloads in payloads(), at: prop::sample::Index) {
            let bytes = segment(&payloads);
            let cut = at.index(bytes.len() + 1);
            let scan = scan(7, &bytes[..cut]);
            prop_assert_ne!(scan.tail, Tail::Corrupt);
            prop_assert_eq!(scan.tail == Tail::Clean, scan.end == cut);
        }

        #[test]
        fn any_bytes_are_scanned_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let scan = scan(7, &bytes);
            prop_assert!(scan.end <= bytes.len());
        }
    }

    #[test]
    fn a_record_of_another_place_is_none() {
        let bytes = segment(&[vec![1; 20]]);
        assert!(scan(8, &bytes).payloads.is_empty());
        let moved = [&[0; 5], bytes.as_slice()].concat();
        assert_eq!(scan(7, &moved).tail, Tail::Corrupt);
    }

    #[test]
    fn what_no_single_write_leaves_is_corrupt_not_torn() {
        let whole = segment(&[vec![1; 20]]);
        let mut torn = whole.clone();
        torn[HEADER_BYTES] ^= 1;
        assert_eq!(scan(7, &torn).tail, Tail::Torn);
        assert_eq!(scan(7, &[&torn[..], b"more"].concat()).tail, Tail::Corrupt);
        assert_eq!(scan(7, &[0xa5; 3000]).tail, Tail::Corrupt);
        assert_eq!(scan(7, &[&whole[..], &[0xa5; 3000]].concat()).tail, Tail::Corrupt);
        assert_eq!(scan(7, &[&whole[..], &[0; 3000]].concat()).tail, Tail::Torn);
        assert_eq!(scan(7, &[&whole[..], &[0xa5; 5]].concat()).tail, Tail::Torn);
    }
}
