//! Hashes of objects: of their JSON, whose maps are in the order of their keys.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Hexadecimal digits of a hash: enough for the templates of one pool, and a label's value.
const DIGITS: usize = 16;

/// The settings of a pod that differ with the cluster's history, and that a running broker has no use for.
const NOT_IN_THE_HASH: [&str; 2] = ["CHRONIK_INITIAL_VOTERS", "CHRONIK_SEEDS"];

/// The hash of any JSON.
pub fn hash(value: &Value) -> String {
    let digest = Sha256::digest(value.to_string().as_bytes());
    let mut text = format!("{digest:x}");
    text.truncate(DIGITS);
    text
}

/// The hash of a pod's template, by which an outdated pod is told. What only a first start needs is left out.
pub fn template_hash(template: &Value) -> String {
    let mut template = template.clone();
    let containers = template["spec"]["containers"].as_array_mut();
    for container in containers.into_iter().flatten() {
        if let Some(variables) = container["env"].as_array_mut() {
            variables.retain(|variable| !NOT_IN_THE_HASH.iter().any(|name| variable["name"] == *name));
        }
    }
    hash(&template)
}
