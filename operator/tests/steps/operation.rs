//! The operations, and how each is performed.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::load::TOPIC;
use super::{BETWEEN, Walk};

/// What happens to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Creation,
    ImageRoll,
    ConfigRoll,
    ScaleUp,
    ScaleDown,
    VolumeGrowth,
    PodDeletes,
    Kills,
}

impl Operation {
    /// In the order in which they can be performed.
    pub(super) const ALL: [Self; 8] = [
        Self::Creation,
        Self::ImageRoll,
        Self::ConfigRoll,
        Self::ScaleUp,
        Self::ScaleDown,
        Self::VolumeGrowth,
        Self::PodDeletes,
        Self::Kills,
    ];

    /// Its name, and how many writes it takes the operator at least.
    fn described(self) -> (&'static str, usize) {
        match self {
            Self::Creation => ("creation", 11),
            Self::ImageRoll => ("image roll", 8),
            Self::ConfigRoll => ("config roll", 9),
            Self::ScaleUp => ("scale from 3 to 5, and fill", 10),
            Self::ScaleDown => ("scale from 5 to 3", 8),
            Self::VolumeGrowth => ("volume growth", 5),
            Self::PodDeletes => ("pod deletes", 3),
            Self::Kills => ("kill -9 of brokers", 3),
        }
    }

    pub(super) fn name(self) -> &'static str {
        self.described().0
    }

    /// The writes that it takes the operator at least.
    pub(super) fn steps(self) -> usize {
        self.described().1
    }

    /// Performs it, and waits until all is as it should be.
    pub(super) async fn perform(self, walk: &Walk) {
        match self {
            Self::Creation => walk.create().await,
            Self::ImageRoll => return roll(walk, "/image", "chronik.invalid/next:0").await,
            Self::ConfigRoll => return roll(walk, "/config/num.partitions", "3").await,
            // The new nodes are filled.
            Self::ScaleUp => walk.change("/pools/0/replicas", json!(5)).await,
            Self::ScaleDown => {
                // What is drained has to hold something.
                walk.chronik(&["topic", "reassign", TOPIC, "--to", "2,3,4"]).await;
                walk.change("/pools/0/replicas", json!(3)).await;
            }
            Self::VolumeGrowth => walk.change("/pools/0/storage/size", json!("2Gi")).await,
            Self::PodDeletes => return pod_deletes(walk).await,
            Self::Kills => return kills(walk).await,
        }
        walk.settled().await;
        let nodes = if self == Self::ScaleUp { 5 } else { 3 };
        walk.until("its nodes serve", async || walk.serving(nodes).is_some() && walk.serving(nodes + 1).is_none())
            .await;
        if self == Self::ScaleUp {
            let held = holders(walk).await;
            assert_eq!(held, BTreeSet::from([0, 1, 2, 3, 4]), "every node has its share");
        }
    }
}

/// The nodes that hold partitions of the load's topic.
async fn holders(walk: &Walk) -> BTreeSet<i64> {
    let described = walk.chronik(&["topic", "describe", TOPIC, "--output", "json"]).await;
    let described: Value = serde_json::from_str(&described).expect("JSON");
    let partitions = described["partitions"].as_array().expect("partitions");
    partitions.iter().flat_map(|it| it["replicas"].as_array().expect("ids")).filter_map(Value::as_i64).collect()
}

/// Every node is replaced.
async fn roll(walk: &Walk, path: &str, value: &str) {
    let before = walk.serving(3).expect("all nodes serve");
    walk.change(path, json!(value)).await;
    walk.settled().await;
    walk.until("every node is another", async || {
        walk.serving(3).is_some_and(|now| now.iter().zip(&before).all(|(now, before)| now.0 != before.0))
    })
    .await;
}

async fn pod_deletes(walk: &Walk) {
    for node in 0..3 {
        fault(walk, async || {
            let pod = walk.place.pod(node);
            walk.lab.api::<Pod>().delete(&pod, &DeleteParams::default()).await.expect("deleted");
        })
        .await;
    }
}

async fn kills(walk: &Walk) {
    for node in 0..3 {
        fault(walk, async || walk.machine.kill(node)).await;
    }
}

/// Something that befalls one node: the operator notices, and the load goes on.
async fn fault(walk: &Walk, befalls: impl AsyncFnOnce()) {
    let (before, (writes, _)) = (walk.serving(3).expect("all nodes serve"), walk.writes.counts());
    befalls().await;
    walk.until("another process serves", async || walk.serving(3).is_some_and(|now| now != before)).await;
    walk.until("the operator has noticed", async || walk.writes.counts().0 > writes).await;
    walk.settled().await;
    walk.load.as_ref().expect("the load runs").goes_on(BETWEEN).await;
}
