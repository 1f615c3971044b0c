//! Three real processes: they form a cluster, take turns at dying, and what was acknowledged is there: once, in order, on
//! all of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chronik_tests::clients::{PATIENCE, consumer, create_replicated, producer, receive};
use chronik_tests::cluster::wait_for;
use chronik_tests::{Cluster, chronik};
use rdkafka::consumer::Consumer;
use rdkafka::producer::{FutureProducer, FutureRecord};

const TOPIC: &str = "killed";
const PARTITIONS: i32 = 4;
/// Records that one writer has under way.
const WINDOW: usize = 32;
/// Records that must be acknowledged between two faults.
const BETWEEN_FAULTS: u64 = 200;
const MIN_INSYNC: (&str, &str) = ("min.insync.replicas", "2");

/// Draws the same for the same seed (splitmix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("it is below a usize")
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// Idempotent writers, one for each partition, under way until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    writers: Vec<tokio::task::JoinHandle<Vec<i64>>>,
}

impl Load {
    async fn start(cluster: &Cluster) -> Self {
        create_replicated(cluster, TOPIC, PARTITIONS, 3, &[MIN_INSYNC]).await;
        let settings =
            [("linger.ms", "1"), ("socket.timeout.ms", "5000"), ("topic.metadata.refresh.interval.ms", "1000")];
        let producer = producer(cluster, &settings);
        let (stop, acked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writers = (0..PARTITIONS)
            .map(|partition| tokio::spawn(write(producer.clone(), partition, stop.clone(), acked.clone())))
            .collect();
        Self { stop, acked, writers }
    }

    /// Waits until so many more records are acknowledged.
    async fn goes_on(&self, count: u64) {
        let goal = self.acked.load(Ordering::Relaxed) + count;
        let reached = async {
            while self.acked.load(Ordering::Relaxed) < goal {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("writing goes on after a fault");
    }

    /// Ends the writers, and reads everything: what was acknowledged is there once and in order.
    async fn verify(self, cluster: &Cluster) {
        self.stop.store(true, Ordering::Relaxed);
        let mut written = BTreeMap::new();
        for (partition, writer) in (0..PARTITIONS).zip(self.writers) {
            written.insert(partition, writer.await.expect("a writer does not panic"));
        }
        let reader = consumer(cluster, "verifier");
        reader.subscribe(&[TOPIC]).unwrap();
        let total = written.values().map(Vec::len).sum();
        let mut read: BTreeMap<i32, Vec<(i64, String)>> = BTreeMap::new();
        for (partition, offset, value) in receive(&reader, total).await {
            read.entry(partition).or_default().push((offset, value));
        }
        for (partition, offsets) in written {
            let expected: Vec<_> =
                (0_u64..).zip(offsets).map(|(number, offset)| (offset, number.to_string())).collect();
            assert!(read.remove(&partition) == Some(expected), "partition {partition} is not what was acknowledged");
        }
    }
}

/// Writes the numbers from 0 on to one partition until told to stop; gives the offset of each.
async fn write(producer: FutureProducer, partition: i32, stop: Arc<AtomicBool>, acked: Arc<AtomicU64>) -> Vec<i64> {
    let mut under_way = VecDeque::new();
    let mut offsets = Vec::new();
    let mut next = 0_u64;
    loop {
        while under_way.len() < WINDOW && !stop.load(Ordering::Relaxed) {
            let payload = next.to_string();
            let record = FutureRecord::<(), _>::to(TOPIC).partition(partition).payload(&payload);
            under_way.push_back(producer.send_result(record).expect("the queue has room"));
            next += 1;
        }
        let Some(oldest) = under_way.pop_front() else { return offsets };
        let delivery = oldest.await.expect("the producer lives").expect("it is acknowledged in the end");
        offsets.push(delivery.offset);
        acked.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs what blocks beside the writers.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// All replicas come back in sync, and hold the same batches.
fn assert_equal_logs(cluster: &mut Cluster) {
    cluster.wait_until_in_sync(0, TOPIC);
    for id in 0..3 {
        assert!(cluster[id].stop().success(), "node {id} stops in order");
    }
    for partition in 0..PARTITIONS {
        let logs = cluster.batches(TOPIC, partition);
        assert!(!logs[0].is_empty(), "partition {partition} has records");
        assert!(logs.iter().all(|log| *log == logs[0]), "partition {partition} differs between its replicas");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_form_a_cluster_that_takes_acks_of_all_and_stops_in_order() {
    let mut cluster = Cluster::start(3, &[]);
    let load = Load::start(&cluster).await;
    load.goes_on(BETWEEN_FAULTS).await;
    aside(|| {
        let partitions = cluster.wait_until_in_sync(1, TOPIC);
        let leaders: BTreeSet<_> = partitions.iter().map(|partition| partition.leader).collect();
        assert_eq!(leaders.len(), 3, "each node leads something: {partitions:?}");
        for partition in partitions {
            assert_eq!(partition.in_sync.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([0, 1, 2]));
        }
    });
    load.verify(&cluster).await;
    aside(|| assert_equal_logs(&mut cluster));
}

/// What is counted of links is what is documented.
fn assert_documented(metrics: &str) {
    const PREFIX: &str = "chronik_replication_";
    let shown: BTreeSet<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| name.starts_with(PREFIX))
        .collect();
    let page = include_str!("../../docs/reference/metrics.md");
    let documented: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.starts_with(PREFIX))
        .collect();
    assert_eq!(shown, documented);
}

/// The bug of old: every follower answered as node 1. What each link says of its other end is read off both ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_follower_answers_as_itself() {
    let cluster = Cluster::start(3, &[]);
    let load = Load::start(&cluster).await;
    load.goes_on(BETWEEN_FAULTS).await;
    aside(|| {
        for (id, node) in cluster.nodes().enumerate() {
            let (_, metrics) = node.http("GET", "/metrics", "");
            assert_documented(&metrics);
            for peer in (0..3).filter(|peer| *peer != id) {
                for end in ["leader", "follower"] {
                    let up = metrics.lines().any(|line| {
                        line.starts_with("chronik_replication_links_up{")
                            && line.contains(&format!("peer=\"{peer}\""))
                            && line.contains(&format!("peer_is=\"{end}\""))
                            && !line.ends_with(" 0")
                    });
                    assert!(up, "node {id} has no link to its {end} {peer}:\n{metrics}");
                }
            }
        }
    });
    load.verify(&cluster).await;
}

/// Who is killed in a round.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Random,
    PartitionLeader,
    RaftLeader,
}

fn choose(cluster: &Cluster, victim: Victim, draw: &mut Draw) -> usize {
    match victim {
        Victim::Random => draw.below(3),
        Victim::PartitionLeader => {
            let at = draw.below(PARTITIONS as usize);
            wait_for("a leader", || cluster.describe(0, TOPIC)?.get(at)?.leader)
        }
        Victim::RaftLeader => cluster.raft_leader(&[0, 1, 2]),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills_of_any_node_once_and_in_order() {
    let seed = number("CHRONIK_SEED", 1);
    let rounds = number("CHRONIK_KILL_ROUNDS", 6);
    println!("CHRONIK_SEED={seed} CHRONIK_KILL_ROUNDS={rounds}");
    let mut draw = Draw(seed);
    let mut cluster = Cluster::start(3, &[]);
    let load = Load::start(&cluster).await;
    for round in 0..rounds {
        load.goes_on(BETWEEN_FAULTS).await;
        let victim = [Victim::PartitionLeader, Victim::RaftLeader, Victim::Random][draw.below(3)];
        let id = aside(|| choose(&cluster, victim, &mut draw));
        println!("round {round}: kill node {id} ({victim:?})");
        cluster[id].kill();
        load.goes_on(BETWEEN_FAULTS).await;
        aside(|| {
            cluster[id].start();
            // Another one may die only once this one is back.
            cluster.wait_until_in_sync(id, TOPIC);
        });
    }
    load.verify(&cluster).await;
    aside(|| assert_equal_logs(&mut cluster));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_nothing() {
    let mut cluster = Cluster::start(3, &[]);
    let load = Load::start(&cluster).await;
    for id in 0..3 {
        load.goes_on(BETWEEN_FAULTS).await;
        aside(|| {
            assert!(cluster[id].stop().success(), "node {id} stops in order");
            cluster[id].start();
            cluster.wait_until_in_sync(id, TOPIC);
        });
    }
    load.goes_on(BETWEEN_FAULTS).await;
    load.verify(&cluster).await;
    aside(|| assert_equal_logs(&mut cluster));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_wiped_folder_comes_back_as_a_new_one_and_votes_again() {
    let mut cluster = Cluster::start(3, &[]);
    let load = Load::start(&cluster).await;
    load.goes_on(BETWEEN_FAULTS).await;
    aside(|| {
        cluster.wait_until_in_sync(0, TOPIC);
        cluster[2].kill();
        std::fs::remove_dir_all(cluster[2].data_dir()).expect("the folder is the test's");
        cluster[2].start();
        cluster.wait_until_in_sync(2, TOPIC);
    });
    // With it, one of the others can be missed.
    aside(|| cluster[0].kill());
    load.goes_on(BETWEEN_FAULTS).await;
    aside(|| cluster[0].start());
    load.verify(&cluster).await;
    aside(|| assert_equal_logs(&mut cluster));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_falls_silent_is_done_without_and_comes_back() {
    let mut cluster = Cluster::start(3, &[]);
    let load = Load::start(&cluster).await;
    for id in 0..3 {
        load.goes_on(BETWEEN_FAULTS).await;
        cluster[id].signal("STOP");
        load.goes_on(BETWEEN_FAULTS).await;
        cluster[id].signal("CONT");
        aside(|| cluster.wait_until_in_sync(id, TOPIC));
    }
    load.verify(&cluster).await;
    aside(|| assert_equal_logs(&mut cluster));
}

#[test]
fn a_second_process_with_a_nodes_id_is_refused() {
    let cluster = Cluster::start(3, &[]);
    let own = tempfile::tempdir().expect("a temporary folder");
    let folder = own.path().to_string_lossy().into_owned();
    let voters = cluster[1].setting("initial_voters");
    let settings = ["node_id=1", "cluster_id=test-cluster", &format!("initial_voters={voters}")].map(ToOwned::to_owned);
    let mut arguments = vec!["start", "--data-dir", &folder];
    arguments.extend(chronik_tests::process::ANY_PORTS);
    for setting in &settings {
        arguments.extend(["--set", setting]);
    }
    let refused = chronik(&arguments, b"");
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("another process takes part in the cluster as node 1"), "{refused:?}");
}
