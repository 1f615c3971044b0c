//! The metadata plane's replicated state: commands → state (pure), the image that handlers read, the controller.
//! Does no I/O: `raft/` replicates and stores.

use std::sync::Arc;

use crate::ids::{
    BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, ProducerId, TopicId, TopicPartition,
};

/// A broker as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// The identity of its data folder.
    pub directory: uuid::Uuid,
    /// Its current registration.
    pub epoch: BrokerEpoch,
    /// Whether it may lead and be in an ISR.
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

/// The replicated state at one Raft index: immutable, cheap to clone (persistent maps).
#[derive(Debug, Clone)]
pub struct Image {}

impl Image {
    /// The Raft index up to which commands are applied.
    pub fn index(&self) -> u64 {
        todo!()
    }

    /// The cluster's id, as clients see it.
    pub fn cluster_id(&self) -> &str {
        todo!()
    }

    /// All nodes by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        std::iter::empty()
    }

    /// One node.
    pub fn node(&self, _id: NodeId) -> Option<&Node> {
        todo!()
    }

    /// All topics by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        std::iter::empty()
    }

    /// A topic by name.
    pub fn topic(&self, _name: &str) -> Option<&Arc<Topic>> {
        todo!()
    }

    /// A topic by id.
    pub fn topic_by_id(&self, _id: TopicId) -> Option<&Arc<Topic>> {
        todo!()
    }

    /// One partition.
    pub fn partition(&self, _id: &TopicPartition) -> Option<&Arc<PartitionRegistration>> {
        todo!()
    }

    /// The dynamic settings of a resource: Kafka's names and the values as they were given.
    pub fn configs(&self, _resource: &ConfigResource) -> impl Iterator<Item = (&str, &str)> {
        std::iter::empty()
    }

    /// The resources that have dynamic settings.
    pub fn config_resources(&self) -> impl Iterator<Item = &ConfigResource> {
        std::iter::empty()
    }
}

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

/// One change of a setting: `None` removes it.
pub type ConfigChange = (String, Option<String>);

/// What may be proposed. (The commands of a cluster of many nodes join as they are built.)
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Registers a node, or registers it anew; answers its broker epoch.
    RegisterNode {
        /// The node; its `epoch` and `fenced` are decided in apply.
        node: Node,
    },
    /// Creates a topic.
    CreateTopic(NewTopic),
    /// Deletes a topic.
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
    /// Sets and removes dynamic settings.
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
    /// The name is taken.
    #[error("the topic exists already")]
    TopicExists,
    /// No such topic.
    #[error("the topic does not exist")]
    UnknownTopic,
    /// The partition count is not what the proposer saw.
    #[error("the number of partitions has changed")]
    PartitionCountChanged,
    /// No such node.
    #[error("the node is not registered")]
    UnknownNode,
    /// An older registration.
    #[error("the broker epoch is stale")]
    StaleBrokerEpoch,
    /// Another process runs with this node id.
    #[error("the node id is in use by another data folder")]
    NodeIdInUse,
}

/// Why a proposal got no outcome.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// No leader could be reached in time; the command may or may not take effect.
    #[error("no metadata leader answered in time")]
    TimedOut,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// What handlers hold: reads the image, proposes commands. Implemented by `raft::RaftNode`.
pub trait MetadataPlane: Send + Sync {
    /// The newest image of this node.
    fn image(&self) -> Arc<Image>;
    /// Sees each new image.
    fn subscribe(&self) -> tokio::sync::watch::Receiver<Arc<Image>>;
    /// Proposes; resolves when the command is applied here.
    fn propose(
        &self,
        command: Command,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Outcome, ProposeError>> + Send + '_>>;
    /// Which node leads the metadata plane, as this one knows.
    fn leader(&self) -> Option<NodeId>;
}
