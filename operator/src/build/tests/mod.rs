//! The objects of a cluster, as snapshots; and what may never change by itself: the hash of a pod's template.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn pool(spec: Value, replicas: i32) -> DesiredPool {
    let pool: Pool = serde_json::from_value(spec).expect("a pool");
    DesiredPool { claim_size: pool.storage.size.clone(), replicas, surplus_from: None, fill: None, pool }
}

fn main_pool() -> Value {
    json!({ "name": "main", "replicas": 3, "firstNodeId": 0, "storage": { "size": "100Gi" } })
}

fn desired(spec: Value) -> Desired {
    let spec: ChronikClusterSpec = serde_json::from_value(spec).expect("a spec");
    Desired {
        name: "events".to_owned(),
        namespace: "prod".to_owned(),
        uid: "0b1c".to_owned(),
        image: "chronik:1".to_owned(),
        cluster_id: "c1".to_owned(),
        initial_voters: (0..3).map(|id| InitialVoter { node_id: id, pod: format!("events-main-{id}") }).collect(),
        pools: spec.pools.iter().map(|it| pool(serde_json::to_value(it).expect("JSON"), it.replicas)).collect(),
        owned_settings: config::dynamic(&spec.config).into_keys().collect(),
        max_unavailable: 1,
        spec,
    }
}

fn small() -> Desired {
    desired(json!({ "pools": [main_pool()] }))
}

fn full() -> Desired {
    desired(json!({
        "pools": [{
            "name": "main", "replicas": 3, "firstNodeId": 10,
            "storage": { "size": "100Gi", "storageClassName": "fast" },
            "resources": { "requests": { "cpu": "2", "memory": "4Gi" }, "limits": { "memory": "4Gi" } },
            "template": {
                "labels": { "team": "data" },
                "annotations": { "note": "here" },
                "nodeSelector": { "disk": "nvme" },
                "tolerations": [{ "key": "brokers", "operator": "Exists" }],
                "topologySpreadConstraints": [{
                    "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
                }],
                "priorityClassName": "high",
                "imagePullSecrets": ["registry"],
            },
        }],
        "config": { "min.insync.replicas": "2", "default.replication.factor": "3" },
        "listeners": [{ "name": "clients", "port": 19092 }],
    }))
}

fn template_of(desired: &Desired) -> Value {
    let objects = build(desired);
    let set = objects.iter().find(|object| object.kind == Kind::StatefulSet).expect("a StatefulSet");
    set.value["spec"]["template"].clone()
}

fn hash_of(desired: &Desired) -> String {
    template_hashes(desired)["main"].clone()
}

#[test]
fn a_small_cluster() {
    insta::assert_json_snapshot!(build(&small()).into_iter().map(|object| object.value).collect::<Vec<_>>());
}

#[test]
fn everything_that_a_spec_can_say() {
    insta::assert_json_snapshot!(build(&full()).into_iter().map(|object| object.value).collect::<Vec<_>>());
}

/// Pods whose template has another hash are replaced. If this fails, an upgrade of the operator would restart every node of
/// every cluster: what has changed in the template must wait for a change of the spec.
#[test]
fn an_upgrade_of_the_operator_restarts_nothing() {
    assert_eq!((hash_of(&small()).as_str(), hash_of(&full()).as_str()), (SMALL, FULL));
}

const SMALL: &str = "cb46cd2d8127f0b6";
const FULL: &str = "cd15d2ef63543192";

#[test]
fn the_pod_carries_the_hash_that_it_is_compared_by() {
    for desired in [small(), full()] {
        assert_eq!(template_of(&desired)["metadata"]["annotations"][names::TEMPLATE_HASH], hash_of(&desired));
    }
}

#[test]
fn what_only_a_first_start_needs_makes_no_pod_outdated() {
    let mut later = small();
    later.initial_voters.truncate(1);
    later.max_unavailable = 0;
    later.pools[0].replicas = 7;
    later.pools[0].claim_size = "1Ti".to_owned();
    assert_eq!(hash_of(&later), hash_of(&small()));
}

#[test]
fn what_brokers_start_with_makes_pods_outdated_and_dynamic_settings_do_not() {
    let with = |config: Value| hash_of(&desired(json!({ "pools": [main_pool()], "config": config })));
    assert_eq!(with(json!({ "min.insync.replicas": "2" })), hash_of(&small()));
    assert_ne!(with(json!({ "num.partitions": "6" })), hash_of(&small()));
    let mut other = small();
    other.image = "chronik:2".to_owned();
    assert_ne!(hash_of(&other), hash_of(&small()));
}

/// The list of dynamic settings is the broker's: its reference says which change "yes", for all brokers.
#[test]
fn dynamic_settings_are_those_that_the_broker_says() {
    let reference = include_str!("../../../../docs/reference/configs.md");
    let brokers = reference.split("\n## ").find(|section| section.starts_with("Brokers")).expect("a section");
    let rows = brokers.lines().filter_map(|line| line.strip_prefix("| `"));
    let dynamic = rows.filter(|row| row.trim_end().trim_end_matches('|').trim_end().ends_with("| yes"));
    let mut names: Vec<&str> = dynamic.filter_map(|row| row.split('`').next()).collect();
    names.sort_unstable();
    let listed: Vec<&str> = include_str!("../dynamic-settings.txt").lines().collect();
    assert_eq!(names, listed, "operator/src/build/dynamic-settings.txt is stale");
}

#[test]
fn an_object_notes_the_hash_of_what_was_applied() {
    let applied = |desired: &Desired| -> BTreeMap<(Kind, String), String> {
        let note = |object: &Object| object.value["metadata"]["annotations"][names::APPLIED].to_string();
        build(desired).iter().map(|object| ((object.kind, object.name.clone()), note(object))).collect()
    };
    let mut other = small();
    other.max_unavailable = 0;
    let (before, after) = (applied(&small()), applied(&other));
    let changed: Vec<_> = before.iter().filter(|(key, hash)| after[*key] != **hash).map(|(key, _)| key.0).collect();
    assert_eq!(changed, [Kind::PodDisruptionBudget]);
}
