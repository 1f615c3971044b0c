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

/// Why apply refused a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The name, or the id, is taken.
    #[error("the topic exists already")]
    TopicExists,
    /// No such topic.
    #[error("the topic does not exist")]
    UnknownTopic,
    /// No such partition in the topic.
    #[error("the partition does not exist")]
    UnknownPartition,
    /// The partition count is not what the proposer saw.
    #[error("the number of partitions has changed")]
    PartitionCountChanged,
    /// No partitions, or one without replicas, with one named twice, not registered, or none that is alive.
    #[error("the replica assignment is invalid")]
    InvalidAssignment,
    /// No such node.
    #[error("the node is not registered")]
    UnknownNode,
    /// An older registration.
    #[error("the broker epoch is stale")]
    StaleBrokerEpoch,
    /// Another process runs with this node id.
    #[error("the node id is in use by another data folder")]
    NodeIdInUse,
    /// `AlterPartition`: the proposer leads no more, or not in that epoch.
    #[error("the leader epoch is fenced")]
    FencedLeaderEpoch,
    /// `AlterPartition`: the partition has changed since.
    #[error("the partition epoch has changed")]
    PartitionEpochChanged,
    /// `AlterPartition`: the new ISR is empty, or names no replica or one twice.
    #[error("the in-sync replicas are invalid")]
    InvalidIsr,
    /// `AlterPartition`: a member is fenced, or has registered anew since it qualified.
    #[error("a replica is not eligible for the in-sync replicas")]
    IneligibleReplica,
    /// All ids are given out.
    #[error("no producer ids are left")]
    ProducerIdsExhausted,
    /// The command is of a newer cluster version than the current one.
    #[error("the cluster's version does not allow this yet")]
    ClusterVersionTooOld,
    /// The software of a node understands no more than an older version, or the version would go back.
    #[error("a node of the cluster does not understand that version, or it is older than the current one")]
    UnsupportedClusterVersion,
    /// Another operator acquired the lease since.
    #[error("the operator lease is stale: another operator has taken over")]
    StaleOperatorLease,
    /// Another node has the grant to stop.
    #[error("another node is stopping")]
    AnotherStop,
    /// A stop would leave partitions below their minimum, or the metadata plane without a quorum.
    #[error("the node can't stop now: partitions, or the metadata quorum, would become unavailable")]
    UnsafeStop,
    /// The node is alive, and the command is for one that is not.
    #[error("the node is alive")]
    NodeAlive,
    /// The node holds replicas, and the command is for one that holds none.
    #[error("the node holds replicas")]
    NodeNotEmpty,
    /// A topic has as many replicas as there are nodes to hold them.
    #[error("too few nodes would be left for a topic's replicas")]
    TooFewNodes,
    /// There is no such drain.
    #[error("the node is not being drained")]
    NotDraining,
    /// `ElectLeaders`: the preferred replica leads, or there is a leader.
    #[error("the election is not needed")]
    ElectionNotNeeded,
    /// `ElectLeaders`: the first replica is not alive, or not in sync.
    #[error("the preferred leader is not available")]
    PreferredLeaderNotAvailable,
    /// `ElectLeaders`: no replica is alive.
    #[error("no eligible leader is available")]
    EligibleLeadersNotAvailable,
    /// The partition is not being reassigned.
    #[error("no reassignment is in progress")]
    NoReassignment,
    /// The replicas that would be left are not enough in sync.
    #[error("the replicas that would be left are not in sync")]
    NotEnoughInSync,
    /// No such member of the metadata plane, or not with that data folder.
    #[error("the node is no member of the metadata plane with that data folder")]
    UnknownMember,
    /// The member is being removed.
    #[error("the node is being removed from the metadata plane")]
    MemberLeaving,
    /// The metadata plane would have no voter.
    #[error("the node is the last voter of the metadata plane")]
    LastVoter,
}
