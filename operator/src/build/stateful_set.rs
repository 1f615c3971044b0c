//! A pool's StatefulSet. Its controller makes pods and claims; the operator decides the order in which pods are replaced.

use serde_json::{Value, json};

use super::{Desired, DesiredPool, Kind, Object, pod, template_hash};
use crate::names;

pub(super) fn stateful_set(desired: &Desired, pool: &DesiredPool) -> Object {
    let mut template = pod::template(desired, pool);
    let hash = template_hash(&template);
    template["metadata"]["annotations"][names::TEMPLATE_HASH] = Value::String(hash);

    let name = &pool.pool.name;
    let mut metadata = desired.metadata(&names::stateful_set(&desired.name, name));
    metadata["labels"] = json!(names::pool_labels(&desired.name, name));
    let spec = serde_json::to_string(&pool.pool).expect("a pool came from JSON");
    metadata["annotations"] = json!({ names::POOL_SPEC: spec });
    if let Some(from) = pool.surplus_from {
        metadata["annotations"][names::SURPLUS_FROM] = json!(from.to_string());
    }
    if let Some(fill) = pool.fill {
        metadata["annotations"][names::FILL_FROM] = json!(fill.to_string());
    }
    let value = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata,
        "spec": {
            "replicas": pool.replicas,
            "serviceName": names::nodes_service(&desired.name),
            "podManagementPolicy": "Parallel",
            "updateStrategy": { "type": "OnDelete" },
            // The operator alone decides about volumes.
            "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Retain", "whenScaled": "Retain" },
            "revisionHistoryLimit": 2,
            "selector": { "matchLabels": names::pool_selector(&desired.name, name) },
            "template": template,
            "volumeClaimTemplates": [claim_template(desired, pool)],
        },
    });
    Object::new(Kind::StatefulSet, value)
}

/// It can never be changed: only what never changes is in it, but for the size.
fn claim_template(desired: &Desired, pool: &DesiredPool) -> Value {
    let mut claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": names::DATA_VOLUME,
            "labels": names::pool_labels(&desired.name, &pool.pool.name),
            "annotations": {
                names::CLUSTER_ID: desired.cluster_id,
                names::FIRST_NODE_ID: pool.pool.first_node_id.to_string(),
            },
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": pool.claim_size } },
        },
    });
    if let Some(class) = &pool.pool.storage.storage_class_name {
        claim["spec"]["storageClassName"] = Value::String(class.clone());
    }
    claim
}
