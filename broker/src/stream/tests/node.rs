//! One node of the cluster in memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;
use uuid::Uuid;

use crate::ids::{BrokerEpoch, NodeId, Offset};
use crate::io::disk::sim::SimDisk;
use crate::log::batch::{BatchHeader, HEADER_BYTES};
use crate::log::record::Records;
use crate::log::{LogConfig, LogStore};
use crate::metadata::Image;
use crate::stream::testing::{SameSettings, open_logs};
use crate::stream::{Partition, Partitions};
use crate::wal::{Durability, GroupCommitWal, Stepper, WalOptions};

/// A node, running or not.
pub(super) struct Member {
    id: NodeId,
    disk: SimDisk,
    min_insync: usize,
    wiped: u128,
    pub(super) epoch: BrokerEpoch,
    /// The newest image that it has applied.
    pub(super) image_at: usize,
    full: bool,
    running: Option<Running>,
}

struct Running {
    partitions: Arc<Partitions>,
    logs: Arc<LogStore>,
    stepper: Arc<Mutex<Stepper>>,
}

impl Member {
    pub(super) fn start(id: NodeId, disk: SimDisk, epoch: BrokerEpoch, min_insync: usize) -> Self {
        let mut member = Self { id, disk, min_insync, wiped: 0, epoch, image_at: 0, full: false, running: None };
        member.restart(epoch);
        member
    }

    pub(super) fn restart(&mut self, epoch: BrokerEpoch) {
        self.epoch = epoch;
        self.set_full(false);
        let options = WalOptions {
            journal_file_bytes: 1 << 16,
            journal_files: 3,
            queue_bytes: 1 << 20,
            direct_sync_bytes: 1 << 14,
            deferred_bytes: 64 << 10,
            reserve_bytes: 0,
            open_files: 16,
            durability: Durability::Fsync,
        };
        let folder = PathBuf::from("data/wal/__commit");
        let (wal, stepper) =
            GroupCommitWal::open_stepped(Arc::new(self.disk.clone()), folder, options).expect("the WAL can be opened");
        let stepper = Arc::new(Mutex::new(stepper));
        let logs = while_stepping(&stepper, || open_logs(&self.disk, &wal));
        let config = LogConfig { segment_bytes: 2000, index_interval_bytes: 100, ..LogConfig::default() };
        let settings =
            SameSettings { log: Mutex::new(Arc::new(config)), min_insync: AtomicUsize::new(self.min_insync) };
        let partitions = Partitions::new(self.id, epoch, Arc::clone(&logs), wal, Arc::new(settings));
        self.running = Some(Running { partitions, logs, stepper });
    }

    pub(super) fn id(&self) -> NodeId {
        self.id
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn partitions(&self) -> Option<&Arc<Partitions>> {
        self.running.as_ref().map(|running| &running.partitions)
    }

    pub(super) fn apply(&self, image: &Arc<Image>) -> bool {
        let Some(Running { partitions, stepper, .. }) = &self.running else { return false };
        while_stepping(stepper, || partitions.apply(image)).expect("the simulated disk has not failed");
        true
    }

    /// Does something that waits for the WAL.
    pub(super) fn blocking<T: Send>(&self, work: impl FnOnce(&Partitions) -> T + Send) -> Option<T> {
        let Running { partitions, stepper, .. } = self.running.as_ref()?;
        Some(while_stepping(stepper, || work(partitions)))
    }

    pub(super) fn flush(&self) {
        if let Some(running) = &self.running {
            running.stepper.lock().run().expect("the simulated disk has not failed");
        }
    }

    /// Writes the checkpoint, if there is room.
    pub(super) fn maintain(&self) {
        if let Some(Running { logs, stepper, .. }) = self.running.as_ref().filter(|_| !self.full) {
            while_stepping(stepper, || logs.close()).expect("the simulated disk has not failed");
        }
    }

    pub(super) fn set_full(&mut self, full: bool) {
        self.full = full;
        self.disk.set_capacity(full.then(|| self.disk.used()));
    }

    pub(super) fn crash(&mut self, power_loss: Option<u64>) {
        self.set_full(false);
        self.running = None;
        self.disk = power_loss.map_or_else(|| self.disk.kill(), |seed| self.disk.crash(seed));
    }

    pub(super) fn wipe(&mut self) {
        self.disk = SimDisk::new();
        self.wiped += 1;
    }

    /// The identity of its data folder: another one after each wipe.
    pub(super) fn directory(&self, first: Uuid) -> Uuid {
        Uuid::from_u128(first.as_u128() + (self.wiped << 64))
    }
}

/// Steps the WAL while something waits for it.
fn while_stepping<T: Send>(stepper: &Mutex<Stepper>, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let working = scope.spawn(work);
        while !working.is_finished() {
            stepper.lock().run().expect("the simulated disk has not failed");
            std::thread::yield_now();
        }
        working.join().expect("no invariant is broken")
    })
}

/// The records below `upto`: offset and value.
pub(super) fn records(replica: &Partition, upto: Offset) -> Vec<(i64, String)> {
    let log = replica.log();
    let mut records = Vec::new();
    let start = log.offsets().log_start;
    let mut from = start;
    while from < upto {
        let read = log.read(from, upto, 1 << 20, true, false).expect("readable");
        let Some(end) = read.end else { break };
        for data in read.data {
            let mut left = &data[..];
            while !left.is_empty() {
                let header = BatchHeader::read_stored(left).expect("a whole batch");
                for record in Records::new(&left[HEADER_BYTES..header.size()], header.count) {
                    let record = record.expect("well formed");
                    let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                    let offset = header.base_offset + i64::from(record.offset_delta);
                    // The log may start within a batch.
                    if offset >= start.get() {
                        records.push((offset, value));
                    }
                }
                left = &left[header.size()..];
            }
        }
        from = end;
    }
    records
}
