//! Nodes on hosts of their own (network namespaces) lose each other without a word: what was acknowledged stays, and
//! acknowledgements come again soon.

use std::time::Duration;

use chronik_tests::Cluster;
use chronik_tests::load::{BETWEEN_FAULTS, Draw, Load, PARTITIONS, TOPIC, aside, leader_of, number};
use chronik_tests::network::Network;

/// How long the same partition may go without an acknowledgement when its leader is cut off silently.
const SILENT_CUT: Duration = Duration::from_secs(3);

fn cluster(network: &Network) -> Cluster {
    let mut cluster = Cluster::build_each(3, |id, node| {
        node.host(&network.address(id))
            .within(&["ip", "netns", "exec", &network.name(id)])
            .set("insecure_links", "true")
    });
    cluster.start_all();
    cluster
}

fn held() -> Duration {
    Duration::from_secs(number("CHRONIK_PARTITION_SECONDS", 4))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_two_nodes_can_lose_each_other() {
    let Some(network) = Network::new(3) else { return };
    let mut cluster = cluster(&network);
    let load = Load::start(&cluster).await;
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        load.goes_on_everywhere(BETWEEN_FAULTS / 4).await;
        network.cut(one, other);
        load.goes_on_for(held()).await;
        load.goes_on_everywhere(1).await;
        network.mend(one, other);
        aside(|| (0..3).for_each(|id| drop(cluster.wait_until_in_sync(id, TOPIC))));
    }
    load.verify(&cluster).await;
    aside(|| cluster.assert_equal_logs(TOPIC));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_can_be_lost_by_the_others_though_clients_reach_it() {
    let Some(network) = Network::new(3) else { return };
    let mut cluster = cluster(&network);
    let load = Load::start(&cluster).await;
    for id in 0..3 {
        load.goes_on_everywhere(BETWEEN_FAULTS / 4).await;
        network.isolate(id, false);
        load.goes_on_for(held()).await;
        load.goes_on_everywhere(1).await;
        network.rejoin(id);
        aside(|| (0..3).for_each(|id| drop(cluster.wait_until_in_sync(id, TOPIC))));
    }
    load.verify(&cluster).await;
    aside(|| cluster.assert_equal_logs(TOPIC));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_silently_is_replaced_soon() {
    let rounds = number("CHRONIK_CUT_ROUNDS", 3);
    let Some(network) = Network::new(3) else { return };
    let mut cluster = cluster(&network);
    let load = Load::start(&cluster).await;
    let mut draw = Draw(number("CHRONIK_SEED", 1));
    let mut waits = Vec::new();
    for _ in 0..rounds {
        load.goes_on_everywhere(BETWEEN_FAULTS / 4).await;
        let partition = draw.below(PARTITIONS as usize);
        let id = aside(|| leader_of(&cluster, 0, partition));
        network.isolate(id, true);
        // What was under way may still be told.
        let mut wait = Duration::ZERO;
        let until = std::time::Instant::now() + Duration::from_secs(6);
        while std::time::Instant::now() < until {
            wait = wait.max(load.next_ack(partition).await);
        }
        waits.push(wait);
        network.rejoin(id);
        aside(|| (0..3).for_each(|id| drop(cluster.wait_until_in_sync(id, TOPIC))));
    }
    println!("without an acknowledgement: {waits:?}");
    load.verify(&cluster).await;
    aside(|| cluster.assert_equal_logs(TOPIC));
    waits.sort();
    assert!(waits[waits.len() / 2] < SILENT_CUT, "{waits:?}");
}
