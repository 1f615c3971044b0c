//! What is left of a deleted cluster: all of its data, or nothing, as it was asked for; and a namespace that goes, goes soon.

use std::time::Duration;

use chronik_k8s_tests::cluster::spec;
use chronik_k8s_tests::{Cluster, Operator, wait_for};

/// What is in the way of nobody within this time.
const SOON: Duration = Duration::from_mins(1);

#[test]
#[ignore = "needs Kubernetes: make e2e"]
fn under_retain_the_data_is_served_again_by_a_cluster_of_the_same_name() {
    let operator = Operator::install();
    let mut retained = spec(3);
    retained["deletionPolicy"] = "Retain".into();
    let cluster = Cluster::start(&operator.clusters(), "retained", &retained);
    let id = cluster.resource()["status"]["clusterId"].clone();
    cluster.chronik(0, &["topic", "create", "kept", "--partitions", "6", "--replication-factor", "3"]);
    cluster.chronik(0, &["bench", "produce", "kept", "--records", "1000"]);
    let before = cluster.chronik(0, &["topic", "describe", "kept", "--output", "json"]);
    cluster.delete();
    assert_eq!(cluster.claims().len(), 3, "the volumes stay");
    assert!(cluster.namespace.list("statefulsets", &cluster.selector()).is_empty(), "everything else goes");

    let cluster = Cluster::start(&operator.clusters(), "retained", &retained);
    assert_eq!(cluster.resource()["status"]["clusterId"], id, "it is the same cluster");
    let offsets = |described: &str| -> Vec<(i64, i64)> {
        let described: serde_json::Value = serde_json::from_str(described).expect("JSON");
        let partitions = described["partitions"].as_array().cloned().unwrap_or_default();
        partitions
            .iter()
            .map(|it| (it["start_offset"].as_i64().unwrap_or(-1), it["end_offset"].as_i64().unwrap_or(-1)))
            .collect()
    };
    let after = cluster.chronik(0, &["topic", "describe", "kept", "--output", "json"]);
    assert!(offsets(&before).iter().map(|(_, end)| end).sum::<i64>() >= 1000, "{before}");
    assert_eq!(offsets(&after), offsets(&before));
}

#[test]
#[ignore = "needs Kubernetes: make e2e"]
fn under_delete_nothing_is_left() {
    let operator = Operator::install();
    let cluster = Cluster::start(&operator.clusters(), "deleted", &spec(3));
    cluster.delete();
    for kind in [
        "statefulsets",
        "services",
        "configmaps",
        "secrets",
        "serviceaccounts",
        "poddisruptionbudgets",
        "networkpolicies",
        "persistentvolumeclaims",
    ] {
        wait_for(&format!("all {kind} are gone"), SOON, || {
            cluster.namespace.list(kind, &cluster.selector()).is_empty().then_some(())
        });
    }
}

#[test]
#[ignore = "needs Kubernetes: make e2e"]
fn a_namespace_with_a_cluster_is_deleted_within_half_a_minute() {
    let operator = Operator::install();
    let namespace = operator.doomed();
    let cluster = Cluster::start(&namespace, "doomed", &spec(3));
    let took = namespace.delete();
    println!("the namespace was gone after {took:?}");
    // There is nothing left that dropping it could delete.
    std::mem::forget(cluster);
    assert!(took < Duration::from_secs(30), "{took:?}");
}
