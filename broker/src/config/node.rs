//! A node's own settings: addresses, folder, identity, durability.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::cluster::ClusterConfig;
use crate::ids::NodeId;
use crate::wal::Durability;

/// Where something listens or is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// The port; 0 takes a free one.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must be host:port".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(address) => address,
            None if host.contains([':', '[', ']', '/']) || host.contains(char::is_whitespace) => return Err(wrong()),
            None if host.is_empty() => "0.0.0.0",
            None => host,
        };
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What a node is started with.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where Kafka clients are served.
    pub kafka_addr: HostPort,
    /// The address that Kafka clients are told; without it, where they are served.
    pub advertised_addr: Option<HostPort>,
    /// Where health and metrics are served.
    pub http_addr: HostPort,
    /// Everything the node stores.
    pub data_dir: PathBuf,
    /// Its id in the cluster.
    pub node_id: NodeId,
    /// The file that names its rack, in place of `broker.rack`.
    pub rack_file: Option<PathBuf>,
    /// The cluster's id; without it, one is drawn at the first start.
    pub cluster_id: Option<String>,
    /// The links to the other nodes.
    pub cluster: ClusterConfig,
    /// What an acknowledgement stands for.
    pub durability: Durability,
    /// Kafka's settings that were given, by name, valid.
    pub broker: BTreeMap<&'static str, String>,
}

impl Config {
    /// Settings that were given and that have no effect in Chronik: to be told at start.
    pub fn without_effect(&self) -> impl Iterator<Item = &'static str> {
        super::broker_definitions()
            .iter()
            .filter(|definition| !definition.has_effect() && self.broker.contains_key(definition.name))
            .map(|definition| definition.name)
    }
}

/// One of Chronik's own settings.
#[derive(Debug, Clone, Copy)]
pub struct NodeSetting {
    /// Its name in the YAML file and for `--set`; in capitals with `CHRONIK_` before it, its environment variable.
    pub name: &'static str,
    /// Its default; empty for none.
    pub default: &'static str,
    /// What it does.
    pub documentation: &'static str,
    /// Kafka's names for the same.
    pub synonyms: &'static [&'static str],
}

/// Chronik's own settings.
pub const NODE_SETTINGS: &[NodeSetting] = &[
    NodeSetting {
        name: "kafka_addr",
        default: "0.0.0.0:9092",
        documentation: "Where Kafka clients are served: host:port; port 0 takes a free one.",
        synonyms: &["listeners"],
    },
    NodeSetting {
        name: "advertised_addr",
        default: "",
        documentation: "The address that Kafka clients are told; by default where they are served, with the host's name \
                        in place of 0.0.0.0.",
        synonyms: &["advertised.listeners"],
    },
    NodeSetting {
        name: "http_addr",
        default: "0.0.0.0:9491",
        documentation: "Where `/livez`, `/readyz` and `/metrics` are served: host:port.",
        synonyms: &[],
    },
    NodeSetting {
        name: "data_dir",
        default: "./data",
        documentation: "The folder with everything that the node stores.",
        synonyms: &["log.dirs", "log.dir"],
    },
    NodeSetting {
        name: "node_id",
        default: "0",
        documentation: "The node's id in its cluster. With `initial_voters` or `seeds` it must be given.",
        synonyms: &["node.id", "broker.id"],
    },
    NodeSetting {
        name: "pool_first_node_id",
        default: "",
        documentation: "On Kubernetes, in place of `node_id`: the id of the pool's first node. The node's id is this and \
                        `pod_index` together.",
        synonyms: &[],
    },
    NodeSetting {
        name: "pod_index",
        default: "",
        documentation: "On Kubernetes, with `pool_first_node_id`: the ordinal of the node's pod in its StatefulSet.",
        synonyms: &[],
    },
    NodeSetting {
        name: "broker_rack_file",
        default: "",
        documentation: "In place of `broker.rack`: a file that names the rack, read when the node registers. One that is \
                        missing or empty names none.",
        synonyms: &[],
    },
    NodeSetting {
        name: "cluster_id",
        default: "",
        documentation: "The cluster's id; by default one is drawn at the first start. It never changes afterwards. With \
                        `initial_voters` or `seeds` it must be given.",
        synonyms: &[],
    },
    NodeSetting {
        name: "initial_voters",
        default: "",
        documentation: "The nodes that a new cluster's metadata begins with, `ID@HOST:PORT,…` with the ports of \
                        `grpc_addr`: 1, 3 or 5, the same on all of them. A node without this and without `seeds` is a \
                        cluster of its own.",
        synonyms: &[],
    },
    NodeSetting {
        name: "seeds",
        default: "",
        documentation: "Where a node that comes later finds its cluster: `HOST:PORT,…` with the ports of `grpc_addr`; a \
                        name may stand for many nodes.",
        synonyms: &[],
    },
    NodeSetting {
        name: "grpc_addr",
        default: "0.0.0.0:9391",
        documentation: "Where the other nodes' metadata and administrators are served: host:port. On 127.0.0.1 by \
                        default where links are plaintext (see `tls_dir`).",
        synonyms: &[],
    },
    NodeSetting {
        name: "grpc_advertised_addr",
        default: "",
        documentation: "The address of `grpc_addr` that other nodes are told; by default the node's own in \
                        `initial_voters`, or else where it listens.",
        synonyms: &[],
    },
    NodeSetting {
        name: "wal_receiver_addr",
        default: "0.0.0.0:9291",
        documentation: "Where leaders stream records to: host:port. On 127.0.0.1 by default where links are plaintext.",
        synonyms: &[],
    },
    NodeSetting {
        name: "wal_receiver_advertised_addr",
        default: "",
        documentation: "The address of `wal_receiver_addr` that other nodes are told; by default where it listens, with \
                        the host that they are told for `grpc_addr` in place of 0.0.0.0.",
        synonyms: &[],
    },
    NodeSetting {
        name: "replication_followers",
        default: "",
        documentation: "Where followers are reached, `HOST:PORT,…`, in place of what they tell the metadata; the \
                        handshake tells who answers where.",
        synonyms: &[],
    },
    NodeSetting {
        name: "tls_dir",
        default: "",
        documentation: "The folder with `ca.crt`, `tls.crt` and `tls.key`, which protect the links between nodes \
                        (`grpc_addr`, `wal_receiver_addr`); changed files are taken up. Without it links are plaintext \
                        and stay on the machine.",
        synonyms: &[],
    },
    NodeSetting {
        name: "insecure_links",
        default: "false",
        documentation: "`true` lets links be plaintext beyond this machine.",
        synonyms: &[],
    },
    NodeSetting {
        name: "chronik.durability",
        default: "fsync",
        documentation: "What an acknowledgement stands for: `fsync`, on disk; `os`, in the page cache, as Apache Kafka \
                        does it.",
        synonyms: &[],
    },
];

/// Kafka's listeners, of which Chronik has one and without TLS or SASL: `PLAINTEXT://host:port`.
pub(super) fn listener(text: &str) -> Result<HostPort, String> {
    if text.contains(',') {
        return Err("Chronik has one listener".to_owned());
    }
    let Some((protocol, address)) = text.trim().split_once("://") else {
        return Err("must be PLAINTEXT://host:port".to_owned());
    };
    if protocol != "PLAINTEXT" {
        return Err(format!("the protocol {protocol} is not supported: it must be PLAINTEXT"));
    }
    address.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("localhost:1", Some("localhost:1")),
            (":9092", Some("0.0.0.0:9092")),
            ("[::1]:9", Some("[::1]:9")),
            ("::1:9", None),
            ("host", None),
            ("host:99999", None),
            ("http://host:1", None),
        ] {
            assert_eq!(text.parse::<HostPort>().ok().map(|it| it.to_string()).as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn kafka_listeners() {
        assert_eq!(listener("PLAINTEXT://:9").map(|it| it.to_string()), Ok("0.0.0.0:9".to_owned()));
        for wrong in ["SSL://a:1", "a:1", "PLAINTEXT://a:1,PLAINTEXT://b:1", "PLAINTEXT://a"] {
            assert!(listener(wrong).is_err(), "{wrong}");
        }
    }
}
