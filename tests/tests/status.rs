//! What `chronik cluster status` tells of a cluster in trouble, whichever node is asked.

use chronik_tests::cluster::wait_for;
use chronik_tests::{Cluster, chronik};
use serde_json::{Value, json};

/// The node that is killed.
const DEAD: usize = 2;

/// The status as a node tells it; `None` where it can't now.
fn told_by(cluster: &Cluster, node: usize) -> Option<Value> {
    let admin = cluster[node].grpc_address();
    let answer = chronik(&["cluster", "status", "--output", "json", "--admin", &admin], b"");
    serde_json::from_str(&answer.out).ok().filter(|_| answer.code == 0)
}

/// Gives a partition other replicas.
fn reassign(cluster: &Cluster, topic: &str, replicas: &[usize]) {
    let plan = json!({ "partitions": [{ "topic": topic, "partition": 0, "replicas": replicas }] });
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), plan.to_string()).expect("it can be written");
    cluster.administer(&["reassign", "start", &file.path().to_string_lossy()]).ok();
}

#[test]
fn a_cluster_in_trouble_tells_what_is_wrong_and_what_is_under_way() {
    let mut cluster = Cluster::start(3, &[]);
    assert_eq!(cluster.join(&[]), 3);
    for (topic, minimum, replicas) in
        [("wide", "1", &[0, 1, DEAD][..]), ("strict", "2", &[0, DEAD]), ("only", "1", &[DEAD])]
    {
        let (factor, minimum) = (replicas.len().to_string(), format!("min.insync.replicas={minimum}"));
        cluster[0].run(&["topic", "create", topic, "--replication-factor", &factor, "--config", &minimum]).ok();
        reassign(&cluster, topic, replicas);
        wait_for("its replicas", || {
            let partitions = cluster.describe(0, topic)?;
            (partitions[0].replicas == replicas && partitions[0].in_sync.len() == replicas.len()).then_some(())
        });
    }
    let fine = told_by(&cluster, 3).expect("it is up");
    assert_eq!(fine["unhealthy"], json!([]), "{fine}");
    assert_eq!((fine["partitions"].as_u64(), fine["offline"].as_u64()), (Some(3), Some(0)), "{fine}");
    cluster[DEAD].kill();
    reassign(&cluster, "only", &[3]);
    let told = wait_for("what lacks the dead node", || {
        told_by(&cluster, 3).filter(|told| told["unhealthy_total"] == 3 && told["metadata"]["leader"].is_u64())
    });
    for (topic, health, leaders) in
        [("only", "offline", &[][..]), ("strict", "under minimum", &[0]), ("wide", "under-replicated", &[0, 1])]
    {
        let of = told["unhealthy"].as_array().into_iter().flatten().find(|it| it["topic"] == topic);
        let of = of.unwrap_or_else(|| panic!("{topic}: {told:#}"));
        let led = of["leader"].as_u64().map_or(leaders.is_empty(), |leader| leaders.contains(&leader));
        assert!(of["health"] == health && led, "{topic}: {told:#}");
    }
    assert_eq!((&told["answered_by"], &told["nodes"][DEAD]["fenced"]), (&json!(3), &json!(true)), "{told:#}");
    assert_eq!((&told["moves"][0]["topic"], &told["moves"][0]["adding"]), (&json!("only"), &json!([3])));
    let leader = told["metadata"]["leader"].as_u64();
    for member in told["metadata"]["members"].as_array().expect("members") {
        let role = match member["node"].as_u64() {
            Some(3) => "learner",
            node if node == leader => "leader",
            _ => "voter",
        };
        assert_eq!(member["role"], role, "{told:#}");
        assert!(member["matched"].is_u64(), "whoever is asked asks the leader: {told:#}");
    }

    cluster.administer(&["drain", &DEAD.to_string(), "--detach"]).ok();
    wait_for("the drain of what can be moved", || {
        let told = told_by(&cluster, 0)?;
        let drain = &told["drains"][0];
        let stuck = drain["state"] == "moving" && drain["partitions_left"] == 1 && told["unhealthy_total"] == 1;
        (stuck && told["nodes"][DEAD]["draining"] == true && drain["blocked"].is_string()).then_some(())
    });
    let shown = cluster.administer(&["status"]).ok();
    for part in ["partitions: 1 offline, ", "drain of node 2: 1 of 3 partitions left", "under way"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

/// Two of three voters are down: what one node knew last is told as that, and orders say what they wait for.
#[test]
fn without_a_majority_nothing_is_said_to_be_well() {
    let mut cluster = Cluster::start(3, &[]);
    cluster[0].run(&["topic", "create", "t", "--replication-factor", "3"]).ok();
    cluster.wait_until_in_sync(0, "t");
    for dead in [1, 2] {
        cluster[dead].kill();
    }
    let admin = cluster[0].grpc_address();
    let status = wait_for("a node without a leader", || {
        let told = chronik(&["cluster", "status", "--admin", &admin], b"");
        (told.code != 0).then_some(told)
    });
    let second = status.out.lines().nth(1).expect("a second line");
    assert_eq!(second, "THE METADATA HAS NO LEADER: what follows is what node 0 knew last", "{}", status.out);
    for part in ["a majority of the voters must be up", &cluster[1].grpc_address(), &cluster[2].grpc_address()] {
        assert!(status.err.contains(part), "{part}: {}", status.err);
    }
    assert!(!status.out.contains("in sync\n"), "{}", status.out);
    let nodes = chronik(&["cluster", "nodes", "--admin", &admin], b"");
    assert!(nodes.code == 1 && nodes.out.contains("NODE") && nodes.err.contains("no leader"), "{nodes:?}");
    let order = chronik(&["cluster", "drain", "0", "--detach", "--admin", &admin], b"");
    assert_eq!(order.code, 1);
    for part in
        ["still waiting: an order needs the metadata's leader", "drain node 0", "a majority of the voters must be up"]
    {
        assert!(order.err.contains(part), "{part}: {}", order.err);
    }
}
