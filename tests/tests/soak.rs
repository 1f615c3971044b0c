//! Many clients for a long time: memory stays bounded and does not grow.
//!
//! A few clients for some seconds by default; `CHRONIK_SOAK_CLIENTS=1000 CHRONIK_SOAK_SECONDS=600` is the whole of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chronik_broker::client::Client;
use chronik_broker::client::consumer::{Consumer, Start};
use chronik_broker::client::producer::{OnDelivery, Producer, ProducerOptions};
use chronik_broker::client::records::NewRecord;
use chronik_tests::Node;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What a broker with 1,000 producers and 1,000 consumers may take.
const MOST_MIB: f64 = 512.0;
/// Partitions of the topic.
const PARTITIONS: usize = 50;
/// How often its memory is looked at.
const SAMPLES: u32 = 30;
/// Each producer sends a record this often.
const PACE: Duration = Duration::from_secs(1);

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[derive(Default)]
struct Counts {
    acked: AtomicU64,
    read: AtomicU64,
}

async fn produce(bootstrap: String, until: Instant, counts: Arc<Counts>) {
    let client = Client::connect(&bootstrap).await.expect("the broker serves");
    let counted = counts.clone();
    let on_delivery: OnDelivery = Arc::new(move |delivery| {
        counted.acked.fetch_add(delivery.queued_at.len() as u64, Ordering::Relaxed);
    });
    let producer = Producer::open(client, "soak", ProducerOptions::default(), on_delivery).await.expect("it opens");
    let mut pace = tokio::time::interval(PACE);
    while Instant::now() < until {
        pace.tick().await;
        let record = NewRecord { value: Some(vec![7; 256].into()), ..NewRecord::default() };
        producer.send(record).await.expect("it is taken");
    }
    producer.close().await.expect("everything is acknowledged");
}

async fn consume(bootstrap: String, partition: i32, until: Instant, counts: Arc<Counts>) {
    let client = Client::connect(&bootstrap).await.expect("the broker serves");
    let mut consumer = Consumer::new(client, Start::Earliest);
    consumer.assign(BTreeMap::from([(("soak".to_owned(), partition), 0)]));
    while let Ok(polled) = tokio::time::timeout_at(until, consumer.poll()).await {
        let records: usize = polled.expect("it is answered").iter().map(|polled| polled.records.len()).sum();
        counts.read.fetch_add(records as u64, Ordering::Relaxed);
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The kernel makes huge pages of single used ones: then a node grows for hours, and nothing that it does is the reason.
#[test]
fn memory_is_kept_in_small_pages() {
    assert!(Node::start_default().status("THP_enabled").ends_with('0'), "huge pages are on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_and_does_not_grow() {
    let (clients, seconds) = (number("CHRONIK_SOAK_CLIENTS", 20), number("CHRONIK_SOAK_SECONDS", 6));
    let node = Node::start_default();
    node.run(&["topic", "create", "soak", "--partitions", &PARTITIONS.to_string()]).ok();
    let counts = Arc::new(Counts::default());
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        tasks.spawn(produce(node.bootstrap(), until, counts.clone()));
        let partition = i32::try_from(client as usize % PARTITIONS).expect("few partitions");
        tasks.spawn(consume(node.bootstrap(), partition, until, counts.clone()));
    }
    let mut resident = Vec::new();
    let mut sample = tokio::time::interval(Duration::from_secs(seconds) / SAMPLES);
    while Instant::now() < until {
        sample.tick().await;
        resident.push(node.memory_mib("VmRSS"));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no client fails");
    }
    let (second, last) = (&resident[resident.len() / 3..2 * resident.len() / 3], &resident[2 * resident.len() / 3..]);
    let (before, after, most) = (median(second), median(last), node.memory_mib("VmHWM"));
    println!("resident, MiB: {resident:.0?}");
    println!(
        "{clients} producers and consumers, {seconds} s: {} acked, {} read, {before:.1} MiB in the second third, \
         {after:.1} in the last, {most:.1} at most",
        counts.acked.load(Ordering::Relaxed),
        counts.read.load(Ordering::Relaxed),
    );
    assert!(counts.read.load(Ordering::Relaxed) > 0, "nothing was read");
    assert!(most < MOST_MIB, "{most} MiB");
    assert!(after < before * 1.1 + 8.0, "from {before} to {after} MiB");
}
