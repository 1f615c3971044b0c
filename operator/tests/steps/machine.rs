//! Instead of a machine with a kubelet: runs what the pods of one cluster describe as real processes on loopback addresses,
//! stops them in order when their pods are deleted, and starts those again that died.
//!
//! A finalizer keeps a deleted pod until its process has ended, as a kubelet would.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use chronik_operator::certificates::host_name;
use chronik_operator::crd::ChronikCluster;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::task::JoinHandle;

use super::front::{self, Broker};
use super::operator::Writes;
use super::process::{Files, Process, probe};
use super::volumes::Volumes;
use crate::fixture::brokers::Proof;
use crate::fixture::pods::{self, ordinal, patched};

/// Between two looks at pods and claims.
const PAUSE: Duration = Duration::from_millis(100);
/// Keeps a pod until its process has ended.
const FINALIZER: &str = "chronik.io/steps";
/// Nodes that have an address from the beginning.
const NODES: u8 = 6;

/// Where everything is.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) cluster: String,
    pub(super) program: PathBuf,
    pub(super) folder: PathBuf,
    /// Where the operator finds admin services, at each node's address.
    pub(super) admin_port: u16,
    /// Of each node's address, the third number.
    pub(super) number: u8,
}

impl Place {
    /// The loopback address of a node.
    pub(super) fn ip(&self, node: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 92, self.number, node + 1))
    }

    /// Where clients begin.
    pub(super) fn bootstrap(&self) -> String {
        (0..3).map(|node| format!("{}:9092", self.ip(node))).collect::<Vec<_>>().join(",")
    }

    pub(super) fn pod(&self, node: u8) -> String {
        format!("{}-main-{node}", self.cluster)
    }

    /// Instead of the names that only a cluster resolves, and of folders that only a container has.
    fn translations(&self, pod: &str, folders: &Files) -> Vec<(String, String)> {
        let service = format!("{}-nodes.{}.svc", self.cluster, self.namespace);
        let mut here: Vec<(String, String)> =
            (0..NODES).map(|node| (format!("{}.{service}", self.pod(node)), self.ip(node).to_string())).collect();
        let all: Vec<String> = (0..NODES).map(|node| format!("{}:9391", self.ip(node))).collect();
        here.push((format!("{service}:9391"), all.join(",")));
        let own = (0..NODES).find(|node| self.pod(*node) == pod).expect("a pod of this cluster");
        here.push(("0.0.0.0:".to_owned(), format!("{}:", self.ip(own))));
        for (inside, outside) in folders.mounts() {
            here.push((inside.to_owned(), outside.display().to_string()));
        }
        here
    }
}

/// The machine; its processes end when it is dropped.
pub(super) struct Machine {
    place: Place,
    task: JoinHandle<()>,
    running: Arc<Mutex<BTreeMap<String, Running>>>,
}

/// A pod whose process was started.
struct Running {
    uid: String,
    process: Process,
    ready: bool,
    /// The process was told to end.
    stopping: bool,
    /// The test has killed it.
    killed: bool,
    restarts: i32,
}

impl Running {
    fn serves(&self) -> bool {
        self.ready && !self.stopping && !self.killed
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.task.abort();
        self.running.lock().clear();
    }
}

impl Machine {
    /// Runs the pods of a cluster of one pool, `main`, whose first node is 0. Nodes below `watched` serve one and all, but
    /// for one: anything else is a problem.
    pub(super) fn start(place: Place, watched: u8, writes: Writes) -> Self {
        let running = Arc::default();
        let worker = Worker {
            pods: Api::namespaced(place.client.clone(), &place.namespace),
            claims: Api::namespaced(place.client.clone(), &place.namespace),
            volumes: Volumes::new(&place),
            place: place.clone(),
            watched,
            writes,
            running: Arc::clone(&running),
            fronts: BTreeMap::new(),
            served: BTreeSet::new(),
        };
        Self { place, task: tokio::spawn(worker.run()), running }
    }

    /// The UID of a node's pod, when its process serves; whether it was started before.
    pub(super) fn serving(&self, node: u8) -> Option<(String, i32)> {
        let running = self.running.lock();
        running.get(&self.place.pod(node)).filter(|it| it.serves()).map(|it| (it.uid.clone(), it.restarts))
    }

    /// Kills a node's process as `kill -9` does.
    pub(super) fn kill(&self, node: u8) {
        let mut running = self.running.lock();
        let victim = running.get_mut(&self.place.pod(node)).expect("it runs");
        victim.killed = true;
        victim.process.kill();
    }

    /// Ends all processes, and deletes the volumes.
    pub(super) async fn end(self) {
        self.task.abort();
        self.running.lock().clear();
        Volumes::new(&self.place).delete().await;
        // The pods have nothing more to wait for.
        let pods: Api<Pod> = Api::namespaced(self.place.client.clone(), &self.place.namespace);
        for pod in pods.list(&ListParams::default()).await.expect("pods can be listed") {
            release(&pods, &pod).await;
        }
    }
}

/// Lets a pod go.
async fn release(pods: &Api<Pod>, pod: &Pod) {
    let patch = json!({ "metadata": { "uid": pod.uid(), "finalizers": null } });
    patched(pods.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await);
}

struct Worker {
    place: Place,
    pods: Api<Pod>,
    claims: Api<PersistentVolumeClaim>,
    volumes: Volumes,
    watched: u8,
    writes: Writes,
    running: Arc<Mutex<BTreeMap<String, Running>>>,
    fronts: BTreeMap<u8, JoinHandle<()>>,
    /// The pods that have served.
    served: BTreeSet<String>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.fronts.values().for_each(JoinHandle::abort);
    }
}

impl Worker {
    async fn run(mut self) {
        let ours = ListParams::default().labels("app.kubernetes.io/name=chronik");
        loop {
            for claim in self.claims.list(&ours).await.expect("claims can be listed") {
                self.volumes.provide(&claim).await;
            }
            let pods = self.pods.list(&ours).await.expect("pods can be listed").items;
            self.notice_forgotten(&pods);
            for pod in &pods {
                self.tend(pod).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Pods that went without their process: nothing but this machine may let them go.
    fn notice_forgotten(&self, pods: &[Pod]) {
        let there = |name: &String, uid: &String| {
            pods.iter().any(|it| it.name_any() == *name && it.uid().as_ref() == Some(uid))
        };
        self.running.lock().retain(|name, it| {
            let is_there = there(name, &it.uid);
            if !is_there {
                self.writes.problem(format!("pod {name} went before its process had ended"));
            }
            is_there
        });
    }

    async fn tend(&mut self, pod: &Pod) {
        let name = pod.name_any();
        let goes = pod.metadata.deletion_timestamp.is_some();
        if !self.running.lock().contains_key(&name) {
            if goes {
                release(&self.pods, pod).await;
            } else {
                self.begin(pod).await;
            }
        } else if let Some(how) = self.ended(&name, goes) {
            if goes {
                self.running.lock().remove(&name);
                release(&self.pods, pod).await;
            } else {
                let restarts = self.start_again(&name, how);
                self.tell(pod, false, restarts).await;
            }
        } else if !goes && !self.is_ready(&name) && probe(SocketAddr::new(self.place.ip(ordinal(pod)), 9491)).await {
            let restarts = self.with(&name, |it| {
                it.ready = true;
                it.restarts
            });
            self.served.insert(name);
            self.tell(pod, true, restarts).await;
        }
    }

    fn with<T>(&self, name: &str, change: impl FnOnce(&mut Running) -> T) -> T {
        change(self.running.lock().get_mut(name).expect("it was looked for"))
    }

    /// It stays so while its process runs, as the broker means it.
    fn is_ready(&self, name: &str) -> bool {
        self.with(name, |it| it.ready)
    }

    /// How a process has ended, if it has. One whose pod goes is told to.
    fn ended(&self, name: &str, goes: bool) -> Option<ExitStatus> {
        let (begins, how, wanted) = self.with(name, |it| {
            let begins = goes && !it.stopping;
            if begins {
                it.stopping = true;
                it.process.terminate();
            }
            let how = it.process.ended();
            let wanted = it.killed || it.stopping && how.is_some_and(|how| how.success());
            (begins, how, wanted)
        });
        if begins {
            self.notice_others_down(name);
        }
        if let Some(how) = how
            && !wanted
        {
            let log = self.place.folder.join(name).join("log");
            self.writes.problem(format!("the process of {name} has ended by itself ({how}): {}", log.display()));
        }
        how
    }

    /// One that is watched goes down: all the others that have served so far do.
    fn notice_others_down(&self, name: &str) {
        let running = self.running.lock();
        let watched = |it: &&String| (0..self.watched).any(|node| self.place.pod(node) == **it);
        let serves = |it: &String| running.get(it).is_some_and(Running::serves);
        let down: Vec<&String> = self.served.iter().filter(watched).filter(|it| !serves(it)).collect();
        if down.len() > 1 && down.iter().any(|it| *it == name) {
            self.writes.problem(format!("down at once: {down:?}"));
        }
    }

    fn start_again(&self, name: &str, how: ExitStatus) -> i32 {
        println!("  the process of {name} is started again: {how}");
        self.with(name, |it| {
            (it.killed, it.ready) = (false, false);
            it.restarts += 1;
            it.process.start();
            it.restarts
        })
    }

    /// Starts a new pod's process, when all that it mounts is there.
    async fn begin(&mut self, pod: &Pod) {
        let (name, node) = (pod.name_any(), ordinal(pod));
        let Some(claim) = self.claims.get_opt(&format!("data-{name}")).await.expect("the API server answers") else {
            return;
        };
        let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        if !bound || claim.metadata.deletion_timestamp.is_some() {
            return;
        }
        let secret = format!("{}-main-tls", self.place.cluster);
        let Some(proof) = self.proof(&secret, &format!("{name}.crt"), &format!("{name}.key")).await else { return };
        let patch = json!({ "metadata": { "uid": pod.uid(), "finalizers": [FINALIZER] } });
        if !patched(self.pods.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await) {
            return;
        }
        let config: ConfigMap = self.get(&format!("{}-config", self.place.cluster)).await;
        let files = Files {
            own: self.place.folder.join(&name),
            volume: self.place.folder.join("volumes").join(claim.uid().expect("a claim has a UID")),
        };
        files.write(&config.data.expect("the settings are there"), &proof);
        if !self.fronts.contains_key(&node) {
            self.serve_admin(node, proof).await;
        }
        let translations = self.place.translations(&name, &files);
        let process =
            Process::new(&self.place.program, pod, self.place.ip(node), &translations, &files.own.join("log"));
        let uid = pod.uid().expect("a pod has a UID");
        let running = Running { uid, process, ready: false, stopping: false, killed: false, restarts: 0 };
        self.running.lock().insert(name, running);
        self.tell(pod, false, 0).await;
    }

    /// Stands in the place of a node's admin service.
    async fn serve_admin(&mut self, node: u8, proof: Proof) {
        let cluster: ChronikCluster = self.get(&self.place.cluster).await;
        let id = cluster.status.and_then(|status| status.cluster_id).expect("a cluster with pods has an id");
        let operator = self.proof(&format!("{}-operator-tls", self.place.cluster), "tls.crt", "tls.key").await;
        let broker = Broker {
            node: node.into(),
            ip: self.place.ip(node),
            port: 9391,
            host_name: host_name(&id, node.into()),
            proof,
            operator: operator.expect("the operator has a certificate"),
        };
        self.fronts.insert(node, front::admin(&broker, self.place.admin_port, self.writes.clone()));
    }

    async fn get<K>(&self, name: &str) -> K
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        Api::namespaced(self.place.client.clone(), &self.place.namespace).get(name).await.expect("it is there")
    }

    /// `None` where it is not there yet.
    async fn proof(&self, secret: &str, certificate: &str, key: &str) -> Option<Proof> {
        let secrets: Api<Secret> = Api::namespaced(self.place.client.clone(), &self.place.namespace);
        pods::proof(&secrets, secret, certificate, key).await
    }

    /// Says in the pod's status what its process does.
    async fn tell(&self, pod: &Pod, ready: bool, restarts: i32) {
        pods::tell(&self.pods, pod, self.place.ip(ordinal(pod)), ready, restarts).await;
    }
}
