//! Nodes that are added get their share once, whoever runs the operator.

use chronik_operator::crd::ChronikCluster;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::fixture::{cluster, lab, pool};

const NOTE: &str = "chronik.io/fill-from";

#[tokio::test]
async fn nodes_that_are_added_are_filled_once() {
    let Some(lab) = lab().await else { return };
    let (kubelet, admin_port) = lab.kubelet();
    let operator = lab.operator_of(admin_port);
    let clusters = lab.api::<ChronikCluster>();
    let created = cluster("events", json!({ "rebalance": "OnScale" }));
    clusters.create(&PostParams::default(), &created).await.expect("created");
    lab.ready("events").await;
    let brokers = kubelet.brokers("events");
    assert_eq!(brokers.writes(), [""; 0], "a new cluster has nothing to move");

    let mut grown = pool("main", 0);
    grown["replicas"] = json!(5);
    let patch = json!({ "spec": { "pools": [grown], "metadataVoters": 5 } });
    clusters.patch("events", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("patched");
    let noted = |note: Option<&'static str>| {
        move |it: Option<&StatefulSet>| it.is_some_and(|it| it.annotations().get(NOTE).map(String::as_str) == note)
    };
    lab.wait("events-main", "noted as begun", noted(Some("3,begun"))).await;
    operator.stop().await;
    // Another one finds the note: it only waits.
    let operator = lab.operator_of(admin_port);
    lab.reconciled(&operator, 3).await;
    lab.wait::<ChronikCluster>("events", "told", |it| {
        let operation = it.and_then(|it| it.status.as_ref()?.operation.as_ref());
        operation
            .is_some_and(|it| it.kind == "ScaleUp" && it.step == "moves partitions to nodes 3, 4: 12 are on their way")
    })
    .await;
    assert_eq!(brokers.writes(), ["fill_nodes [3, 4]"]);
    brokers.moved();
    lab.ready("events").await;
    lab.wait("events-main", "noted no longer", noted(None)).await;
    lab.quiet().await;
    assert_eq!(brokers.writes(), ["fill_nodes [3, 4]"]);
    operator.stop().await;
    lab.end().await;
}
