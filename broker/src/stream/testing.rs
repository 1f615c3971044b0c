//! A node's data plane on a simulated disk, for tests.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::FutureExt;
use parking_lot::Mutex;

use super::{AckWaiter, DataWaiter, Partition, PartitionError, Partitions, TopicSettings};
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, TopicId};
use crate::io::clock::SystemClock;
use crate::io::disk::sim::{Operation, SimDisk};
use crate::io::disk::{Disk as _, OpenMode};
use crate::log::{BatchBuilder, Compression, LogConfig, LogStore, StoreOptions};
use crate::metadata::testing::InstantPlane;
use crate::metadata::{Command, ConfigResource, Image, MetadataPlane, NewTopic, PartitionRegistration};
use crate::wal::{Durability, GroupCommitWal, Stepper, WalOptions};

/// This node.
pub(crate) const NODE: NodeId = NodeId::new(0);

/// The same settings for every topic, but for `min.insync.replicas` where the topic has its own.
pub(crate) struct SameSettings {
    pub(crate) log: Mutex<Arc<LogConfig>>,
    pub(crate) min_insync: AtomicUsize,
}

impl TopicSettings for SameSettings {
    fn log_config(&self, _image: &Image, _topic: &str) -> Arc<LogConfig> {
        Arc::clone(&self.log.lock())
    }

    fn min_insync_replicas(&self, image: &Image, topic: &str) -> usize {
        let own = image.config(&ConfigResource::Topic(topic.into()), "min.insync.replicas");
        own.map_or_else(|| self.min_insync.load(Ordering::Relaxed), |own| own.parse().expect("a number"))
    }
}

/// One node: its disk, WAL and logs, its replicas, and the metadata plane of a cluster of one.
pub(crate) struct Node {
    pub(crate) disk: SimDisk,
    pub(crate) wal: Arc<GroupCommitWal>,
    pub(crate) logs: Arc<LogStore>,
    pub(crate) plane: Arc<InstantPlane>,
    pub(crate) settings: Arc<SameSettings>,
    pub(crate) partitions: Arc<Partitions>,
    /// Does the WAL's work when told; `None` where threads do.
    stepper: Option<Mutex<Stepper>>,
}

impl Node {
    /// Flushes when told to: `flush`.
    pub(crate) fn stepped() -> Self {
        let disk = SimDisk::new();
        let (wal, stepper) = GroupCommitWal::open_stepped(Arc::new(disk.clone()), wal_dir(), wal_options())
            .expect("an empty disk can be opened");
        Self::with(disk, wal, Some(Mutex::new(stepper)))
    }

    /// Flushes by itself.
    pub(crate) fn running() -> Self {
        let disk = SimDisk::new();
        let wal = GroupCommitWal::open(Arc::new(disk.clone()), wal_dir(), wal_options())
            .expect("an empty disk can be opened");
        Self::with(disk, wal, None)
    }

    fn with(disk: SimDisk, wal: Arc<GroupCommitWal>, stepper: Option<Mutex<Stepper>>) -> Self {
        let logs = open_logs(&disk, &wal);
        let plane = InstantPlane::new();
        let settings =
            Arc::new(SameSettings { log: Mutex::new(Arc::new(LogConfig::default())), min_insync: AtomicUsize::new(1) });
        let partitions =
            Partitions::new(NODE, broker_epoch(&plane), Arc::clone(&logs), Arc::clone(&wal), settings.clone());
        Self { disk, wal, logs, plane, settings, partitions, stepper }
    }

    /// Makes what was appended durable.
    pub(crate) fn flush(&self) {
        let stepper = self.stepper.as_ref().expect("a node whose threads flush is not told to");
        stepper.lock().run().expect("the simulated disk has not failed");
    }

    /// Proposes a command and applies the image that comes of it.
    pub(crate) fn command(&self, command: Command) {
        let outcome = self.plane.propose(command).now_or_never().expect("this plane applies at once");
        let outcome = outcome.expect("this plane is always there");
        assert!(outcome.refused().is_none(), "{outcome:?}");
        self.partitions.apply(&self.plane.image()).expect("the image can be applied");
    }

    /// Makes a topic whose partitions all are on this node.
    pub(crate) fn create(&self, name: &str, partitions: usize) -> TopicId {
        let id = TopicId::from_uuid(uuid::Uuid::new_v4()).expect("a drawn id is not nil");
        let topic = NewTopic { name: name.to_owned(), id, assignment: vec![vec![NODE]; partitions], configs: vec![] };
        self.command(Command::CreateTopic(topic));
        id
    }

    /// The next attempt to open the topic's first partition finds no room: what is left in its folder is to go first.
    pub(crate) fn no_room_for(&self, topic: &str) {
        const ENOSPC: i32 = 28;
        let folder = PathBuf::from(format!("data/wal/{topic}/0"));
        self.disk.create_dir_all(&folder).expect("there is room");
        self.disk.open(&folder.join("left.cleaned"), OpenMode::Create).expect("there is room");
        self.disk.fail(Operation::Remove, "left.cleaned", 1, ENOSPC);
    }

    /// A new topic's only partition.
    pub(crate) fn partition(&self, topic: &str) -> Arc<Partition> {
        self.create(topic, 1);
        self.partitions.by_name(topic, 0).expect("it was created")
    }
}

/// The logs on a disk.
pub(crate) fn open_logs(disk: &SimDisk, wal: &Arc<GroupCommitWal>) -> Arc<LogStore> {
    let options = StoreOptions {
        retention_check_interval_ms: 300_000,
        cleaner_backoff_ms: 15_000,
        cleaner_dedupe_bytes: 1 << 20,
        cleaner_io_bytes_per_second: None,
        producer_id_expiration_ms: 86_400_000,
    };
    let clock = Arc::new(SystemClock::start());
    LogStore::open(Arc::new(disk.clone()), PathBuf::from("data"), Arc::clone(wal), clock, options, false)
        .expect("the logs can be opened")
}

fn wal_dir() -> PathBuf {
    PathBuf::from("data/wal/__commit")
}

fn wal_options() -> WalOptions {
    WalOptions {
        journal_file_bytes: 4 << 20,
        journal_files: 4,
        queue_bytes: 8 << 20,
        direct_sync_bytes: 1 << 20,
        deferred_bytes: 64 << 10,
        reserve_bytes: 0,
        open_files: 100,
        durability: Durability::Fsync,
    }
}

/// The registration of this node, as the plane knows it.
pub(crate) fn broker_epoch(plane: &InstantPlane) -> BrokerEpoch {
    plane.image().node(NODE).expect("the node is registered").epoch
}

/// A registration of replicas on more nodes than there are here.
pub(crate) fn registration(epoch: i32, replicas: &[i32], isr: &[i32]) -> PartitionRegistration {
    let nodes = |ids: &[i32]| ids.iter().map(|&id| NodeId::new(id)).collect();
    PartitionRegistration {
        replicas: nodes(replicas),
        isr: nodes(isr),
        elr: Vec::new(),
        leader: Some(NODE),
        leader_broker_epoch: Some(BrokerEpoch::FIRST),
        leader_epoch: LeaderEpoch::new(epoch),
        partition_epoch: PartitionEpoch::new(epoch),
        last_leader: None,
        reassignment: None,
    }
}

/// The registration as the next change of the same leadership.
pub(crate) fn changed(registration: PartitionRegistration) -> PartitionRegistration {
    PartitionRegistration { partition_epoch: registration.partition_epoch.next(), ..registration }
}

/// A batch of so many records.
pub(crate) fn batch(records: usize) -> Bytes {
    let empty = BatchBuilder::new(Compression::None);
    (0..records).fold(empty, |batch, _| batch.record(1000, None, Some(b"value"))).build()
}

/// A batch of records with these values.
pub(crate) fn value_batch(values: impl IntoIterator<Item = String>) -> Bytes {
    let empty = BatchBuilder::new(Compression::None);
    values.into_iter().fold(empty, |batch, value| batch.record(1000, None, Some(value.as_bytes()))).build()
}

/// A batch of records with these timestamps, ms.
pub(crate) fn timed_batch(times: &[i64]) -> Bytes {
    let empty = BatchBuilder::new(Compression::None);
    times.iter().fold(empty, |batch, time| batch.record(*time, None, Some(b"value"))).build()
}

/// Notes what it is told.
#[derive(Default)]
pub(crate) struct Told {
    settled: Mutex<Vec<(u32, Result<(), PartitionError>)>>,
    changed: AtomicUsize,
}

impl Told {
    /// Slots that were acknowledged, and those that failed with their error, in order.
    pub(crate) fn settled(&self) -> Vec<(u32, String)> {
        let text = |outcome: &Result<(), PartitionError>| match outcome {
            Ok(()) => "acknowledged".to_owned(),
            Err(error) => error.to_string(),
        };
        self.settled.lock().iter().map(|(slot, outcome)| (*slot, text(outcome))).collect()
    }

    /// How often it was told that there is something to read.
    pub(crate) fn changed(&self) -> usize {
        self.changed.load(Ordering::Relaxed)
    }
}

impl AckWaiter for Told {
    fn settled(&self, slot: u32, outcome: Result<(), PartitionError>) {
        self.settled.lock().push((slot, outcome));
    }
}

impl DataWaiter for Told {
    fn changed(&self) {
        self.changed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Gives this node a leadership that the plane knows nothing of.
pub(crate) fn lead(partition: &Partition, registration: &PartitionRegistration) {
    lead_with(partition, registration, 1);
}

/// The same, with another `min.insync.replicas` than 1.
pub(crate) fn lead_with(partition: &Partition, registration: &PartitionRegistration, min_insync: usize) {
    partition.register(registration, true, min_insync).expect("the simulated disk has not failed");
}

/// Gives another node a leadership that the plane knows nothing of.
pub(crate) fn follow(partition: &Partition, registration: &PartitionRegistration) {
    partition.register(registration, false, 1).expect("the simulated disk has not failed");
}
