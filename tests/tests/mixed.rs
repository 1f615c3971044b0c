//! A cluster under everything at once: no client sees an error, and no acknowledgement runs into its timeout.
//!
//! Some seconds by default; `CHRONIK_MIXED_SECONDS=3600` is the whole of it. `CHRONIK_MIXED_RATE` is records a second of each
//! producer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chronik_tests::Cluster;
use chronik_tests::clients::{PATIENCE, admin, consumer, create_replicated, producer};
use chronik_tests::load::{aside, number};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::producer::FutureRecord;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

const TOPIC: &str = "mixed";
const PARTITIONS: i32 = 6;
const MIN_INSYNC: (&str, &str) = ("min.insync.replicas", "2");
/// What no Produce may take, by the histogram of the broker: the timeout of an acknowledgement is 30 s.
const NO_TIMEOUT: &str = "le=\"5.0\"";

/// What was done.
#[derive(Default)]
struct Counts {
    acked: AtomicU64,
    read: AtomicU64,
    topics: AtomicU64,
    moves: AtomicU64,
}

/// Produces at a rate with these acks until the end; each record must be taken.
async fn produce(servers: Arc<Cluster>, acks: &'static str, rate: u64, until: Instant, counts: Arc<Counts>) {
    let idempotent = if acks == "all" { "true" } else { "false" };
    let settings =
        [("enable.idempotence", idempotent), ("acks", acks), ("message.timeout.ms", "60000"), ("linger.ms", "1")];
    let producer = producer(&*servers, &settings);
    let mut pace = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).expect("a modest rate"));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = JoinSet::new();
    let mut next = 0;
    while Instant::now() < until {
        pace.tick().await;
        let payload = vec![b'x'; 256];
        let record = FutureRecord::<(), _>::to(TOPIC).partition(next % PARTITIONS).payload(&payload);
        let delivery = producer.send_result(record).expect("the queue has room");
        let counts = counts.clone();
        under_way.spawn(async move {
            delivery.await.expect("the producer lives").expect("it is acknowledged");
            counts.acked.fetch_add(1, Ordering::Relaxed);
        });
        while let Some(done) = under_way.try_join_next() {
            done.expect("each is acknowledged");
        }
        next += 1;
    }
    while let Some(done) = under_way.join_next().await {
        done.expect("each is acknowledged");
    }
}

/// Consumes in a group, and commits.
async fn consume(servers: Arc<Cluster>, until: Instant, counts: Arc<Counts>) {
    let consumer = consumer(&*servers, "mixed");
    consumer.subscribe(&[TOPIC]).expect("a topic can be subscribed to");
    let mut read = 0_u64;
    while let Ok(message) = tokio::time::timeout_at(until, consumer.recv()).await {
        let message = message.expect("no error reaches a consumer");
        read += 1;
        counts.read.fetch_add(1, Ordering::Relaxed);
        if read.is_multiple_of(100) {
            consumer.commit_message(&message, CommitMode::Async).expect("it is queued");
        }
    }
}

/// Members of the group come and go.
async fn come_and_go(servers: Arc<Cluster>, until: Instant, counts: Arc<Counts>) {
    while Instant::now() < until {
        consume(servers.clone(), until.min(Instant::now() + Duration::from_secs(20)), counts.clone()).await;
    }
}

/// Topics come and go.
async fn create_and_delete(servers: Arc<Cluster>, until: Instant, counts: Arc<Counts>) {
    let admin = admin(&*servers);
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let mut pace = tokio::time::interval(Duration::from_secs(5));
    while Instant::now() < until {
        pace.tick().await;
        let name = format!("passing-{}", counts.topics.fetch_add(1, Ordering::Relaxed));
        let topic = NewTopic::new(&name, 3, TopicReplication::Fixed(3));
        let created = admin.create_topics([&topic], &options).await.expect("an answer");
        for topic in created {
            topic.expect("the topic is created");
        }
        let deleted = admin.delete_topics(&[&name], &options).await.expect("an answer");
        for topic in deleted {
            topic.expect("the topic is deleted");
        }
    }
}

/// Each partition's leader moves to its next replica; so does Raft's.
async fn move_leaders(servers: Arc<Cluster>, until: Instant, counts: Arc<Counts>) {
    let mut pace = tokio::time::interval(Duration::from_secs(10));
    while Instant::now() < until {
        pace.tick().await;
        aside(|| {
            let Some(partitions) = servers.describe(0, TOPIC) else { panic!("the topic is described") };
            let moved: Vec<_> = partitions
                .iter()
                .map(|it| {
                    let mut replicas = it.replicas.clone();
                    replicas.rotate_left(1);
                    serde_json::json!({ "topic": TOPIC, "partition": it.partition, "replicas": replicas })
                })
                .collect();
            let plan = tempfile::NamedTempFile::new().expect("a temporary file");
            let text = serde_json::json!({ "version": 1, "partitions": moved }).to_string();
            std::fs::write(plan.path(), text).expect("it can be written");
            servers.administer(&["reassign", "start", &plan.path().to_string_lossy()]).ok();
            chronik_tests::cluster::wait_for("the preferred leaders", || {
                let elected = servers.administer(&["elect"]);
                let partitions = servers.describe(0, TOPIC)?;
                let led = partitions.iter().all(|it| it.leader == it.replicas.first().copied());
                (elected.code == 0 && led).then_some(())
            });
            servers.administer(&["voters", "transfer"]).ok();
        });
        counts.moves.fetch_add(1, Ordering::Relaxed);
    }
}

/// Produce requests of a node, and how many of them took no longer than an acknowledgement may.
fn produced(metrics: &str) -> (f64, f64) {
    let of = |kind: &str, label: &str| {
        let lines = metrics.lines().filter(|line| {
            line.starts_with(&format!("chronik_kafka_request_latency_seconds_{kind}{{"))
                && line.contains("api=\"Produce\"")
                && line.contains(label)
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    (of("count", ""), of("bucket", NO_TIMEOUT))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_load_sees_no_error_and_no_timeout() {
    let (seconds, rate) = (number("CHRONIK_MIXED_SECONDS", 8), number("CHRONIK_MIXED_RATE", 50));
    let cluster = Arc::new(Cluster::start(3, &[]));
    create_replicated(&*cluster, TOPIC, PARTITIONS, 3, &[MIN_INSYNC]).await;
    let counts = Arc::new(Counts::default());
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for acks in ["0", "1", "all"] {
        tasks.spawn(produce(cluster.clone(), acks, rate, until, counts.clone()));
    }
    tasks.spawn(consume(cluster.clone(), until, counts.clone()));
    tasks.spawn(come_and_go(cluster.clone(), until, counts.clone()));
    tasks.spawn(create_and_delete(cluster.clone(), until, counts.clone()));
    tasks.spawn(move_leaders(cluster.clone(), until, counts.clone()));
    while let Some(ended) = tasks.join_next().await {
        ended.expect("nobody sees an error");
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{seconds} s: {} acknowledged, {} read, {} topics made and deleted, leaders moved {} times",
        count(&counts.acked),
        count(&counts.read),
        count(&counts.topics),
        count(&counts.moves)
    );
    assert!(count(&counts.acked) > seconds && count(&counts.read) > 0, "there was load");
    for (id, node) in cluster.nodes().enumerate() {
        let (_, metrics) = node.http("GET", "/metrics", "");
        let (all, in_time) = produced(&metrics);
        assert!(all > 0.0, "node {id} counts what was produced:\n{metrics}");
        assert!((all - in_time).abs() < 0.5, "node {id}: of {all} Produce requests {in_time} were answered in time");
    }
    aside(|| cluster.wait_until_in_sync(0, TOPIC));
}
