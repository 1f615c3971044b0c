//! What a node asks of other nodes to answer for the whole cluster.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tonic::Status;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};

use super::caller::Claim;
use super::proto::admin_client::AdminClient;
use super::proto::{DescribeRaftRequest, DescribeReplicasRequest, DescribeReplicasResponse, RaftGroup};
use crate::ids::NodeId;
use crate::io::net::{Connection, Expected, Network};

/// How long another node may take: an answer for the whole cluster must not wait for one that is dead.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The largest answer that is taken from another node: 100,000 replicas with long names.
const ANSWER_BYTES: usize = 32 << 20;

/// A client of the admin service that says who it is.
pub type Client = AdminClient<InterceptedService<Channel, Claim>>;

/// What `Nodes` returns.
pub type Asking<'a, T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send + 'a>>;

/// Other nodes' admin services, by the addresses of their gRPC ports.
pub trait Nodes: Send + Sync + 'static {
    /// The Raft group as that node sees it.
    fn raft<'a>(&'a self, node: NodeId, address: &'a str) -> Asking<'a, RaftGroup>;

    /// What that node holds of partitions on their way.
    fn replicas<'a>(&'a self, node: NodeId, address: &'a str) -> Asking<'a, DescribeReplicasResponse>;
}

/// Asks over gRPC; keeps a connection to each node that it asked, and takes answers of no other.
pub struct GrpcNodes {
    network: Arc<dyn Network>,
    cluster: String,
    me: Claim,
    clients: Mutex<BTreeMap<(NodeId, String), Client>>,
}

/// More addresses than nodes a cluster has: old ones are forgotten then.
const CLIENTS: usize = 1000;

impl GrpcNodes {
    /// Dials nodes of this cluster through `network`, and says there that it is `me`.
    pub fn new(network: Arc<dyn Network>, cluster: &str, me: Claim) -> Self {
        Self { network, cluster: cluster.to_owned(), me, clients: Mutex::default() }
    }

    fn client(&self, node: NodeId, address: &str) -> Result<Client, Status> {
        let mut clients = self.clients.lock();
        let place = (node, address.to_owned());
        if let Some(client) = clients.get(&place) {
            return Ok(client.clone());
        }
        if clients.len() >= CLIENTS {
            clients.clear();
        }
        let expected = Expected { cluster: self.cluster.clone(), node: Some(node.get()) };
        let client = client(Arc::clone(&self.network), address, Some(expected), self.me, ANSWER_WITHIN)?;
        let client = client.max_decoding_message_size(ANSWER_BYTES);
        clients.insert(place, client.clone());
        Ok(client)
    }
}

impl Nodes for GrpcNodes {
    fn raft<'a>(&'a self, node: NodeId, address: &'a str) -> Asking<'a, RaftGroup> {
        Box::pin(async move {
            let answered = self.client(node, address)?.describe_raft(DescribeRaftRequest {}).await?;
            Ok(answered.into_inner())
        })
    }

    fn replicas<'a>(&'a self, node: NodeId, address: &'a str) -> Asking<'a, DescribeReplicasResponse> {
        Box::pin(async move {
            let answered = self.client(node, address)?.describe_replicas(DescribeReplicasRequest {}).await?;
            Ok(answered.into_inner())
        })
    }
}

/// A client of the admin service at `address` (host:port), which connects at its first use and again when it must. Where
/// links prove identities, only `expected` is spoken to. It says with each request that it is `me`. An answer takes no
/// longer than `within`.
pub fn client(
    network: Arc<dyn Network>,
    address: &str,
    expected: Option<Expected>,
    me: Claim,
    within: Duration,
) -> Result<Client, Status> {
    // The scheme says nothing: where links are TLS, the network makes them so.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|why| Status::invalid_argument(format!("{address} is no address: {why}")))?;
    let dialled: Arc<str> = address.into();
    let connector = tower::service_fn(move |_: Uri| {
        let (network, address, expected) = (Arc::clone(&network), Arc::clone(&dialled), expected.clone());
        async move {
            let Connection { stream, identity, .. } = network.dial(&address).await?;
            if let Some(expected) = expected {
                expected.check(&address, identity.as_ref())?;
            }
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let channel = endpoint.connect_timeout(within).timeout(within).connect_with_connector_lazy(connector);
    Ok(AdminClient::with_interceptor(channel, me))
}
