//! Connections: real, over TLS, or simulated. Both planes dial and listen through this, so that the simulation runs
//! them unchanged.

pub mod plain;
pub mod real;
pub mod tls;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

/// What dialling and accepting return.
pub type Connecting<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Bytes both ways, in order.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// One connection that stands.
pub struct Connection {
    /// Its bytes.
    pub stream: Box<dyn Stream>,
    /// The other end's address, for messages.
    pub peer: SocketAddr,
    /// Who the other end proved to be; `None` where links are not authenticated.
    pub identity: Option<PeerIdentity>,
}

/// Who a certificate says the other end is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The cluster's id.
    pub cluster: String,
    /// The node's id; `None` for a certificate of the operator, which is no node.
    pub node: Option<i32>,
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(f, "node {node} of {}", self.cluster),
            None => write!(f, "an operator of {}", self.cluster),
        }
    }
}

/// Whose a dialled address must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expected {
    /// The cluster's id.
    pub cluster: String,
    /// The node's id; `None` for any node of the cluster.
    pub node: Option<i32>,
}

impl Expected {
    /// Whether the other end of a connection to `address` proved to be whom this expects. A link that proves nothing
    /// does not contradict.
    ///
    /// # Errors
    /// `PermissionDenied`: it is another one.
    pub fn check(&self, address: &str, proven: Option<&PeerIdentity>) -> io::Result<()> {
        let Some(proven) = proven else { return Ok(()) };
        let expected = self.node.map_or(proven.node.is_some(), |node| proven.node == Some(node));
        if expected && proven.cluster == self.cluster {
            return Ok(());
        }
        let what = format!("{address} answers with the certificate of {proven}, not of {self}");
        Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(f, "node {node} of {}", self.cluster),
            None => write!(f, "a node of {}", self.cluster),
        }
    }
}

/// Where connections come from.
pub trait Network: Send + Sync + 'static {
    /// Takes connections at this address (`host:port`; port 0 takes any).
    fn listen<'a>(&'a self, address: &'a str) -> Connecting<'a, Box<dyn Listener>>;

    /// Connects to `host:port`. The caller bounds the time.
    fn dial<'a>(&'a self, address: &'a str) -> Connecting<'a, Connection>;

    /// All addresses that `host:port` stands for: a name may be that of many nodes. Where there are no such names, itself.
    fn resolve<'a>(&'a self, address: &'a str) -> Connecting<'a, Vec<String>> {
        Box::pin(std::future::ready(Ok(vec![address.to_owned()])))
    }
}

/// One address at which connections are taken.
pub trait Listener: Send + 'static {
    /// Where.
    fn local_addr(&self) -> SocketAddr;

    /// The next connection. An error concerns one connection; the listener goes on. May be dropped without loss.
    fn accept(&mut self) -> Connecting<'_, Connection>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_expected_nodes_or_refused() {
        let expected = |node| Expected { cluster: "c".to_owned(), node };
        let check = |node, cluster: &str, proven| {
            let proven = PeerIdentity { cluster: cluster.to_owned(), node: proven };
            expected(node).check("a:1", Some(&proven)).map_err(|why| why.to_string())
        };
        assert!(expected(Some(1)).check("a:1", None).is_ok(), "nothing is proven");
        assert_eq!((check(Some(1), "c", Some(1)), check(None, "c", Some(7))), (Ok(()), Ok(())));
        let other = "a:1 answers with the certificate of node 2 of c, not of node 1 of c";
        assert_eq!(check(Some(1), "c", Some(2)), Err(other.to_owned()));
        for (node, cluster, proven) in
            [(Some(1), "d", Some(1)), (Some(1), "c", None), (None, "d", Some(1)), (None, "c", None)]
        {
            assert!(check(node, cluster, proven).is_err(), "{node:?} {cluster} {proven:?}");
        }
    }
}
