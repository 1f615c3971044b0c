//! Three real processes: they form a cluster, take turns at dying, and what was acknowledged is there: once, in order, on
//! all of them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use chronik_tests::cluster::wait_for;
use chronik_tests::load::{BETWEEN_FAULTS, Draw, Load, TOPIC, Victim, aside, number};
use chronik_tests::{Cluster, NodeBuilder, chronik};

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
    aside(|| cluster.assert_equal_logs(TOPIC));
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
        let victim = Victim::ALL[draw.below(3)];
        let id = aside(|| victim.choose(&cluster, &mut draw));
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
    aside(|| cluster.assert_equal_logs(TOPIC));
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
    aside(|| cluster.assert_equal_logs(TOPIC));
}

/// `CHRONIK_EARLIER_BIN`: an earlier build, whose data folders this one takes over, node by node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_upgrade_from_an_earlier_build_loses_nothing() {
    let Some(earlier) = std::env::var_os("CHRONIK_EARLIER_BIN").map(PathBuf::from) else {
        return chronik_tests::skip("needs CHRONIK_EARLIER_BIN");
    };
    let mut cluster = Cluster::build(3, &[]);
    (0..3).for_each(|id| cluster[id].set_program(Some(earlier.clone())));
    cluster.start_all();
    let load = Load::start(&cluster).await;
    for id in 0..3 {
        load.goes_on(BETWEEN_FAULTS).await;
        aside(|| {
            assert!(cluster[id].stop().success(), "node {id} stops in order");
            cluster[id].set_program(None);
            cluster[id].start();
            cluster.wait_until_in_sync(id, TOPIC);
        });
    }
    load.goes_on(BETWEEN_FAULTS).await;
    load.verify(&cluster).await;
    aside(|| cluster.assert_equal_logs(TOPIC));
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
    aside(|| cluster.assert_equal_logs(TOPIC));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_falls_silent_is_done_without_and_comes_back() {
    let seed = number("CHRONIK_SEED", 1);
    // More than the 1.5 s after which a node counts as dead.
    let silence = Duration::from_secs(number("CHRONIK_SILENCE_SECONDS", 3));
    println!("CHRONIK_SEED={seed} CHRONIK_SILENCE_SECONDS={}", silence.as_secs());
    let mut draw = Draw(seed);
    let mut cluster = Cluster::start(3, &[]);
    let load = Load::start(&cluster).await;
    for victim in Victim::ALL {
        load.goes_on(BETWEEN_FAULTS).await;
        let id = aside(|| victim.choose(&cluster, &mut draw));
        println!("node {id} ({victim:?}) stops");
        cluster[id].signal("STOP");
        load.goes_on_for(silence).await;
        load.goes_on_everywhere(1).await;
        let admin = cluster[(id + 1) % cluster.len()].grpc_address();
        let status = aside(|| chronik(&["cluster", "status", "--output", "json", "--admin", &admin], b"").json());
        assert_eq!(status["nodes"][id]["fenced"], true, "{status:#}");
        assert!(status["under_replicated"].as_u64() > Some(0), "{status:#}");
        assert_ne!(status["metadata"]["leader"], id, "{status:#}");
        cluster[id].signal("CONT");
        aside(|| cluster.wait_until_in_sync(id, TOPIC));
    }
    load.verify(&cluster).await;
    aside(|| cluster.assert_equal_logs(TOPIC));
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

#[test]
fn a_node_of_another_cluster_is_told_whom_it_asks() {
    let cluster = Cluster::start(3, &[]);
    let settings = [("node_id", "3"), ("cluster_id", "another-cluster"), ("seeds", &cluster.admin())];
    let mut stranger =
        settings.iter().fold(NodeBuilder::default(), |node, (name, value)| node.set(name, value)).build();
    stranger.launch();
    let told =
        wait_for("what it waits for", || stranger.logged("waiting to become part of the cluster").into_iter().next());
    let told = told.to_string();
    assert!(told.contains("this node belongs to cluster test-cluster, not to cluster another-cluster"), "{told}");
}
