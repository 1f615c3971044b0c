//! Who the pods are, who reaches them, and how many of them others may take down.

use serde_json::json;

use super::{Desired, Kind, Object};
use crate::names;

pub(super) fn service_account(desired: &Desired) -> Object {
    let value = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": desired.metadata(&desired.name),
        "automountServiceAccountToken": false,
    });
    Object::new(Kind::ServiceAccount, value)
}

/// Clients and collectors from everywhere; the links between nodes from nodes, and the admin service from operators, too.
/// Certificates prove who they are: this keeps others from knocking.
pub(super) fn network_policy(desired: &Desired) -> Object {
    let port = |name: &str| json!({ "port": name, "protocol": "TCP" });
    let value = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": desired.metadata(&desired.name),
        "spec": {
            "podSelector": { "matchLabels": names::selector(&desired.name) },
            "policyTypes": ["Ingress"],
            "ingress": [
                { "ports": [port(desired.spec.kafka_port_name()), port("http")] },
                {
                    "from": [{ "podSelector": { "matchLabels": names::selector(&desired.name) } }],
                    "ports": [port("wal"), port("grpc")],
                },
                {
                    "from": [{
                        "namespaceSelector": {},
                        "podSelector": { "matchLabels": { "app.kubernetes.io/name": names::MANAGER } },
                    }],
                    "ports": [port("grpc")],
                },
            ],
        },
    });
    Object::new(Kind::NetworkPolicy, value)
}

/// One at a time while all data is safe, else none. Pods that don't serve are nobody's loss.
pub(super) fn disruption_budget(desired: &Desired) -> Object {
    let value = json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": desired.metadata(&desired.name),
        "spec": {
            "maxUnavailable": desired.max_unavailable,
            "selector": { "matchLabels": names::selector(&desired.name) },
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    });
    Object::new(Kind::PodDisruptionBudget, value)
}
