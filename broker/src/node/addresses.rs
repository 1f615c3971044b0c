//! Where a node's ports for other nodes are, and what the others are told of them.

use std::net::IpAddr;

use super::{NodeError, failed, refused};
use crate::config::{Config, HostPort};
use crate::io::net::{Listener, Network};

/// The addresses that other nodes are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Of the Raft peers and the admin service.
    pub grpc: HostPort,
    /// Of the WAL receiver.
    pub wal: HostPort,
}

/// Both ports, taken.
pub(super) struct Bound {
    pub(super) addresses: Addresses,
    pub(super) grpc: Box<dyn Listener>,
    pub(super) wal: Box<dyn Listener>,
}

/// Takes both ports. `kafka`: where clients are told to reach this node; its host stands in for a wildcard.
pub(super) async fn bind(network: &dyn Network, config: &Config, kafka: &HostPort) -> Result<Bound, NodeError> {
    let cluster = &config.cluster;
    let grpc = listen(network, "grpc_addr", &cluster.grpc_addr).await?;
    let wal = listen(network, "wal_receiver_addr", &cluster.wal_receiver_addr).await?;
    let told = cluster.grpc_advertised_addr.as_ref().or_else(|| cluster.as_voter(config.node_id));
    let grpc_told = reached(told, &cluster.grpc_addr, grpc.local_addr().port(), &kafka.host);
    let told = cluster.wal_receiver_advertised_addr.as_ref();
    let wal_told = reached(told, &cluster.wal_receiver_addr, wal.local_addr().port(), &grpc_told.host);
    Ok(Bound { addresses: Addresses { grpc: grpc_told, wal: wal_told }, grpc, wal })
}

async fn listen(network: &dyn Network, setting: &str, address: &HostPort) -> Result<Box<dyn Listener>, NodeError> {
    network.listen(&address.to_string()).await.map_err(|why| match why.kind() {
        std::io::ErrorKind::AddrInUse => refused(format!("{setting} {address} is in use by another process")),
        std::io::ErrorKind::PermissionDenied => refused(format!("{setting} {address}: {why}")),
        _ => failed(format!("can't listen on {setting} {address}: {why}")),
    })
}

/// What others are told: what was given, else where it listens; `host` for one that listens everywhere.
fn reached(told: Option<&HostPort>, given: &HostPort, bound: u16, host: &str) -> HostPort {
    if let Some(told) = told {
        return told.clone();
    }
    let everywhere = given.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    HostPort { host: if everywhere { host.to_owned() } else { given.host.clone() }, port: bound }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> HostPort {
        text.parse().expect("an address")
    }

    #[test]
    fn others_are_told_what_was_given_or_where_it_listens() {
        for (told, given, expected) in [
            (Some("node-1.example:1"), "0.0.0.0:9291", "node-1.example:1"),
            (None, "0.0.0.0:9291", "host:7"),
            (None, "[::]:9291", "host:7"),
            (None, "127.0.0.1:0", "127.0.0.1:7"),
            (None, "node-1:9291", "node-1:7"),
        ] {
            let told = told.map(address);
            assert_eq!(reached(told.as_ref(), &address(given), 7, "host"), address(expected), "{given}");
        }
    }
}
