//! `ChronikCluster`: one Kafka-compatible cluster.

#![allow(unreachable_pub, reason = "what KubeSchema generates is pub")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pool::Pool;
use super::status::ChronikClusterStatus;

/// What a cluster is to be.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "chronik.io",
    version = "v1alpha1",
    kind = "ChronikCluster",
    plural = "chronikclusters",
    shortname = "chronik",
    category = "all",
    namespaced,
    status = "ChronikClusterStatus",
    derive = "PartialEq",
    doc = "A Kafka-compatible cluster of Chronik brokers.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.ready",
        description = "Nodes that are ready, of those that there are to be"
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.version",
        description = "What every node runs"
    ),
    printcolumn(
        name = "Operation",
        type_ = "string",
        json_path = ".status.operation.kind",
        description = "What is under way"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("The cluster's name becomes part of host names: lower-case letters, digits and '-', beginning with a letter."),
    validation = Rule::new("self.spec.pools.all(p, size(self.metadata.name) + size(p.name) + 1 <= 52)")
        .message("The cluster's name and a pool's name together may have 51 characters: they name the StatefulSet."),
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "self.pools.all(a, self.pools.all(b, a.name == b.name \
         || a.firstNodeId + a.replicas <= b.firstNodeId || b.firstNodeId + b.replicas <= a.firstNodeId))"
    ).message("Two pools would have the same node ids: each has those from its firstNodeId on, one a replica. Give the later pool a higher firstNodeId."),
    validation = Rule::new("self.pools.map(p, p.replicas).sum() >= self.metadataVoters")
        .message("There are fewer replicas than metadataVoters: add replicas, or ask for fewer voters (1, 3 or 5)."),
)]
pub struct ChronikClusterSpec {
    /// Groups of like nodes, one StatefulSet each.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub pools: Vec<Pool>,

    /// How many nodes vote on the metadata: 1, 3 or 5. All others follow. One of three and two of five may fail.
    #[serde(default = "three")]
    #[x_kube(validation = Rule::new("self in [1, 3, 5]").message("metadataVoters must be 1, 3 or 5: an even number tolerates no more failures than one less."))]
    pub metadata_voters: i32,

    /// Broker settings under Kafka's names. Those that Kafka calls dynamic change without a restart, others roll the nodes.
    /// The operator owns exactly the keys that stand here: one that is removed is reset.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    #[schemars(inner(length(max = 4096)))]
    #[x_kube(validation = Rule::new(
        "self.all(key, !(key in ['node.id', 'broker.id', 'broker.rack', 'listeners', 'advertised.listeners', 'log.dir', 'log.dirs']))"
    ).message("Node ids, racks, listeners and folders are the operator's: remove node.id, broker.id, broker.rack, listeners, advertised.listeners, log.dir and log.dirs from config."))]
    pub config: BTreeMap<String, String>,

    /// Where Kafka clients are served. One plaintext listener inside the Kubernetes cluster is what there is today.
    #[serde(default = "internal_listener")]
    #[schemars(length(min = 1, max = 1))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub listeners: Vec<Listener>,

    /// The brokers' image. Without it the operator's own default at the cluster's creation is taken, and kept in
    /// `status.image`: an upgrade of the operator changes no cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// What becomes of the volumes when the resource is deleted, or nodes are: `Retain` keeps them, and a resource that is
    /// created again under the same name finds its data; `Delete` removes them.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Whether partitions move to nodes that were added. `Manual`: only when somebody asks for it. `OnScale`: nodes that are
    /// added get their share, once, when all of them have joined.
    #[serde(default)]
    pub rebalance: Rebalance,
}

/// What becomes of volumes that are no longer used.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// They stay.
    #[default]
    Retain,
    /// They go with what used them.
    Delete,
}

/// When partitions move by themselves.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rebalance {
    /// Only when asked.
    #[default]
    Manual,
    /// To nodes that are added.
    OnScale,
}

/// Where Kafka clients are served.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// Its name: that of the port in Services.
    #[schemars(length(min = 1, max = 15), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("!(self in ['wal', 'grpc', 'http'])").message("A listener can't be called wal, grpc or http: those are ports of the nodes."))]
    pub name: String,
    /// From where it is reached.
    #[serde(rename = "type", default)]
    pub kind: ListenerType,
    /// The port that clients connect to.
    #[serde(default = "kafka_port")]
    #[schemars(range(min = 1024, max = 65535))]
    #[x_kube(validation = Rule::new("!(self in [9291, 9391, 9491])").message("The ports 9291, 9391 and 9491 are taken: nodes use them among themselves and for health."))]
    pub port: i32,
}

/// From where a listener is reached.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenerType {
    /// From inside the Kubernetes cluster.
    #[default]
    Internal,
}

impl ChronikClusterSpec {
    /// The port of Kafka clients. A spec without listeners, which only a client that knows no defaults can make, has the
    /// default one.
    pub fn kafka_port(&self) -> i32 {
        self.listeners.first().map_or_else(kafka_port, |listener| listener.port)
    }

    /// The name of that port.
    pub fn kafka_port_name(&self) -> &str {
        self.listeners.first().map_or("kafka", |listener| &listener.name)
    }

    /// How many nodes there are to be.
    pub fn replicas(&self) -> i32 {
        self.pools.iter().map(|pool| pool.replicas).sum()
    }
}

fn three() -> i32 {
    3
}

fn kafka_port() -> i32 {
    9092
}

fn internal_listener() -> Vec<Listener> {
    vec![Listener { name: "kafka".to_owned(), kind: ListenerType::Internal, port: kafka_port() }]
}
