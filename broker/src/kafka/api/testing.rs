//! A metadata plane in memory and settings, for the tests of the admin APIs.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Settings, load};
use crate::ids::{NodeId, PartitionIndex, TopicPartition};
use crate::kafka::admin::{Admin, Deadline};
use crate::kafka::topics::Wanted;
use crate::metadata::testing::{InstantPlane, node};
use crate::metadata::{AlterPartition, Command, Image, MetadataPlane, Move, PartitionRegistration};

/// A cluster of one node, number 0.
pub(in crate::kafka) struct Plane {
    pub metadata: Arc<InstantPlane>,
    pub settings: Settings,
}

impl Plane {
    /// Started with these settings.
    pub(crate) fn new(settings: &[(&str, &str)]) -> Self {
        let given = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = Settings::new(load(None, [], given).expect("the test's settings are valid"));
        Self { metadata: InstantPlane::new(), settings }
    }

    pub(crate) fn admin(&self) -> Admin<'_> {
        Admin { metadata: &*self.metadata, settings: &self.settings }
    }

    pub(crate) fn image(&self) -> Arc<Image> {
        self.metadata.image()
    }

    /// Makes a topic with so many partitions.
    pub(crate) async fn create(&self, name: &str, partitions: i32) {
        let wanted = Wanted { name: name.to_owned(), partitions, replication_factor: 1, ..Wanted::default() };
        let topic = wanted.plan(self.admin(), &self.image()).expect("the test's topic is valid");
        let deadline = Deadline::after(Duration::from_secs(5));
        self.admin().propose(Command::CreateTopic(topic), deadline).await.expect("created");
    }

    /// A cluster of so many nodes.
    pub(crate) async fn of_nodes(count: i32) -> Self {
        let plane = Self::new(&[]);
        for id in 1..count {
            plane.apply(Command::RegisterNode { node: node(id), acked_may_be_lost: false }).await;
        }
        plane
    }

    /// Makes a topic with so many partitions, each with so many replicas.
    pub(crate) async fn create_with(&self, name: &str, partitions: i32, replication_factor: i16) {
        let wanted = Wanted { name: name.to_owned(), partitions, replication_factor, ..Wanted::default() };
        let topic = wanted.plan(self.admin(), &self.image()).expect("the test's topic is valid");
        self.apply(Command::CreateTopic(topic)).await;
    }

    /// A partition as it is registered now.
    pub(crate) fn registration(&self, topic: &str, partition: i32) -> Arc<PartitionRegistration> {
        let image = self.image();
        let topic = image.topic(topic).expect("the test's topic is there");
        Arc::clone(&topic.partitions[partition as usize])
    }

    /// A partition's replicas now.
    pub(crate) fn replicas(&self, topic: &str, partition: i32) -> Vec<i32> {
        self.registration(topic, partition).replicas.iter().copied().map(NodeId::get).collect()
    }

    /// Begins to move a partition.
    pub(crate) async fn reassign(&self, topic: &str, partition: i32, replicas: &[i32]) {
        let target = replicas.iter().copied().map(NodeId::new).collect();
        let partition = self.partition(topic, partition);
        self.apply(Command::BeginReassignment(vec![Move { partition, target, partition_epoch: None }])).await;
    }

    /// A node dies and comes back.
    pub(crate) async fn restart(&self, id: i32) {
        let epoch = self.image().node(NodeId::new(id)).expect("the test's node is registered").epoch;
        self.apply(Command::FenceNode { node: NodeId::new(id), epoch }).await;
        self.apply(Command::RegisterNode { node: node(id), acked_may_be_lost: false }).await;
    }

    /// All replicas of a partition are in sync.
    pub(crate) async fn catch_up(&self, topic: &str, partition: i32) {
        let image = self.image();
        let now = self.registration(topic, partition);
        let epoch = |node: &NodeId| image.node(*node).expect("the test's node is registered").epoch;
        let leader = now.leader.expect("the test's partition has a leader");
        let change = AlterPartition {
            partition: self.partition(topic, partition),
            leader,
            leader_broker_epoch: epoch(&leader),
            leader_epoch: now.leader_epoch,
            partition_epoch: now.partition_epoch,
            isr: now.replicas.iter().map(|node| (*node, epoch(node))).collect(),
        };
        self.apply(Command::AlterPartition(change)).await;
    }

    fn partition(&self, topic: &str, partition: i32) -> TopicPartition {
        let topic = self.image().topic(topic).expect("the test's topic is there").id;
        TopicPartition { topic, partition: PartitionIndex::new(partition) }
    }

    async fn apply(&self, command: Command) {
        let outcome = self.metadata.propose(command.clone()).await.expect("applied at once");
        assert_eq!(outcome.refused(), None, "{command:?}");
    }
}
