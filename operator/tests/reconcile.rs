//! The operator against a real API server: whichever `KUBECONFIG` names. Without one these tests are skipped, and say so.
//!
//! No broker runs here (no machine takes the pods): what concerns them is tested end to end. In [`serving`] something
//! answers in their place, and in [`steps`] real processes of brokers run beside the test.

mod fixture;
mod serving;
mod steps;

use chronik_operator::crd::ChronikCluster;
use fixture::{cluster, lab};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// Spoils a good spec.
type Change = fn(&mut Value);

#[tokio::test]
async fn what_cel_can_see_is_refused_with_a_sentence_that_says_what_to_do() {
    let Some(lab) = lab().await else { return };
    let clusters = lab.api::<ChronikCluster>();
    let good = cluster("good", json!({}));
    clusters.create(&PostParams::default(), &good).await.expect("a good spec is taken");

    let cases: [(Change, &str); 10] = [
        (|it| it["spec"]["metadataVoters"] = json!(2), "must be 1, 3 or 5"),
        (|it| it["spec"]["metadataVoters"] = json!(5), "fewer replicas than metadataVoters"),
        (|it| it["spec"]["pools"][0]["firstNodeId"] = json!(7), "firstNodeId can't change"),
        (|it| it["spec"]["pools"][0]["storage"]["size"] = json!("500Mi"), "A volume can't shrink"),
        (|it| it["spec"]["pools"][0]["storage"]["size"] = json!("much"), "must be a quantity above zero"),
        (
            |it| it["spec"]["pools"][0]["storage"]["storageClassName"] = json!("other"),
            "storage class of a pool can't change",
        ),
        (
            |it| it["spec"]["config"] = json!({ "node.id": "1" }),
            "Node ids, racks, listeners and folders are the operator's",
        ),
        (|it| it["spec"]["listeners"] = json!([{ "name": "kafka", "port": 9391 }]), "are taken"),
        (
            |it| {
                let mut second = it["spec"]["pools"][0].clone();
                second["name"] = json!("second");
                second["firstNodeId"] = json!(2);
                it["spec"]["pools"].as_array_mut().expect("pools").push(second);
            },
            "Two pools would have the same node ids",
        ),
        (
            |it| {
                it["metadata"]["name"] = json!("a-name-of-thirty-characters-00");
                it["spec"]["pools"][0]["name"] = json!("a-pool-of-twenty-two-c");
            },
            "may have 51 characters",
        ),
    ];
    for (change, sentence) in cases {
        let mut spec = serde_json::to_value(&good).expect("JSON");
        change(&mut spec);
        let name = spec["metadata"]["name"].as_str().expect("a name").to_owned();
        let params = PatchParams::apply("test").dry_run().force();
        let refused = clusters.patch(&name, &params, &Patch::Apply(&spec)).await.expect_err(sentence).to_string();
        assert!(refused.contains(sentence), "{refused}");
    }
    lab.end().await;
}

#[tokio::test]
async fn a_cluster_is_made_kept_and_then_left_alone() {
    let Some(lab) = lab().await else { return };
    let operator = lab.operator();
    lab.api::<ChronikCluster>().create(&PostParams::default(), &cluster("events", json!({}))).await.expect("created");
    let set = lab.wait::<StatefulSet>("events-main", "made", |it| it.is_some()).await.expect("there");
    assert_eq!(set.spec.expect("a spec").replicas, Some(3));
    let secret = lab.wait::<Secret>("events-main-tls", "made", |it| it.is_some()).await.expect("there");
    assert!(secret.data.expect("data").contains_key("events-main-2.key"));

    // What others change or delete comes back.
    lab.api::<Service>().delete("events-bootstrap", &DeleteParams::default()).await.expect("deleted");
    lab.wait::<Service>("events-bootstrap", "made again", |it| {
        it.is_some_and(|it| it.metadata.deletion_timestamp.is_none())
    })
    .await;
    let patch = json!({ "spec": { "maxUnavailable": 3 } });
    let budgets = lab.api::<PodDisruptionBudget>();
    budgets.patch("events", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("patched");
    let is_zero = |it: Option<&PodDisruptionBudget>| {
        let allowed = it.and_then(|it| it.spec.as_ref()).and_then(|spec| spec.max_unavailable.clone());
        allowed == Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(0))
    };
    lab.wait::<PodDisruptionBudget>("events", "as it was", is_zero).await;
    let patch = json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": null } } });
    let services = lab.api::<Service>();
    services.patch("events-nodes", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("patched");
    lab.wait::<Service>("events-nodes", "labelled again", |it| {
        it.is_some_and(|it| it.labels().contains_key("app.kubernetes.io/managed-by"))
    })
    .await;

    // What it owns and no longer wants goes.
    let owner = lab.get::<StatefulSet>("events-main").await.owner_references().to_vec();
    let orphan: ConfigMap = serde_json::from_value(json!({
        "metadata": {
            "name": "former", "ownerReferences": owner,
            "labels": { "app.kubernetes.io/instance": "events", "app.kubernetes.io/managed-by": "chronik-operator" },
        },
    }))
    .expect("a ConfigMap");
    lab.api::<ConfigMap>().create(&PostParams::default(), &orphan).await.expect("created");
    lab.wait::<ConfigMap>("former", "gone", |it| it.is_none()).await;

    lab.quiet().await;
    // Another operator, say a newer one, changes nothing either.
    operator.stop().await;
    let before = lab.versions().await;
    let operator = lab.operator();
    lab.reconciled(&operator, 3).await;
    assert_eq!(lab.versions().await, before);
    operator.stop().await;
    lab.end().await;
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_never_touched() {
    let Some(lab) = lab().await else { return };
    let operator = lab.operator();
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": "events-bootstrap" }, "spec": { "ports": [{ "port": 1 }] },
    }))
    .expect("a Service");
    let theirs = lab.api::<Service>().create(&PostParams::default(), &service).await.expect("created");
    let clusters = lab.api::<ChronikCluster>();
    clusters.create(&PostParams::default(), &cluster("events", json!({}))).await.expect("created");
    lab.stalled("events", "ForeignObject").await;
    assert_eq!(lab.get::<Service>("events-bootstrap").await.resource_version(), theirs.resource_version());
    lab.api::<Service>().delete("events-bootstrap", &DeleteParams::default()).await.expect("deleted");
    lab.settled("events").await;

    // A volume of somebody else under a name that a pod would use.
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": { "name": "data-other-main-1" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    }))
    .expect("a claim");
    lab.api::<PersistentVolumeClaim>().create(&PostParams::default(), &claim).await.expect("created");
    clusters.create(&PostParams::default(), &cluster("other", json!({}))).await.expect("created");
    lab.stalled("other", "ForeignVolume").await;
    assert!(lab.api::<StatefulSet>().get_opt("other-main").await.expect("answered").is_none());
    lab.api::<PersistentVolumeClaim>().delete("data-other-main-1", &DeleteParams::default()).await.expect("deleted");
    lab.wait::<StatefulSet>("other-main", "made", |it| it.is_some()).await;

    // Two clusters whose StatefulSets would have one name.
    clusters
        .create(&PostParams::default(), &cluster("events-main", json!({ "pools": [fixture::pool("x", 0)] })))
        .await
        .expect("created");
    lab.wait::<StatefulSet>("events-main-x", "made", |it| it.is_some()).await;
    clusters
        .create(&PostParams::default(), &cluster("third", json!({ "pools": [fixture::pool("main-x", 0)] })))
        .await
        .expect("created");
    lab.wait::<StatefulSet>("third-main-x", "made", |it| it.is_some()).await;
    let both = json!({ "spec": { "pools": [fixture::pool("main", 0), fixture::pool("main-x", 50)] } });
    let params = PatchParams::default();
    clusters.patch("events", &params, &Patch::Merge(&both)).await.expect("patched");
    lab.stalled("events", "Foreign").await;
    let owner = lab.get::<StatefulSet>("events-main-x").await.owner_references()[0].name.clone();
    assert_eq!(owner, "events-main");
    operator.stop().await;
    lab.end().await;
}

#[tokio::test]
async fn a_resource_that_is_made_again_finds_the_id_of_its_volumes() {
    let Some(lab) = lab().await else { return };
    let operator = lab.operator();
    let claims = lab.api::<PersistentVolumeClaim>();
    let claim = |name: &str, pool: &str, cluster_id: &str| -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "labels": {
                    "app.kubernetes.io/name": "chronik", "app.kubernetes.io/instance": "events",
                    "app.kubernetes.io/managed-by": "chronik-operator", "chronik.io/pool": pool,
                },
                "annotations": { "chronik.io/cluster-id": cluster_id, "chronik.io/first-node-id": "0" },
            },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        }))
        .expect("a claim")
    };
    claims.create(&PostParams::default(), &claim("data-events-main-0", "main", "kept")).await.expect("created");
    claims.create(&PostParams::default(), &claim("data-events-old-0", "old", "strange")).await.expect("created");
    let clusters = lab.api::<ChronikCluster>();
    clusters.create(&PostParams::default(), &cluster("events", json!({}))).await.expect("created");
    lab.stalled("events", "VolumesOfSeveralClusters").await;
    claims.delete("data-events-old-0", &DeleteParams::default()).await.expect("deleted");
    let made = lab.settled("events").await;
    let status = made.status.expect("a status");
    assert_eq!(status.cluster_id.as_deref(), Some("kept"));
    assert_eq!(status.initial_voters, [0, 1, 2]);
    let set = lab.wait::<StatefulSet>("events-main", "made", |it| it.is_some()).await.expect("there");
    let template = set.spec.expect("a spec").volume_claim_templates.expect("claims")[0].clone();
    assert_eq!(template.annotations()["chronik.io/cluster-id"], "kept");
    operator.stop().await;
    lab.end().await;
}

#[tokio::test]
async fn two_operators_take_turns() {
    let Some(lab) = lab().await else { return };
    let (first, second) = (lab.operator(), lab.operator());
    lab.api::<ChronikCluster>().create(&PostParams::default(), &cluster("events", json!({}))).await.expect("created");
    lab.wait::<StatefulSet>("events-main", "made", |it| it.is_some()).await;
    first.stop().await;
    lab.api::<Service>().delete("events-bootstrap", &DeleteParams::default()).await.expect("deleted");
    lab.wait::<Service>("events-bootstrap", "made again", |it| {
        it.is_some_and(|it| it.metadata.deletion_timestamp.is_none())
    })
    .await;
    second.stop().await;
    lab.end().await;
}
