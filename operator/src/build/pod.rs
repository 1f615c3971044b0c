//! A pool's pod template: all that decides whether a pod is outdated.

use serde_json::{Value, json};

use super::{Desired, DesiredPool, config, hash};
use crate::crd::PoolTemplate;
use crate::names;

/// The user and group of the broker: nobody's in particular, not root.
const USER: i64 = 65532;
/// Seconds that a broker has to stop in order.
const GRACE_SECONDS: i64 = 60;
/// Where the volume is mounted. The data is in a folder of it, since file systems put things of their own at its root.
const VOLUME: &str = "/var/lib/chronik";
/// What the pod knows of itself: its rack.
const POD: &str = "/etc/chronik/pod";
/// The folder with this node's certificate alone, in memory.
const TLS: &str = "/etc/chronik/tls";
/// The certificates of all the pool's nodes. Only the container that picks one of them sees these.
const POOL_TLS: &str = "/etc/chronik/pool-tls";

pub(super) fn template(desired: &Desired, pool: &DesiredPool) -> Value {
    let wanted = pool.pool.template.clone().unwrap_or_default();
    let mut labels = wanted.labels.clone();
    labels.extend(names::pool_labels(&desired.name, &pool.pool.name));
    let mut annotations = wanted.annotations.clone();
    annotations.insert("chronik.io/config-hash".to_owned(), hash(&Value::String(config::file(desired))));
    json!({
        "metadata": { "labels": labels, "annotations": annotations },
        "spec": spec(desired, pool, &wanted),
    })
}

fn spec(desired: &Desired, pool: &DesiredPool, wanted: &PoolTemplate) -> Value {
    let rack = format!("metadata.annotations['{}']", names::RACK);
    let mut spec = json!({
        "serviceAccountName": desired.name,
        "automountServiceAccountToken": false,
        // Variables of Services named `chronik-…` would be taken for settings.
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "affinity": affinity(desired, wanted),
        "initContainers": [certificate_container(desired)],
        "containers": [broker_container(desired, pool)],
        "volumes": [
            { "name": "config", "configMap": { "name": names::config_map(&desired.name) } },
            { "name": "pool-tls", "secret": { "secretName": names::pool_secret(&desired.name, &pool.pool.name) } },
            { "name": "tls", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
            { "name": "pod", "downwardAPI": { "items": [
                { "path": "rack", "fieldRef": { "apiVersion": "v1", "fieldPath": rack } },
            ] } },
        ],
    });
    if !wanted.node_selector.is_empty() {
        spec["nodeSelector"] = json!(wanted.node_selector);
    }
    if !wanted.tolerations.is_empty() {
        spec["tolerations"] = json!(wanted.tolerations);
    }
    if !wanted.topology_spread_constraints.is_empty() {
        spec["topologySpreadConstraints"] = json!(wanted.topology_spread_constraints);
    }
    if let Some(class) = &wanted.priority_class_name {
        spec["priorityClassName"] = json!(class);
    }
    if !wanted.image_pull_secrets.is_empty() {
        let secrets = wanted.image_pull_secrets.iter().map(|name| json!({ "name": name }));
        spec["imagePullSecrets"] = secrets.collect();
    }
    spec
}

/// What was asked for, or else: different machines, where there are enough.
fn affinity(desired: &Desired, wanted: &PoolTemplate) -> Value {
    if let Some(affinity) = &wanted.affinity {
        return json!(affinity);
    }
    json!({ "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "podAffinityTerm": {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": { "matchLabels": names::selector(&desired.name) },
        },
    }] } })
}

fn confined() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    })
}

fn pod_name() -> Value {
    json!({ "name": "POD_NAME", "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.name" } } })
}

/// Keeps this node's certificate, out of those of the pool, in the folder that the broker sees: so the broker's process,
/// which faces the network, never has the key of another node. It runs beside the broker and takes up new certificates.
fn certificate_container(desired: &Desired) -> Value {
    json!({
        "name": "certificate",
        "image": desired.image,
        "restartPolicy": "Always",
        "args": ["certificate", "--from", POOL_TLS, "--name", "$(POD_NAME)", "--into", TLS],
        "env": [pod_name()],
        // The broker starts when its certificate is there.
        "startupProbe": {
            "exec": { "command": ["/chronik", "certificate", "--check", "--into", TLS] },
            "periodSeconds": 1,
            "failureThreshold": 600,
        },
        "resources": { "requests": { "cpu": "1m", "memory": "8Mi" }, "limits": { "memory": "64Mi" } },
        "securityContext": confined(),
        "volumeMounts": [
            { "name": "pool-tls", "mountPath": POOL_TLS, "readOnly": true },
            { "name": "tls", "mountPath": TLS },
        ],
    })
}

fn broker_container(desired: &Desired, pool: &DesiredPool) -> Value {
    let resources = pool
        .pool
        .resources
        .as_ref()
        .map_or_else(|| json!({ "requests": { "cpu": "100m", "memory": "256Mi" } }), |resources| json!(resources));
    json!({
        "name": names::BROKER,
        "image": desired.image,
        "args": ["start", "--config", format!("{}/{}", config::FOLDER, config::FILE)],
        "env": environment(desired, pool),
        "ports": [
            { "name": desired.spec.kafka_port_name(), "containerPort": desired.spec.kafka_port(), "protocol": "TCP" },
            { "name": "wal", "containerPort": names::WAL_PORT, "protocol": "TCP" },
            { "name": "grpc", "containerPort": names::GRPC_PORT, "protocol": "TCP" },
            { "name": "http", "containerPort": names::HTTP_PORT, "protocol": "TCP" },
        ],
        "resources": resources,
        // Why it ended, in its last line, is told by the cluster's condition.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": confined(),
        // Whether the process has come up; what it recovers may take as long as it needs.
        "startupProbe": probe("/livez", 1, 600),
        // Whether it makes progress: no node is restarted for being slow.
        "livenessProbe": probe("/livez", 10, 6),
        // Whether it takes part in its cluster. It stays ready when the cluster loses its leader.
        "readinessProbe": probe("/readyz", 2, 3),
        "volumeMounts": [
            { "name": names::DATA_VOLUME, "mountPath": VOLUME },
            { "name": "config", "mountPath": config::FOLDER, "readOnly": true },
            { "name": "tls", "mountPath": TLS, "readOnly": true },
            { "name": "pod", "mountPath": POD, "readOnly": true },
        ],
    })
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Value {
    json!({
        "httpGet": { "path": path, "port": "http" },
        "periodSeconds": period_seconds,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    })
}

/// Who the broker is comes from where its pod is in the StatefulSet, and from nowhere else.
fn environment(desired: &Desired, pool: &DesiredPool) -> Value {
    let host = names::pod_host(&desired.name, &desired.namespace, "$(POD_NAME)");
    let index = format!("metadata.labels['{}']", names::POD_INDEX);
    let value = |name: &str, value: String| json!({ "name": name, "value": value });
    json!([
        pod_name(),
        value("CHRONIK_POOL_FIRST_NODE_ID", pool.pool.first_node_id.to_string()),
        { "name": "CHRONIK_POD_INDEX", "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": index } } },
        value("CHRONIK_CLUSTER_ID", desired.cluster_id.clone()),
        value("CHRONIK_INITIAL_VOTERS", desired.initial_voters()),
        value("CHRONIK_SEEDS", desired.seeds()),
        value("CHRONIK_KAFKA_ADDR", format!("0.0.0.0:{}", desired.spec.kafka_port())),
        value("CHRONIK_ADVERTISED_ADDR", format!("{host}:{}", desired.spec.kafka_port())),
        value("CHRONIK_GRPC_ADVERTISED_ADDR", format!("{host}:{}", names::GRPC_PORT)),
        value("CHRONIK_BROKER_RACK_FILE", format!("{POD}/rack")),
        value("CHRONIK_TLS_DIR", TLS.to_owned()),
        value("CHRONIK_DATA_DIR", format!("{VOLUME}/data")),
    ])
}
