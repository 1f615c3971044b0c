//! Who asks. Where links prove identities, a node says which it is, and what it says must be what its certificate proves:
//! a process that was given another node's certificate says its own id, as its settings have it, and is refused. An
//! operator's certificate names no node, and its holder says none.

use std::sync::Arc;

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};
use uuid::Uuid;

use crate::ids::NodeId;
use crate::io::grpc::Link;
use crate::io::net::PeerIdentity;
use crate::metadata::MetadataPlane;

/// The metadata key of the node's id.
const NODE: &str = "chronik-node";
/// The metadata key of the identity of the node's data folder.
const DIRECTORY: &str = "chronik-directory";

/// What a caller says of itself, with each request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Claim {
    node: Option<NodeId>,
    directory: Option<Uuid>,
}

impl Claim {
    /// An operator's: it is no node.
    pub const OPERATOR: Self = Self { node: None, directory: None };

    /// A node's. `directory`: the identity of its data folder, where the caller is the broker itself.
    pub fn node(node: NodeId, directory: Option<Uuid>) -> Self {
        Self { node: Some(node), directory }
    }

    fn of(metadata: &MetadataMap) -> Result<Self, Stranger> {
        let text = |key| match metadata.get(key) {
            None => Ok(None),
            Some(value) => value.to_str().map(Some).map_err(|_| Stranger::Malformed(key)),
        };
        let node = |text: &str| text.parse().ok().and_then(|node: i32| NodeId::try_from(node).ok());
        Ok(Self {
            node: text(NODE)?.map(|text| node(text).ok_or(Stranger::Malformed(NODE))).transpose()?,
            directory: text(DIRECTORY)?
                .map(|text| Uuid::parse_str(text).map_err(|_| Stranger::Malformed(DIRECTORY)))
                .transpose()?,
        })
    }
}

impl Interceptor for Claim {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let mut say = |key: &'static str, value: String| {
            let value = MetadataValue::try_from(value).expect("digits, letters and dashes are ASCII");
            request.metadata_mut().insert(key, value);
        };
        if let Some(node) = self.node {
            say(NODE, node.to_string());
        }
        if let Some(directory) = self.directory {
            say(DIRECTORY, directory.to_string());
        }
        Ok(request)
    }
}

/// Why a caller is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Stranger {
    /// Its certificate is another cluster's.
    #[error("the certificate is of {0}, this node is of {1}")]
    OtherCluster(PeerIdentity, Arc<str>),
    /// It has a node's certificate, and does not say which node it is.
    #[error("the certificate is of {0}, and the caller does not say which node it is ({NODE})")]
    Nameless(PeerIdentity),
    /// It says that it is another node than its certificate proves.
    #[error("the certificate is of {0}, and the caller says that it is node {1}")]
    Another(PeerIdentity, NodeId),
    /// What it says can't be read.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// The roster names the node with another data folder.
    #[error("node {0} is no member of the metadata plane with that data folder")]
    OtherDirectory(NodeId),
}

impl From<Stranger> for Status {
    fn from(stranger: Stranger) -> Self {
        let text = stranger.to_string();
        match stranger {
            Stranger::Malformed(_) => Self::invalid_argument(text),
            Stranger::OtherDirectory(_) => Self::permission_denied(text),
            Stranger::OtherCluster(..) | Stranger::Nameless(_) | Stranger::Another(..) => Self::unauthenticated(text),
        }
    }
}

/// Lets requests of one cluster's nodes and operators through. Where links prove nothing, it lets all through.
#[derive(Clone)]
pub struct Callers {
    cluster: Arc<str>,
    metadata: Arc<dyn MetadataPlane>,
}

impl Callers {
    /// Of this cluster, and this roster.
    pub fn new(cluster: &str, metadata: Arc<dyn MetadataPlane>) -> Self {
        Self { cluster: cluster.into(), metadata }
    }

    fn check(&self, proven: &PeerIdentity, said: Claim) -> Result<(), Stranger> {
        if proven.cluster != *self.cluster {
            return Err(Stranger::OtherCluster(proven.clone(), Arc::clone(&self.cluster)));
        }
        let node = match (proven.node, said.node) {
            (None, None) => return Ok(()),
            (Some(_), None) => return Err(Stranger::Nameless(proven.clone())),
            (proven, Some(said)) if proven == Some(said.get()) => said,
            (_, Some(said)) => return Err(Stranger::Another(proven.clone(), said)),
        };
        let image = self.metadata.image();
        // A node that is not let in yet is in no roster.
        match (said.directory, image.member(node)) {
            (Some(directory), Some(member)) if member.directory != directory => Err(Stranger::OtherDirectory(node)),
            _ => Ok(()),
        }
    }
}

impl Interceptor for Callers {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let link = request.extensions().get::<Link>();
        if let Some(proven) = link.and_then(|link| link.identity.as_ref()) {
            self.check(proven, Claim::of(request.metadata())?)?;
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::metadata::Command;
    use crate::metadata::testing::InstantPlane;

    const FOLDER: Uuid = Uuid::from_u128(11);

    /// A cluster "c" whose roster names node 1.
    async fn callers() -> Callers {
        let plane = InstantPlane::new();
        let admit =
            Command::AdmitMember { node: NodeId::new(1), directory: FOLDER, address: "a:1".to_owned(), vote: true };
        assert_eq!(plane.propose(admit).await.expect("applied at once").refused(), None);
        Callers::new("c", plane)
    }

    fn certificate(cluster: &str, node: Option<i32>) -> PeerIdentity {
        PeerIdentity { cluster: cluster.to_owned(), node }
    }

    fn said(node: i32) -> Claim {
        Claim::node(NodeId::new(node), None)
    }

    /// What the caller is told, if it is refused.
    fn refusal(callers: &Callers, identity: Option<PeerIdentity>, mut said: Claim) -> Option<String> {
        let mut request = said.call(Request::new(())).expect("a claim is put into any request");
        request.extensions_mut().insert(Link { peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), identity });
        callers.clone().call(request).err().map(|status| status.message().to_owned())
    }

    #[tokio::test]
    async fn a_caller_is_who_its_certificate_says() {
        let callers = callers().await;
        for (proven, said) in [
            (None, Claim::OPERATOR),
            (None, said(1)),
            (Some(certificate("c", None)), Claim::OPERATOR),
            (Some(certificate("c", Some(1))), said(1)),
            (Some(certificate("c", Some(1))), Claim::node(NodeId::new(1), Some(FOLDER))),
            (Some(certificate("c", Some(2))), Claim::node(NodeId::new(2), Some(Uuid::from_u128(22)))),
        ] {
            assert_eq!(refusal(&callers, proven.clone(), said), None, "{proven:?} {said:?}");
        }
    }

    #[tokio::test]
    async fn another_clusters_nodes_or_folders_caller_is_refused() {
        let callers = callers().await;
        let wiped = Claim::node(NodeId::new(1), Some(Uuid::from_u128(12)));
        for (proven, said, why) in [
            (certificate("d", None), Claim::OPERATOR, "the certificate is of an operator of d, this node is of c"),
            (certificate("d", Some(1)), said(1), "the certificate is of node 1 of d, this node is of c"),
            (
                certificate("c", Some(2)),
                said(1),
                "the certificate is of node 2 of c, and the caller says that it is node 1",
            ),
            (
                certificate("c", None),
                said(1),
                "the certificate is of an operator of c, and the caller says that it is node 1",
            ),
            (
                certificate("c", Some(1)),
                Claim::OPERATOR,
                "the certificate is of node 1 of c, and the caller does not say which node it is (chronik-node)",
            ),
            (certificate("c", Some(1)), wiped, "node 1 is no member of the metadata plane with that data folder"),
        ] {
            assert_eq!(refusal(&callers, Some(proven), said).as_deref(), Some(why));
        }
    }

    #[test]
    fn what_can_not_be_read_is_no_claim() {
        for (key, value) in [(NODE, "one"), (NODE, "-1"), (NODE, ""), (NODE, "2147483648"), (DIRECTORY, "x")] {
            let mut metadata = MetadataMap::new();
            metadata.insert(key, value.parse().expect("ASCII"));
            assert_eq!(Claim::of(&metadata), Err(Stranger::Malformed(key)), "{value}");
        }
    }
}
