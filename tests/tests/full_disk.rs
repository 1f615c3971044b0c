//! A disk fills up: what it can't store is refused in plain words, nothing waits for it, nothing is lost.

use std::time::Duration;

use chronik_tests::cluster::{PartitionState, wait_for};
use chronik_tests::load::{BETWEEN_FAULTS, Load, PARTITIONS, TOPIC, aside};
use chronik_tests::small_disk::SmallDisk;
use chronik_tests::{Cluster, NodeBuilder, clients};
use rdkafka::error::KafkaError;
use rdkafka::producer::FutureRecord;
use rdkafka::types::RDKafkaErrorCode;

/// The node with the small disk.
const SMALL: usize = 2;
/// Room for the journal and what the tests write.
const MEBIBYTES: u32 = 512;
/// Bytes of a record: so many that a node looks at its space often.
const RECORD: usize = 16 << 10;
/// Less than the 64 MiB that a node keeps in reserve.
const LEFT: u64 = 24 << 20;
/// How long the producer has for one record: the node refuses many times in it.
const REFUSED_FOR: &str = "5000";

fn cluster(disk: &SmallDisk) -> Cluster {
    let mut cluster = Cluster::build_each(3, |id, node| if id == SMALL { node.data_dir(&disk.folder()) } else { node });
    cluster.start_all();
    cluster
}

/// Whether the node is in no partition's ISR, and leads none.
fn has_left(cluster: &Cluster, topic: &str) -> Option<()> {
    let partitions = cluster.describe(0, topic)?;
    let others_lead = |it: &PartitionState| it.leader.is_some_and(|leader| leader != SMALL);
    partitions.iter().all(|it| others_lead(it) && !it.in_sync.contains(&SMALL)).then_some(())
}

/// What becomes of one record for a partition when nothing is tried again.
async fn refusal(cluster: &Cluster, partition: i32) -> Option<RDKafkaErrorCode> {
    let settings =
        [("enable.idempotence", "false"), ("acks", "1"), ("retries", "0"), ("message.timeout.ms", REFUSED_FOR)];
    let producer = clients::producer(cluster, &settings);
    let payload = vec![b'x'; RECORD];
    let record = FutureRecord::<(), _>::to("refused").partition(partition).payload(&payload);
    match producer.send(record, Duration::ZERO).await {
        Ok(_) => None,
        Err((KafkaError::MessageProduction(code), _)) => Some(code),
        Err((why, _)) => panic!("{why}"),
    }
}

async fn fills_up(left: u64) {
    let Some(disk) = SmallDisk::new(MEBIBYTES) else { return };
    let mut cluster = cluster(&disk);
    let load = Load::with(&cluster, RECORD, Duration::from_millis(2)).await;
    clients::create_replicated(&cluster, "refused", PARTITIONS, 3, &[]).await;
    load.goes_on_everywhere(20).await;
    aside(|| {
        cluster.wait_until_in_sync(0, TOPIC);
        disk.fill_up_to(left);
        wait_for("it leaves the ISRs, and others lead", || has_left(&cluster, TOPIC));
    });
    // The others go on without it.
    load.goes_on_everywhere(BETWEEN_FAULTS / 4).await;
    // What it leads is refused in a way that producers try again, and led by another from then on.
    let refused = async {
        loop {
            let partition = led_by_it(&cluster, "refused");
            let code = refusal(&cluster, partition).await;
            if code.is_some() {
                return (partition, code);
            }
        }
    };
    let (partition, code) = tokio::time::timeout(clients::PATIENCE, refused).await.expect("it refuses in time");
    assert_eq!(code, Some(RDKafkaErrorCode::KafkaStorageError), "partition {partition}");
    aside(|| {
        wait_for("another leads what was refused", || {
            let partitions = cluster.describe(0, "refused")?;
            let refused = partitions.iter().find(|it| it.partition == partition)?;
            refused.leader.is_some_and(|leader| leader != SMALL).then_some(())
        });
    });
    assert_eq!(refusal(&cluster, partition).await, None);
    aside(|| disk.free());
    load.goes_on_everywhere(BETWEEN_FAULTS / 4).await;
    aside(|| cluster.wait_until_in_sync(0, TOPIC));
    load.verify(&cluster).await;
    aside(|| cluster.assert_equal_logs(TOPIC));
}

/// A partition of a topic that the node with the small disk leads.
fn led_by_it(cluster: &Cluster, topic: &str) -> i32 {
    aside(|| {
        wait_for("the node leads a partition", || {
            let partitions = cluster.describe(0, topic)?;
            partitions.iter().find(|partition| partition.leader == Some(SMALL)).map(|partition| partition.partition)
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_reaches_its_reserve_refuses_leaves_and_comes_back() {
    fills_up(LEFT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_single_byte_left_refuses_leaves_and_comes_back() {
    fills_up(0).await;
}

/// The node holds nobody up, and leads nothing.
#[test]
fn a_topic_made_while_one_node_is_full_takes_records_on_the_others() {
    let Some(disk) = SmallDisk::new(MEBIBYTES) else { return };
    let cluster = cluster(&disk);
    disk.fill_up_to(0);
    let settings = ["--partitions", "6", "--replication-factor", "3", "--config", "min.insync.replicas=2"];
    cluster[0].run(&[&["topic", "create", "late"], &settings[..]].concat()).ok();
    let lines = (0..100).fold(String::new(), |text, n| text + &format!("{n}:{n}\n"));
    let produced = cluster[0].feed(&["produce", "late", "--key-separator", ":", "--acks", "all"], lines.as_bytes());
    assert_eq!(produced.ok(), "produced 100 records to topic late\n");
    wait_for("it leaves the ISRs, and others lead", || has_left(&cluster, "late"));
    disk.free();
    cluster.wait_until_in_sync(0, "late");
}

#[test]
fn who_produces_is_told_that_the_disk_is_full() {
    let Some(disk) = SmallDisk::new(MEBIBYTES) else { return };
    let node = NodeBuilder::default().data_dir(&disk.folder()).start();
    assert_eq!(node.feed(&["produce", "t"], b"before\n").ok(), "produced 1 record to topic t\n");
    disk.fill_up_to(LEFT);
    // More than what is written between two looks at the free space.
    let lines = "a line that does not fit any more\n".repeat(500_000);
    let refused = node.feed(&["produce", "t"], lines.as_bytes());
    assert_eq!(refused.code, 1, "{refused:?}");
    let told: Vec<&str> = refused.err.lines().collect();
    assert_eq!(told.len(), 2, "while it tries again, and at its end: {refused:?}");
    assert!(
        told[0].starts_with("chronik: still trying: ") && told.iter().all(|it| it.contains("disk is full")),
        "{told:?}"
    );
    disk.free();
    node.feed(&["produce", "t"], b"after\n").ok();
}
