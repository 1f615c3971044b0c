//! Where the nodes of a development cluster are, and what each is started with.

use std::path::{Path, PathBuf};

/// From a node's client port to those of its WAL receiver, its gRPC and its HTTP: with the default ports, theirs.
const WAL: u16 = 199;
const GRPC: u16 = 299;
const HTTP: u16 = 399;

/// The sizes of a group of voters, the largest first.
const VOTERS: [u16; 3] = [5, 3, 1];

/// The cluster's id: there is one in a folder, and it stays on this machine.
const CLUSTER: &str = "dev";

/// Nodes 0 to n - 1.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    nodes: u16,
    base_port: u16,
    data_dir: PathBuf,
    settings: Vec<(String, String)>,
}

impl Layout {
    pub(super) fn new(nodes: u16, base_port: u16, data_dir: PathBuf, settings: Vec<(String, String)>) -> Self {
        Self { nodes, base_port, data_dir, settings }
    }

    pub(super) fn nodes(&self) -> std::ops::Range<u16> {
        0..self.nodes
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A node's folder.
    pub(super) fn folder(&self, node: u16) -> PathBuf {
        self.data_dir.join(node.to_string())
    }

    pub(super) fn http_port(&self, node: u16) -> u16 {
        self.base_port + HTTP + node
    }

    /// Replicas of a topic that doesn't say otherwise.
    pub(super) fn replicas(&self) -> u16 {
        self.nodes.min(3)
    }

    /// The nodes' addresses for clients.
    pub(super) fn bootstrap(&self) -> String {
        self.list(|node| format!("localhost:{}", self.base_port + node))
    }

    /// The nodes' addresses for administrators.
    pub(super) fn admin(&self) -> String {
        self.list(|node| format!("localhost:{}", self.base_port + GRPC + node))
    }

    fn list(&self, item: impl Fn(u16) -> String) -> String {
        self.nodes().map(item).collect::<Vec<_>>().join(",")
    }

    /// The settings that a node is started with, those of the command line last.
    pub(super) fn settings(&self, node: u16) -> Vec<(String, String)> {
        let local = |port: u16| format!("127.0.0.1:{port}");
        let port = self.base_port + node;
        let voters = VOTERS.into_iter().find(|voters| *voters <= self.nodes).unwrap_or(1);
        let voters: Vec<String> =
            (0..voters).map(|voter| format!("{voter}@{}", local(self.base_port + GRPC + voter))).collect();
        let seeds: Vec<String> = self.nodes().map(|other| local(self.base_port + GRPC + other)).collect();
        // One failure costs neither data nor availability, where there are enough nodes for that.
        let min_insync = if self.nodes >= 3 { "2" } else { "1" };
        let own = [
            ("node_id", node.to_string()),
            ("cluster_id", CLUSTER.to_owned()),
            ("initial_voters", voters.join(",")),
            ("seeds", seeds.join(",")),
            ("kafka_addr", local(port)),
            ("advertised_addr", format!("localhost:{port}")),
            ("wal_receiver_addr", local(port + WAL)),
            ("grpc_addr", local(port + GRPC)),
            ("http_addr", local(self.http_port(node))),
            ("data_dir", self.folder(node).join("data").display().to_string()),
            ("default.replication.factor", self.replicas().to_string()),
            ("min.insync.replicas", min_insync.to_owned()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(self.settings.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn layout(nodes: u16) -> Layout {
        Layout::new(nodes, 9092, PathBuf::from("/tmp/dev"), vec![("num.partitions".to_owned(), "7".to_owned())])
    }

    #[test]
    fn each_node_is_given_a_valid_configuration() {
        for nodes in [1, 2, 3, 4, 5, 9] {
            let layout = layout(nodes);
            for node in layout.nodes() {
                let config = config::load(None, [], layout.settings(node)).expect("valid");
                assert_eq!(config.node_id.get(), i32::from(node));
                assert_eq!(config.broker["num.partitions"], "7");
                assert_eq!(config.cluster.initial_voters.len(), [1, 1, 3, 3, 5][usize::from(nodes.min(5)) - 1]);
            }
        }
    }

    #[test]
    fn the_first_node_of_the_default_has_the_default_ports() {
        let config = config::load(None, [], layout(3).settings(0)).expect("valid");
        let ports = [
            config.kafka_addr.port,
            config.cluster.wal_receiver_addr.port,
            config.cluster.grpc_addr.port,
            config.http_addr.port,
        ];
        assert_eq!(ports, [9092, 9291, 9391, 9491]);
        assert_eq!(layout(2).bootstrap(), "localhost:9092,localhost:9093");
    }
}
