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
