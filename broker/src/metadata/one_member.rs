//! An `InstantPlane` as each of its nodes sees it, for tests: node 0 leads until another is told to.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use super::membership::{Changing, Membership, PeerStatus, RaftRole, RaftStatus, Seat, Target};
use super::quorum::{DescribingQuorum, QuorumView};
use super::testing::InstantPlane;
use super::{Command, Image, MetadataPlane, Proposal, State};
use crate::ids::NodeId;

/// One node's member of a plane.
pub(crate) struct OneMember {
    node: NodeId,
    plane: Arc<InstantPlane>,
    leader: Arc<Mutex<NodeId>>,
}

impl OneMember {
    /// The members of these nodes.
    pub(crate) fn of_all(plane: &Arc<InstantPlane>, nodes: impl Iterator<Item = NodeId>) -> Vec<Arc<Self>> {
        let leader = Arc::new(Mutex::new(NodeId::FIRST));
        nodes.map(|node| Arc::new(Self { node, plane: plane.clone(), leader: leader.clone() })).collect()
    }
}

/// Members have at once what they want.
pub(super) fn seat_members(state: &mut State) {
    let image = state.image();
    let seats = image.roster().filter_map(|member| match member.target {
        Target::Learner => Some((member.node, Seat::Learner)),
        Target::Voter => Some((member.node, Seat::Voter)),
        Target::Gone => None,
    });
    state.seat(seats);
}

impl MetadataPlane for OneMember {
    fn image(&self) -> Arc<Image> {
        self.plane.image()
    }

    fn subscribe(&self) -> watch::Receiver<Arc<Image>> {
        self.plane.subscribe()
    }

    fn propose(&self, command: Command) -> Proposal<'_> {
        self.plane.propose(command)
    }

    fn leader(&self) -> Option<NodeId> {
        Some(*self.leader.lock())
    }
}

impl QuorumView for OneMember {
    fn describe(&self) -> DescribingQuorum<'_> {
        Box::pin(std::future::ready(self.status()))
    }
}

impl Membership for OneMember {
    fn status(&self) -> RaftStatus {
        let image = self.image();
        let leads = self.leader() == Some(self.node);
        let peer = |node| PeerStatus {
            node,
            matched: image.index(),
            receives_snapshot: false,
            since_contact: Some(Duration::ZERO),
            since_caught_up: Some(Duration::ZERO),
        };
        RaftStatus {
            role: if leads { RaftRole::Leader } else { RaftRole::Follower },
            term: 1,
            leader: self.leader(),
            committed: image.index(),
            applied: image.index(),
            last_index: image.index(),
            peers: if leads { image.seats().map(|(node, _)| peer(node)).collect() } else { vec![] },
        }
    }

    fn promote(&self, _node: NodeId) -> Changing<'_, ()> {
        panic!("the admin service proposes commands, which an operator's lease can guard")
    }

    fn demote(&self, _node: NodeId) -> Changing<'_, ()> {
        panic!("as `promote`")
    }

    fn remove(&self, _node: NodeId) -> Changing<'_, ()> {
        panic!("as `promote`")
    }

    fn transfer_leadership(&self, to: NodeId) -> Changing<'_, ()> {
        *self.leader.lock() = to;
        Box::pin(std::future::ready(Ok(())))
    }

    fn barrier(&self) -> Changing<'_, u64> {
        Box::pin(std::future::ready(Ok(self.image().index())))
    }

    fn leadership(&self) -> watch::Receiver<Option<u64>> {
        watch::channel((self.leader() == Some(self.node)).then_some(1)).1
    }

    fn lost_peers(&self) -> broadcast::Receiver<NodeId> {
        broadcast::channel(1).1
    }

    fn suspect(&self, _node: NodeId) {}
}
