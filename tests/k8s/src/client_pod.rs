//! A client in a pod of its own, run once: the command `chronik`, or who knocks at a node's ports.

use std::time::Duration;

use serde_json::json;

use crate::knock::Answers;
use crate::kube::{Namespace, wait_for};
use crate::operator::image;

/// How long a command may take, its pod's start included.
const PATIENCE: Duration = Duration::from_mins(1);

/// A command's pod.
#[derive(Debug)]
pub struct ClientPod<'a> {
    namespace: &'a Namespace,
    name: &'a str,
}

impl<'a> ClientPod<'a> {
    /// Starts `chronik` with these arguments, waits for its end, and gives whether it succeeded and what it printed. `mount`: a
    /// Secret, at `/tls`.
    ///
    /// # Panics
    /// When it does not end.
    pub fn run(namespace: &'a Namespace, name: &'a str, arguments: &[&str], mount: Option<&str>) -> (bool, String) {
        Self::run_program("chronik", namespace, name, arguments, mount)
    }

    /// Knocks at a node's ports with these arguments of `chronik-load knock`, and the Secret as credentials.
    ///
    /// # Panics
    /// When a port says nothing that means yes or no.
    pub fn knock(namespace: &'a Namespace, name: &'a str, arguments: &[&str], mount: Option<&str>) -> Answers {
        let mut knock = [&["knock"], arguments].concat();
        if mount.is_some() {
            knock.extend(["--tls-dir", "/tls"]);
        }
        let (ok, out) = Self::run_program("chronik-load", namespace, name, &knock, mount);
        assert!(ok, "{name}: {out}");
        serde_json::from_str(&out).unwrap_or_else(|why| panic!("{name}: {why}: {out}"))
    }

    fn run_program(
        program: &str,
        namespace: &'a Namespace,
        name: &'a str,
        arguments: &[&str],
        mount: Option<&str>,
    ) -> (bool, String) {
        let pod = Self { namespace, name };
        pod.create(program, arguments, mount);
        let phase = wait_for(&format!("{name} ends"), PATIENCE, || {
            let phase = pod.namespace.get("pod", name)?["status"]["phase"].as_str()?.to_owned();
            ["Succeeded", "Failed"].contains(&phase.as_str()).then_some(phase)
        });
        let log = pod.namespace.kubectl(&["logs", name]);
        pod.namespace.kubectl(&["delete", "pod", name, "--wait=false"]);
        (phase == "Succeeded", log)
    }

    fn create(&self, program: &str, arguments: &[&str], mount: Option<&str>) {
        self.namespace.attempt(&["delete", "pod", self.name, "--ignore-not-found"], "");
        let volumes = mount.map(|secret| json!([{ "name": "tls", "secret": { "secretName": secret } }]));
        let mounts = mount.map(|_| json!([{ "name": "tls", "mountPath": "/tls", "readOnly": true }]));
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": self.name },
            "spec": {
                "restartPolicy": "Never",
                "enableServiceLinks": false,
                "automountServiceAccountToken": false,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": { "type": "RuntimeDefault" },
                },
                "containers": [{
                    "name": "client",
                    "image": image(program),
                    "args": arguments,
                    "volumeMounts": mounts.unwrap_or_else(|| json!([])),
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true,
                        "capabilities": { "drop": ["ALL"] },
                    },
                }],
                "volumes": volumes.unwrap_or_else(|| json!([])),
            },
        });
        self.namespace.apply(&pod.to_string());
    }
}
