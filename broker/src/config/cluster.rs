//! A node's settings of its cluster: where the links between nodes are, how they are protected, where it finds the others.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use super::HostPort;
use crate::ids::NodeId;

/// The initial voters that a Raft group may begin with: an even number tolerates no more failures than one less.
const GROUP_SIZES: [usize; 3] = [1, 3, 5];

/// How the links between nodes (WAL, Raft, admin) are protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Links {
    /// Mutual TLS, with `ca.crt`, `tls.crt` and `tls.key` of this folder.
    Tls(PathBuf),
    /// Plaintext, which stays on this machine.
    Loopback,
    /// Plaintext anywhere: asked for by name.
    Insecure,
}

/// An initial voter: `ID@HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// Its node id.
    pub node: NodeId,
    /// Where its gRPC port is reached.
    pub address: HostPort,
}

/// What a node is told of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Where Raft peers and administrators are served.
    pub grpc_addr: HostPort,
    /// The address of that which other nodes are told; without it, the node's among the initial voters, or where it
    /// listens.
    pub grpc_advertised_addr: Option<HostPort>,
    /// Where leaders stream their WALs to.
    pub wal_receiver_addr: HostPort,
    /// The address of that which other nodes are told; without it, where it listens.
    pub wal_receiver_advertised_addr: Option<HostPort>,
    /// The voters that the cluster begins with, in the order that all of them are given; empty for a node that is alone
    /// or comes later.
    pub initial_voters: Vec<Voter>,
    /// Where a node that comes later finds members.
    pub seeds: Vec<HostPort>,
    /// How the links are protected.
    pub links: Links,
    /// Where followers are, in place of what the metadata says; empty for none.
    pub replication_followers: Vec<HostPort>,
}

impl ClusterConfig {
    /// Whether the node is alone as far as its settings go: it forms a cluster of itself.
    pub fn is_standalone(&self) -> bool {
        self.initial_voters.is_empty() && self.seeds.is_empty()
    }

    /// Where the others expect this node's gRPC port, when it is one of the initial voters.
    pub fn as_voter(&self, node: NodeId) -> Option<&HostPort> {
        self.initial_voters.iter().find(|voter| voter.node == node).map(|voter| &voter.address)
    }

    /// What no single value can show. `identity`: whether the node's id, and the cluster's, were given.
    pub(super) fn check(&self, node: NodeId, identity: Identity) -> Result<(), String> {
        if !self.is_standalone() {
            let given = if self.initial_voters.is_empty() { "seeds" } else { "initial_voters" };
            for (setting, is_given) in [("node_id", identity.node), ("cluster_id", identity.cluster)] {
                if !is_given {
                    return Err(format!("{given} is given without {setting}, which has no default in a cluster"));
                }
            }
        }
        if self.initial_voters.is_empty() {
            return Ok(());
        }
        self.check_voters()?;
        match (self.as_voter(node), &self.grpc_advertised_addr) {
            (None, _) if self.seeds.is_empty() => Err(format!(
                "node_id={node} is none of initial_voters, and there are no seeds: the node can't find its cluster"
            )),
            (Some(expected), Some(advertised)) if expected != advertised => Err(format!(
                "grpc_advertised_addr={advertised} is not what initial_voters says of node {node}: {expected}"
            )),
            _ => Ok(()),
        }
    }

    fn check_voters(&self) -> Result<(), String> {
        let count = self.initial_voters.len();
        if !GROUP_SIZES.contains(&count) {
            return Err(format!("initial_voters names {count} nodes; there must be 1, 3 or 5"));
        }
        let (mut ids, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for Voter { node, address } in &self.initial_voters {
            if !ids.insert(*node) {
                return Err(format!("initial_voters names node {node} twice"));
            }
            if !addresses.insert(address.to_string()) {
                return Err(format!("initial_voters names the address {address} twice"));
            }
        }
        Ok(())
    }
}

/// Whether the ids of the node and its cluster were given, rather than left to their defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) node: bool,
    pub(super) cluster: bool,
}

impl Links {
    /// From the folder of certificates, and whether plaintext is asked for.
    pub(super) fn of(tls_dir: Option<PathBuf>, insecure: bool) -> Result<Self, String> {
        match (tls_dir, insecure) {
            (Some(_), true) => Err("tls_dir and insecure_links=true exclude each other".to_owned()),
            (Some(dir), false) => Ok(Self::Tls(dir)),
            (None, true) => Ok(Self::Insecure),
            (None, false) => Ok(Self::Loopback),
        }
    }

    /// Where `setting` listens: as it was given, or at its default. Plaintext that nobody asked for stays on this machine.
    pub(super) fn listen_at(
        &self,
        setting: &str,
        given: Option<HostPort>,
        default: HostPort,
    ) -> Result<HostPort, String> {
        let beyond =
            |address: &HostPort| address.host.parse::<IpAddr>().is_ok_and(|ip| !ip.to_canonical().is_loopback());
        match given {
            Some(address) if *self == Self::Loopback && beyond(&address) => Err(format!(
                "{setting}={address} would carry plaintext beyond this machine; give tls_dir, or insecure_links=true to do without"
            )),
            Some(address) => Ok(address),
            None if *self == Self::Loopback => Ok(HostPort { host: "127.0.0.1".to_owned(), ..default }),
            None => Ok(default),
        }
    }
}

/// `ID@HOST:PORT,…`.
pub(super) fn voters(text: &str) -> Result<Vec<Voter>, String> {
    let voter = |item: &str| {
        let (id, address) = item.split_once('@').ok_or("must be ID@HOST:PORT,…")?;
        let id: i32 = id.trim().parse().map_err(|_| format!("{id:?} is no node id"))?;
        let node = NodeId::try_from(id).map_err(|why| why.to_string())?;
        Ok(Voter { node, address: reachable(address.trim())? })
    };
    text.split(',').map(voter).collect()
}

/// `HOST:PORT,…`.
pub(super) fn addresses(text: &str) -> Result<Vec<HostPort>, String> {
    text.split(',').map(|item| reachable(item.trim())).collect()
}

/// An address that others connect to.
pub(super) fn reachable(text: &str) -> Result<HostPort, String> {
    let address: HostPort = text.parse()?;
    if address.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        return Err("nobody can connect to a wildcard address".to_owned());
    }
    if address.port == 0 {
        return Err("nobody can connect to port 0".to_owned());
    }
    Ok(address)
}

pub(super) fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "must be true or false".to_owned())
}

pub(super) fn file(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("must name a file".to_owned()) } else { Ok(PathBuf::from(text)) }
}

pub(super) fn folder(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("must name a folder".to_owned()) } else { Ok(PathBuf::from(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    /// Loads these settings of a node of a cluster.
    fn loaded(settings: &[(&str, &str)]) -> Result<ClusterConfig, String> {
        let given = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load(None, [], given).map(|config| config.cluster).map_err(|why| why.to_string())
    }

    const THREE: (&str, &str) = ("initial_voters", "0@a:9391,1@b:9391,2@c:9391");
    const ONE_OF_THREE: [(&str, &str); 4] = [("node_id", "1"), ("cluster_id", "c"), THREE, ("insecure_links", "true")];

    fn and<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        [&ONE_OF_THREE[..], more].concat()
    }

    #[test]
    fn a_node_by_itself_forms_its_cluster_and_its_links_stay_on_the_machine() {
        let alone = loaded(&[]).expect("the defaults are valid");
        assert!(alone.is_standalone());
        assert_eq!(alone.links, Links::Loopback);
        assert_eq!(alone.grpc_addr.to_string(), "127.0.0.1:9391");
        assert_eq!(alone.wal_receiver_addr.to_string(), "127.0.0.1:9291");
    }

    #[test]
    fn protected_and_insecure_links_listen_everywhere() {
        for (name, value, links) in [
            ("tls_dir", "/etc/chronik/tls", Links::Tls(PathBuf::from("/etc/chronik/tls"))),
            ("insecure_links", "true", Links::Insecure),
        ] {
            let config = loaded(&[(name, value)]).expect("valid");
            assert_eq!(config.links, links);
            assert_eq!(config.grpc_addr.to_string(), "0.0.0.0:9391");
            assert_eq!(config.wal_receiver_addr.to_string(), "0.0.0.0:9291");
        }
    }

    #[test]
    fn the_initial_voters_are_ids_and_addresses_in_order() {
        let config = loaded(&ONE_OF_THREE).expect("valid");
        let voters: Vec<String> =
            config.initial_voters.iter().map(|voter| format!("{}@{}", voter.node, voter.address)).collect();
        assert_eq!(voters, ["0@a:9391", "1@b:9391", "2@c:9391"]);
        assert_eq!(config.as_voter(NodeId::new(1)).map(ToString::to_string).as_deref(), Some("b:9391"));
        assert_eq!(config.as_voter(NodeId::new(7)), None);
    }

    #[test]
    fn a_later_node_needs_seeds_only() {
        let config = loaded(&[("node_id", "7"), ("cluster_id", "c"), ("seeds", "chronik:9391, [::1]:1")]);
        let config = config.expect("valid");
        let seeds: Vec<String> = config.seeds.iter().map(ToString::to_string).collect();
        assert_eq!(seeds, ["chronik:9391", "[::1]:1"]);
        assert!(!config.is_standalone());
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_name() {
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            (&[THREE, ("cluster_id", "c")], &["initial_voters", "without node_id"]),
            (&[THREE, ("node_id", "0")], &["initial_voters", "without cluster_id"]),
            (&[("seeds", "a:1"), ("node_id", "0")], &["seeds", "without cluster_id"]),
            (&and(&[("node_id", "7")]), &["node_id=7", "none of initial_voters"]),
            (&and(&[("grpc_advertised_addr", "z:1")]), &["grpc_advertised_addr=z:1", "b:9391"]),
            (&and(&[("initial_voters", "0@a:1,1@b:1")]), &["names 2 nodes", "1, 3 or 5"]),
            (&and(&[("initial_voters", "0@a:1,1@b:1,1@c:1")]), &["node 1 twice"]),
            (&and(&[("initial_voters", "0@a:1,1@b:1,2@a:1")]), &["a:1 twice"]),
            (&and(&[("initial_voters", "a:1")]), &["initial_voters", "ID@HOST:PORT"]),
            (&and(&[("initial_voters", "1@0.0.0.0:1")]), &["initial_voters", "wildcard"]),
            (&and(&[("initial_voters", "1@b:0")]), &["initial_voters", "port 0"]),
            (&and(&[("initial_voters", "-1@b:1")]), &["initial_voters", "-1"]),
            (&and(&[("tls_dir", "/tls")]), &["tls_dir", "insecure_links"]),
            (&[("grpc_addr", "0.0.0.0:9391")], &["grpc_addr=0.0.0.0:9391", "tls_dir", "insecure_links"]),
            (&[("wal_receiver_addr", "10.0.0.1:1")], &["wal_receiver_addr=10.0.0.1:1", "tls_dir"]),
            (&[("insecure_links", "yes")], &["insecure_links", "true or false"]),
            (&[("replication_followers", "a")], &["replication_followers", "host:port"]),
        ];
        for (settings, parts) in cases {
            let refusal = loaded(settings).expect_err("it is refused");
            for part in *parts {
                assert!(refusal.contains(part), "{refusal:?} lacks {part:?}");
            }
        }
    }
}
