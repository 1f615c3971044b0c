//! What followers say of themselves, read off the wire between real processes, and the settings that say where they are.

use std::collections::BTreeSet;
use std::time::Duration;

use chronik_tests::Cluster;
use chronik_tests::cluster::{free_ports, wait_for};
use chronik_tests::load::{BETWEEN_FAULTS, Load, TOPIC, aside};
use chronik_tests::tap::Tap;

/// The bug of old: every follower answered as node 1. `CHRONIK_REPLICATION_FOLLOWERS` leads every leader through taps, which
/// read who answers; `CHRONIK_WAL_RECEIVER_ADDR` says where the followers behind them listen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_follower_answers_with_its_own_id() {
    let ports = free_ports(3);
    let taps: Vec<Tap> = ports.iter().map(|port| Tap::before(format!("127.0.0.1:{port}"))).collect();
    let followers = taps.iter().map(Tap::address).collect::<Vec<_>>().join(",");
    let mut cluster = Cluster::build_each(3, |_, node| node.set("replication_followers", &followers));
    for (id, port) in ports.iter().enumerate() {
        cluster[id].set_wal_port(*port);
    }
    cluster.start_all();
    let load = Load::start(&cluster).await;
    load.goes_on_everywhere(BETWEEN_FAULTS / 4).await;
    aside(|| {
        cluster.wait_until_in_sync(0, TOPIC);
        for (id, tap) in taps.iter().enumerate() {
            // Two leaders speak to each follower.
            let answers = wait_for("both leaders' links", || Some(tap.answered_as()).filter(|all| all.len() >= 2));
            let expected = i32::try_from(id).expect("a small number");
            assert_eq!(answers.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([expected]), "{answers:?}");
            assert_eq!(cluster[id].wal_address(), format!("127.0.0.1:{}", ports[id]));
        }
    });
    // A follower that was away is found through the tap again.
    aside(|| {
        cluster[2].kill();
        cluster[2].start();
        cluster.wait_until_in_sync(0, TOPIC);
        assert!(taps[2].answered_as().len() > 2);
    });
    load.goes_on_for(Duration::from_millis(100)).await;
    load.verify(&cluster).await;
    aside(|| cluster.assert_equal_logs(TOPIC));
}
