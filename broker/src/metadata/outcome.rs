//! What applying a command answers.

use crate::ids::{BrokerEpoch, ProducerId};

/// What apply answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// `RegisterNode`: the new registration.
    Registered(BrokerEpoch),
    /// `AllocateProducerIds`: ids from `first`, `count` of them.
    ProducerIds {
        /// The first of the block.
        first: ProducerId,
        /// How many.
        count: u32,
    },
    /// A command on many partitions: one for each, in the command's order.
    Partitions(Vec<Result<(), Refused>>),
    /// `AcquireOperatorLease`: the epoch of the lease.
    Leased(u64),
    /// Refused; nothing changed.
    Refused {
        /// Why.
        why: Refused,
        /// The Raft index at which it was refused: only an image that has reached it shows the reason (rule 6).
        index: u64,
    },
}

impl Outcome {
    /// Why the command was refused, if it was.
    pub fn refused(&self) -> Option<Refused> {
        if let Self::Refused { why, .. } = self { Some(*why) } else { None }
    }
}

/// Why apply refused a command. The numbers travel between nodes: none is ever used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[repr(u32)]
pub enum Refused {
    /// The name, or the id, is taken.
    #[error("the topic exists already")]
    TopicExists = 1,
    /// No such topic.
    #[error("the topic does not exist")]
    UnknownTopic = 2,
    /// No such partition in the topic.
    #[error("the partition does not exist")]
    UnknownPartition = 3,
    /// The partition count is not what the proposer saw.
    #[error("the number of partitions has changed")]
    PartitionCountChanged = 4,
    /// No partitions, or one without replicas, with one named twice, not registered, or none that is alive.
    #[error("the replica assignment is invalid")]
    InvalidAssignment = 5,
    /// No such node.
    #[error("the node is not registered")]
    UnknownNode = 6,
    /// An older registration.
    #[error("the broker epoch is stale")]
    StaleBrokerEpoch = 7,
    /// Another process runs with this node id.
    #[error("the node id is in use by another data folder")]
    NodeIdInUse = 8,
    /// `AlterPartition`: the proposer leads no more, or not in that epoch.
    #[error("the leader epoch is fenced")]
    FencedLeaderEpoch = 9,
    /// `AlterPartition`: the partition has changed since.
    #[error("the partition epoch has changed")]
    PartitionEpochChanged = 10,
    /// `AlterPartition`: the new ISR is empty, lacks the leader, or names no replica or one twice.
    #[error("the in-sync replicas are invalid")]
    InvalidIsr = 11,
    /// `AlterPartition`: a member is fenced, or has registered anew since it qualified.
    #[error("a replica is not eligible for the in-sync replicas")]
    IneligibleReplica = 12,
    /// All ids are given out.
    #[error("no producer ids are left")]
    ProducerIdsExhausted = 13,
    /// The command is of a newer cluster version than the current one.
    #[error("the cluster's version does not allow this yet")]
    ClusterVersionTooOld = 14,
    /// The software of a node understands no more than an older version, or the version would go back.
    #[error("a node of the cluster does not understand that version, or it is older than the current one")]
    UnsupportedClusterVersion = 15,
    /// Another operator acquired the lease since.
    #[error("the operator lease is stale: another operator has taken over")]
    StaleOperatorLease = 16,
    /// Another node has the grant to stop.
    #[error("another node is stopping")]
    AnotherStop = 17,
    /// A stop would leave partitions below their minimum, or the metadata plane without a quorum.
    #[error("the node can't stop now: partitions, or the metadata quorum, would become unavailable")]
    UnsafeStop = 18,
    /// The node is alive, and the command is for one that is not.
    #[error("the node is alive")]
    NodeAlive = 19,
    /// The node holds replicas, and the command is for one that holds none.
    #[error("the node holds replicas")]
    NodeNotEmpty = 20,
    /// A topic has as many replicas as there are nodes to hold them.
    #[error("too few nodes would be left for a topic's replicas")]
    TooFewNodes = 21,
    /// There is no such drain.
    #[error("the node is not being drained")]
    NotDraining = 22,
    /// `ElectLeaders`: the preferred replica leads, or there is a leader.
    #[error("the election is not needed")]
    ElectionNotNeeded = 23,
    /// `ElectLeaders`: the first replica is not alive, or not in sync.
    #[error("the preferred leader is not available")]
    PreferredLeaderNotAvailable = 24,
    /// `ElectLeaders`: no replica is alive.
    #[error("no eligible leader is available")]
    EligibleLeadersNotAvailable = 25,
    /// The partition is not being reassigned.
    #[error("no reassignment is in progress")]
    NoReassignment = 26,
    /// The replicas that would be left are not enough in sync.
    #[error("the replicas that would be left are not in sync")]
    NotEnoughInSync = 27,
    /// No such member of the metadata plane, or not with that data folder.
    #[error("the node is no member of the metadata plane with that data folder")]
    UnknownMember = 40,
    /// The member is being removed.
    #[error("the node is being removed from the metadata plane")]
    MemberLeaving = 41,
    /// The metadata plane would have no voter.
    #[error("the node is the last voter of the metadata plane")]
    LastVoter = 42,
}

impl Refused {
    /// Its number.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The reason with this number; `None` for one of a newer version.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|refused| refused.number() == number)
    }

    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::TopicExists,
        Self::UnknownTopic,
        Self::UnknownPartition,
        Self::PartitionCountChanged,
        Self::InvalidAssignment,
        Self::UnknownNode,
        Self::StaleBrokerEpoch,
        Self::NodeIdInUse,
        Self::FencedLeaderEpoch,
        Self::PartitionEpochChanged,
        Self::InvalidIsr,
        Self::IneligibleReplica,
        Self::ProducerIdsExhausted,
        Self::ClusterVersionTooOld,
        Self::UnsupportedClusterVersion,
        Self::StaleOperatorLease,
        Self::AnotherStop,
        Self::UnsafeStop,
        Self::NodeAlive,
        Self::NodeNotEmpty,
        Self::TooFewNodes,
        Self::NotDraining,
        Self::ElectionNotNeeded,
        Self::PreferredLeaderNotAvailable,
        Self::EligibleLeadersNotAvailable,
        Self::NoReassignment,
        Self::NotEnoughInSync,
        Self::UnknownMember,
        Self::MemberLeaving,
        Self::LastVoter,
    ];
}
