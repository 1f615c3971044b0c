//! A broker's process, as its pod describes it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::operator::append;
use crate::fixture::brokers::Proof;
use crate::fixture::page;

/// Where the folders of a pod are.
pub(super) struct Files {
    /// That of the pod's name.
    pub(super) own: PathBuf,
    /// That of its claim.
    pub(super) volume: PathBuf,
}

impl Files {
    /// Each folder's place in the container, and here.
    pub(super) fn mounts(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("/var/lib/chronik", self.volume.clone()),
            ("/etc/chronik/config", self.own.join("config")),
            ("/etc/chronik/tls", self.own.join("tls")),
            ("/etc/chronik/pod", self.own.join("pod")),
        ]
    }

    /// Writes what is mounted.
    pub(super) fn write(&self, settings: &BTreeMap<String, String>, proof: &Proof) {
        for (_, folder) in self.mounts() {
            fs::create_dir_all(folder).expect("a folder can be made");
        }
        let write =
            |name: &str, content: &[u8]| fs::write(self.own.join(name), content).expect("a file can be written");
        for (name, content) in settings {
            write(&format!("config/{name}"), content.as_bytes());
        }
        write("tls/ca.crt", &proof.authorities);
        write("tls/tls.crt", &proof.certificate);
        write("tls/tls.key", &proof.key);
        write("pod/rack", b"");
    }
}

/// A broker's process: killed when this is dropped.
pub(super) struct Process {
    command: Command,
    child: Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Process {
    /// Starts what a pod's container `chronik` describes, with `translations` in its arguments and variables.
    pub(super) fn new(program: &Path, pod: &Pod, ip: IpAddr, translations: &[(String, String)], log: &Path) -> Self {
        let spec = serde_json::to_value(pod.spec.as_ref().expect("a pod has a spec")).expect("JSON");
        let containers = spec["containers"].as_array().expect("a pod has containers");
        let container = containers.iter().find(|it| it["name"] == "chronik").expect("one is the broker's");
        let translated = |text: &str| {
            let here = |text: String, (inside, outside): &(String, String)| text.replace(inside, outside);
            translations.iter().fold(text.replace("$(POD_NAME)", &pod.name_any()), here)
        };
        let mut command = Command::new(program);
        let arguments = container["args"].as_array().expect("it has arguments").iter().filter_map(Value::as_str);
        command.args(arguments.map(translated)).env_clear();
        for variable in container["env"].as_array().expect("it has variables") {
            let name = variable["name"].as_str().expect("a variable has a name");
            command.env(name, translated(&value(pod, variable)));
        }
        // On a machine of its own it would have every address.
        for (name, port) in [("WAL_RECEIVER", 9291), ("GRPC", 9391), ("HTTP", 9491)] {
            command.env(format!("CHRONIK_{name}_ADDR"), format!("{ip}:{port}"));
        }
        command.stdin(Stdio::null()).stdout(append(log)).stderr(append(log));
        let child = command.spawn().expect("a broker can be started");
        Self { command, child }
    }

    /// Starts it again.
    pub(super) fn start(&mut self) {
        self.child = self.command.spawn().expect("a broker can be started");
    }

    /// Asks it to end in order.
    pub(super) fn terminate(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("a child that was not waited for can be signalled");
    }

    /// Ends it as a crash would.
    pub(super) fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
    }

    /// How it has ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }
}

/// What a variable is: given, or a field of the pod's metadata.
fn value(pod: &Pod, variable: &Value) -> String {
    if let Some(value) = variable["value"].as_str() {
        return value.to_owned();
    }
    let path = variable["valueFrom"]["fieldRef"]["fieldPath"].as_str().expect("a value, or a field's path");
    match path.strip_prefix("metadata.labels['").and_then(|rest| rest.strip_suffix("']")) {
        Some(label) => pod.labels()[label].clone(),
        None if path == "metadata.name" => pod.name_any(),
        None => panic!("{path} is not known here"),
    }
}

/// How long a probe may take.
const PROBED_WITHIN: Duration = Duration::from_secs(5);

/// Whether a broker says that it is ready.
pub(super) async fn probe(at: SocketAddr) -> bool {
    // One that does not answer is not ready.
    let answer = tokio::time::timeout(PROBED_WITHIN, page(at, "/readyz")).await;
    let ready = |answer: String| ["HTTP/1.0 200", "HTTP/1.1 200"].iter().any(|head| answer.starts_with(head));
    answer.is_ok_and(|answer| answer.is_ok_and(ready))
}
