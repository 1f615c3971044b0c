//! The brokers' settings: which go into the file that they start with, and which are changed while they run.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Desired, Kind, Object};
use crate::names;

/// Where the file is mounted.
pub(super) const FOLDER: &str = "/etc/chronik/config";
/// Its name.
pub(super) const FILE: &str = "chronik.yaml";

/// Kafka's settings that change while brokers run, for all of them; written by a test of the broker.
const DYNAMIC: &str = include_str!("dynamic-settings.txt");

/// Whether a setting changes while brokers run.
fn is_dynamic(name: &str) -> bool {
    DYNAMIC.lines().any(|line| line == name)
}

/// The settings that brokers start with.
pub fn at_start(config: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    config.iter().filter(|(name, _)| !is_dynamic(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The settings that are set while they run.
pub fn dynamic(config: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    config.iter().filter(|(name, _)| is_dynamic(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The file that brokers start with.
pub(super) fn file(desired: &Desired) -> String {
    let settings = at_start(&desired.spec.config);
    serde_yaml::to_string(&json!({ "config": settings })).expect("a map of texts can be written")
}

pub(super) fn config_map(desired: &Desired) -> Object {
    let owned: Vec<&str> = desired.owned_settings.iter().map(String::as_str).collect();
    let mut metadata = desired.metadata(&names::config_map(&desired.name));
    metadata["annotations"] = json!({});
    if !owned.is_empty() {
        metadata["annotations"][names::OWNED_SETTINGS] = Value::String(owned.join(","));
    }
    let value = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": { FILE: file(desired) },
    });
    Object::new(Kind::ConfigMap, value)
}
