//! The image: the replicated state as handlers read it, immutable, cheap to clone.
//!
//! Its maps are persistent trees: an image shares with the one before it all that did not change, so making one costs
//! nothing and comparing two costs what differs.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, Vector};

use super::election::Candidate;
use super::membership::{Member, Seat};
use super::topology::{
    ClusterVersion, ConfigResource, Drain, Node, OperatorLease, PartitionRegistration, StopGrant, Topic,
};
use crate::ids::{BrokerEpoch, NodeId, ProducerId, TopicId, TopicPartition};

/// The settings of one resource, by name.
pub(super) type Settings = Arc<BTreeMap<String, String>>;

/// The setting that says how many in-sync replicas acks=all needs.
pub(super) const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";

/// How many deletions of topics are remembered, for nodes that were down meanwhile. In a snapshot they are 180 KB.
pub(super) const DELETED_TOPICS: usize = 10_000;

/// The replicated state at one Raft index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub(super) index: u64,
    pub(super) cluster_id: Arc<str>,
    pub(super) nodes: OrdMap<NodeId, Arc<Node>>,
    pub(super) topics_by_id: OrdMap<TopicId, Arc<Topic>>,
    pub(super) topics_by_name: OrdMap<Arc<str>, Arc<Topic>>,
    /// The newest `DELETED_TOPICS` deletions, in their order.
    pub(super) deleted_topics: Vector<TopicId>,
    pub(super) configs: OrdMap<ConfigResource, Settings>,
    pub(super) next_producer_id: ProducerId,
    pub(super) cluster_version: ClusterVersion,
    pub(super) drains: OrdMap<NodeId, Drain>,
    pub(super) stop: Option<StopGrant>,
    pub(super) operator: Option<OperatorLease>,
    pub(super) throttle: Option<u64>,
    /// The metadata plane's roster.
    pub(super) members: OrdMap<NodeId, Arc<Member>>,
    /// Who votes and who learns. Raft's own snapshots hold it, so that of the state does not.
    pub(super) seats: OrdMap<NodeId, Seat>,
}

/// How a topic differs between two images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicChange<'a> {
    /// It is new. (A topic that was deleted and made again under its name is a `Deleted` and a `Created`.)
    Created(&'a Arc<Topic>),
    /// Partitions were added, or changed their registration.
    Changed {
        /// As it was.
        before: &'a Arc<Topic>,
        /// As it is.
        after: &'a Arc<Topic>,
    },
    /// It is gone.
    Deleted(&'a Arc<Topic>),
}

impl Image {
    /// The image of a cluster in which nothing has happened yet.
    pub fn empty(cluster_id: &str) -> Self {
        Self {
            index: 0,
            cluster_id: cluster_id.into(),
            nodes: OrdMap::new(),
            topics_by_id: OrdMap::new(),
            topics_by_name: OrdMap::new(),
            deleted_topics: Vector::new(),
            configs: OrdMap::new(),
            next_producer_id: ProducerId::FIRST,
            cluster_version: ClusterVersion::NEWEST,
            drains: OrdMap::new(),
            stop: None,
            operator: None,
            throttle: None,
            members: OrdMap::new(),
            seats: OrdMap::new(),
        }
    }

    /// The Raft index up to which commands are applied.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The cluster's id, as clients see it.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// All nodes by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(Arc::as_ref)
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id).map(Arc::as_ref)
    }

    /// What nodes may write to each other: a command of a newer version may not be proposed.
    pub fn cluster_version(&self) -> ClusterVersion {
        self.cluster_version
    }

    /// The nodes that are being drained, or are drained and kept empty.
    pub fn drains(&self) -> impl Iterator<Item = (NodeId, Drain)> {
        self.drains.iter().map(|(&node, &drain)| (node, drain))
    }

    /// The drain of one node.
    pub fn drain(&self, node: NodeId) -> Option<Drain> {
        self.drains.get(&node).copied()
    }

    /// The one stop that is granted.
    pub fn stop_grant(&self) -> Option<StopGrant> {
        self.stop
    }

    /// The current operator.
    pub fn operator(&self) -> Option<&OperatorLease> {
        self.operator.as_ref()
    }

    /// Bytes a second that each node may send to replicas that reassignments add; `None` for no limit.
    pub fn reassignment_throttle(&self) -> Option<u64> {
        self.throttle
    }

    /// All topics by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics_by_name.values()
    }

    /// The topics from this name on, by name: for answers that come in pages.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Arc<Topic>> {
        let from = (std::ops::Bound::Included(name), std::ops::Bound::Unbounded);
        self.topics_by_name.range::<_, str>(from).map(|(_, topic)| topic)
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics_by_id.len()
    }

    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics_by_name.get(name)
    }

    /// A topic by id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics_by_id.get(&id)
    }

    /// One partition.
    pub fn partition(&self, id: &TopicPartition) -> Option<&Arc<PartitionRegistration>> {
        self.topics_by_id.get(&id.topic)?.partitions.get(id.partition.get() as usize)
    }

    /// The topics that were deleted last, for a node that was down meanwhile: what it has of them nobody wants. Of a topic
    /// that is neither here nor there nothing is known.
    pub fn deleted_topics(&self) -> impl Iterator<Item = TopicId> {
        self.deleted_topics.iter().copied()
    }

    /// All partitions, by topic id.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &Arc<PartitionRegistration>)> {
        self.topics_by_id.values().flat_map(|topic| topic.indexed())
    }

    /// The nodes that new replicas may be placed on: those that are not drained.
    pub fn nodes_for_replicas(&self) -> impl Iterator<Item = &Node> {
        self.nodes().filter(|node| !self.drains.contains_key(&node.id))
    }

    /// The current registration of a node that is not fenced.
    pub(super) fn alive(&self, id: NodeId) -> Option<BrokerEpoch> {
        self.node(id).filter(|node| !node.fenced).map(|node| node.epoch)
    }

    /// A node as elections see it; `None` while it is fenced.
    pub(super) fn candidate(&self, id: NodeId) -> Option<Candidate> {
        let node = self.node(id).filter(|node| !node.fenced)?;
        Some(Candidate { epoch: node.epoch, stopping: node.stopping })
    }

    /// A topic's `min.insync.replicas`: its dynamic setting, else the brokers' dynamic default, else 1.
    pub fn min_insync_replicas(&self, topic: &Arc<str>) -> usize {
        let setting = |resource| self.config(&resource, MIN_INSYNC_REPLICAS).and_then(|value| value.parse().ok());
        setting(ConfigResource::Topic(Arc::clone(topic)))
            .or_else(|| setting(ConfigResource::BrokerDefault))
            .unwrap_or(1)
    }

    /// How many in-sync replicas acks=all needs of a partition.
    pub(super) fn minimum_isr(&self, topic: &Topic, partition: &PartitionRegistration) -> usize {
        partition.minimum_isr(self.min_insync_replicas(&topic.name))
    }

    /// The topics with partitions on this node that have too many replicas for the nodes that would be left to hold
    /// them: why a node can't be drained.
    pub fn too_wide_without(&self, node: NodeId) -> impl Iterator<Item = &Arc<Topic>> {
        let left = self.nodes_for_replicas().filter(|other| other.id != node).count();
        let too_wide = move |partition: &Arc<PartitionRegistration>| {
            partition.target().contains(&node) && partition.target().len() > left
        };
        self.topics().filter(move |topic| topic.partitions.iter().any(too_wide))
    }

    /// The dynamic settings of a resource: Kafka's names, by name, and the values as they were given.
    pub fn configs(&self, resource: &ConfigResource) -> impl Iterator<Item = (&str, &str)> {
        self.configs
            .get(resource)
            .into_iter()
            .flat_map(|settings| settings.iter())
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// One dynamic setting of a resource, as it was given.
    pub fn config(&self, resource: &ConfigResource, name: &str) -> Option<&str> {
        self.configs.get(resource)?.get(name).map(String::as_str)
    }

    /// The resources that have dynamic settings.
    pub fn config_resources(&self) -> impl Iterator<Item = &ConfigResource> {
        self.configs.keys()
    }

    /// The topics that differ from those of an `earlier` image of the same cluster. Costs what differs, not what
    /// there is.
    pub fn changed_topics<'a>(&'a self, earlier: &'a Image) -> impl Iterator<Item = TopicChange<'a>> {
        earlier.topics_by_id.diff(&self.topics_by_id).map(|item| match item {
            DiffItem::Add(_, topic) => TopicChange::Created(topic),
            DiffItem::Update { old: (_, before), new: (_, after) } => TopicChange::Changed { before, after },
            DiffItem::Remove(_, topic) => TopicChange::Deleted(topic),
        })
    }

    /// The resources whose dynamic settings differ from those in an `earlier` image of the same cluster.
    pub fn changed_configs<'a>(&'a self, earlier: &'a Image) -> impl Iterator<Item = &'a ConfigResource> {
        earlier.configs.diff(&self.configs).map(|item| match item {
            DiffItem::Add(resource, _)
            | DiffItem::Remove(resource, _)
            | DiffItem::Update { new: (resource, _), .. } => resource,
        })
    }
}
