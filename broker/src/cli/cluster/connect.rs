//! The connection to an admin service.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use tonic::{Code, Response, Status};

use crate::admin::proto::DescribeNodeRequest;
use crate::admin::{Claim, Client, client};
use crate::cli::environment::environment;
use crate::cli::{Failure, exit};
use crate::config;
use crate::ids::NodeId;
use crate::io::grpc::innermost;
use crate::io::net::real::RealNetwork;
use crate::io::net::tls::TlsNetwork;
use crate::io::net::{Expected, Network, PeerIdentity};

/// Where an admin service is looked for when nothing is said: where one on this machine serves by default.
pub(in crate::cli) const DEFAULT_ADMIN: &str = "localhost:9391";
/// How long an answer may take: a change of the Raft group takes up to 30 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);
/// How long one address may take to show that a node is there.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// An order that takes longer than this has the person told what it waits for.
const TELL_AFTER: Duration = Duration::from_secs(2);
/// The largest answer that is taken: a list of 100,000 partitions.
const ANSWER_BYTES: usize = 64 << 20;

/// Where the admin service is.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct AdminAddress {
    /// Addresses of the nodes' gRPC ports: one that answers is enough
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT[,…]",
        default_value = DEFAULT_ADMIN,
        env = "CHRONIK_ADMIN",
        hide_env = true
    )]
    admin: String,
    /// Where links are TLS: the folder with ca.crt, tls.crt and tls.key of a node or an operator
    #[arg(long, global = true, value_name = "DIR", env = "CHRONIK_TLS_DIR", hide_env = true)]
    tls_dir: Option<PathBuf>,
}

impl AdminAddress {
    /// `HOST:PORT[,…]`.
    pub(in crate::cli) fn addresses(&self) -> &str {
        &self.admin
    }
}

/// A node's admin service that has answered.
pub(in crate::cli) struct Connected {
    /// Its service.
    pub(in crate::cli) client: Client,
    address: AdminAddress,
}

impl AdminAddress {
    /// Connects to the first address that answers.
    pub(in crate::cli) async fn connect(&self) -> Result<Connected, Failure> {
        let caller = self.caller().await?;
        let mut last = "no address was given".to_owned();
        for address in self.admin.split(',').map(str::trim).filter(|address| !address.is_empty()) {
            match reach(&caller, address).await {
                Ok(client) => return Ok(Connected { client, address: self.clone() }),
                Err(why) => last = format!("{address}: {}", text(&why)),
            }
        }
        Err(Failure::Failed(format!(
            "can't reach an admin service at {last}; it is on the gRPC port of each node (--admin HOST:PORT), and where links are TLS it wants a certificate (--tls-dir DIR)"
        )))
    }
}

impl AdminAddress {
    async fn caller(&self) -> Result<Caller, Failure> {
        let machine: Arc<dyn Network> = Arc::new(RealNetwork);
        let Some(dir) = &self.tls_dir else {
            return Ok(Caller { network: machine, expected: None, me: Claim::OPERATOR });
        };
        let tls = TlsNetwork::open(machine, dir).await;
        let tls = tls.map_err(|why| Failure::Usage(format!("--tls-dir: {why}")))?;
        let proves = tls.identity();
        let me = match proves.node {
            None => Claim::OPERATOR,
            Some(_) => claim(&proves, settings_node()?),
        };
        Ok(Caller { network: Arc::new(tls), expected: Some(Expected { cluster: proves.cluster, node: None }), me })
    }
}

/// As whom nodes are asked, and who may answer.
struct Caller {
    network: Arc<dyn Network>,
    expected: Option<Expected>,
    me: Claim,
}

fn settings_node() -> Result<Option<NodeId>, Failure> {
    config::node_id_in_environment(environment()).map_err(|why| Failure::Usage(why.to_string()))
}

/// Beside a broker, in its environment, this is the node that the broker's settings name: with another node's certificate
/// it is refused, as the broker is. Anywhere else it is who the certificate says.
fn claim(certificate: &PeerIdentity, settings: Option<NodeId>) -> Claim {
    let proven = certificate.node.and_then(|node| NodeId::try_from(node).ok());
    proven.map_or(Claim::OPERATOR, |proven| Claim::node(settings.unwrap_or(proven), None))
}

impl Connected {
    /// A connection to another node, after this one's is lost.
    pub(in crate::cli) async fn anew(&self) -> Result<Self, Failure> {
        self.address.connect().await
    }

    /// Which of these addresses can't be reached from here, and why.
    pub(super) async fn unreachable(&self, addresses: impl Iterator<Item = &str>) -> Result<Vec<String>, Failure> {
        let caller = self.address.caller().await?;
        let asked = addresses.map(async |address| {
            let why = reach(&caller, address).await.err()?;
            Some(format!("{address}: {}", text(&why)))
        });
        Ok(join_all(asked).await.into_iter().flatten().collect())
    }
}

/// The answer to an order. Orders need the metadata's leader: while there is none, the node that was asked waits for it.
pub(super) async fn ordered<T>(answer: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
    let mut answer = std::pin::pin!(answer);
    if let Ok(answered) = tokio::time::timeout(TELL_AFTER, &mut answer).await {
        return Ok(answered?.into_inner());
    }
    exit::note("still waiting: an order needs the metadata's leader, and so a majority of the voters");
    Ok(answer.await?.into_inner())
}

async fn reach(caller: &Caller, address: &str) -> Result<Client, Status> {
    let Caller { network, expected, me } = caller;
    let client = client(Arc::clone(network), address, expected.clone(), *me, ANSWER_WITHIN)?;
    let mut client = client.max_decoding_message_size(ANSWER_BYTES);
    let answered = tokio::time::timeout(CONNECT_WITHIN, client.describe_node(DescribeNodeRequest {})).await;
    answered.map_err(|_| Status::deadline_exceeded("no answer in time"))??;
    Ok(client)
}

/// What went wrong, from the innermost cause that is known: "transport error" tells nobody anything.
fn text(status: &Status) -> String {
    innermost(status).unwrap_or_else(|| status.message().to_owned())
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::InvalidArgument => Self::Usage(text(&status)),
            _ => Self::Failed(text(&status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_a_broker_it_is_the_brokers_node_and_else_who_the_certificate_says() {
        let certificate = |node| PeerIdentity { cluster: "c".to_owned(), node };
        let node = |id| Claim::node(NodeId::new(id), None);
        assert_eq!(claim(&certificate(Some(2)), None), node(2));
        assert_eq!(claim(&certificate(Some(2)), Some(NodeId::new(1))), node(1), "and so it is refused");
        assert_eq!(claim(&certificate(None), Some(NodeId::new(1))), Claim::OPERATOR);
    }
}
