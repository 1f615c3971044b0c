//! Raft's group as its leader sees it, on any node: followers ask the leader.

use std::sync::Arc;
use std::time::Duration;

use super::nodes::Nodes;
use super::proto::{RaftGroup, RaftMember};
use crate::ids::NodeId;
use crate::metadata::quorum::{DescribingQuorum, QuorumView};
use crate::metadata::{Membership, PeerStatus, RaftStatus};

/// Asks the leader, where that is another node.
pub struct LeaderView {
    membership: Arc<dyn Membership>,
    nodes: Arc<dyn Nodes>,
}

impl LeaderView {
    /// The view of the node whose member this is.
    pub fn new(membership: Arc<dyn Membership>, nodes: Arc<dyn Nodes>) -> Self {
        Self { membership, nodes }
    }
}

impl QuorumView for LeaderView {
    fn describe(&self) -> DescribingQuorum<'_> {
        Box::pin(async move {
            let own = self.membership.status();
            if !own.peers.is_empty() {
                return own;
            }
            let image = self.membership.image();
            let Some(leader) = own.leader.and_then(|leader| image.member(leader)) else { return own };
            match self.nodes.raft(leader.node, &leader.address).await {
                Ok(group) => as_the_leader_sees_it(own, &group),
                Err(status) => {
                    tracing::debug!(leader = leader.node.get(), %status, "the leader's view of the Raft group is missing");
                    own
                }
            }
        })
    }
}

/// The leader's view. Its own role is the leader's; if it leads no more, it has no more to tell than this node.
fn as_the_leader_sees_it(own: RaftStatus, group: &RaftGroup) -> RaftStatus {
    let peers: Vec<PeerStatus> = group.members.iter().filter_map(peer).collect();
    if peers.is_empty() || group.term < own.term {
        return own;
    }
    let leader = group.leader.and_then(|leader| NodeId::try_from(leader).ok());
    RaftStatus { term: group.term, leader, committed: group.committed, peers, ..own }
}

fn peer(member: &RaftMember) -> Option<PeerStatus> {
    let progress = member.progress.as_ref()?;
    Some(PeerStatus {
        node: NodeId::try_from(member.node).ok()?,
        matched: progress.matched_index,
        receives_snapshot: progress.receives_snapshot,
        since_contact: progress.last_contact_ms.map(Duration::from_millis),
        since_caught_up: progress.last_caught_up_ms.map(Duration::from_millis),
    })
}
