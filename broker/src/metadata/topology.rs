//! What the metadata plane knows: nodes, topics, partitions, and what settings belong to.

use std::sync::Arc;

use uuid::Uuid;

use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, TopicId};

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
    /// Where Kafka clients reach it.
    pub host: String,
    /// Where Kafka clients reach it.
    pub port: u16,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Its software's version.
    pub version: String,
}

/// A partition's registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRegistration {
    /// The replicas, the preferred leader first.
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
