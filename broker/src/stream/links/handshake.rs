//! Who may speak to whom: what a node says of itself, what its certificate proves, and what the roster knows.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::frame::{Hello, Identity};
use crate::ids::{BrokerEpoch, NodeId};
use crate::io::net::PeerIdentity;
use crate::metadata::{Image, Node};

/// The nodes that are registered, as this node's image knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    nodes: BTreeMap<NodeId, Registered>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The identity of its data folder.
    pub directory: Uuid,
    /// Its registration.
    pub epoch: BrokerEpoch,
    /// Where its WAL receiver is, `host:port`.
    pub wal: Option<String>,
}

/// Why the other end is not who it must be. Told to it as the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It belongs elsewhere.
    #[error("it is of the cluster {theirs}, this node is of {ours}")]
    Cluster {
        /// What it said.
        theirs: String,
        /// This node's.
        ours: String,
    },
    /// Its certificate is another's.
    #[error("it says that it is node {said}, its certificate is of {proven}")]
    Certificate {
        /// What it said.
        said: NodeId,
        /// Whose certificate it has.
        proven: String,
    },
    /// It has this node's id.
    #[error("it has this node's own id, {0}")]
    Ourselves(NodeId),
    /// The address led to another node.
    #[error("node {answered} answers where node {expected} was expected")]
    WrongNode {
        /// Who was dialled.
        expected: NodeId,
        /// Who answered.
        answered: NodeId,
    },
    /// Nobody of that id, as far as this node knows.
    #[error("node {0} is not registered, as far as this node knows")]
    NotRegistered(NodeId),
    /// Another data folder than the registered one: a wiped disk, or a second process with the same id.
    #[error("node {node} is registered with the directory {registered}, not {said}")]
    Directory {
        /// Whom it says it is.
        node: NodeId,
        /// The roster's.
        registered: Uuid,
        /// What it said.
        said: Uuid,
    },
    /// Another registration than the newest: it restarted, or this node's image is behind.
    #[error("node {node} is registered with the epoch {registered}, not {said}")]
    Epoch {
        /// Whom it says it is.
        node: NodeId,
        /// The roster's.
        registered: BrokerEpoch,
        /// What it said.
        said: BrokerEpoch,
    },
}

impl Roster {
    /// What an image says.
    pub fn of(image: &Image) -> Self {
        let entry = |node: &Node| {
            let wal = node.wal.as_ref().map(ToString::to_string);
            (node.id, Registered { directory: node.directory, epoch: node.epoch, wal })
        };
        Self { nodes: image.nodes().map(entry).collect() }
    }

    /// One node.
    pub fn get(&self, node: NodeId) -> Option<&Registered> {
        self.nodes.get(&node)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Registered)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// Whether this is the node that is registered.
    fn check(&self, who: &Identity) -> Result<(), IdentityError> {
        let known = self.get(who.node).ok_or(IdentityError::NotRegistered(who.node))?;
        if known.directory != who.directory {
            return Err(IdentityError::Directory { node: who.node, registered: known.directory, said: who.directory });
        }
        if known.epoch != who.epoch {
            return Err(IdentityError::Epoch { node: who.node, registered: known.epoch, said: who.epoch });
        }
        Ok(())
    }
}

impl FromIterator<(NodeId, Registered)> for Roster {
    fn from_iter<I: IntoIterator<Item = (NodeId, Registered)>>(nodes: I) -> Self {
        Self { nodes: nodes.into_iter().collect() }
    }
}

/// A follower's check of the leader that says Hello.
pub(super) fn check_hello(
    hello: &Hello,
    proven: Option<&PeerIdentity>,
    cluster: &str,
    ourselves: NodeId,
    roster: &Roster,
) -> Result<(), IdentityError> {
    if hello.cluster != cluster {
        return Err(IdentityError::Cluster { theirs: hello.cluster.clone(), ours: cluster.to_owned() });
    }
    if hello.to != ourselves {
        return Err(IdentityError::WrongNode { expected: hello.to, answered: ourselves });
    }
    check_peer(&hello.from, proven, cluster, ourselves, roster)
}

/// A leader's check of the follower that answers in place of `expected`.
pub(super) fn check_answer(
    answer: &Identity,
    proven: Option<&PeerIdentity>,
    cluster: &str,
    ourselves: NodeId,
    expected: NodeId,
    roster: &Roster,
) -> Result<(), IdentityError> {
    if expected != answer.node {
        return Err(IdentityError::WrongNode { expected, answered: answer.node });
    }
    check_peer(answer, proven, cluster, ourselves, roster)
}

fn check_peer(
    who: &Identity,
    proven: Option<&PeerIdentity>,
    cluster: &str,
    ourselves: NodeId,
    roster: &Roster,
) -> Result<(), IdentityError> {
    if let Some(proven) = proven
        && (proven.cluster != cluster || proven.node != Some(who.node.get()))
    {
        return Err(IdentityError::Certificate { said: who.node, proven: proven.to_string() });
    }
    if who.node == ourselves {
        return Err(IdentityError::Ourselves(ourselves));
    }
    roster.check(who)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::links::frame::Lane;
    use crate::stream::links::testing::{CLUSTER, identity, roster};

    const OURSELVES: NodeId = NodeId::new(1);

    fn proven(cluster: &str, node: Option<i32>) -> PeerIdentity {
        PeerIdentity { cluster: cluster.to_owned(), node }
    }

    #[test]
    fn a_hello_is_checked_against_cluster_certificate_and_roster() {
        let roster = roster(&[identity(1, 5), identity(2, 7)]);
        let good = identity(2, 7);
        let wiped = Identity { directory: Uuid::from_u128(99), ..good };
        let cases = [
            (CLUSTER, good, None, None),
            (CLUSTER, good, Some(proven(CLUSTER, Some(2))), None),
            ("other", good, None, Some("it is of the cluster other, this node is of test-cluster")),
            (
                CLUSTER,
                good,
                Some(proven(CLUSTER, Some(3))),
                Some("it says that it is node 2, its certificate is of node 3 of test-cluster"),
            ),
            (
                CLUSTER,
                good,
                Some(proven("other", Some(2))),
                Some("it says that it is node 2, its certificate is of node 2 of other"),
            ),
            (
                CLUSTER,
                good,
                Some(proven(CLUSTER, None)),
                Some("it says that it is node 2, its certificate is of an operator of test-cluster"),
            ),
            (CLUSTER, identity(1, 5), None, Some("it has this node's own id, 1")),
            (CLUSTER, identity(3, 7), None, Some("node 3 is not registered, as far as this node knows")),
            (CLUSTER, identity(2, 6), None, Some("node 2 is registered with the epoch 7, not 6")),
            (CLUSTER, identity(2, 8), None, Some("node 2 is registered with the epoch 7, not 8")),
            (
                CLUSTER,
                wiped,
                None,
                Some(
                    "node 2 is registered with the directory 00000000-0000-0000-0000-000000000002, not \
                     00000000-0000-0000-0000-000000000063",
                ),
            ),
        ];
        for (cluster, from, certificate, why) in cases {
            let hello = Hello { cluster: cluster.to_owned(), from, to: OURSELVES, lane: Lane::Live };
            let checked = check_hello(&hello, certificate.as_ref(), CLUSTER, OURSELVES, &roster);
            assert_eq!(checked.err().map(|why| why.to_string()).as_deref(), why);
        }
    }

    #[test]
    fn a_follower_that_answers_for_another_is_refused() {
        let roster = roster(&[identity(1, 5), identity(2, 7), identity(3, 7)]);
        let answered =
            |expected| check_answer(&identity(3, 7), None, CLUSTER, OURSELVES, NodeId::new(expected), &roster);
        assert_eq!(answered(3), Ok(()));
        let wrong = IdentityError::WrongNode { expected: NodeId::new(2), answered: NodeId::new(3) };
        assert_eq!(answered(2), Err(wrong));
    }

    #[test]
    fn a_leader_that_means_another_node_is_told_who_is_here() {
        let roster = roster(&[identity(1, 5), identity(2, 7)]);
        let to = NodeId::new(3);
        let hello = Hello { cluster: CLUSTER.to_owned(), from: identity(2, 7), to, lane: Lane::Live };
        let wrong = IdentityError::WrongNode { expected: to, answered: OURSELVES };
        assert_eq!(check_hello(&hello, None, CLUSTER, OURSELVES, &roster), Err(wrong));
    }
}
