//! Writers that go on while faults happen, and the check of what they were told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::Cluster;
use crate::clients::{PATIENCE, consumer, create_replicated, producer, receive};
use crate::cluster::wait_for;

/// The topic that is written to.
pub const TOPIC: &str = "written";
/// Its partitions.
pub const PARTITIONS: i32 = 4;
/// Records that must be acknowledged between two faults.
pub const BETWEEN_FAULTS: u64 = 200;
/// Records that one writer has under way.
const WINDOW: usize = 32;
const MIN_INSYNC: (&str, &str) = ("min.insync.replicas", "2");

/// Draws the same for the same seed (splitmix64).
#[derive(Debug)]
pub struct Draw(pub u64);

impl Draw {
    /// A number below `bound`.
    ///
    /// # Panics
    /// When the bound is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("it is below a usize")
    }
}

/// A number from the environment: how long a test is.
///
/// # Panics
/// When it is no number.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// Runs what blocks beside the writers.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// Idempotent writers with acks=all, one for each partition, under way until they are told to stop. An error that the
/// producer does not mend by itself fails the test.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acked: Arc<[AtomicU64]>,
    writers: Vec<tokio::task::JoinHandle<Vec<Option<i64>>>>,
}

impl Load {
    /// Small records, as fast as they are acknowledged.
    pub async fn start(cluster: &Cluster) -> Self {
        Self::with(cluster, 0, Duration::ZERO).await
    }

    /// Records of at least so many bytes, each writer with a pause after each.
    pub async fn with(cluster: &Cluster, bytes: usize, pause: Duration) -> Self {
        create_replicated(cluster, TOPIC, PARTITIONS, 3, &[MIN_INSYNC]).await;
        let settings =
            [("linger.ms", "1"), ("socket.timeout.ms", "5000"), ("topic.metadata.refresh.interval.ms", "200")];
        let producer = producer(cluster, &settings);
        let stop = Arc::new(AtomicBool::new(false));
        let acked: Arc<[AtomicU64]> = (0..PARTITIONS).map(|_| AtomicU64::new(0)).collect();
        let writer = |partition| Writer {
            producer: producer.clone(),
            partition,
            bytes,
            pause,
            stop: stop.clone(),
            acked: acked.clone(),
        };
        let writers = (0..PARTITIONS).map(|partition| tokio::spawn(writer(partition).write())).collect();
        Self { stop, acked, writers }
    }

    /// Records acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.acked.iter().map(|acked| acked.load(Ordering::Relaxed)).sum()
    }

    /// Records of one partition acknowledged so far.
    ///
    /// # Panics
    /// When there is no such partition.
    pub fn acked_of(&self, partition: usize) -> u64 {
        self.acked[partition].load(Ordering::Relaxed)
    }

    /// Waits until so many more records are acknowledged.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub async fn goes_on(&self, count: u64) {
        let goal = self.acked() + count;
        self.until("writing goes on after a fault", || self.acked() >= goal).await;
    }

    /// Waits until each partition has so many more records acknowledged.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub async fn goes_on_everywhere(&self, count: u64) {
        let goals: Vec<u64> = self.acked.iter().map(|acked| acked.load(Ordering::Relaxed) + count).collect();
        let reached = || goals.iter().enumerate().all(|(partition, goal)| self.acked_of(partition) >= *goal);
        self.until("writing goes on in each partition", reached).await;
    }

    /// Waits until one partition has one more record acknowledged; tells how long that took.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub async fn next_ack(&self, partition: usize) -> Duration {
        let (before, started) = (self.acked_of(partition), Instant::now());
        self.until("the next acknowledgement", || self.acked_of(partition) > before).await;
        started.elapsed()
    }

    /// Goes on for a time.
    pub async fn goes_on_for(&self, time: Duration) {
        let started = Instant::now();
        self.until("the time to pass", || started.elapsed() >= time).await;
    }

    async fn until(&self, what: &str, reached: impl Fn() -> bool) {
        let reached = async {
            while !reached() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{what}: not in {PATIENCE:?}"));
    }

    /// Ends the writers, and reads everything: what was acknowledged is there once and in order.
    ///
    /// # Panics
    /// When it is not.
    pub async fn verify(self, cluster: &Cluster) {
        self.stop.store(true, Ordering::Relaxed);
        let mut written = BTreeMap::new();
        for (partition, writer) in (0..PARTITIONS).zip(self.writers) {
            written.insert(partition, writer.await.expect("a writer does not panic"));
        }
        let reader = consumer(cluster, "verifier");
        reader.subscribe(&[TOPIC]).expect("a topic can be subscribed to");
        let total = written.values().map(Vec::len).sum();
        let mut read: BTreeMap<i32, Vec<(i64, String)>> = BTreeMap::new();
        for (partition, offset, value) in receive(&reader, total).await {
            read.entry(partition).or_default().push((offset, value.trim_end().to_owned()));
        }
        for (partition, offsets) in written {
            let found = read.remove(&partition).unwrap_or_default();
            let numbers: Vec<_> = (0..offsets.len()).map(|number| number.to_string()).collect();
            assert!(
                found.iter().map(|(_, number)| number).eq(&numbers),
                "partition {partition} is not what was acknowledged"
            );
            let is_there =
                |(told, (offset, _)): (&Option<i64>, &(i64, String))| told.is_none_or(|told| told == *offset);
            assert!(offsets.iter().zip(&found).all(is_there), "partition {partition} is not where it was acknowledged");
        }
    }
}

/// Writes the numbers from 0 on to one partition.
struct Writer {
    producer: FutureProducer,
    partition: i32,
    bytes: usize,
    pause: Duration,
    stop: Arc<AtomicBool>,
    acked: Arc<[AtomicU64]>,
}

impl Writer {
    /// Until told to stop; gives the offset of each that was told one. A record whose answer got lost counts as acknowledged
    /// with the next one that is: librdkafka knows no offset then.
    async fn write(self) -> Vec<Option<i64>> {
        let mut under_way = VecDeque::new();
        let mut offsets = Vec::new();
        let mut next = 0_u64;
        let acked = &self.acked[usize::try_from(self.partition).expect("a partition is a number from 0 on")];
        loop {
            while under_way.len() < WINDOW && !self.stop.load(Ordering::Relaxed) {
                let payload = format!("{next:<width$}", width = self.bytes);
                let record = FutureRecord::<(), _>::to(TOPIC).partition(self.partition).payload(&payload);
                under_way.push_back(self.producer.send_result(record).expect("the queue has room"));
                next += 1;
                if !self.pause.is_zero() {
                    tokio::time::sleep(self.pause).await;
                    break;
                }
            }
            let Some(oldest) = under_way.pop_front() else { return offsets };
            let delivery = oldest.await.expect("the producer lives").expect("it is acknowledged in the end");
            offsets.push((delivery.offset >= 0).then_some(delivery.offset));
            acked.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whom a fault hits.
#[derive(Debug, Clone, Copy)]
pub enum Victim {
    /// Any node.
    Random,
    /// The leader of a partition.
    PartitionLeader,
    /// The leader of the metadata plane.
    RaftLeader,
}

impl Victim {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::PartitionLeader, Self::RaftLeader, Self::Random];

    /// A node of this kind; all nodes run.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn choose(self, cluster: &Cluster, draw: &mut Draw) -> usize {
        match self {
            Self::Random => draw.below(cluster.len()),
            Self::PartitionLeader => leader_of(cluster, 0, draw.below(PARTITIONS as usize)),
            Self::RaftLeader => cluster.raft_leader(&(0..cluster.len()).collect::<Vec<_>>()),
        }
    }
}

/// The node that leads a partition of the load, as this node says.
///
/// # Panics
/// When none does in time.
pub fn leader_of(cluster: &Cluster, asked: usize, partition: usize) -> usize {
    wait_for("a leader", || cluster.describe(asked, TOPIC)?.get(partition)?.leader)
}
