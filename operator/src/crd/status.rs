//! What a cluster is, as its resource tells it. Conditions are those of kstatus, so that `kubectl wait` and GitOps tools
//! understand them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The cluster is as its spec says, and serves.
pub const READY: &str = "Ready";
/// The operator is making it so.
pub const RECONCILING: &str = "Reconciling";
/// The operator can't go on until somebody does something: the message says what.
pub const STALLED: &str = "Stalled";
/// Every partition has all its replicas in sync.
pub const DATA_SAFE: &str = "DataSafe";

/// What a cluster is.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChronikClusterStatus {
    /// The generation of the spec that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Reconciling`, `Stalled`, `DataSafe`.
    pub conditions: Vec<Condition>,
    /// Nodes that are ready, of those that there are to be, such as `3/3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// The id that every connection between nodes is checked against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Where Kafka clients connect to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_servers: Option<String>,
    /// The Raft group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<MetadataStatus>,
    /// The nodes, by id.
    pub nodes: Vec<NodeStatus>,
    /// What is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationStatus>,
    /// The version that every node runs; while they differ, the lowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The image that was chosen at creation, for a spec that names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The nodes that formed the cluster. They never change.
    pub initial_voters: Vec<i32>,
    /// An image that is newer than the one in use, which this operator would choose today.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade_available: Option<String>,
}

/// The Raft group.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetadataStatus {
    /// The node that leads it; absent while none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<i32>,
    /// Its term.
    pub term: i64,
    /// The nodes that vote.
    pub voters: Vec<i32>,
    /// The version of what nodes write to each other.
    pub cluster_version: i32,
}

/// One node.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// Its id.
    pub node_id: i32,
    /// Its pod.
    pub pod: String,
    /// Whether the pod is ready.
    pub ready: bool,
    /// Whether it votes on the metadata.
    pub voter: bool,
    /// What it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Partitions that it leads.
    pub leaders: i32,
    /// Its replicas that are not in sync.
    pub under_replicated: i32,
}

/// What is under way.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OperationStatus {
    /// `Forming`, `Roll`, `ScaleUp`, `ScaleDown`, `VoterChange`, `VolumeGrowth`, `VolumeReplacement`, `Upgrade`, `Configure`.
    pub kind: String,
    /// What is being done, in words, with the node that it is done to.
    pub step: String,
    /// How far it is, such as `2/5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Partitions that no order of stops could keep available (one replica, or as many as min.insync.replicas): a roll
    /// does not wait for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unavoidable: Vec<String>,
}
