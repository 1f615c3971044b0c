//! A node's logs on a simulated disk: what the tests beside this file share.

mod background;
mod basics;
mod compacting;
mod deleting;
mod following;
mod model;
mod produced;
mod recovering;
mod refused;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::batch::BatchHeader;
use super::record::Records;
use super::{
    AppendError, Appended, BatchBuilder, CleanupPolicy, Compression, Log, LogConfig, LogStore, Origin, StoreOptions,
};
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicPartition};
use crate::io::clock::Clock;
use crate::io::disk::sim::SimDisk;
use crate::wal::{Admission, Durability, GroupCommitWal, WalOptions};

/// Where the tests' time begins, ms.
pub(super) const START_MS: i64 = 1_000_000;

/// Time that stands still until it is moved.
pub(super) struct TestClock(AtomicI64);

impl TestClock {
    pub(super) fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn wall_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.wall_ms() as u64)
    }
}

/// A running node.
pub(super) struct Node {
    pub disk: SimDisk,
    pub wal: Arc<GroupCommitWal>,
    pub store: Arc<LogStore>,
    pub clock: Arc<TestClock>,
}

pub(super) fn wal_options() -> WalOptions {
    WalOptions {
        journal_file_bytes: 1 << 16,
        journal_files: 3,
        queue_bytes: 1 << 22,
        direct_sync_bytes: 1 << 14,
        deferred_bytes: 64 << 10,
        reserve_bytes: 0,
        open_files: 16,
        durability: Durability::Fsync,
    }
}

pub(super) fn store_options() -> StoreOptions {
    StoreOptions {
        retention_check_interval_ms: 0,
        cleaner_backoff_ms: 0,
        cleaner_dedupe_bytes: 1 << 20,
        cleaner_io_bytes_per_second: None,
        producer_id_expiration_ms: 86_400_000,
    }
}

impl Node {
    pub(super) fn start(disk: SimDisk) -> Self {
        Self::try_start(disk, false).expect("starts")
    }

    pub(super) fn try_start(disk: SimDisk, clean: bool) -> Result<Self, String> {
        Self::start_with(disk, clean, wal_options())
    }

    pub(super) fn start_with(disk: SimDisk, clean: bool, options: WalOptions) -> Result<Self, String> {
        let io: Arc<dyn crate::io::disk::Disk> = Arc::new(disk.clone());
        let clock = Arc::new(TestClock(AtomicI64::new(START_MS)));
        let folder = PathBuf::from("data/wal/__commit");
        let wal =
            GroupCommitWal::open_with(Arc::clone(&io), folder, options, crate::wal::Drive::Threads, Box::new(|_| {}))
                .map_err(|error| error.to_string())?;
        let data = PathBuf::from("data");
        let store = LogStore::open(io, data, Arc::clone(&wal), Arc::clone(&clock) as _, store_options(), clean)
            .map_err(|error| error.to_string())?;
        Ok(Self { disk, wal, store, clock })
    }

    pub(super) fn log(&self, config: LogConfig) -> Arc<Log> {
        self.store.open_or_create("topic", id(1, 0), Arc::new(config)).expect("made")
    }

    /// A round of all background work.
    pub(super) fn maintain(&self) {
        self.store.maintain().expect("maintained");
        self.store.compact_due().expect("compacted");
    }

    /// The same node after a power loss.
    pub(super) fn crash(self, seed: u64) -> Self {
        let disk = self.disk.crash(seed);
        Self::start(disk)
    }

    /// The same node after an orderly stop.
    pub(super) fn restart(self) -> Self {
        self.store.close().expect("closed");
        self.wal.shutdown().expect("shut down");
        let disk = self.disk.kill();
        Self::try_start(disk, true).expect("starts")
    }
}

pub(super) fn id(topic: u8, partition: i32) -> TopicPartition {
    let topic = TopicId::from_bytes([topic; 16]).expect("not zero");
    TopicPartition { topic, partition: PartitionIndex::new(partition) }
}

/// Small segments, so that tests roll often.
pub(super) fn small() -> LogConfig {
    LogConfig { segment_bytes: 2000, index_interval_bytes: 100, file_delete_delay_ms: 0, ..LogConfig::default() }
}

pub(super) fn compacted() -> LogConfig {
    LogConfig { cleanup_policy: CleanupPolicy { delete: false, compact: true }, ..small() }
}

pub(super) fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.push(START_MS, Some(b"k"), Some(value.as_bytes()), std::iter::empty());
    }
    builder.build()
}

/// A batch of one record, of an idempotent producer.
pub(super) fn numbered(sequence: i32) -> Bytes {
    let builder = BatchBuilder::new(Compression::None).idempotent(ProducerId::new(7), ProducerEpoch::FIRST, sequence);
    builder.record(START_MS, None, Some(b"x")).build()
}

pub(super) fn append(log: &Log, records: Bytes, epoch: i32) -> Result<Appended, AppendError> {
    log.append_as_leader(records, LeaderEpoch::new(epoch), Origin::Client, Admission::unbounded())
}

/// Appends and waits until it is durable and committed.
pub(super) fn append_flushed(node: &Node, log: &Log, records: Bytes) -> Appended {
    let appended = append(log, records, 0).expect("appended");
    node.wal.sync_all().expect("synced");
    log.advance_high_watermark(log.offsets().flushed_end);
    appended
}

/// A record as readers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub offset: i64,
    pub epoch: i32,
    pub key: Option<String>,
    pub value: Option<String>,
}

/// Everything readable from the log start on, read in small pieces.
pub(super) fn read_all(log: &Log) -> Vec<Seen> {
    let offsets = log.offsets();
    let mut seen = Vec::new();
    let mut from = offsets.log_start;
    while from < offsets.flushed_end {
        let read = log.read(from, offsets.flushed_end, 300, true, false).expect("readable");
        if read.data.is_empty() {
            break;
        }
        for bytes in read.data {
            let mut left = &bytes[..];
            while !left.is_empty() {
                let header = BatchHeader::read_stored(left).expect("a whole batch");
                seen.extend(
                    records_of(&header, &left[..header.size()]).into_iter().filter(|it| it.offset >= from.get()),
                );
                from = header.end();
                left = &left[header.size()..];
            }
        }
    }
    seen
}

fn records_of(header: &BatchHeader, bytes: &[u8]) -> Vec<Seen> {
    let mut unpacked = Vec::new();
    let payload = &bytes[super::batch::HEADER_BYTES..];
    super::compression::decompress(header.compression(), payload, 1 << 20, &mut unpacked).expect("unpacks");
    let text = |field: Option<&[u8]>| field.map(|field| String::from_utf8_lossy(field).into_owned());
    Records::new(&unpacked, header.count)
        .map(|record| {
            let record = record.expect("well formed");
            Seen {
                offset: header.base_offset + i64::from(record.offset_delta),
                epoch: header.leader_epoch,
                key: text(record.key),
                value: text(record.value),
            }
        })
        .collect()
}

pub(super) fn values(log: &Log) -> Vec<String> {
    read_all(log).into_iter().map(|seen| seen.value.unwrap_or_default()).collect()
}

pub(super) fn offset(offset: i64) -> Offset {
    Offset::new(offset)
}

pub(super) fn folder() -> &'static Path {
    Path::new("data/wal/topic/0")
}
