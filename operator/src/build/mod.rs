//! What should exist: pure, from what a cluster is to be. Objects are JSON, as server-side apply takes them, and hold only
//! what the operator means to own.

pub mod config;
mod hash;
mod objects;
mod pod;
mod policy;
mod services;
mod stateful_set;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::crd::{ChronikClusterSpec, Pool};
use crate::lifecycle::Fill;
use crate::names;

pub use hash::{hash, template_hash};
pub use objects::{Kind, Object};

/// What a cluster is to be, all that has to be decided being decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// The resource's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID: everything is owned by it.
    pub uid: String,
    /// What its spec says.
    pub spec: ChronikClusterSpec,
    /// The brokers' image.
    pub image: String,
    /// The cluster's id.
    pub cluster_id: String,
    /// The nodes that form the cluster, in order: pool, ordinal, node id.
    pub initial_voters: Vec<InitialVoter>,
    /// The pools: those of the spec, and those that were removed from it and are being drained.
    pub pools: Vec<DesiredPool>,
    /// The dynamic settings that the operator has set, or is about to.
    pub owned_settings: BTreeSet<String>,
    /// How many pods the disruption budget lets others take down.
    pub max_unavailable: i32,
}

/// One of the nodes that form the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialVoter {
    /// Its id.
    pub node_id: i32,
    /// Its pod's name.
    pub pod: String,
}

/// A pool, and how large its StatefulSet is now.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredPool {
    /// The pool, as its spec is, or was.
    pub pool: Pool,
    /// The StatefulSet's replicas: never fewer than hold data.
    pub replicas: i32,
    /// From which ordinal on its nodes are being drained.
    pub surplus_from: Option<i32>,
    /// Which of its nodes are to be filled.
    pub fill: Option<Fill>,
    /// The size in the StatefulSet's template of claims, which can't be changed where there is one already.
    pub claim_size: String,
}

impl Desired {
    /// The reference by which everything is owned.
    fn owner(&self) -> Value {
        serde_json::json!([{
            "apiVersion": "chronik.io/v1alpha1",
            "kind": "ChronikCluster",
            "name": self.name,
            "uid": self.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }])
    }

    /// The metadata of an object of the whole cluster.
    fn metadata(&self, name: &str) -> Value {
        serde_json::json!({
            "name": name,
            "namespace": self.namespace,
            "labels": names::labels(&self.name),
            "ownerReferences": self.owner(),
        })
    }

    /// The addresses of the initial voters, as brokers take them.
    fn initial_voters(&self) -> String {
        let address = |voter: &InitialVoter| {
            let host = names::pod_host(&self.name, &self.namespace, &voter.pod);
            format!("{}@{host}:{}", voter.node_id, names::GRPC_PORT)
        };
        self.initial_voters.iter().map(address).collect::<Vec<_>>().join(",")
    }

    /// Where nodes that come later find the cluster.
    fn seeds(&self) -> String {
        format!("{}.{}.svc:{}", names::nodes_service(&self.name), self.namespace, names::GRPC_PORT)
    }

    /// Where clients begin.
    pub fn bootstrap_servers(&self) -> String {
        format!("{}.{}.svc:{}", names::bootstrap_service(&self.name), self.namespace, self.spec.kafka_port())
    }
}

/// All objects but the Secrets, in the order in which they are applied.
pub fn build(desired: &Desired) -> Vec<Object> {
    let mut objects =
        vec![policy::service_account(desired), policy::network_policy(desired), config::config_map(desired)];
    objects.extend(services::services(desired));
    objects.push(policy::disruption_budget(desired));
    objects.extend(desired.pools.iter().map(|pool| stateful_set::stateful_set(desired, pool)));
    objects
}

/// The template's hash of each pool: a pod with another one is outdated.
pub fn template_hashes(desired: &Desired) -> BTreeMap<String, String> {
    let hash = |pool: &DesiredPool| (pool.pool.name.clone(), template_hash(&pod::template(desired, pool)));
    desired.pools.iter().map(hash).collect()
}

/// A Secret's object; the certificates decide what is in it.
pub fn secret(desired: &Desired, name: &str, data: &BTreeMap<String, Vec<u8>>) -> Object {
    let data: BTreeMap<&str, Value> = data
        .iter()
        .map(|(key, value)| {
            let bytes = k8s_openapi::ByteString(value.clone());
            (key.as_str(), serde_json::to_value(bytes).expect("bytes can be written as base64"))
        })
        .collect();
    let value = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": desired.metadata(name),
        "type": "Opaque",
        "data": data,
    });
    Object::new(Kind::Secret, value)
}
