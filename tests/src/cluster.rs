//! Clusters of real processes, and what they hold.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::ops::{Index, IndexMut};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::chronik;
use crate::{Finished, Node, NodeBuilder};

/// How long a cluster may take to become what a test waits for: far more than it takes.
const PATIENCE: Duration = Duration::from_mins(1);
/// Ports of the tests' own: 12000 to 31999, below Linux's range of ports for whoever asks for any (32768 on).
const FIRST_OWN_PORT: u16 = 12_000;
const OWN_PORTS: u16 = 20_000;
/// The id of a cluster of these.
pub const CLUSTER_ID: &str = "test-cluster";
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Nodes with the ids 0, 1, …, which all vote.
#[derive(Debug)]
pub struct Cluster(Vec<Node>);

impl Cluster {
    /// So many nodes, with these settings beside those of a cluster; waits until all serve.
    ///
    /// # Panics
    /// When they do not.
    pub fn start(nodes: usize, settings: &[(&str, &str)]) -> Self {
        let mut cluster = Self::build(nodes, settings);
        cluster.start_all();
        cluster
    }

    /// The same, not started yet.
    ///
    /// # Panics
    /// When there are no free ports.
    pub fn build(nodes: usize, settings: &[(&str, &str)]) -> Self {
        Self::build_each(nodes, |_, node| settings.iter().fold(node, |node, (name, value)| node.set(name, value)))
    }

    /// Not started yet, each node as `each` makes it of its id.
    ///
    /// # Panics
    /// When there are no free ports.
    pub fn build_each(nodes: usize, each: impl Fn(usize, NodeBuilder) -> NodeBuilder) -> Self {
        let base = |id: usize| {
            let base = NodeBuilder::default()
                .set("node_id", &id.to_string())
                .set("cluster_id", CLUSTER_ID)
                .set("group.initial.rebalance.delay.ms", "0");
            each(id, base)
        };
        let mut built: Vec<Node> = (0..nodes).map(|id| base(id).build()).collect();
        for (node, port) in built.iter_mut().zip(free_ports(nodes)) {
            node.set_grpc_port(port);
        }
        let voters: Vec<String> =
            built.iter().enumerate().map(|(id, node)| format!("{id}@{}", node.grpc_address())).collect();
        let voters = voters.join(",");
        for node in &mut built {
            node.reset("initial_voters", &voters);
        }
        Self(built)
    }

    /// One more node, with the next id, that finds the cluster by its seeds; waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub fn join(&mut self, settings: &[(&str, &str)]) -> usize {
        let id = self.0.len();
        let node = NodeBuilder::default()
            .set("node_id", &id.to_string())
            .set("cluster_id", CLUSTER_ID)
            .set("group.initial.rebalance.delay.ms", "0")
            .set("seeds", &self.admin());
        self.0.push(settings.iter().fold(node, |node, (name, value)| node.set(name, value)).start());
        id
    }

    /// Starts those that do not run, and waits until they serve.
    ///
    /// # Panics
    /// When they do not.
    pub fn start_all(&mut self) {
        let down: Vec<usize> = (0..self.0.len()).filter(|id| !self.0[*id].is_up()).collect();
        for &id in &down {
            self.0[id].launch();
        }
        for &id in &down {
            self.0[id].await_ready();
        }
    }

    /// How many nodes there are, running or not.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where the admin service is: all nodes.
    pub fn admin(&self) -> String {
        self.0.iter().map(Node::grpc_address).collect::<Vec<_>>().join(",")
    }

    /// Runs `chronik cluster` against the admin services.
    pub fn administer(&self, arguments: &[&str]) -> Finished {
        chronik(&[&["cluster"], arguments, &["--admin", &self.admin()]].concat(), b"")
    }

    /// The nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.0.iter()
    }

    /// The nodes, each by itself.
    pub fn into_nodes(self) -> impl Iterator<Item = Node> {
        self.0.into_iter()
    }

    /// Where clients are served: all nodes that have been started.
    pub fn bootstrap(&self) -> String {
        self.0.iter().map(Node::bootstrap).collect::<Vec<_>>().join(",")
    }

    /// The node that leads the metadata plane, as itself says; those asked must run.
    ///
    /// # Panics
    /// When none does in time.
    pub fn raft_leader(&self, asked: &[usize]) -> usize {
        let leads = |id: &usize| {
            let (_, metrics) = self.0[*id].http("GET", "/metrics", "");
            metrics.lines().any(|line| line.starts_with("kafka_controller_kafkacontroller_activecontrollercount 1"))
        };
        wait_for("a leader of the metadata plane", || asked.iter().copied().find(|id| leads(id)))
    }

    /// A topic's partitions as a node describes them; `None` where it can't now.
    pub fn describe(&self, asked: usize, topic: &str) -> Option<Vec<PartitionState>> {
        let answer = self.0[asked].run(&["topic", "describe", topic, "--output", "json"]);
        let described: Value = serde_json::from_str(&answer.out).ok().filter(|_| answer.code == 0)?;
        described["partitions"].as_array().map(|partitions| partitions.iter().map(PartitionState::of).collect())
    }

    /// Waits until each partition of a topic has all of its replicas in sync, as this node describes it.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub fn wait_until_in_sync(&self, asked: usize, topic: &str) -> Vec<PartitionState> {
        wait_for("all replicas in sync", || {
            let partitions = self.describe(asked, topic)?;
            let in_sync = |it: &PartitionState| it.leader.is_some() && it.in_sync.len() == it.replicas.len();
            partitions.iter().all(in_sync).then_some(partitions)
        })
    }

    /// All replicas of a topic come in sync, and hold the same batches; stops all nodes.
    ///
    /// # Panics
    /// When they do not.
    pub fn assert_equal_logs(&mut self, topic: &str) {
        let partitions = self.wait_until_in_sync(0, topic);
        for (id, node) in self.0.iter_mut().enumerate().filter(|(_, node)| node.is_up()) {
            assert!(node.stop().success(), "node {id} stops in order");
        }
        for PartitionState { partition, replicas, .. } in partitions {
            let logs: Vec<Vec<Value>> = replicas
                .iter()
                .map(|id| batches(&self.0[*id].data_dir().join(format!("wal/{topic}/{partition}"))))
                .collect();
            assert!(!logs[0].is_empty(), "partition {partition} has records");
            assert!(logs.iter().all(|log| *log == logs[0]), "partition {partition} differs between its replicas");
        }
    }
}

/// Free ports, all different. Below those that the kernel gives to whoever asks for any: between this look and the node's
/// start nobody else gets them by chance.
///
/// # Panics
/// When there are none.
pub fn free_ports(count: usize) -> Vec<u16> {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Test processes that run at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(61);
    let port = || {
        let offset = begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % u32::from(OWN_PORTS);
        FIRST_OWN_PORT + u16::try_from(offset).expect("it is below a u16, because the bound is one")
    };
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let found: Vec<u16> = std::iter::repeat_with(port).take(usize::from(OWN_PORTS)).filter(free).take(count).collect();
    assert_eq!(found.len(), count, "there are free ports");
    found
}

impl Index<usize> for Cluster {
    type Output = Node;

    fn index(&self, id: usize) -> &Node {
        &self.0[id]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, id: usize) -> &mut Node {
        &mut self.0[id]
    }
}

/// A partition as a node describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// Its number.
    pub partition: i32,
    /// The node that leads it.
    pub leader: Option<usize>,
    /// The nodes that are to have it.
    pub replicas: Vec<usize>,
    /// Those that have all of it.
    pub in_sync: Vec<usize>,
}

impl PartitionState {
    fn of(described: &Value) -> Self {
        let id = |value: &Value| value.as_i64().and_then(|id| usize::try_from(id).ok());
        let ids = |field: &str| described[field].as_array().into_iter().flatten().filter_map(id).collect();
        Self {
            partition: described["partition"].as_i64().and_then(|it| i32::try_from(it).ok()).expect("it has a number"),
            leader: id(&described["leader"]),
            replicas: ids("replicas"),
            in_sync: ids("isr"),
        }
    }
}

/// The batches of a partition's folder, without where in which file they are.
fn batches(folder: &Path) -> Vec<Value> {
    let files = std::fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let paths = files.map(|file| file.expect("a folder can be read").path());
    let segments: BTreeMap<_, _> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .map(|path| (path.file_name().map(ToOwned::to_owned), path))
        .collect();
    let mut all = Vec::new();
    for path in segments.values() {
        let mut dumped = chronik(&["dump", "--records", "--output", "json", &path.to_string_lossy()], b"").json();
        for batch in dumped["batches"].as_array_mut().expect("a segment has batches") {
            batch.as_object_mut().expect("a batch is an object").remove("position");
            all.push(batch.take());
        }
    }
    all
}

/// Waits until something is there.
///
/// # Panics
/// When it does not come in time.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    let mut look = look;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not in {PATIENCE:?}");
        std::thread::sleep(LOOK_EVERY);
    }
}
