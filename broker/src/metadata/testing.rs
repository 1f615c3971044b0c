//! A metadata plane in memory, and a cluster's state to give commands to, for tests.

use std::cell::Cell;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    AlterPartition, ClusterVersion, Command, Image, MetadataPlane, Move, NewTopic, Node, Outcome,
    PartitionRegistration, Proposal, State,
};
use crate::ids::{BrokerEpoch, NodeId, PartitionIndex, TopicId, TopicPartition};

thread_local! {
    /// A bug planted by the simulation: a node that registers with a new data folder stays in the ISRs.
    pub(crate) static WIPED_ELECTABLE: Cell<bool> = const { Cell::new(false) };
}

/// Applies each command at once.
pub(crate) struct InstantPlane {
    state: Mutex<State>,
    images: watch::Sender<Arc<Image>>,
}

impl InstantPlane {
    /// A cluster of one registered node, number 0.
    pub(crate) fn new() -> Arc<Self> {
        let mut state = State::new(Image::empty("test-cluster"));
        state.apply(1, Command::RegisterNode { node: node(0), acked_may_be_lost: false });
        Arc::new(Self { images: watch::Sender::new(state.image()), state: Mutex::new(state) })
    }
}

impl MetadataPlane for InstantPlane {
    fn image(&self) -> Arc<Image> {
        Arc::clone(&self.images.borrow())
    }

    fn subscribe(&self) -> watch::Receiver<Arc<Image>> {
        self.images.subscribe()
    }

    fn propose(&self, command: Command) -> Proposal<'_> {
        let mut state = self.state.lock();
        let index = state.image().index() + 1;
        let outcome = state.apply(index, command);
        super::one_member::seat_members(&mut state);
        self.images.send_replace(state.image());
        Box::pin(std::future::ready(Ok(outcome)))
    }

    fn leader(&self) -> Option<NodeId> {
        Some(NodeId::FIRST)
    }
}

/// A node as it asks to be registered.
pub(crate) fn node(id: i32) -> Node {
    Node {
        id: NodeId::new(id),
        directory: uuid::Uuid::from_u128(0x1000 + id as u128),
        epoch: BrokerEpoch::FIRST,
        fenced: false,
        stopping: false,
        host: format!("node{id}.example"),
        port: 9092,
        wal: None,
        grpc: None,
        rack: None,
        version: "0.1.0".to_owned(),
        newest_version: ClusterVersion::NEWEST,
    }
}

pub(crate) fn ids(nodes: &[i32]) -> Vec<NodeId> {
    nodes.iter().copied().map(NodeId::new).collect()
}

/// The state of a cluster, one command after the other.
#[derive(Debug, Clone)]
pub(crate) struct Cluster(pub(crate) State);

impl Cluster {
    /// Nodes 0 to `nodes`, and no topics.
    pub(crate) fn of(nodes: i32) -> Self {
        let mut cluster = Self(State::new(Image::empty("cluster")));
        for id in 0..nodes {
            cluster.register(node(id), false);
        }
        cluster
    }

    pub(crate) fn image(&self) -> Arc<Image> {
        self.0.image()
    }

    pub(crate) fn apply(&mut self, command: Command) -> Outcome {
        self.0.apply(self.0.index() + 1, command)
    }

    /// Applies what is not refused.
    pub(crate) fn done(&mut self, command: Command) {
        assert_eq!(self.apply(command.clone()), Outcome::Done, "{command:?}");
    }

    pub(crate) fn register(&mut self, node: Node, acked_may_be_lost: bool) -> Outcome {
        self.apply(Command::RegisterNode { node, acked_may_be_lost })
    }

    pub(crate) fn topic_id(number: u128) -> TopicId {
        TopicId::from_uuid(uuid::Uuid::from_u128(number)).expect("not nil")
    }

    /// A topic with these replicas of its partitions.
    pub(crate) fn create(&mut self, name: &str, id: u128, assignment: &[&[i32]], min_insync_replicas: u32) {
        self.done(Command::CreateTopic(NewTopic {
            name: name.to_owned(),
            id: Self::topic_id(id),
            assignment: assignment.iter().map(|replicas| ids(replicas)).collect(),
            configs: vec![("min.insync.replicas".to_owned(), min_insync_replicas.to_string())],
        }));
    }

    pub(crate) fn epoch(&self, id: i32) -> BrokerEpoch {
        self.image().node(NodeId::new(id)).expect("registered").epoch
    }

    pub(crate) fn fence(&mut self, id: i32) {
        let epoch = self.epoch(id);
        self.done(Command::FenceNode { node: NodeId::new(id), epoch });
    }

    pub(crate) fn unfence(&mut self, id: i32) {
        let epoch = self.epoch(id);
        self.done(Command::UnfenceNode { node: NodeId::new(id), epoch });
    }

    pub(crate) fn begin_stop(&mut self, id: i32) {
        let epoch = self.epoch(id);
        self.done(Command::BeginStop { node: NodeId::new(id), epoch });
    }

    /// Lets these nodes vote in the metadata plane, and no others.
    pub(crate) fn seat(&mut self, voters: &[i32]) {
        self.0.seat(voters.iter().map(|&voter| (NodeId::new(voter), super::membership::Seat::Voter)));
    }

    /// The first partition of the topic.
    pub(crate) fn partition(&self, topic: &str) -> PartitionRegistration {
        let image = self.image();
        PartitionRegistration::clone(&image.topic(topic).expect("created").partitions[0])
    }

    pub(crate) fn first_of(&self, topic: &str) -> TopicPartition {
        let topic = self.image().topic(topic).expect("created").id;
        TopicPartition { topic, partition: PartitionIndex::FIRST }
    }

    /// The leader's proposal of this ISR, with all epochs as they are.
    pub(crate) fn proposal(&self, topic: &str, isr: &[i32]) -> AlterPartition {
        let partition = self.partition(topic);
        let leader = partition.leader.expect("led");
        AlterPartition {
            partition: self.first_of(topic),
            leader,
            leader_broker_epoch: self.epoch(leader.get()),
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: isr.iter().map(|&id| (NodeId::new(id), self.epoch(id))).collect(),
        }
    }

    pub(crate) fn set_isr(&mut self, topic: &str, isr: &[i32]) {
        let change = self.proposal(topic, isr);
        self.done(Command::AlterPartition(change));
    }

    /// Begins to move the topic's first partition.
    pub(crate) fn reassign(&mut self, topic: &str, target: &[i32]) -> Outcome {
        let (partition, target) = (self.first_of(topic), ids(target));
        self.apply(Command::BeginReassignment(vec![Move { partition, target, partition_epoch: None }]))
    }

    /// Tries to complete that.
    pub(crate) fn complete(&mut self, topic: &str) -> Outcome {
        let (partition, partition_epoch) = (self.first_of(topic), self.partition(topic).partition_epoch);
        self.apply(Command::CompleteReassignment { partition, partition_epoch })
    }
}
