//! What objects, labels and annotations are called.

use std::collections::BTreeMap;

/// The operator, as `managed-by` and as field manager.
pub const MANAGER: &str = "chronik-operator";
/// Which cluster an object belongs to.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Who keeps it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Which pool it belongs to.
pub const POOL: &str = "chronik.io/pool";
/// The pod's ordinal, which the StatefulSet controller sets.
pub const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// On a StatefulSet: the pool as its spec was, so that a pool that was removed from the spec can be drained.
pub const POOL_SPEC: &str = "chronik.io/pool-spec";
/// On a pod: the hash of the template that it was made from.
pub const TEMPLATE_HASH: &str = "chronik.io/template-hash";
/// On every object: the hash of what was applied last, so that fields that went are noticed.
pub const APPLIED: &str = "chronik.io/applied";
/// On a volume claim: the cluster whose data it holds.
pub const CLUSTER_ID: &str = "chronik.io/cluster-id";
/// On a volume claim: the id of the first node of its pool.
pub const FIRST_NODE_ID: &str = "chronik.io/first-node-id";
/// On a StatefulSet: from this ordinal on its nodes are surplus and are being drained.
pub const SURPLUS_FROM: &str = "chronik.io/surplus-from";
/// On a StatefulSet: from this ordinal on its nodes are to be filled; `,begun` follows once the moves are planned.
pub const FILL_FROM: &str = "chronik.io/fill-from";
/// On a pod: the rack (zone) that it stands in.
pub const RACK: &str = "chronik.io/rack";
/// On a pod or a volume claim, set by a person: the volume is lost; replace it by an empty one.
pub const REPLACE_VOLUME: &str = "chronik.io/replace-volume";
/// On a ConfigMap: the dynamic settings that the operator has set, to be reset when they go from the spec.
pub const OWNED_SETTINGS: &str = "chronik.io/owned-settings";

/// The volume of a node's data, in the template of claims.
pub const DATA_VOLUME: &str = "data";
/// The container of the broker.
pub const BROKER: &str = "chronik";

/// WAL streaming between nodes.
pub const WAL_PORT: i32 = 9291;
/// Raft and the admin service.
pub const GRPC_PORT: i32 = 9391;
/// Health and metrics.
pub const HTTP_PORT: i32 = 9491;

/// The headless Service, in which every pod has a name.
pub fn nodes_service(cluster: &str) -> String {
    format!("{cluster}-nodes")
}

/// The Service that clients begin with.
pub fn bootstrap_service(cluster: &str) -> String {
    format!("{cluster}-bootstrap")
}

/// A pool's StatefulSet.
pub fn stateful_set(cluster: &str, pool: &str) -> String {
    format!("{cluster}-{pool}")
}

/// The pod of an ordinal.
pub fn pod(cluster: &str, pool: &str, ordinal: i32) -> String {
    format!("{cluster}-{pool}-{ordinal}")
}

/// The claim of a pod's data.
pub fn claim(pod: &str) -> String {
    format!("{DATA_VOLUME}-{pod}")
}

/// The ConfigMap of the broker's settings.
pub fn config_map(cluster: &str) -> String {
    format!("{cluster}-config")
}

/// The Secret of the certificate authority.
pub fn authority_secret(cluster: &str) -> String {
    format!("{cluster}-authority")
}

/// The Secret of the operator's own certificate.
pub fn operator_secret(cluster: &str) -> String {
    format!("{cluster}-operator-tls")
}

/// The Secret of the certificates of a pool's nodes.
pub fn pool_secret(cluster: &str, pool: &str) -> String {
    format!("{cluster}-{pool}-tls")
}

/// The host that a pod is reached at, from every namespace.
pub fn pod_host(cluster: &str, namespace: &str, pod: &str) -> String {
    format!("{pod}.{}.{namespace}.svc", nodes_service(cluster))
}

/// What selects all pods of a cluster.
pub fn selector(cluster: &str) -> BTreeMap<String, String> {
    [("app.kubernetes.io/name", "chronik"), (INSTANCE, cluster)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// What selects the pods of a pool.
pub fn pool_selector(cluster: &str, pool: &str) -> BTreeMap<String, String> {
    let mut labels = selector(cluster);
    labels.insert(POOL.to_owned(), pool.to_owned());
    labels
}

/// The labels of every object of a cluster.
pub fn labels(cluster: &str) -> BTreeMap<String, String> {
    let mut labels = selector(cluster);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

/// The labels of every object of a pool.
pub fn pool_labels(cluster: &str, pool: &str) -> BTreeMap<String, String> {
    let mut labels = labels(cluster);
    labels.insert(POOL.to_owned(), pool.to_owned());
    labels
}
