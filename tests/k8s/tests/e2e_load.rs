//! Under a steady idempotent load: whatever the operator does and whatever dies, no producer error reaches the application,
//! nothing is lost, nothing is doubled, and never are two nodes down by the operator's hand.

use std::time::Duration;

use chronik_k8s_tests::cluster::{PATIENCE, spec};
use chronik_k8s_tests::kube::condition;
use chronik_k8s_tests::operator::image;
use chronik_k8s_tests::{Cluster, Killer, LoadPod, Operator, PodWatch, process, wait_for};
use serde_json::Value;

/// Records between two changes.
const BETWEEN: u64 = 600;

/// A cluster of three under load, changed by `change`, with the operator killed on the way.
fn under_load(name: &str, change: impl FnOnce(&Operator, &Cluster, &LoadPod<'_>)) {
    let operator = Operator::install();
    let cluster = Cluster::start(&operator.clusters(), name, &spec(3));
    let watch = PodWatch::start(&cluster, 3);
    let load = LoadPod::start(&cluster);
    cluster.await_settled();
    let killer = Killer::start(&operator, &cluster, name);
    change(&operator, &cluster, &load);
    println!("{name}: the operator was killed {} times, nodes went down {} times", killer.stop(), watch.falls());
    operator.await_ready();
    cluster.await_settled();
    load.goes_on(BETWEEN);
    load.verify();
    watch.assert_one_at_a_time();
}

/// Applies a change of the spec and waits until it is made.
fn change(cluster: &Cluster, wanted: &Value) -> Value {
    cluster.apply(wanted);
    cluster.await_settled()
}

#[test]
#[ignore = "needs Kubernetes: make e2e"]
fn an_image_rolls_one_node_at_a_time() {
    under_load("image-roll", |_, cluster, _| {
        let before = cluster.uids();
        let next = image("chronik") + "-next";
        let mut wanted = spec(3);
        wanted["image"] = next.clone().into();
        change(cluster, &wanted);
        for pod in cluster.pods() {
            let containers = pod["spec"]["containers"].as_array().expect("a pod has containers");
            assert!(containers.iter().any(|container| container["image"] == next.as_str()), "{containers:?}");
        }
        let after = cluster.uids();
        assert!(before.iter().all(|pod| !after.contains(pod)), "every pod is another: {before:?} {after:?}");
    });
}

#[test]
#[ignore = "needs Kubernetes: make e2e"]
fn a_setting_that_is_read_at_the_start_rolls_and_a_dynamic_one_does_not() {
    under_load("config-roll", |_, cluster, load| {
        let before = cluster.uids();
        let mut wanted = spec(3);
        wanted["config"]["message.max.bytes"] = "2000000".into();
        change(cluster, &wanted);
        wait_for("the setting holds", PATIENCE, || {
            cluster.chronik(0, &["topic", "create", "sized", "--if-not-exists"]);
            let settings = cluster.chronik(0, &["topic", "config", "sized"]);
            settings.contains("2000000").then_some(())
        });
        assert_eq!(cluster.uids(), before, "a dynamic setting restarts nothing");
        load.goes_on(BETWEEN);
        wanted["config"]["num.partitions"] = "3".into();
        change(cluster, &wanted);
        let after = cluster.uids();
        assert!(before.iter().all(|pod| !after.contains(pod)), "every pod is another: {before:?} {after:?}");
    });
}

#[test]
#[ignore = "needs Kubernetes: make e2e"]
fn three_nodes_become_five_and_three_again() {
    under_load("scaled", |_, cluster, load| {
        let grown = change(cluster, &spec(5));
        assert_eq!(grown["status"]["ready"], "5/5");
        assert_eq!(cluster.uids().len(), 5);
        // What is drained later has to hold something.
        cluster.chronik(0, &["topic", "reassign", "load", "--to", "2,3,4"]);
        load.goes_on(BETWEEN);
        let shrunk = change(cluster, &spec(3));
        assert_eq!(shrunk["status"]["ready"], "3/3");
        assert_eq!(cluster.uids().len(), 3);
        assert_eq!(cluster.claims().len(), 3, "with the policy Delete their volumes go, too");
        let nodes = cluster.chronik(0, &["cluster", "nodes", "--output", "json"]);
        let nodes: Value = serde_json::from_str(&nodes).expect("JSON");
        assert_eq!(nodes.as_array().map(Vec::len), Some(3), "{nodes}");
    });
}

/// The replicas of each node.
fn replicas(cluster: &Cluster) -> Vec<u64> {
    let nodes = cluster.chronik(0, &["cluster", "nodes", "--output", "json"]);
    let nodes: Vec<Value> = serde_json::from_str(&nodes).expect("JSON");
    nodes.iter().map(|node| node["replicas"].as_u64().expect("a number")).collect()
}

#[test]
#[ignore = "needs Kubernetes: make e2e"]
fn nodes_that_are_added_get_their_share() {
    under_load("filled", |_, cluster, load| {
        cluster.chronik(0, &["topic", "create", "even", "--partitions", "10", "--replication-factor", "3"]);
        let before = replicas(cluster);
        let mut grown = spec(5);
        grown["rebalance"] = "OnScale".into();
        let grown = change(cluster, &grown);
        assert_eq!(grown["status"]["ready"], "5/5");
        let after = replicas(cluster);
        println!("replicas of each node: {before:?}, then {after:?}");
        assert_eq!(after.iter().sum::<u64>(), before.iter().sum::<u64>());
        let (least, most) = (after.iter().min(), after.iter().max());
        assert!(after.len() == 5 && most <= least.map(|least| least + 1).as_ref(), "{after:?}");
        load.goes_on(BETWEEN);
    });
}

#[test]
#[ignore = "needs Kubernetes: make e2e"]
fn a_volume_grows_and_nothing_restarts() {
    under_load("grown", |_, cluster, _| {
        let before = cluster.uids();
        let mut wanted = spec(3);
        wanted["pools"][0]["storage"]["size"] = "2Gi".into();
        change(cluster, &wanted);
        for claim in cluster.claims() {
            wait_for("the claim has grown", PATIENCE, || {
                let claim = cluster.namespace.get("persistentvolumeclaim", &claim)?;
                (claim["status"]["capacity"]["storage"] == "2Gi").then_some(())
            });
        }
        let sets = cluster.namespace.list("statefulsets", &cluster.selector());
        let template = &sets[0]["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"];
        assert_eq!(*template, "2Gi");
        assert_eq!(cluster.uids(), before);
    });
}

#[test]
#[ignore = "needs Kubernetes: make e2e"]
fn deleted_pods_come_back_and_the_load_does_not_notice() {
    under_load("pod-deletes", |_, cluster, load| {
        for ordinal in 0..3 {
            cluster.namespace.kubectl(&["delete", "pod", &cluster.pod(ordinal), "--wait=false"]);
            load.goes_on(BETWEEN);
            cluster.await_settled();
        }
    });
}

#[test]
#[ignore = "needs Kubernetes: make e2e"]
fn killed_brokers_come_back_and_the_load_does_not_notice() {
    under_load("killed", |_, cluster, load| {
        for ordinal in 0..3 {
            let pod = cluster.namespace.get("pod", &cluster.pod(ordinal)).expect("the pod is there");
            let uid = pod["metadata"]["uid"].as_str().expect("it has a UID");
            let Some(pid) = process::find(uid, "/chronik", "start") else {
                eprintln!("skipped: brokers do not run on this machine");
                return;
            };
            process::kill(pid);
            wait_for("another process runs", Duration::from_mins(1), || {
                process::find(uid, "/chronik", "start").filter(|now| *now != pid)
            });
            load.goes_on(BETWEEN);
            cluster.await_settled();
        }
    });
}

/// A roll to an image that can't start stops at its first pod; the corrected spec heals it.
#[test]
#[ignore = "needs Kubernetes: make e2e"]
fn a_broken_image_stops_the_roll_at_one_pod_and_the_corrected_spec_heals_it() {
    under_load("broken-image", |_, cluster, load| {
        let broken = image("chronik") + "-broken";
        let mut wanted = spec(3);
        wanted["image"] = broken.clone().into();
        cluster.apply(&wanted);
        let has_broken = |pod: &Value| pod["spec"]["containers"][0]["image"] == broken.as_str();
        wait_for("one pod has the broken image", PATIENCE, || cluster.pods().iter().any(has_broken).then_some(()));
        cluster.await_resource("its resource says so", PATIENCE, |resource| {
            condition(resource, "Stalled") == Some("True")
        });
        load.goes_on(BETWEEN * 5);
        assert_eq!(cluster.pods().iter().filter(|pod| has_broken(pod)).count(), 1, "the roll has stopped");
        change(cluster, &spec(3));
        assert!(!cluster.pods().iter().any(has_broken));
    });
}
