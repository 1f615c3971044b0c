//! Connections to the brokers of one cluster. Each is to a pod's address, and proves both ends: the broker shows the
//! certificate of the node that the pod should be, the operator its own.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

use super::proto::admin_client::AdminClient;
use super::proto::{
    AcquireOperatorLeaseRequest, DescribeClusterRequest, DescribeClusterResponse, DescribeConfigsRequest,
    DescribeNodeRequest, DescribeNodeResponse, IsSafeToStopRequest, NodesConfig,
};
use crate::certificates;

/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long an answer about what is may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long a write may take: a change of the Raft group takes up to 30 s.
const WRITE_WITHIN: Duration = Duration::from_secs(40);
/// So many partitions are named at most.
const NAMED: usize = 20;
/// The largest answer: a cluster of 1,000 nodes with its lists cut.
const ANSWER_BYTES: usize = 16 << 20;

/// With what the operator proves itself, and by what it knows nodes.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The cluster's id.
    pub cluster_id: String,
    /// The certificates of the authorities.
    pub authorities: Vec<u8>,
    /// The operator's certificate.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
}

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// The node that the pod should be.
    pub node: i32,
    /// The pod's UID: another pod is another process.
    pub pod: String,
    /// The pod's address.
    pub ip: String,
}

/// What the nodes answered.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// What each process is, by the node that its pod should be.
    pub nodes: BTreeMap<i32, DescribeNodeResponse>,
    /// The cluster, as its leader knows it; `None` without one.
    pub cluster: Option<DescribeClusterResponse>,
    /// The settings of all nodes; `None` where the cluster can't be described, or its version does not tell them.
    pub settings: Option<Vec<NodesConfig>>,
}

struct Link {
    address: NodeAddress,
    channel: Channel,
}

/// The connections to one cluster.
pub struct Links {
    credentials: Credentials,
    to: BTreeMap<i32, Link>,
    /// The node that led when it was asked last: it answers for the cluster, and takes writes.
    leader: Option<i32>,
    /// The operator's epoch in this cluster.
    epoch: Option<u64>,
    port: u16,
}

impl Links {
    /// Connects to nobody yet. `port`: of the admin service.
    pub fn new(credentials: Credentials, port: u16) -> Self {
        Self { credentials, to: BTreeMap::new(), leader: None, epoch: None, port }
    }

    /// Takes up new certificates, and where the nodes are now. Connections that stand stay.
    pub fn update(&mut self, credentials: Credentials, addresses: &[NodeAddress]) -> Result<(), Status> {
        if credentials != self.credentials {
            self.credentials = credentials;
            self.to.clear();
        }
        let current = |link: &Link| addresses.contains(&link.address);
        self.to.retain(|_, link| current(link));
        for address in addresses {
            if !self.to.contains_key(&address.node) {
                let channel = self.channel(address)?;
                self.to.insert(address.node, Link { address: address.clone(), channel });
            }
        }
        Ok(())
    }

    fn channel(&self, address: &NodeAddress) -> Result<Channel, Status> {
        let host = if address.ip.contains(':') { format!("[{}]", address.ip) } else { address.ip.clone() };
        let tls = ClientTlsConfig::new()
            .domain_name(certificates::host_name(&self.credentials.cluster_id, address.node))
            .ca_certificate(Certificate::from_pem(&self.credentials.authorities))
            .identity(Identity::from_pem(&self.credentials.certificate, &self.credentials.key));
        let wrong = |why: tonic::transport::Error| Status::internal(format!("the connection to {host}: {why}"));
        let endpoint = Endpoint::from_shared(format!("https://{host}:{}", self.port)).map_err(wrong)?;
        Ok(endpoint.tls_config(tls).map_err(wrong)?.connect_timeout(CONNECT_WITHIN).connect_lazy())
    }

    fn client(channel: &Channel) -> AdminClient<Channel> {
        AdminClient::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    /// Asks every node what it is, and one that knows a leader about the cluster.
    pub async fn ask(&mut self) -> Answers {
        let asked = self.to.iter().map(|(node, link)| async move {
            match within(ANSWER_WITHIN, Self::client(&link.channel).describe_node(DescribeNodeRequest {})).await {
                Ok(answer) => Some((*node, answer)),
                Err(status) => {
                    tracing::debug!(node, why = text(&status), "a node does not answer");
                    None
                }
            }
        });
        let nodes: BTreeMap<i32, DescribeNodeResponse> = join_all(asked).await.into_iter().flatten().collect();
        let cluster = self.ask_cluster(&nodes).await;
        self.leader = cluster.as_ref().and_then(|cluster| cluster.raft.as_ref()?.leader);
        let settings = self.ask_settings().await;
        Answers { nodes, cluster, settings }
    }

    async fn ask_settings(&self) -> Option<Vec<NodesConfig>> {
        let mut client = Self::client(&self.to.get(&self.leader?)?.channel);
        match within(ANSWER_WITHIN, client.describe_configs(DescribeConfigsRequest {})).await {
            Ok(answer) => Some(answer.configs),
            Err(status) => {
                tracing::debug!(why = text(&status), "the settings can't be described");
                None
            }
        }
    }

    /// The leader first, then others that know one.
    async fn ask_cluster(&self, nodes: &BTreeMap<i32, DescribeNodeResponse>) -> Option<DescribeClusterResponse> {
        let ours = |node: &DescribeNodeResponse| node.cluster_id == self.credentials.cluster_id;
        let mut knowing: Vec<i32> =
            nodes.iter().filter(|(_, node)| ours(node) && node.leader.is_some()).map(|(id, _)| *id).collect();
        knowing.sort_by_key(|id| nodes[id].leader != Some(*id));
        for node in knowing.into_iter().take(2) {
            let mut client = Self::client(&self.to[&node].channel);
            match within(ANSWER_WITHIN, client.describe_cluster(DescribeClusterRequest { latest: true })).await {
                Ok(answer) if answer.raft.as_ref().is_some_and(|raft| raft.leader.is_some()) => return Some(answer),
                Ok(_) => {}
                Err(status) => tracing::debug!(node, why = text(&status), "the cluster can't be described"),
            }
        }
        None
    }

    /// The partitions that no order of stops could keep available when this node stops.
    pub async fn unavoidable(&mut self, node: i32) -> Vec<String> {
        let link = self.leader.and_then(|leader| self.to.get(&leader));
        let Some(mut client) = link.map(|link| Self::client(&link.channel)) else { return Vec::new() };
        match within(ANSWER_WITHIN, client.is_safe_to_stop(IsSafeToStopRequest { node })).await {
            Ok(answer) => {
                let named = answer.unavoidable.iter().map(|it| format!("{}-{}", it.topic, it.partition));
                named.take(NAMED).collect()
            }
            Err(status) => {
                tracing::debug!(node, why = text(&status), "it is not known what a stop would do");
                Vec::new()
            }
        }
    }

    /// The client that takes writes, and the operator's epoch, which every write carries.
    pub async fn writer(&mut self, holder: &str) -> Result<(AdminClient<Channel>, u64), Status> {
        let link = self.leader.and_then(|leader| self.to.get(&leader)).or_else(|| self.to.values().next());
        let link = link.ok_or_else(|| Status::unavailable("no node can be reached"))?;
        let mut client = Self::client(&link.channel);
        let epoch = if let Some(epoch) = self.epoch {
            epoch
        } else {
            let request = AcquireOperatorLeaseRequest { holder: holder.to_owned() };
            written(client.acquire_operator_lease(request)).await?.epoch
        };
        self.epoch = Some(epoch);
        Ok((client, epoch))
    }

    /// Takes note of how a write ended: under an epoch that was succeeded nothing is written any more.
    ///
    /// Returns whether that is what happened: then the operator looks whether it still holds its own lease.
    pub fn ended<T>(&mut self, outcome: &Result<T, Status>) -> bool {
        let succeeded = outcome.as_ref().is_err_and(|status| status.code() == Code::PermissionDenied);
        if succeeded {
            self.epoch = None;
        }
        succeeded
    }
}

/// An answer within a time.
pub(crate) async fn within<T>(
    time: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    let answered = tokio::time::timeout(time, call).await;
    answered.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))).map(tonic::Response::into_inner)
}

/// What went wrong, from the innermost cause that is known: "transport error" tells nobody anything.
pub(crate) fn text(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

/// An answer to a write.
pub(crate) async fn written<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
    within(WRITE_WITHIN, call).await
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tonic::service::Routes;
    use tonic::transport::Server;
    use tonic::transport::server::{ServerTlsConfig, TcpIncoming};

    use super::*;
    use crate::certificates::{Authorities, CA, CERTIFICATE, KEY, node_certificates, operator_certificate};

    /// At an address that was node 0's, node 1 answers now: it is told nothing.
    #[tokio::test]
    async fn a_node_is_asked_that_shows_the_certificate_of_the_node_that_is_meant() {
        let now = Timestamp::now();
        let authorities = Authorities::of(None, "c1", now, false).expect("an authority can be made");
        let nodes = node_certificates(&authorities, "c1", &[("a-1".to_owned(), 1)], None, now).expect("a certificate");
        let mut own = operator_certificate(&authorities, "c1", None, now).expect("a certificate");
        let mut own = |name| own.remove(name).expect("it was made");
        let credentials = Credentials {
            cluster_id: "c1".to_owned(),
            authorities: own(CA),
            certificate: own(CERTIFICATE),
            key: own(KEY),
        };
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let port = incoming.local_addr().expect("bound").port();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(&nodes["a-1.crt"], &nodes["a-1.key"]))
            .client_ca_root(Certificate::from_pem(&nodes[CA]));
        let mut server = Server::builder().tls_config(tls).expect("they are good");
        // Who is let in is told that there is no such service.
        let serving = tokio::spawn(server.add_routes(Routes::default()).serve_with_incoming(incoming));

        let links = Links::new(credentials, port);
        let asked = async |node| {
            let address = NodeAddress { node, pod: "uid".to_owned(), ip: "127.0.0.1".to_owned() };
            let channel = links.channel(&address).expect("an address");
            let mut client = Links::client(&channel);
            let asked = within(ANSWER_WITHIN, client.describe_node(DescribeNodeRequest {}));
            asked.await.expect_err("there is no such service")
        };
        assert_eq!(asked(1).await.code(), Code::Unimplemented);
        let other = asked(0).await;
        assert!(text(&other).contains("certificate not valid for name"), "{}", text(&other));
        serving.abort();
    }
}
