//! The load in a pod of its own, inside the cluster under test.

use std::time::Duration;

use serde_json::json;

use crate::Cluster;
use crate::kube::{condition, wait_for};
use crate::load::Report;
use crate::operator::image;

/// How long the load may stand still: a client that has lost a broker looks for another.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running load.
#[derive(Debug)]
pub struct LoadPod<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> LoadPod<'a> {
    /// Starts it on a topic of its own with three replicas.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(cluster: &'a Cluster) -> Self {
        let name = format!("{}-load", cluster.name);
        let bootstrap = cluster.bootstrap();
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name },
            "spec": {
                "restartPolicy": "Never",
                "enableServiceLinks": false,
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 1,
                "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" } },
                "containers": [{
                    "name": "load",
                    "image": image("chronik-load"),
                    "args": ["run", "--bootstrap", bootstrap, "--topic", "load"],
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true,
                        "capabilities": { "drop": ["ALL"] },
                    },
                }],
            },
        });
        cluster.namespace.attempt(&["delete", "pod", &name, "--ignore-not-found"], "");
        cluster.namespace.apply(&pod.to_string());
        let load = Self { cluster, name };
        wait_for("the load runs", PATIENCE, || {
            let pod = cluster.namespace.get("pod", &load.name)?;
            (condition(&pod, "Ready") == Some("True")).then_some(())
        });
        load.goes_on(300);
        load
    }

    fn ask(&self, what: &str) -> Option<Report> {
        let answered = self.cluster.namespace.exec(&self.name, &["/chronik-load", what]);
        if !answered.ok {
            let log = self.cluster.namespace.attempt(&["logs", &self.name], "");
            eprintln!("the load does not answer: {}{}", answered.err, log.out);
            return None;
        }
        serde_json::from_str(&answered.out).ok()
    }

    /// How far it is.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn progress(&self) -> Report {
        wait_for("the load answers", PATIENCE, || self.ask("progress"))
    }

    /// Waits until so many more records are acknowledged, and nothing has gone wrong.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub fn goes_on(&self, records: u64) {
        let goal = self.progress().acked + records;
        wait_for("records are acknowledged", PATIENCE, || {
            let report = self.progress();
            assert!(report.is_clean(), "{report:?}");
            (report.acked >= goal).then_some(())
        });
    }

    /// Ends it: everything that was acknowledged is there, once, and nothing was refused.
    ///
    /// # Panics
    /// When it is not.
    pub fn verify(self) -> Report {
        let report = self.ask("stop").expect("the load ends with a report");
        println!("{}: {report:?}", self.cluster.name);
        assert!(report.is_clean(), "{report:?}");
        assert!(report.acked > 0 && report.lost == Some(0), "{report:?}");
        self.cluster.namespace.kubectl(&["delete", "pod", &self.name, "--wait=false"]);
        report
    }
}
