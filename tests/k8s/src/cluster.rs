//! A `ChronikCluster` under test.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kube::{Namespace, condition, wait_for};

/// How long a change may take that moves or restarts every node.
pub const PATIENCE: Duration = Duration::from_mins(4);

/// A cluster; deleted with its volumes when dropped, unless the test fails.
#[derive(Debug)]
pub struct Cluster {
    /// Where it is.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
}

/// The spec of a small cluster of so many nodes in one pool.
pub fn spec(nodes: i32) -> Value {
    json!({
        "pools": [{ "name": "main", "replicas": nodes, "firstNodeId": 0, "storage": { "size": "1Gi" } }],
        "metadataVoters": if nodes < 3 { 1 } else { 3 },
        "config": {
            "default.replication.factor": "3",
            "min.insync.replicas": "2",
            "offsets.topic.num.partitions": "4",
        },
        "deletionPolicy": "Delete",
    })
}

impl Cluster {
    /// Creates it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become so.
    pub fn start(namespace: &Namespace, name: &str, spec: &Value) -> Self {
        let cluster = Self::create(namespace, name, spec);
        cluster.await_settled();
        cluster
    }

    /// Creates it.
    ///
    /// # Panics
    /// When it is refused.
    pub fn create(namespace: &Namespace, name: &str, spec: &Value) -> Self {
        let cluster = Self { namespace: namespace.clone(), name: name.to_owned() };
        cluster.apply(spec);
        cluster
    }

    /// Applies a spec.
    ///
    /// # Panics
    /// When it is refused.
    pub fn apply(&self, spec: &Value) {
        let object = json!({
            "apiVersion": "chronik.io/v1alpha1",
            "kind": "ChronikCluster",
            "metadata": { "name": self.name },
            "spec": spec,
        });
        self.namespace.apply(&object.to_string());
    }

    /// Its resource; `null` where there is none.
    pub fn resource(&self) -> Value {
        self.namespace.get("chronikcluster", &self.name).unwrap_or_default()
    }

    /// Whether the operator has seen the newest spec, made it so, and has nothing more to do.
    pub fn is_settled(resource: &Value) -> bool {
        resource["status"]["observedGeneration"] == resource["metadata"]["generation"]
            && condition(resource, "Ready") == Some("True")
            && condition(resource, "Reconciling") != Some("True")
            && condition(resource, "DataSafe") == Some("True")
            && resource["status"]["operation"].is_null()
    }

    /// Waits until the newest spec is what is.
    ///
    /// # Panics
    /// When it does not become so in time.
    pub fn await_settled(&self) -> Value {
        self.await_resource("it is settled", PATIENCE, Self::is_settled)
    }

    /// Waits until its resource is so.
    ///
    /// # Panics
    /// When it is not in time: with what it is.
    pub fn await_resource(&self, what: &str, within: Duration, mut is_so: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(&format!("{}: {what}", self.name), within, || {
                last = self.resource();
                is_so(&last).then(|| last.clone())
            })
        }));
        found.unwrap_or_else(|why| {
            eprintln!("{}: {:#}", self.name, last["status"]);
            std::panic::resume_unwind(why)
        })
    }

    /// What selects its objects.
    pub fn selector(&self) -> String {
        format!("app.kubernetes.io/name=chronik,app.kubernetes.io/instance={}", self.name)
    }

    /// Its pods.
    pub fn pods(&self) -> Vec<Value> {
        self.namespace.list("pods", &self.selector())
    }

    /// The name of the pod of an ordinal.
    pub fn pod(&self, ordinal: usize) -> String {
        format!("{}-main-{ordinal}", self.name)
    }

    /// The UIDs of its pods by name.
    pub fn uids(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut uids: Vec<_> =
            self.pods().iter().map(|pod| (text(&pod["metadata"]["name"]), text(&pod["metadata"]["uid"]))).collect();
        uids.sort();
        uids
    }

    /// The names of its volume claims.
    pub fn claims(&self) -> Vec<String> {
        let claims = self.namespace.list("persistentvolumeclaims", &self.selector());
        claims.iter().filter_map(|claim| claim["metadata"]["name"].as_str().map(str::to_owned)).collect()
    }

    /// Where clients inside the cluster begin.
    pub fn bootstrap(&self) -> String {
        format!("{}-bootstrap.{}.svc:9092", self.name, self.namespace.name())
    }

    /// Runs `chronik` in one of its pods.
    ///
    /// # Panics
    /// When that fails.
    pub fn chronik(&self, ordinal: usize, arguments: &[&str]) -> String {
        let command = [&["/chronik"], arguments].concat();
        let pod = self.pod(ordinal);
        let exec = [&["exec", &pod, "-c", "chronik", "--"], command.as_slice()].concat();
        self.namespace.kubectl(&exec)
    }

    /// Deletes it and waits until its pods are gone. Its volumes stay or go by its policy.
    ///
    /// # Panics
    /// When it does not go.
    pub fn delete(&self) {
        self.namespace.kubectl(&["delete", "chronikcluster", &self.name, "--ignore-not-found", "--timeout", "60s"]);
        wait_for("its pods are gone", PATIENCE, || self.pods().is_empty().then_some(()));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} is left as it is in {}", self.name, self.namespace.name());
            return;
        }
        self.delete();
        let claims = self.claims();
        if !claims.is_empty() {
            let names: Vec<&str> = claims.iter().map(String::as_str).collect();
            self.namespace
                .attempt(&[&["delete", "persistentvolumeclaims", "--wait=false"], names.as_slice()].concat(), "");
        }
    }
}
