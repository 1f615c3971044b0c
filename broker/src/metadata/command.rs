//! The commands of the metadata plane.

use uuid::Uuid;

use super::topology::{ClusterVersion, ConfigResource, Node};
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicId, TopicPartition};

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
    /// The new ISR, each member with the registration that it had when it qualified. Without the proposer it gives its
    /// leadership to one of them.
    pub isr: Vec<(NodeId, BrokerEpoch)>,
}

/// One change of a setting: `None` removes it.
pub type ConfigChange = (String, Option<String>);

/// Which leader `ElectLeaders` is to elect (KIP-460).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElectionKind {
    /// The first replica, if it is alive and in sync.
    Preferred,
    /// Where there is no leader: any replica that is alive, though acknowledged records may be lost (rule 11).
    Unclean,
}

/// Other replicas for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub partition: TopicPartition,
    /// The replicas that it is to have, the preferred leader first.
    pub target: Vec<NodeId>,
    /// The registration of the partition that the proposer saw; `None` where it does not matter.
    pub partition_epoch: Option<PartitionEpoch>,
}

/// What may be proposed.
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
    /// Takes a fenced node for alive again, in the registration that it has: it was silent, and is heard again.
    UnfenceNode {
        /// Which.
        node: NodeId,
        /// Its registration: another one is not unfenced.
        epoch: BrokerEpoch,
    },
    /// Forgets a node: its registration, its drain, its place in every ISR. Replicas assigned to it stay assigned.
    UnregisterNode {
        /// Which.
        node: NodeId,
        /// Refuses while the node is a replica of anything, or not fenced.
        only_if_empty: bool,
    },
    /// A node is about to stop, whatever that does to others: its leaders move away as far as somebody else can lead.
    BeginStop {
        /// Which.
        node: NodeId,
        /// Its registration.
        epoch: BrokerEpoch,
    },
    /// The same for an operator that can wait: granted only where it is safe (`is_safe_to_stop`), and to one node at a
    /// time.
    PrepareStop {
        /// Which.
        node: NodeId,
        /// Its registration.
        epoch: BrokerEpoch,
    },
    /// Takes `BeginStop` or `PrepareStop` back: the node did not stop in time.
    EndStop {
        /// Which.
        node: NodeId,
        /// Its registration: a newer one has ended the stop already.
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
    /// Changes an ISR; a leader that has failed gives the partition up so.
    AlterPartition(AlterPartition),
    /// Elects leaders; answers each partition by itself.
    ElectLeaders {
        /// Which leaders.
        kind: ElectionKind,
        /// Of what.
        partitions: Vec<TopicPartition>,
    },
    /// Begins to move partitions to other replicas, or changes where they move; answers each partition by itself.
    BeginReassignment(Vec<Move>),
    /// Ends a reassignment whose added replicas are in sync (rule 15).
    CompleteReassignment {
        /// Of what.
        partition: TopicPartition,
        /// The registration of the partition that the proposer saw.
        partition_epoch: PartitionEpoch,
    },
    /// Goes back to the replicas before; answers each partition by itself.
    CancelReassignment(Vec<TopicPartition>),
    /// A node is to be emptied, and to get no new replicas.
    BeginDrain(NodeId),
    /// Ends that; moves away from the node that are under way are cancelled.
    CancelDrain(NodeId),
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
    /// Makes the holder the cluster's operator; answers the lease's epoch.
    AcquireOperatorLease {
        /// Its name, for people.
        holder: String,
    },
    /// Raises the cluster's version.
    SetClusterVersion(ClusterVersion),
    /// Bytes a second that each node may send to replicas that reassignments add; `None` for no limit.
    SetThrottle(Option<u64>),
    /// Carries the command out only under the current operator lease.
    UnderLease {
        /// The proposer's lease.
        epoch: u64,
        /// Any command but another of this kind.
        command: Box<Command>,
    },
    /// Lets a node into the metadata plane; for a member with the same data folder, notes its address. Refused while
    /// the roster names the node with another data folder.
    AdmitMember {
        /// Who.
        node: NodeId,
        /// The identity of its data folder.
        directory: Uuid,
        /// Where its peers reach it: `host:port`.
        address: String,
        /// Whether a new member is to vote once it has caught up. A known one stays what it is.
        vote: bool,
    },
    /// Makes a learner a voter once it has caught up, or a voter a learner.
    SetMemberVote {
        /// Who.
        node: NodeId,
        /// The identity of its data folder: another one's member is not meant.
        directory: Uuid,
        /// Whether it is to vote.
        vote: bool,
    },
    /// Takes a node out of the metadata plane.
    RemoveMember {
        /// Who.
        node: NodeId,
        /// The identity of its data folder: another one's member is not meant.
        directory: Uuid,
    },
}

impl Command {
    /// The cluster version from which on it may be proposed: an older node would not understand it.
    pub fn since(&self) -> ClusterVersion {
        match self {
            Self::UnderLease { command, .. } => command.since(),
            _ => ClusterVersion::FIRST,
        }
    }
}
