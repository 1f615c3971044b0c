//! What a node asks of other nodes to answer for the whole cluster.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

use super::proto::admin_client::AdminClient;
use super::proto::{DescribeRaftRequest, DescribeReplicasRequest, DescribeReplicasResponse, RaftGroup};
use crate::io::net::Network;

/// How long another node may take: an answer for the whole cluster must not wait for one that is dead.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The largest answer that is taken from another node: 100,000 replicas with long names.
const ANSWER_BYTES: usize = 32 << 20;

/// What `Nodes` returns.
pub type Asking<'a, T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send + 'a>>;

/// Other nodes' admin services, by the addresses of their gRPC ports.
pub trait Nodes: Send + Sync + 'static {
    /// The Raft group as that node sees it.
    fn raft<'a>(&'a self, address: &'a str) -> Asking<'a, RaftGroup>;

    /// What that node holds of partitions on their way.
    fn replicas<'a>(&'a self, address: &'a str) -> Asking<'a, DescribeReplicasResponse>;
}

/// Asks over gRPC; keeps a connection to each node that it asked.
pub struct GrpcNodes {
    network: Arc<dyn Network>,
    channels: Mutex<BTreeMap<String, Channel>>,
}

/// More addresses than nodes a cluster has: old ones are forgotten then.
const CHANNELS: usize = 1000;

impl GrpcNodes {
    /// Dials through `network`.
    pub fn new(network: Arc<dyn Network>) -> Self {
        Self { network, channels: Mutex::default() }
    }

    fn client(&self, address: &str) -> Result<AdminClient<Channel>, Status> {
        let mut channels = self.channels.lock();
        if !channels.contains_key(address) {
            if channels.len() >= CHANNELS {
                channels.clear();
            }
            let channel = channel(Arc::clone(&self.network), address, ANSWER_WITHIN)?;
            channels.insert(address.to_owned(), channel);
        }
        Ok(AdminClient::new(channels[address].clone()).max_decoding_message_size(ANSWER_BYTES))
    }
}

impl Nodes for GrpcNodes {
    fn raft<'a>(&'a self, address: &'a str) -> Asking<'a, RaftGroup> {
        Box::pin(async move {
            let answered = self.client(address)?.describe_raft(DescribeRaftRequest {}).await?;
            Ok(answered.into_inner())
        })
    }

    fn replicas<'a>(&'a self, address: &'a str) -> Asking<'a, DescribeReplicasResponse> {
        Box::pin(async move {
            let answered = self.client(address)?.describe_replicas(DescribeReplicasRequest {}).await?;
            Ok(answered.into_inner())
        })
    }
}

/// A channel to the gRPC port at `address` (host:port), which connects at its first use and again when it must. An
/// answer takes no longer than `within`.
pub fn channel(network: Arc<dyn Network>, address: &str, within: Duration) -> Result<Channel, Status> {
    // The scheme says nothing: where links are TLS, the network makes them so.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|why| Status::invalid_argument(format!("{address} is no address: {why}")))?;
    let dialled: Arc<str> = address.into();
    let connector = tower::service_fn(move |_: Uri| {
        let (network, address) = (Arc::clone(&network), Arc::clone(&dialled));
        async move { Ok::<_, std::io::Error>(TokioIo::new(network.dial(&address).await?.stream)) }
    });
    Ok(endpoint.connect_timeout(within).timeout(within).connect_with_connector_lazy(connector))
}
