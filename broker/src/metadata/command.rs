//! The commands of the metadata plane, and what applying one answers.

use super::topology::{ConfigResource, Node};
use crate::ids::{
    BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, ProducerId, TopicId, TopicPartition,
};

/// A topic to create. The replicas are decided by the proposer (placement) and checked in apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name, already validated.
    pub name: String,
    /// Its identity, drawn by the proposer.
    pub id: TopicId,
    /// Replicas of each partition.
    pub assignment: Vec<Vec<NodeId>>,
    /// Dynamic settings, already validated.
    pub configs: Vec<(String, String)>,
}

/// A change of a partition's ISR, as its leader proposes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterPartition {
    /// Which partition.
    pub partition: TopicPartition,
    /// Who proposes.
    pub leader: NodeId,
    /// The proposer's registration.
    pub leader_broker_epoch: BrokerEpoch,
    /// The leadership that the proposer holds.
    pub leader_epoch: LeaderEpoch,
    /// The registration of the partition that the proposer saw.
    pub partition_epoch: PartitionEpoch,
    /// The new ISR, each member with the registration that it had when it qualified.
    pub isr: Vec<(NodeId, BrokerEpoch)>,
}

/// One change of a setting: `None` removes it.
pub type ConfigChange = (String, Option<String>);

/// What may be proposed. (The commands of a cluster of many nodes join as they are built.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Registers a node, or registers it anew; answers its broker epoch.
    RegisterNode {
        /// The node; its `epoch` and `fenced` are decided in apply.
        node: Node,
        /// It stopped uncleanly while it acknowledged what was not flushed (`chronik.durability=os`), so its logs may
        /// lack acknowledged records.
        acked_may_be_lost: bool,
    },
    /// Takes a node for dead: it leaves the ISRs and leads nothing until it registers again.
    FenceNode {
        /// Which.
        node: NodeId,
        /// Its registration: a newer one is not fenced.
        epoch: BrokerEpoch,
    },
    /// Creates a topic.
    CreateTopic(NewTopic),
    /// Deletes a topic, with its settings.
    DeleteTopic(TopicId),
    /// Adds partitions: the replicas of each new one.
    CreatePartitions {
        /// The topic.
        topic: TopicId,
        /// How many it has now; another number refuses the command.
        existing: PartitionIndex,
        /// Replicas of each new partition.
        assignment: Vec<Vec<NodeId>>,
    },
    /// Changes an ISR.
    AlterPartition(AlterPartition),
    /// Sets and removes dynamic settings, all or none.
    SetConfigs {
        /// Of what.
        resource: ConfigResource,
        /// The changes.
        changes: Vec<ConfigChange>,
    },
    /// Takes a block of producer ids for a node.
    AllocateProducerIds {
        /// For whom.
        node: NodeId,
        /// Its registration: an older one is refused.
        epoch: BrokerEpoch,
    },
}

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
    /// Refused; nothing changed.
    Refused(Refused),
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
    /// `AlterPartition`: the new ISR is empty, lacks the leader, or names no replica or one twice.
    #[error("the in-sync replicas are invalid")]
    InvalidIsr,
    /// `AlterPartition`: a member is fenced, or has registered anew since it qualified.
    #[error("a replica is not eligible for the in-sync replicas")]
    IneligibleReplica,
    /// All ids are given out.
    #[error("no producer ids are left")]
    ProducerIdsExhausted,
}
