//! A pool: like nodes, one StatefulSet.

#![allow(unreachable_pub, reason = "what KubeSchema generates is pub")]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration, TopologySpreadConstraint};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Like nodes: one StatefulSet.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.firstNodeId + self.replicas <= 2147483647").message("The pool's last node id would be above 2147483647: lower firstNodeId."))]
pub struct Pool {
    /// Its name; it never changes: a pool of another name is another pool.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// How many nodes. Fewer than before: the last ones are drained, then removed.
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: i32,

    /// The node id of the pool's first pod; that of every other is this and its ordinal. It never changes.
    #[schemars(range(min = 0, max = 2_147_483_646))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("firstNodeId can't change: the volumes belong to node ids. Add a pool with other ids, and remove this one: it is drained first."))]
    pub first_node_id: i32,

    /// The volume of each node.
    pub storage: Storage,

    /// CPU and memory of each broker. At the start, requests: 100m and 256Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Where its pods run, and what is noted on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PoolTemplate>,
}

impl Pool {
    /// The node id of a pod.
    pub fn node_id(&self, ordinal: i32) -> i32 {
        self.first_node_id + ordinal
    }
}

/// A node's volume.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("(has(self.storageClassName) ? self.storageClassName : '') == (has(oldSelf.storageClassName) ? oldSelf.storageClassName : '')")
        .message("The storage class of a pool can't change: add a pool with the new class, and remove this one: it is drained first."),
)]
pub struct Storage {
    /// Its size, such as `100Gi`. It can grow, where the storage class allows that, and never shrink.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message("The size must be a quantity above zero, such as 100Gi."),
        validation = Rule::new("!isQuantity(self) || !isQuantity(oldSelf) || quantity(self).compareTo(quantity(oldSelf)) >= 0").message("A volume can't shrink: give the former size back, or add a pool with smaller volumes and remove this one: it is drained first."),
    )]
    pub size: String,

    /// Its storage class; the cluster's default without it. It never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// Where a pool's pods run, and what is noted on them. A change rolls the pool.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolTemplate {
    /// Further labels of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 50))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('chronik.io/') && !key.startsWith('app.kubernetes.io/') && !key.startsWith('apps.kubernetes.io/'))").message("Labels of chronik.io, app.kubernetes.io and apps.kubernetes.io are the operator's: pick other names."))]
    pub labels: BTreeMap<String, String>,
    /// Further annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 50))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('chronik.io/'))").message("Annotations of chronik.io are the operator's: pick other names."))]
    pub annotations: BTreeMap<String, String>,
    /// Labels that a machine must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Attraction to machines, and to or from other pods. Without it, pods of one cluster prefer different machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints of machines that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub tolerations: Vec<Toleration>,
    /// How the pods spread over zones or machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// The priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Secrets with which the image is pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<String>,
}
