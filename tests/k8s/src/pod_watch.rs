//! Who is down, and how many at once, as the API server tells it: nothing that is over within a second goes unseen.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use serde_json::Value;

use crate::Cluster;
use crate::kube::condition;

/// What was seen.
#[derive(Debug, Default)]
struct Seen {
    /// By pod: whether it serves.
    up: BTreeMap<String, bool>,
    /// The most that were down at once, and who.
    worst: Vec<String>,
    /// How often a pod went down.
    falls: u32,
}

impl Seen {
    fn note(&mut self, event: &Value) {
        let pod = &event["object"];
        let Some(name) = pod["metadata"]["name"].as_str() else { return };
        let up = event["type"] != "DELETED"
            && pod["metadata"]["deletionTimestamp"].is_null()
            && condition(pod, "Ready") == Some("True");
        match self.up.get_mut(name) {
            // One that has never served is not down: it is on its way.
            None if !up => return,
            None => drop(self.up.insert(name.to_owned(), true)),
            Some(was) => {
                self.falls += u32::from(*was && !up);
                *was = up;
            }
        }
        let down: Vec<String> = self.up.iter().filter(|(_, up)| !**up).map(|(name, _)| name.clone()).collect();
        if down.len() > self.worst.len() {
            self.worst = down;
        }
    }
}

/// Watches a cluster's pods until dropped.
#[derive(Debug)]
pub struct PodWatch {
    child: Child,
    reader: Option<JoinHandle<()>>,
    seen: Arc<Mutex<Seen>>,
}

impl PodWatch {
    /// Watches the first `nodes` pods of a cluster: others are on their way in or out.
    ///
    /// # Panics
    /// When kubectl can't be run.
    pub fn start(cluster: &Cluster, nodes: usize) -> Self {
        let mut child = Command::new("kubectl")
            .args(["--namespace", cluster.namespace.name(), "get", "pods", "-l", &cluster.selector()])
            .args(["--watch", "--output-watch-events", "-o", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl can be run");
        let stdout = child.stdout.take().expect("it was piped");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (noted, watched) = (seen.clone(), (0..nodes).map(|ordinal| cluster.pod(ordinal)).collect::<Vec<_>>());
        let reader = std::thread::spawn(move || {
            let events = serde_json::Deserializer::from_reader(stdout).into_iter::<Value>();
            for event in events.map_while(Result::ok) {
                if watched.iter().any(|name| event["object"]["metadata"]["name"] == name.as_str()) {
                    noted.lock().note(&event);
                }
            }
        });
        Self { child, reader: Some(reader), seen }
    }

    /// How often a node went down.
    pub fn falls(&self) -> u32 {
        self.seen.lock().falls
    }

    /// Never were two nodes down at once.
    ///
    /// # Panics
    /// When they were.
    pub fn assert_one_at_a_time(&self) {
        let seen = self.seen.lock();
        assert!(!seen.up.is_empty(), "no pod was seen");
        assert!(seen.worst.len() <= 1, "down at once: {:?}", seen.worst);
    }
}

impl Drop for PodWatch {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, pod: &str, ready: &str) -> Value {
        let status = json!({ "conditions": [{ "type": "Ready", "status": ready }] });
        json!({ "type": kind, "object": { "metadata": { "name": pod }, "status": status } })
    }

    #[test]
    fn two_that_are_down_at_once_are_seen_however_short() {
        let mut seen = Seen::default();
        for pod in ["a", "b", "c"] {
            seen.note(&event("ADDED", pod, "False"));
            seen.note(&event("MODIFIED", pod, "True"));
        }
        assert_eq!((seen.worst.len(), seen.falls), (0, 0), "pods that come up are not down");
        seen.note(&event("MODIFIED", "a", "False"));
        seen.note(&event("MODIFIED", "a", "True"));
        seen.note(&event("DELETED", "b", "True"));
        assert_eq!((seen.worst.len(), seen.falls), (1, 2));
        seen.note(&event("MODIFIED", "c", "False"));
        seen.note(&event("MODIFIED", "c", "True"));
        assert_eq!(seen.worst, ["b", "c"]);
    }
}
