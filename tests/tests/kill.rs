//! `kill -9` under load: nothing acknowledged is lost, doubled or reordered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chronik_tests::clients::{PATIENCE, consumer, create_topic, producer, receive};
use chronik_tests::{Node, NodeBuilder};
use rdkafka::consumer::Consumer;
use rdkafka::producer::{FutureProducer, FutureRecord};

const PARTITIONS: i32 = 4;
/// Records that one writer has under way.
const WINDOW: usize = 64;
/// Records that must be acknowledged between two kills.
const BETWEEN_KILLS: u64 = 500;

fn rounds() -> u64 {
    let given = std::env::var("CHRONIK_KILL_ROUNDS").ok();
    given.map_or(5, |text| text.parse().expect("CHRONIK_KILL_ROUNDS is a number"))
}

/// Writes the numbers from 0 on to one partition until told to stop; gives the offset of each.
async fn write(producer: FutureProducer, partition: i32, stop: Arc<AtomicBool>, acked: Arc<AtomicU64>) -> Vec<i64> {
    let mut under_way = std::collections::VecDeque::new();
    let mut offsets = Vec::new();
    let mut next = 0_u64;
    loop {
        while under_way.len() < WINDOW && !stop.load(Ordering::Relaxed) {
            let payload = next.to_string();
            let record = FutureRecord::<(), _>::to("killed").partition(partition).payload(&payload);
            under_way.push_back(producer.send_result(record).expect("the queue has room"));
            next += 1;
        }
        let Some(oldest) = under_way.pop_front() else { return offsets };
        let delivery = oldest.await.expect("the producer lives").expect("it is acknowledged in the end");
        offsets.push(delivery.offset);
        acked.fetch_add(1, Ordering::Relaxed);
    }
}

async fn wait_for(acked: &AtomicU64, count: u64) {
    let reached = async {
        while acked.load(Ordering::Relaxed) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("writing goes on after a kill");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills_once_and_in_order() {
    let mut node: Node = NodeBuilder::default().set("group.initial.rebalance.delay.ms", "0").start();
    create_topic(&node, "killed", PARTITIONS, &[]).await;
    let producer = producer(&node, &[("linger.ms", "1"), ("socket.timeout.ms", "5000")]);
    let (stop, acked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (0..PARTITIONS)
        .map(|partition| tokio::spawn(write(producer.clone(), partition, stop.clone(), acked.clone())))
        .collect();
    for _ in 0..rounds() {
        wait_for(&acked, acked.load(Ordering::Relaxed) + BETWEEN_KILLS).await;
        node.kill();
        node.start();
    }
    wait_for(&acked, acked.load(Ordering::Relaxed) + BETWEEN_KILLS).await;
    stop.store(true, Ordering::Relaxed);

    let mut written = BTreeMap::new();
    for (partition, writer) in (0..PARTITIONS).zip(writers) {
        written.insert(partition, writer.await.expect("a writer does not panic"));
    }
    let reader = consumer(&node, "verifier");
    reader.subscribe(&["killed"]).unwrap();
    let total = written.values().map(Vec::len).sum();
    let mut read: BTreeMap<i32, Vec<(i64, String)>> = BTreeMap::new();
    for (partition, offset, value) in receive(&reader, total).await {
        read.entry(partition).or_default().push((offset, value));
    }
    for (partition, offsets) in written {
        let expected: Vec<_> = (0_u64..).zip(offsets).map(|(number, offset)| (offset, number.to_string())).collect();
        assert!(read.remove(&partition) == Some(expected), "partition {partition} is not what was acknowledged");
    }
}
