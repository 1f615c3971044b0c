//! Objects as server-side apply takes them.

use serde_json::Value;

use super::hash::hash;
use crate::names;

/// The kinds of objects that make a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Who the pods are.
    ServiceAccount,
    /// Who reaches them.
    NetworkPolicy,
    /// Settings.
    ConfigMap,
    /// Certificates.
    Secret,
    /// Names and addresses.
    Service,
    /// How many may be down.
    PodDisruptionBudget,
    /// Pods.
    StatefulSet,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ServiceAccount,
        Self::NetworkPolicy,
        Self::ConfigMap,
        Self::Secret,
        Self::Service,
        Self::PodDisruptionBudget,
        Self::StatefulSet,
    ];

    /// Group, version, kind, plural.
    pub const fn api(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::PodDisruptionBudget => ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::StatefulSet => ("apps", "v1", "StatefulSet", "statefulsets"),
        }
    }
}

/// One object that should exist.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// All of it, with the hash of the rest in an annotation.
    pub value: Value,
}

impl Object {
    /// Takes a whole object and notes its hash on it.
    ///
    /// # Panics
    /// When it has no metadata: a builder's mistake.
    pub(super) fn new(kind: Kind, mut value: Value) -> Self {
        let applied = hash(&value);
        let metadata = value["metadata"].as_object_mut().expect("every object is built with metadata");
        let name = metadata["name"].as_str().expect("every object is built with a name").to_owned();
        let annotations = metadata.entry("annotations").or_insert_with(|| serde_json::json!({}));
        annotations[names::APPLIED] = Value::String(applied);
        Self { kind, name, value }
    }
}
