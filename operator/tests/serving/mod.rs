//! Clusters that serve, as far as the operator can tell: their brokers only answer.

mod fill;

use std::time::{Duration, Instant};

use chronik_operator::crd::{ChronikCluster, STALLED};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::fixture::{Lab, cluster, lab};

/// Twenty clusters of three.
const CLUSTERS: usize = 20;
/// How long the operator is measured.
const MEASURED: Duration = Duration::from_mins(1);
/// What it may take: memory in bytes, and of a core.
const RESIDENT: u64 = 50 << 20;
const OF_A_CORE: f64 = 0.01;

#[tokio::test]
async fn an_operator_with_twenty_settled_clusters_idles() {
    let Some(lab) = lab().await else { return };
    let Some(program) = std::env::var_os("CHRONIK_OPERATOR") else {
        eprintln!("skipped: only an optimized build is measured, and CHRONIK_OPERATOR names none");
        return lab.end().await;
    };
    let (_kubelet, admin_port) = lab.kubelet();
    let operator = lab.process(&program, admin_port);
    let names: Vec<String> = (0..CLUSTERS).map(|number| format!("events-{number}")).collect();
    for name in &names {
        lab.api().create(&PostParams::default(), &cluster(name, json!({}))).await.expect("created");
    }
    for name in &names {
        let status = lab.ready(name).await.status.expect("a status");
        assert_eq!(status.ready.as_deref(), Some("3/3"));
    }
    // What comes after the last pod is ready has its time.
    lab.quiet().await;

    let (from, spent) = (Instant::now(), operator.processor_time());
    let mut resident = operator.resident();
    while from.elapsed() < MEASURED {
        tokio::time::sleep(Duration::from_secs(1)).await;
        resident = resident.max(operator.resident());
    }
    let share = operator.processor_time().saturating_sub(spent).as_secs_f64() / from.elapsed().as_secs_f64();
    println!("{CLUSTERS} clusters of 3: {} KiB resident at most, {:.2} % of a core", resident >> 10, share * 100.0);
    assert!(resident < RESIDENT, "{resident} bytes");
    assert!(share < OF_A_CORE, "{share} of a core");
    drop(operator);
    lab.end().await;
}

async fn pods(lab: &Lab) -> Vec<String> {
    let pods = lab.api::<Pod>().list(&ListParams::default()).await.expect("pods can be listed");
    pods.iter().filter_map(ResourceExt::uid).collect()
}

#[tokio::test]
async fn a_node_that_says_it_is_another_stops_disruption_and_is_shown() {
    let Some(lab) = lab().await else { return };
    let (kubelet, admin_port) = lab.kubelet();
    let operator = lab.operator_of(admin_port);
    let clusters = lab.api::<ChronikCluster>();
    clusters.create(&PostParams::default(), &cluster("events", json!({}))).await.expect("created");
    lab.ready("events").await;
    let (brokers, before) = (kubelet.brokers("events"), pods(&lab).await);

    brokers.says(1, 2);
    lab.stalled("events", "WrongNode").await;
    let status = lab.get::<ChronikCluster>("events").await.status.expect("a status");
    let stalled = status.conditions.iter().find(|it| it.type_ == STALLED).expect("it is told");
    let id = status.cluster_id.expect("an id");
    assert_eq!(
        stalled.message,
        format!(
            "Pod events-main-1 should be node 1 of cluster {id}, and its process says that it is node 2 of cluster {id}. \
             Nothing is stopped or moved until that is put right: look at the pod's volume, and who changed it."
        )
    );

    // Every node is to be replaced, and none is touched.
    let next = json!({ "spec": { "image": "chronik.invalid/next:0" } });
    clusters.patch("events", &PatchParams::default(), &Patch::Merge(&next)).await.expect("patched");
    lab.wait::<k8s_openapi::api::apps::v1::StatefulSet>("events-main", "of the next image", |it| {
        let template = it.and_then(|it| it.spec.as_ref()?.template.spec.clone());
        template.is_some_and(|spec| spec.containers[0].image.as_deref() == Some("chronik.invalid/next:0"))
    })
    .await;
    let seen = operator.reconciliations().await;
    lab.reconciled(&operator, seen + 3).await;
    assert_eq!(brokers.writes(), [""; 0], "the cluster is asked for nothing");
    assert_eq!(pods(&lab).await, before, "no pod is replaced");

    // It is what it should be: the roll goes on.
    brokers.says(1, 1);
    lab.ready("events").await;
    let after = pods(&lab).await;
    assert!(before.iter().all(|pod| !after.contains(pod)), "every pod is another: {before:?} {after:?}");
    assert_eq!(brokers.writes().iter().filter(|write| *write == "prepare_stop").count(), 3);
    operator.stop().await;
    lab.end().await;
}
