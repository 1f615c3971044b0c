//! Replicas move between real processes while producers write and nodes die: drains, reassignments under a throttle, voters
//! that come and go, nodes that join later.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use chronik_tests::Cluster;
use chronik_tests::cluster::{PartitionState, wait_for};
use chronik_tests::load::{BETWEEN_FAULTS, Load, PARTITIONS, TOPIC, aside, leader_of};
use chronik_tests::process::binary;
use serde_json::Value;

/// The node that is drained.
const DRAINED: usize = 4;

fn holds(partitions: &[PartitionState], node: usize) -> bool {
    partitions.iter().any(|partition| partition.replicas.contains(&node))
}

/// The drain as its progress is told: `None` where nobody can tell it now.
fn left(cluster: &Cluster, node: usize) -> Option<u64> {
    let answer = cluster.administer(&["nodes", "--output", "json"]);
    let nodes: Value = serde_json::from_str(&answer.out).ok().filter(|_| answer.code == 0)?;
    let found = nodes.as_array()?.iter().find(|it| it["node"].as_u64() == Some(node as u64))?;
    found["replicas"].as_u64()
}

/// Moves replicas onto the node that is to be drained, wherever they were placed.
fn give_replicas(cluster: &Cluster) {
    let moved = cluster[0].run(&["topic", "reassign", TOPIC, "--to", "2,3,4"]);
    moved.ok();
    let partitions = cluster.wait_until_in_sync(0, TOPIC);
    assert!(partitions.iter().all(|partition| partition.replicas.contains(&DRAINED)), "{partitions:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_five_is_drained_while_the_raft_leader_and_itself_are_killed() {
    let mut cluster = Cluster::start(5, &[]);
    let load = Load::with(&cluster, 4 << 10, Duration::from_millis(2)).await;
    load.goes_on_everywhere(BETWEEN_FAULTS / 4).await;
    aside(|| give_replicas(&cluster));
    // Slow enough for the kills to come in the middle.
    aside(|| cluster.administer(&["reassign", "throttle", "65536"]).ok());
    load.goes_on_everywhere(BETWEEN_FAULTS * 4).await;
    let mut drain = Command::new(binary())
        .args(["cluster", "drain", &DRAINED.to_string(), "--output", "json", "--admin", &cluster.admin()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("chronik starts");
    aside(|| {
        wait_for("moves under way", || {
            let answer = cluster.administer(&["reassign", "list", "--output", "json"]);
            let moves: Value = serde_json::from_str(&answer.out).ok()?;
            (!moves.as_array()?.is_empty()).then_some(())
        });
    });
    let raft_leader = aside(|| cluster.raft_leader(&[0, 1, 2, 3, 4]));
    aside(|| cluster[raft_leader].kill());
    load.goes_on_everywhere(1).await;
    aside(|| {
        cluster[raft_leader].start();
        if raft_leader != DRAINED {
            cluster[DRAINED].kill();
        }
    });
    load.goes_on_everywhere(1).await;
    aside(|| {
        if raft_leader != DRAINED {
            cluster[DRAINED].start();
        }
        cluster.administer(&["reassign", "throttle", "none"]).ok();
        let ended = drain.wait().expect("it is our child");
        let (mut out, mut err) = (String::new(), String::new());
        drain.stdout.take().expect("it was piped").read_to_string(&mut out).expect("text");
        drain.stderr.take().expect("it was piped").read_to_string(&mut err).expect("text");
        assert!(ended.success(), "{out}{err}");
        let told: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(told["state"], "done", "{told}");
        let partitions = cluster.wait_until_in_sync(0, TOPIC);
        assert!(!holds(&partitions, DRAINED), "{partitions:?}");
        wait_for("the node says that it holds nothing", || (left(&cluster, DRAINED)? == 0).then_some(()));
    });
    load.goes_on_everywhere(BETWEEN_FAULTS / 4).await;
    load.verify(&cluster).await;
    aside(|| cluster.assert_equal_logs(TOPIC));
}

/// On a terminal a drain shows a bar; it shows itself after two seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_shows_its_progress_on_a_terminal() {
    let cluster = Cluster::start(5, &[]);
    let load = Load::with(&cluster, 16 << 10, Duration::from_millis(2)).await;
    load.goes_on_everywhere(BETWEEN_FAULTS * 2).await;
    aside(|| {
        give_replicas(&cluster);
        cluster.administer(&["reassign", "throttle", "1048576"]).ok();
        // util-linux' `script` gives it a terminal.
        let command = format!("{} cluster drain {DRAINED} --admin {}", binary().display(), cluster.admin());
        let started = Command::new("script")
            .args(["--quiet", "--flush", "--command", &command, "/dev/null"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut drain) = started else { return chronik_tests::skip("needs util-linux' script") };
        let shown = BufReader::new(drain.stdout.take().expect("it was piped"));
        let mut parts =
            shown.split(b'\r').map_while(Result::ok).map(|part| String::from_utf8_lossy(&part).into_owned());
        let bar = parts.find(|part| part.contains(&format!("/{PARTITIONS} partitions")));
        assert!(bar.is_some(), "a bar was shown");
        cluster.administer(&["reassign", "throttle", "none"]).ok();
        parts.for_each(drop);
        assert!(drain.wait().expect("it is our child").success());
    });
    load.verify(&cluster).await;
}

/// The throttle bounds what a reassignment sends, not what followers in sync get.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_reassignment_takes_its_time_and_can_be_cancelled() {
    const BYTES: u64 = 1 << 20;
    let mut cluster = Cluster::start(5, &[]);
    let load = Load::with(&cluster, 32 << 10, Duration::from_millis(1)).await;
    // Beyond what is read on the live lane: 4 MiB.
    load.goes_on_everywhere(400).await;
    let before = aside(|| cluster.wait_until_in_sync(0, TOPIC));
    aside(|| {
        cluster.administer(&["reassign", "throttle", &BYTES.to_string()]).ok();
        let away = (0..5).find(|id| !before[0].replicas.contains(id)).expect("three of five hold it");
        let plan = serde_json::json!({ "version": 1, "partitions": [
            { "topic": TOPIC, "partition": 0, "replicas": [before[0].replicas[0], before[0].replicas[1], away] }
        ]});
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), plan.to_string()).expect("it can be written");
        let path = file.path().to_string_lossy();
        cluster.administer(&["reassign", "start", &path]).ok();
        // 12 MiB at 1 MiB a second: it is under way for long.
        let moving = cluster.administer(&["reassign", "list", "--output", "json"]).json();
        assert_eq!(moving.as_array().map(Vec::len), Some(1), "{moving}");
    });
    load.goes_on_for(Duration::from_secs(3)).await;
    aside(|| {
        let moving = cluster.administer(&["reassign", "list", "--output", "json"]).json();
        assert!(moving[0]["bytes_left"].as_u64().is_some_and(|left| left > BYTES), "{moving}");
        cluster.administer(&["reassign", "cancel"]).ok();
        let partitions = cluster.wait_until_in_sync(0, TOPIC);
        let set = |it: &PartitionState| it.replicas.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(set(&partitions[0]), set(&before[0]), "it is as it was before");
    });
    load.verify(&cluster).await;
    aside(|| cluster.assert_equal_logs(TOPIC));
}

fn role(cluster: &Cluster, node: usize) -> Option<String> {
    let answer = cluster.administer(&["voters", "list", "--output", "json"]);
    let group: Value = serde_json::from_str(&answer.out).ok().filter(|_| answer.code == 0)?;
    let member = group["members"].as_array()?.iter().find(|it| it["node"].as_u64() == Some(node as u64))?;
    member["role"].as_str().map(ToOwned::to_owned)
}

fn wait_for_role(cluster: &Cluster, node: usize, roles: &[&str]) {
    wait_for("the node's role", || role(cluster, node).filter(|role| roles.contains(&role.as_str())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_join_by_seeds_and_take_over_votes_and_replicas() {
    let mut cluster = Cluster::start(3, &[]);
    let load = Load::start(&cluster).await;
    load.goes_on_everywhere(BETWEEN_FAULTS / 4).await;
    aside(|| {
        let joined = cluster.join(&[]);
        assert_eq!(joined, 3);
        wait_for_role(&cluster, joined, &["learner"]);
        cluster.administer(&["voters", "promote", "3"]).ok();
        wait_for_role(&cluster, 3, &["voter", "leader"]);
        cluster.administer(&["voters", "demote", "0"]).ok();
        wait_for_role(&cluster, 0, &["learner"]);
        // Replicas leave node 0 altogether; then it goes.
        cluster.administer(&["drain", "0"]).ok();
        assert!(!holds(&cluster.wait_until_in_sync(1, TOPIC), 0));
        assert!(cluster[0].stop().success());
    });
    load.goes_on_everywhere(BETWEEN_FAULTS / 4).await;
    aside(|| {
        // The new one is a voter in earnest: without it and node 1 back there would be no majority.
        cluster[1].kill();
        wait_for("a leader without node 1", || {
            let partitions = cluster.describe(2, TOPIC)?;
            partitions.iter().all(|it| it.leader.is_some_and(|leader| leader != 1)).then_some(())
        });
        cluster[1].start();
        cluster.wait_until_in_sync(1, TOPIC);
        cluster[0].start();
    });
    load.verify(&cluster).await;
    aside(|| cluster.assert_equal_logs(TOPIC));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_voters_do_without_two() {
    let mut cluster = Cluster::start(5, &[]);
    let load = Load::start(&cluster).await;
    load.goes_on_everywhere(BETWEEN_FAULTS / 4).await;
    let leader = aside(|| cluster.raft_leader(&[0, 1, 2, 3, 4]));
    aside(|| {
        let partitions = cluster.wait_until_in_sync(0, TOPIC);
        // Beside Raft's leader one more, so that each partition keeps the two replicas that it needs.
        let apart = |one: usize, other: usize| {
            partitions.iter().all(|it| !(it.replicas.contains(&one) && it.replicas.contains(&other)))
        };
        let other = (0..5).find(|id| *id != leader && apart(leader, *id));
        cluster[leader].kill();
        if let Some(other) = other {
            cluster[other].kill();
        }
    });
    load.goes_on_everywhere(BETWEEN_FAULTS / 4).await;
    aside(|| cluster.start_all());
    let asked = aside(|| leader_of(&cluster, 0, 0));
    aside(|| cluster.wait_until_in_sync(asked, TOPIC));
    load.verify(&cluster).await;
    aside(|| cluster.assert_equal_logs(TOPIC));
}
