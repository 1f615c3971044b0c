//! The service between the nodes of a cluster: who may call it, and the messages' types.
//!
//! Each request names its cluster, its sender (node and data folder) and whom it is for. A sender must be in the
//! roster with that data folder: a wiped node, or a second process with a node's id, is not heard as that node.

mod frames;
pub mod proto;
mod service;

use uuid::Uuid;

use crate::ids::NodeId;
use crate::io::net::{Expected, PeerIdentity};
use crate::metadata::Member;

pub(super) use frames::{Assembler, frames_of};
pub(super) use proto::*;
pub use service::{PeersService, Serving};

/// A process, as it introduces itself to its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Me {
    /// Its cluster.
    pub cluster_id: String,
    /// Its node's id.
    pub node: NodeId,
    /// The identity of its data folder.
    pub directory: Uuid,
    /// Where peers reach it: `host:port`.
    pub address: String,
}

/// A node and its data folder, as a peer names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who {
    /// The node's id.
    pub node: NodeId,
    /// The identity of its data folder.
    pub directory: Uuid,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not as it must be.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// The sender is part of another cluster.
    #[error("this node belongs to cluster {ours}, not to cluster {theirs}")]
    OtherCluster {
        /// The addressee's.
        ours: String,
        /// The sender's.
        theirs: String,
    },
    /// The sender's certificate is another node's.
    #[error("the certificate is not node {0}'s of this cluster")]
    Certificate(NodeId),
    /// Another process answers at this address.
    #[error("this is node {0}, or another data folder of the node that was meant")]
    NotForThisNode(NodeId),
    /// The roster does not name the sender with its data folder.
    #[error("node {0} is no member of the metadata plane with that data folder")]
    NotAMember(NodeId),
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::Malformed(_) => Self::invalid_argument(text),
            Refusal::OtherCluster { .. } | Refusal::Certificate(_) => Self::unauthenticated(text),
            Refusal::NotForThisNode(_) => Self::failed_precondition(text),
            Refusal::NotAMember(_) => Self::permission_denied(text),
        }
    }
}

impl Me {
    /// The start of a request to `to`.
    pub(super) fn envelope(&self, to: Option<Who>) -> Envelope {
        Envelope {
            cluster_id: self.cluster_id.clone(),
            from: Some(identity_of(Who { node: self.node, directory: self.directory })),
            to: to.map(identity_of),
        }
    }

    /// Whose certificate a dialled address must show: this node's, or that of any of the cluster.
    pub(super) fn expects(&self, node: Option<NodeId>) -> Expected {
        Expected { cluster: self.cluster_id.clone(), node: node.map(NodeId::get) }
    }

    /// Who sent a request, if it is of this cluster, for this process, and from whom the connection belongs to.
    pub(super) fn sender(&self, envelope: Option<&Envelope>, link: Option<&PeerIdentity>) -> Result<Who, Refusal> {
        let envelope = envelope.ok_or(Refusal::Malformed("no envelope"))?;
        if envelope.cluster_id != self.cluster_id {
            let theirs = envelope.cluster_id.chars().take(100).collect();
            return Err(Refusal::OtherCluster { ours: self.cluster_id.clone(), theirs });
        }
        let from = who_of(envelope.from.as_ref().ok_or(Refusal::Malformed("no sender"))?)?;
        if let Some(proven) = link
            && (proven.cluster != self.cluster_id || proven.node != Some(from.node.get()))
        {
            return Err(Refusal::Certificate(from.node));
        }
        let me = Who { node: self.node, directory: self.directory };
        match &envelope.to {
            Some(to) if who_of(to)? != me => Err(Refusal::NotForThisNode(self.node)),
            _ => Ok(from),
        }
    }
}

/// Whether the roster's entry of a sender's node, if it has one, is of its data folder.
pub(super) fn check_member(from: Who, member: Option<&Member>) -> Result<(), Refusal> {
    let known = member.is_some_and(|member| member.directory == from.directory);
    if known { Ok(()) } else { Err(Refusal::NotAMember(from.node)) }
}

pub(super) fn identity_of(who: Who) -> Identity {
    Identity { node: who.node.get(), directory: bytes::Bytes::copy_from_slice(who.directory.as_bytes()) }
}

pub(super) fn who_of(identity: &Identity) -> Result<Who, Refusal> {
    let node = NodeId::try_from(identity.node).map_err(|_| Refusal::Malformed("a negative node id"))?;
    let directory =
        Uuid::from_slice(&identity.directory).map_err(|_| Refusal::Malformed("a directory id has 16 bytes"))?;
    Ok(Who { node, directory })
}

pub(super) fn peer_of(member: &Member) -> Peer {
    let who = Who { node: member.node, directory: member.directory };
    Peer { identity: Some(identity_of(who)), address: member.address.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Target;

    fn me() -> Me {
        Me { cluster_id: "c".to_owned(), node: NodeId::new(0), directory: Uuid::from_u128(10), address: String::new() }
    }

    fn other() -> Me {
        Me { node: NodeId::new(1), directory: Uuid::from_u128(11), ..me() }
    }

    const THIS: Who = Who { node: NodeId::new(0), directory: Uuid::from_u128(10) };

    #[test]
    fn a_request_of_this_cluster_for_this_process_names_its_sender() {
        let from = Who { node: NodeId::new(1), directory: Uuid::from_u128(11) };
        assert_eq!(me().sender(Some(&other().envelope(Some(THIS))), None), Ok(from));
        assert_eq!(me().sender(Some(&other().envelope(None)), None), Ok(from), "a probe does not know whom it asks");
        let proven = PeerIdentity { cluster: "c".to_owned(), node: Some(1) };
        assert_eq!(me().sender(Some(&other().envelope(Some(THIS))), Some(&proven)), Ok(from));
    }

    #[test]
    fn another_cluster_process_or_certificate_is_refused() {
        let stranger = Me { cluster_id: "d".to_owned(), ..other() };
        assert!(matches!(me().sender(Some(&stranger.envelope(Some(THIS))), None), Err(Refusal::OtherCluster { .. })));
        let wiped = Some(Who { node: NodeId::new(0), directory: Uuid::from_u128(99) });
        let refused = me().sender(Some(&other().envelope(wiped)), None);
        assert_eq!(refused, Err(Refusal::NotForThisNode(NodeId::new(0))));
        for (cluster, node) in [("d", Some(1)), ("c", Some(2)), ("c", None)] {
            let proven = PeerIdentity { cluster: cluster.to_owned(), node };
            let refused = me().sender(Some(&other().envelope(Some(THIS))), Some(&proven));
            assert_eq!(refused, Err(Refusal::Certificate(NodeId::new(1))), "{proven:?}");
        }
        for malformed in [None, Some(Envelope { cluster_id: "c".to_owned(), from: None, to: None })] {
            assert!(matches!(me().sender(malformed.as_ref(), None), Err(Refusal::Malformed(_))));
        }
    }

    #[test]
    fn only_the_rosters_data_folder_is_heard() {
        let from = Who { node: NodeId::new(1), directory: Uuid::from_u128(11) };
        let member =
            Member { node: from.node, directory: from.directory, address: String::new(), target: Target::Voter };
        assert_eq!(check_member(from, Some(&member)), Ok(()));
        let wiped = Who { directory: Uuid::from_u128(12), ..from };
        assert_eq!(check_member(wiped, Some(&member)), Err(Refusal::NotAMember(from.node)));
        assert_eq!(check_member(from, None), Err(Refusal::NotAMember(from.node)));
    }
}
