//! What the metadata plane knows: nodes, topics, partitions, and what settings belong to.

use std::sync::Arc;

use uuid::Uuid;

use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicId, TopicPartition};

/// What nodes may write to each other and to the metadata log: raised by an operator once every node runs software that
/// understands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterVersion(u32);

impl ClusterVersion {
    /// The first.
    pub const FIRST: Self = Self(1);
    /// The newest that this software understands.
    pub const NEWEST: Self = Self(1);

    /// A version by its number; `None` for 0, which is none.
    pub fn new(number: u32) -> Option<Self> {
        (number > 0).then_some(Self(number))
    }

    /// Its number.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Where something is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for Endpoint {
    /// As it is dialled: `host:port`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A broker as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// The identity of its data folder.
    pub directory: Uuid,
    /// Its current registration.
    pub epoch: BrokerEpoch,
    /// Whether it is kept from leading and from the ISRs, because it is taken for dead.
    pub fenced: bool,
    /// Whether it is about to stop: it leads only what nobody else can, and holds no new replicas. Ends when it registers
    /// again.
    pub stopping: bool,
    /// Where Kafka clients reach it.
    pub host: String,
    /// Where Kafka clients reach it.
    pub port: u16,
    /// Where its WAL receiver is reached; `None` where it has none (a standalone node).
    pub wal: Option<Endpoint>,
    /// Where Raft and the admin service reach it; `None` where it serves neither (a standalone node).
    pub grpc: Option<Endpoint>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Its software's version.
    pub version: String,
    /// The newest cluster version that it understands.
    pub newest_version: ClusterVersion,
}

/// A move of a partition to other replicas, while it is under way (KIP-455).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reassignment {
    /// The replicas before it began.
    pub original: Vec<NodeId>,
    /// The replicas that are to be, the preferred leader first.
    pub target: Vec<NodeId>,
}

/// A node that is being emptied, or is empty and kept so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// How many partitions it held when the drain began.
    pub partitions: u32,
}

/// The cluster's one permission to stop a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopGrant {
    /// Who may stop.
    pub node: NodeId,
    /// In which registration: the grant ends with it.
    pub epoch: BrokerEpoch,
    /// The Raft index of the grant.
    pub granted_at: u64,
}

/// Who operates the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorLease {
    /// Counts leases (the Raft index of each): commands under an older one are refused.
    pub epoch: u64,
    /// The holder's name, for people.
    pub holder: String,
}

/// A partition's registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRegistration {
    /// The replicas, the preferred leader first. During a reassignment: the target's, then those that will go.
    pub replicas: Vec<NodeId>,
    /// The in-sync ones.
    pub isr: Vec<NodeId>,
    /// Eligible leaders outside the ISR (KIP-966).
    pub elr: Vec<NodeId>,
    /// Who leads.
    pub leader: Option<NodeId>,
    /// The leader's registration when it was elected.
    pub leader_broker_epoch: Option<BrokerEpoch>,
    /// Counts leaderships.
    pub leader_epoch: LeaderEpoch,
    /// Counts changes.
    pub partition_epoch: PartitionEpoch,
    /// Who led last, as long as it has the data folder that it led with: all that may lead when ISR and ELR are empty.
    pub last_leader: Option<NodeId>,
    /// The reassignment under way.
    pub reassignment: Option<Box<Reassignment>>,
}

impl PartitionRegistration {
    /// The replicas that a reassignment under way adds; none without one.
    pub fn adding(&self) -> impl Iterator<Item = NodeId> {
        self.reassignment
            .iter()
            .flat_map(|moving| moving.target.iter().filter(|node| !moving.original.contains(node)).copied())
    }

    /// The replicas that a reassignment under way removes; none without one.
    pub fn removing(&self) -> impl Iterator<Item = NodeId> {
        self.replicas.iter().filter(|node| !self.target().contains(node)).copied()
    }

    /// How many in-sync replicas acks=all needs where `min.insync.replicas` is this: never more than there are replicas.
    /// A reassignment under way asks for no more than before or after it: replicas that are still being filled neither hold
    /// acknowledgements up nor allow fewer.
    pub fn minimum_isr(&self, min_insync: usize) -> usize {
        let replicas = self
            .reassignment
            .as_ref()
            .map_or(self.replicas.len(), |moving| moving.original.len().min(moving.target.len()));
        min_insync.min(replicas).max(1)
    }

    /// The replicas that it has, or will have when the reassignment under way is done.
    pub fn target(&self) -> &[NodeId] {
        self.reassignment.as_ref().map_or(&self.replicas, |moving| &moving.target)
    }
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// Its partitions, by index.
    pub partitions: Vec<Arc<PartitionRegistration>>,
}

impl Topic {
    /// Its partitions with their identities.
    pub fn indexed(&self) -> impl Iterator<Item = (TopicPartition, &Arc<PartitionRegistration>)> {
        let identified = |(index, partition)| {
            let index = i32::try_from(index).ok().and_then(|index| PartitionIndex::try_from(index).ok());
            let index = index.expect("partitions are counted by an i32, because a command creates them with one");
            (TopicPartition { topic: self.id, partition: index }, partition)
        };
        self.partitions.iter().enumerate().map(identified)
    }
}

/// What a dynamic setting belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(Arc<str>),
    /// One broker.
    Broker(NodeId),
    /// All brokers' default.
    BrokerDefault,
    /// A consumer group.
    Group(Arc<str>),
    /// A client-metrics subscription.
    ClientMetrics(Arc<str>),
}
