//! A network in memory, and nodes on it, for tests of more than one node.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use uuid::Uuid;

use super::bootstrap::{self, Beginning, BootstrapError, Cluster};
use super::{Drive, Limits, Me, PeersService, RaftNode, RaftOptions, Serving};
use crate::ids::NodeId;
use crate::io::clock::SystemClock;
use crate::io::disk::sim::SimDisk;
use crate::io::grpc;
use crate::io::net::{Connecting, Connection, Listener, Network};
use crate::io::rng::Rng;

/// Bytes on their way in one direction.
const IN_FLIGHT: usize = 1 << 20;

/// Connections within the process, by made-up addresses.
#[derive(Default)]
pub(super) struct MemoryNetwork {
    listeners: Mutex<BTreeMap<String, mpsc::UnboundedSender<Connection>>>,
}

struct MemoryListener(mpsc::UnboundedReceiver<Connection>);

/// A name that stands for every node, as that of a headless Service does.
pub(super) const ALL_NODES: &str = "all:9391";

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

impl Network for MemoryNetwork {
    fn listen<'a>(&'a self, address: &'a str) -> Connecting<'a, Box<dyn Listener>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.listeners.lock().insert(address.to_owned(), sender);
        Box::pin(std::future::ready(Ok(Box::new(MemoryListener(receiver)) as Box<dyn Listener>)))
    }

    fn dial<'a>(&'a self, address: &'a str) -> Connecting<'a, Connection> {
        let (near, far) = tokio::io::duplex(IN_FLIGHT);
        let end = |stream| Connection { stream: Box::new(stream), peer: NOWHERE, identity: None };
        let listeners = self.listeners.lock();
        // Of many the system chooses: a node that asks is likely to be led to itself.
        let chosen = if address == ALL_NODES { listeners.values().last() } else { listeners.get(address) };
        let taken = chosen.is_some_and(|listener| listener.send(end(far)).is_ok());
        drop(listeners);
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        Box::pin(std::future::ready(taken.then(|| end(near)).ok_or_else(refused)))
    }

    fn resolve<'a>(&'a self, address: &'a str) -> Connecting<'a, Vec<String>> {
        let every = || self.listeners.lock().keys().cloned().collect();
        Box::pin(std::future::ready(Ok(if address == ALL_NODES { every() } else { vec![address.to_owned()] })))
    }
}

impl Listener for MemoryListener {
    fn local_addr(&self) -> SocketAddr {
        NOWHERE
    }

    fn accept(&mut self) -> Connecting<'_, Connection> {
        Box::pin(async move {
            match self.0.recv().await {
                Some(connection) => Ok(connection),
                None => std::future::pending().await,
            }
        })
    }
}

/// One node's process.
pub(super) struct Process {
    pub(super) me: Me,
    pub(super) disk: SimDisk,
    pub(super) node: Arc<RaftNode>,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

/// Where a test's nodes are, and how they run.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) network: Arc<dyn Network>,
    pub(super) cluster: Cluster,
    pub(super) drive: Drive,
}

impl Site {
    /// So many initial voters on a network in memory, in the test's own runtime.
    pub(super) fn of_voters(count: i32) -> Self {
        let initial_voters = (0..count).map(|node| (NodeId::new(node), address_of(node))).collect();
        let cluster = Cluster { initial_voters, seeds: vec![address_of(0), address_of(1)] };
        Self { network: Arc::new(MemoryNetwork::default()), cluster, drive: Drive::Task }
    }

    pub(super) fn me(node: i32, directory: u128) -> Me {
        Me {
            cluster_id: "cluster-1".to_owned(),
            node: NodeId::new(node),
            directory: Uuid::from_u128(directory),
            address: address_of(node),
        }
    }

    /// Starts a node as the server does: it answers its peers first.
    pub(super) async fn start(&self, me: Me, disk: SimDisk) -> Result<Process, BootstrapError> {
        let rng = Rng::seeded(me.directory.as_u128() as u64);
        let options = RaftOptions {
            me: me.clone(),
            dir: PathBuf::from("/data/wal/__meta"),
            limits: Limits::default(),
            disk: Arc::new(disk.clone()),
            clock: Arc::new(SystemClock::start()),
            rng: rng.clone(),
            network: self.network.clone(),
            drive: self.drive,
            fatal: Arc::new(|error| panic!("{error}")),
        };
        let formed = RaftNode::is_formed(&options).expect("no faults");
        let stop = CancellationToken::new();
        let serving = Serving::new(me.clone(), !formed, stop.clone());
        let listener = self.network.listen(&me.address).await.expect("a free address");
        let routes = Routes::new(PeersService::server(serving.clone()));
        let serve = grpc::serve(listener, routes, stop.clone());
        let server = tokio::spawn(async move { serve.await.expect("it serves until it is stopped") });
        let stopped_if_refused = stop.clone().drop_guard();
        if !formed {
            match bootstrap::begin(&me, &self.cluster, &self.network, &rng).await? {
                Beginning::Form => RaftNode::form(&options).expect("no faults"),
                Beginning::Join(roster) => RaftNode::join(&options, roster).expect("no faults"),
            }
        }
        let node = RaftNode::start(options).expect("formed or joined");
        serving.set_node(node.clone());
        stopped_if_refused.disarm();
        Ok(Process { me, disk, node, stop, server })
    }
}

fn address_of(node: i32) -> String {
    format!("node{node}:9391")
}

impl Process {
    /// Ends it at once, as far as its peers can see.
    pub(super) async fn kill(self) -> SimDisk {
        self.node.shutdown();
        self.stop.cancel();
        self.server.abort();
        drop(self.node);
        // Its end is seen when its connections are closed.
        drop(self.server.await);
        self.disk.kill()
    }
}
