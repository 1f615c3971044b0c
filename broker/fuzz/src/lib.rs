//! What is fuzzed: every decoder that reads bytes from the network, or from files that a crash may have torn.
//!
//! A function here takes any bytes. It must not panic, overflow, hang, or take memory that the bytes do not justify
//! (libFuzzer's `-rss_limit_mb` and `-timeout` watch the latter).

pub mod seeds;

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use chronik_broker::io::disk::sim::SimDisk;
use chronik_broker::io::disk::{Disk, OpenMode};
use chronik_broker::kafka::api;
use chronik_broker::kafka::wire::RequestHeader;
use chronik_broker::log::checkpoint;
use chronik_broker::log::index::{SegmentIndex, read_all};
use chronik_broker::log::producers::Producers;
use chronik_broker::log::record::Records;
use chronik_broker::log::scan::BatchScanner;
use chronik_broker::log::validate::{Rules, validate};
use chronik_broker::log::{
    CleanupPolicy, Compression, CompressionLevels, LogConfig, Origin, TimestampType, TopicCompression,
};
use chronik_broker::metadata::{codec, snapshot};
use chronik_broker::raft::record;
use chronik_broker::raft::storage::{Limits, RaftWalStorage};
use chronik_broker::stream::links::codec as frames;
use chronik_broker::wal::journal::{self, Entry};

/// A request frame (without its size): header and body, of every API at every version.
pub fn request(data: &[u8]) {
    let frame = Bytes::copy_from_slice(data);
    let Ok(mut header) = RequestHeader::peek(&frame) else { return };
    let Some(api) = api::find(header.api_key).filter(|api| api.has(header.version)) else { return };
    if let Ok(body) = header.finish(frame, api.is_flexible(header.version)) {
        let _ = api::decode(api, header.version, body);
    }
}

/// The records of a partition in a Produce request. The first byte chooses the topic's settings.
pub fn batch(data: &[u8]) {
    let Some((&choice, records)) = data.split_first() else { return };
    let compression = match choice & 7 {
        0 => TopicCompression::Always(Compression::None),
        1 => TopicCompression::Always(Compression::Gzip),
        2 => TopicCompression::Always(Compression::Snappy),
        3 => TopicCompression::Always(Compression::Lz4),
        4 => TopicCompression::Always(Compression::Zstd),
        _ => TopicCompression::Producer,
    };
    let timestamp_type = if choice & 8 == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime };
    let config = log_config(compression, timestamp_type, choice & 16 != 0);
    let origin = if choice & 32 == 0 { Origin::Client } else { Origin::Coordinator };
    let rules = Rules { config: &config, origin, now_ms: 1_800_000_000_000, name: "fuzz-0" };
    let mut records = BytesMut::from(records);
    if choice & 64 != 0 {
        seal(&mut records);
    }
    if let Ok(valid) = validate(records.freeze(), rules) {
        for batch in valid.batches {
            assert_eq!(batch.header.size(), batch.bytes.len());
            batch.header.check_crc(&batch.bytes).expect("a valid batch has a valid checksum");
        }
    }
}

/// Puts the right length and checksum on a batch, so that what lies behind those checks is reached.
fn seal(batch: &mut [u8]) {
    if batch.len() > 21 {
        let length = batch.len() as i32 - 12;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        let crc = crc_fast::crc32_iscsi(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

fn log_config(compression: TopicCompression, timestamp_type: TimestampType, compact: bool) -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 30,
        segment_ms: 604_800_000,
        retention_bytes: None,
        retention_ms: None,
        cleanup_policy: CleanupPolicy { delete: !compact, compact },
        max_message_bytes: 1 << 20,
        timestamp_type,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        compression,
        compression_levels: CompressionLevels { gzip: -1, lz4: 9, zstd: 3 },
        index_interval_bytes: 4096,
        min_cleanable_dirty_ratio: 0.5,
        min_compaction_lag_ms: 0,
        max_compaction_lag_ms: i64::MAX as u64,
        delete_retention_ms: 86_400_000,
        file_delete_delay_ms: 60_000,
    }
}

/// What a log reads of its folder at a start. The first byte chooses: a segment as it is, a segment of batches with the
/// right lengths and checksums, an index, a snapshot of the producers, a checkpoint.
pub fn log_files(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    match choice % 5 {
        0 => scan_segment(data),
        1 => {
            let mut segment = data.to_vec();
            let mut at = 0;
            for size in pieces(data).map(|piece| piece.len() + 1) {
                if let Some(batch) = segment.get_mut(at..at + size) {
                    seal(batch);
                }
                at += size;
            }
            scan_segment(&segment);
        }
        2 => {
            let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
            let path = Path::new("/0.index");
            write(disk.as_ref(), path, data);
            let _ = read_all(&disk, path);
            if let Ok(mut index) = SegmentIndex::open(disk.as_ref(), path.to_owned(), 1 << 20) {
                let _ = index.truncate(disk.as_ref(), 1 << 10);
            }
        }
        3 => drop(Producers::decode(data)),
        _ => drop(checkpoint::decode(data)),
    }
}

fn scan_segment(bytes: &[u8]) {
    let disk = SimDisk::new();
    let path = Path::new("/0.log");
    write(&disk, path, bytes);
    let file = disk.open(path, OpenMode::Read).expect("it was just written");
    let mut scanner = BatchScanner::new(file, 0, bytes.len() as u64).expect("a file in memory can be read");
    let mut unpacked = Vec::new();
    let mut end = 0;
    while let Some(Ok(batch)) = scanner.next_batch() {
        assert_eq!(batch.position, end, "batches follow each other");
        end += batch.bytes.len() as u64;
        let _ = batch.marker();
        if let Ok(payload) = batch.payload(1 << 20, &mut unpacked) {
            let _ = Records::new(payload, batch.header.count).take_while(Result::is_ok).count();
        }
    }
}

/// What a link receives. The first byte chooses: as it is, or cut into frames with the right lengths and checksums, whose
/// headers and payloads take turns.
pub fn link_frames(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let mut buffer = BytesMut::new();
    if choice & 1 == 0 {
        buffer.extend_from_slice(data);
    } else {
        let pieces: Vec<&[u8]> = pieces(data).collect();
        for frame in pieces.chunks(2) {
            let (header, payload) = (frame[0], frame.get(1).copied().unwrap_or_default());
            buffer.extend_from_slice(&link_frame(header, payload));
        }
    }
    let limit = if choice & 2 == 0 { frames::MAX_BYTES } else { frames::HANDSHAKE_BYTES };
    while let Ok(Some(frame)) = frames::decode(&mut buffer, limit) {
        let mut again = Vec::new();
        frames::encode(&frame, &mut again);
        let mut again = BytesMut::from(again.concat().as_slice());
        assert_eq!(frames::decode(&mut again, frames::MAX_BYTES), Ok(Some(frame)), "what is read can be told");
    }
}

/// A frame of a link around any header and payload.
fn link_frame(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let lengths = [(header.len() + payload.len()) as u32, header.len() as u32].map(u32::to_le_bytes).concat();
    let crc = crc_fast::crc32_iscsi(&[&lengths, header, payload].concat());
    [&lengths, &crc.to_le_bytes()[..], header, payload].concat()
}

/// A journal file of the message WAL. The first byte chooses: as it is, or cut into rounds with the right lengths and
/// checksums.
pub fn journal(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let sealed: Vec<u8> = if choice & 1 == 0 { data.to_vec() } else { pieces(data).flat_map(round).collect() };
    let mut rounds = journal::read(&sealed);
    let mut last = None;
    for round in rounds.by_ref() {
        assert!(last.is_none_or(|last| last < round.number), "rounds are numbered upwards");
        last = Some(round.number);
        let data: usize =
            round.entries().map(|entry| if let Entry::Appended { data, .. } = entry { data.len() } else { 0 }).sum();
        assert!(data as u64 <= round.bytes);
    }
    assert!(rounds.position() <= sealed.len().next_multiple_of(4096) as u64);
}

/// A round's header and body from bytes: with the body's true length, a checksum, and padding.
fn round(bytes: &[u8]) -> Vec<u8> {
    let mut round = bytes.to_vec();
    round.resize(round.len().max(48), 0);
    let body = round.len() as u32 - 48;
    round[4..8].copy_from_slice(&body.to_le_bytes());
    let crc = crc_fast::crc32_iscsi(&round[4..]);
    round[..4].copy_from_slice(&crc.to_le_bytes());
    round.resize(round.len().next_multiple_of(4096), 0);
    round
}

/// What a node reads of the metadata plane at its start. The first byte chooses: a segment as it is, a segment of whole
/// records (their payloads are the pieces of the data), a snapshot, a command.
pub fn raft_storage(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let file = Bytes::copy_from_slice(data);
    match choice & 3 {
        0 => open_raft_segment(data),
        1 => {
            let mut segment = Vec::new();
            for payload in pieces(data) {
                segment.extend_from_slice(&record::header(0, segment.len() as u64, payload));
                segment.extend_from_slice(payload);
            }
            open_raft_segment(&segment);
        }
        2 => drop(snapshot::decode(file)),
        _ => drop(codec::decode(file)),
    }
}

fn open_raft_segment(bytes: &[u8]) {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
    let dir = Path::new("/meta");
    RaftWalStorage::form(disk.as_ref(), dir, vec![1], Bytes::new()).expect("an empty disk takes it");
    write(disk.as_ref(), &dir.join("00000000000000000000.log"), bytes);
    let _ = RaftWalStorage::open(disk, dir, Limits::default());
}

fn write(disk: &dyn Disk, path: &Path, bytes: &[u8]) {
    let file = disk.open(path, OpenMode::CreateNew).expect("the disk is empty");
    file.write_all_at(&[IoSlice::new(bytes)], 0).expect("the disk has room");
}

/// Cuts data into pieces, each as long as the byte before it says.
fn pieces(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&len, rest) = data.split_first()?;
        let (piece, rest) = rest.split_at(rest.len().min(len.into()));
        data = rest;
        Some(piece)
    })
}
