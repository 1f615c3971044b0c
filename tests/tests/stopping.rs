//! How a node of a cluster stops: within seconds, whether or not there is a cluster left to be told.

use std::time::{Duration, Instant};

use chronik_tests::clients::{create_replicated, producer};
use chronik_tests::cluster::wait_for;
use chronik_tests::{Cluster, Node};
use rdkafka::producer::FutureRecord;

/// A node that is told to stop while there is no quorum ends within this: all of a cluster may be stopping.
const WITHOUT_QUORUM: Duration = Duration::from_secs(5);

/// Stops a node, which must be in order.
fn stop(node: &mut Node) -> Duration {
    let asked = Instant::now();
    let status = node.stop();
    assert!(status.success(), "{status}");
    asked.elapsed()
}

/// Also while an acks=all write waits for followers that are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_quorum_stops_within_seconds() {
    let mut cluster = tokio::task::block_in_place(|| Cluster::start(3, &[("min.insync.replicas", "1")]));
    create_replicated(&cluster, "waits", 3, 3, &[]).await;
    let partitions = tokio::task::block_in_place(|| cluster.wait_until_in_sync(0, "waits"));
    let led = partitions.iter().find(|it| it.leader == Some(0)).expect("each leads one").partition;
    let producer = producer(&cluster, &[("linger.ms", "0"), ("socket.timeout.ms", "60000")]);
    let record = |payload| FutureRecord::<(), _>::to("waits").partition(led).payload(payload);
    producer.send(record("one"), Duration::from_secs(30)).await.expect("all are there");
    cluster[1].kill();
    cluster[2].kill();
    let waits = producer.send_result(record("two")).expect("the queue has room");
    let took = tokio::task::block_in_place(|| {
        wait_for("the write to be on its way", || (producer_in_flight(&producer) > 0).then_some(()));
        stop(&mut cluster[0])
    });
    assert!(took < WITHOUT_QUORUM, "{took:?}");
    drop(waits);
}

fn producer_in_flight(producer: &rdkafka::producer::FutureProducer) -> i32 {
    use rdkafka::producer::Producer as _;
    producer.in_flight_count()
}

/// As when a namespace is deleted.
#[test]
fn all_nodes_of_a_cluster_stop_at_once() {
    let cluster = Cluster::start(3, &[]);
    let took: Vec<Duration> = std::thread::scope(|scope| {
        let stopping: Vec<_> = cluster.into_nodes().map(|mut node| scope.spawn(move || stop(&mut node))).collect();
        stopping.into_iter().map(|stopping| stopping.join().expect("it stops")).collect()
    });
    assert!(took.iter().all(|took| *took < 2 * WITHOUT_QUORUM), "{took:?}");
}
