//! The metadata plane's own members: the roster (who may speak, and what each is to be), Raft's seats (who votes and
//! who learns), and what the rest of the broker asks of a member.
//!
//! The roster changes by commands; Raft's leader then makes the seats follow it, one change at a time: a new member
//! learns first and votes once it has caught up.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use uuid::Uuid;

use super::image::Image;
use super::outcome::{Outcome, Refused};
use super::{MetadataPlane, ProposeError};
use crate::ids::NodeId;

/// What a member is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A learner: it has the image and does not vote.
    Learner,
    /// A voter.
    Voter,
    /// Nothing: it leaves the roster once Raft has unseated it.
    Gone,
}

/// What a node is by Raft's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// It is sent the log and does not vote.
    Learner,
    /// It votes.
    Voter,
}

/// A node of the metadata plane: an entry of the roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// The identity of its data folder. A wiped node is another member: it could vote twice.
    pub directory: Uuid,
    /// Where its peers reach it: `host:port`.
    pub address: String,
    /// What it is to be.
    pub target: Target,
}

/// The members, by what they are now and then by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members {
    /// Those that vote.
    pub voters: Vec<Member>,
    /// Those that learn.
    pub learners: Vec<Member>,
    /// Those that Raft has not seated yet.
    pub joining: Vec<Member>,
}

/// What a node does in its Raft group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaftRole {
    /// It orders the commands.
    Leader,
    /// It votes and follows.
    Follower,
    /// It stands for election.
    Candidate,
    /// It follows without a vote.
    Learner,
}

/// What the leader knows of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub node: NodeId,
    /// Up to where its log is known to equal the leader's.
    pub matched: u64,
    /// Whether it is being sent a snapshot.
    pub receives_snapshot: bool,
    /// How long ago the leader heard of it; `None` when it has not, as leader. Zero for the leader itself.
    pub since_contact: Option<Duration>,
    /// How long ago it had all that the leader had; `None` when it never had, under this leader.
    pub since_caught_up: Option<Duration>,
}

/// A node's view of its Raft group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftStatus {
    /// What it does.
    pub role: RaftRole,
    /// The term.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Index of the last entry that is committed, as far as it knows.
    pub committed: u64,
    /// Index of the last entry applied.
    pub applied: u64,
    /// Index of the last entry of its log.
    pub last_index: u64,
    /// The members' progress, by id, the leader's own included; empty unless it leads.
    pub peers: Vec<PeerStatus>,
}

/// Why the membership, or the leadership, did not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// The command got no outcome.
    #[error("{0}")]
    Propose(#[from] ProposeError),
    /// The command was refused.
    #[error("{0}")]
    Refused(Refused),
    /// No such member.
    #[error("node {0} is no member of the metadata plane")]
    UnknownMember(NodeId),
    /// Only a voter may lead.
    #[error("node {0} does not vote in the metadata plane")]
    NotAVoter(NodeId),
    /// It takes longer than the caller should wait; it goes on by itself.
    #[error("{0} has not finished yet; it goes on")]
    Unfinished(String),
    /// No leader answered in time.
    #[error("no metadata leader answered in time")]
    NoLeader,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// What the asynchronous parts of `Membership` return.
pub type Changing<'a, T> = Pin<Box<dyn Future<Output = Result<T, MembershipError>> + Send + 'a>>;

/// The metadata plane's members and leadership, on any node. Implemented by `raft::RaftNode`.
pub trait Membership: MetadataPlane {
    /// The members, by this node's image.
    fn members(&self) -> Members {
        self.image().members()
    }

    /// This node's view of its Raft group.
    fn status(&self) -> RaftStatus;

    /// Makes a learner a voter; resolves when it votes by this node's image.
    fn promote(&self, node: NodeId) -> Changing<'_, ()>;

    /// Makes a voter a learner; resolves when it is one by this node's image. Waits while the rest has no majority.
    fn demote(&self, node: NodeId) -> Changing<'_, ()>;

    /// Takes a node out of the roster; resolves when it is gone by this node's image. Waits while the rest has no
    /// majority.
    fn remove(&self, node: NodeId) -> Changing<'_, ()>;

    /// Hands Raft's leadership to a voter; resolves when this node knows `to` as the leader.
    fn transfer_leadership(&self, to: NodeId) -> Changing<'_, ()>;

    /// Resolves, with its index, when this node's image is at least as new as the cluster's was at the call (ReadIndex,
    /// Raft's dissertation §6.4).
    fn barrier(&self) -> Changing<'_, u64>;

    /// `Some(term)` while this node leads.
    fn leadership(&self) -> watch::Receiver<Option<u64>>;

    /// Tells of each member whose connection closed and that then refused a new one: it is dead, or restarting.
    fn lost_peers(&self) -> broadcast::Receiver<NodeId>;

    /// The caller has seen a node dead (its connection closed and a new one was refused). If it leads Raft as far as
    /// this node knows, this node no longer waits for its lease to expire and stands for election.
    fn suspect(&self, node: NodeId);
}

impl Image {
    /// The roster, by id.
    pub fn roster(&self) -> impl Iterator<Item = &Member> {
        self.members.values().map(Arc::as_ref)
    }

    /// A node's entry in the roster.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node).map(Arc::as_ref)
    }

    /// What a node is by Raft's configuration.
    pub fn seat_of(&self, node: NodeId) -> Option<Seat> {
        self.seats.get(&node).copied()
    }

    /// An empty image with a roster: what a node begins with that was let in, until it is sent the state.
    pub fn with_roster(cluster_id: &str, roster: impl IntoIterator<Item = Member>) -> Self {
        let members = roster.into_iter().map(|member| (member.node, Arc::new(member))).collect();
        Self { members, ..Self::empty(cluster_id) }
    }

    /// The nodes that vote or learn, by id.
    pub fn seats(&self) -> impl Iterator<Item = (NodeId, Seat)> {
        self.seats.iter().map(|(&node, &seat)| (node, seat))
    }

    /// The members by what they are.
    pub fn members(&self) -> Members {
        let mut members = Members::default();
        for member in self.roster().cloned() {
            match self.seat_of(member.node) {
                Some(Seat::Voter) => members.voters.push(member),
                Some(Seat::Learner) => members.learners.push(member),
                None if member.target != Target::Gone => members.joining.push(member),
                None => {}
            }
        }
        members
    }

    pub(super) fn admit_member(
        &mut self,
        node: NodeId,
        directory: Uuid,
        address: String,
        vote: bool,
    ) -> Result<Outcome, Refused> {
        let target = match self.member(node) {
            Some(known) if known.directory != directory => return Err(Refused::NodeIdInUse),
            Some(Member { target: Target::Gone, .. }) => return Err(Refused::MemberLeaving),
            Some(known) => known.target,
            None if vote || self.seat_of(node) == Some(Seat::Voter) => Target::Voter,
            None => Target::Learner,
        };
        self.members.insert(node, Arc::new(Member { node, directory, address, target }));
        Ok(Outcome::Done)
    }

    pub(super) fn set_member_vote(&mut self, node: NodeId, directory: Uuid, vote: bool) -> Result<Outcome, Refused> {
        let member = self.member_with(node, directory)?;
        if member.target == Target::Gone {
            return Err(Refused::MemberLeaving);
        }
        self.set_target(node, if vote { Target::Voter } else { Target::Learner })
    }

    pub(super) fn remove_member(&mut self, node: NodeId, directory: Uuid) -> Result<Outcome, Refused> {
        self.member_with(node, directory)?;
        self.set_target(node, Target::Gone)?;
        if self.seat_of(node).is_none() {
            self.members.remove(&node);
        }
        Ok(Outcome::Done)
    }

    /// Takes note of Raft's configuration; members that were to go and are unseated are gone.
    pub(super) fn seat(&mut self, seats: impl IntoIterator<Item = (NodeId, Seat)>) {
        self.seats = seats.into_iter().collect();
        let stays = |member: &&Arc<Member>| member.target != Target::Gone || self.seats.contains_key(&member.node);
        self.members = self.members.values().filter(stays).map(|member| (member.node, Arc::clone(member))).collect();
    }

    fn member_with(&self, node: NodeId, directory: Uuid) -> Result<&Member, Refused> {
        self.member(node).filter(|member| member.directory == directory).ok_or(Refused::UnknownMember)
    }

    /// Refuses what would leave nobody who votes now and is to vote later: the group could never elect a leader again.
    fn set_target(&mut self, node: NodeId, target: Target) -> Result<Outcome, Refused> {
        let stays = |member: &&Member| {
            member.target == Target::Voter && self.seat_of(member.node) == Some(Seat::Voter) && member.node != node
        };
        let is_voter = self.seat_of(node) == Some(Seat::Voter);
        if target != Target::Voter && is_voter && self.roster().filter(stays).count() == 0 {
            return Err(Refused::LastVoter);
        }
        if let Some(member) = self.members.get_mut(&node) {
            Arc::make_mut(member).target = target;
        }
        Ok(Outcome::Done)
    }
}

impl Members {
    /// Whether these nodes all vote.
    pub fn all_vote(&self, nodes: impl IntoIterator<Item = NodeId>) -> bool {
        let voters: BTreeSet<NodeId> = self.voters.iter().map(|member| member.node).collect();
        nodes.into_iter().all(|node| voters.contains(&node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Command, State};

    const ADDRESS: &str = "node.example:9391";

    fn directory(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn admit(node: i32, directory: u128, vote: bool) -> Command {
        Command::AdmitMember {
            node: NodeId::new(node),
            directory: self::directory(directory),
            address: ADDRESS.to_owned(),
            vote,
        }
    }

    fn remove(node: i32, directory: u128) -> Command {
        Command::RemoveMember { node: NodeId::new(node), directory: self::directory(directory) }
    }

    fn set_vote(node: i32, directory: u128, vote: bool) -> Command {
        Command::SetMemberVote { node: NodeId::new(node), directory: self::directory(directory), vote }
    }

    struct Plane(State);

    impl Plane {
        /// Nodes 0 and 1 vote, node 2 learns.
        fn new() -> Self {
            let mut plane = Self(State::new(Image::empty("cluster")));
            for node in 0..3_i32 {
                assert_eq!(plane.apply(admit(node, node as u128, node < 2)), Outcome::Done);
            }
            plane.seat(&[(0, Seat::Voter), (1, Seat::Voter), (2, Seat::Learner)]);
            plane
        }

        fn apply(&mut self, command: Command) -> Outcome {
            self.0.apply(self.0.index() + 1, command)
        }

        fn seat(&mut self, seats: &[(i32, Seat)]) {
            self.0.seat(seats.iter().map(|&(node, seat)| (NodeId::new(node), seat)));
        }

        fn target(&self, node: i32) -> Option<Target> {
            self.0.image().member(NodeId::new(node)).map(|member| member.target)
        }
    }

    #[test]
    fn a_member_learns_or_votes_as_it_was_admitted_and_waits_for_its_seat() {
        let mut plane = Plane::new();
        assert_eq!(plane.apply(admit(3, 3, true)), Outcome::Done);
        let members = plane.0.image().members();
        let ids = |members: &[Member]| members.iter().map(|member| member.node.get()).collect::<Vec<_>>();
        assert_eq!(
            (ids(&members.voters), ids(&members.learners), ids(&members.joining)),
            (vec![0, 1], vec![2], vec![3])
        );
        assert!(members.all_vote([NodeId::new(1)]) && !members.all_vote([NodeId::new(1), NodeId::new(2)]));
    }

    #[test]
    fn another_data_folder_is_refused_until_the_old_member_is_gone() {
        let mut plane = Plane::new();
        assert_eq!(plane.apply(admit(1, 99, true)).refused(), Some(Refused::NodeIdInUse));
        assert_eq!(plane.apply(remove(1, 99)).refused(), Some(Refused::UnknownMember));
        assert_eq!(plane.apply(remove(1, 1)), Outcome::Done);
        assert_eq!(plane.apply(admit(1, 99, true)).refused(), Some(Refused::NodeIdInUse), "still seated");
        assert_eq!(plane.apply(admit(1, 1, true)).refused(), Some(Refused::MemberLeaving));
        plane.seat(&[(0, Seat::Voter), (2, Seat::Learner)]);
        assert_eq!(plane.target(1), None);
        assert_eq!(plane.apply(admit(1, 99, true)), Outcome::Done);
    }

    #[test]
    fn a_member_that_comes_back_keeps_what_it_is_and_tells_its_address() {
        let mut plane = Plane::new();
        let moved = Command::AdmitMember {
            node: NodeId::new(2),
            directory: directory(2),
            address: "elsewhere:1".to_owned(),
            vote: true,
        };
        assert_eq!(plane.apply(moved), Outcome::Done);
        let image = plane.0.image();
        let member = image.member(NodeId::new(2)).expect("a member");
        assert_eq!((member.address.as_str(), member.target), ("elsewhere:1", Target::Learner));
    }

    #[test]
    fn the_last_voter_stays() {
        let mut plane = Plane::new();
        assert_eq!(plane.apply(set_vote(2, 2, true)), Outcome::Done);
        assert_eq!(plane.apply(remove(0, 0)), Outcome::Done);
        assert_eq!(plane.apply(remove(1, 1)).refused(), Some(Refused::LastVoter), "node 2 does not vote yet");
        assert_eq!(plane.apply(set_vote(1, 1, false)).refused(), Some(Refused::LastVoter));
        plane.seat(&[(1, Seat::Voter), (2, Seat::Voter)]);
        assert_eq!(plane.apply(set_vote(1, 1, false)), Outcome::Done);
        assert_eq!(plane.apply(set_vote(2, 2, false)).refused(), Some(Refused::LastVoter));
    }

    #[test]
    fn a_member_that_was_never_seated_goes_at_once() {
        let mut plane = Plane::new();
        plane.apply(admit(3, 3, false));
        assert_eq!(plane.apply(remove(3, 3)), Outcome::Done);
        assert_eq!(plane.target(3), None);
        assert_eq!(plane.apply(set_vote(3, 3, true)).refused(), Some(Refused::UnknownMember));
    }

    #[test]
    fn the_roster_survives_a_snapshot() {
        let mut plane = Plane::new();
        plane.apply(remove(1, 1));
        let image = plane.0.image();
        let bytes = crate::metadata::snapshot::encode(&image);
        let decoded = crate::metadata::snapshot::decode(bytes.into()).expect("what was encoded");
        assert!(decoded.roster().eq(image.roster()));
    }
}
