//! The state machine: `apply` takes the state from one Raft index to the next.
//!
//! Pure (no I/O, no clock, no chance), deterministic (the same log gives the same state on every node) and total (a
//! command that can't be carried out is refused and changes nothing). Preconditions travel in the command and are
//! checked here, never when a request arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::command::{AlterPartition, Command, ConfigChange, NewTopic};
use super::election;
use super::image::Image;
use super::membership::Seat;
use super::outcome::{Outcome, Refused};
use super::topology::{ConfigResource, Node, PartitionRegistration, Topic};
use crate::ids::{BrokerEpoch, NodeId, PartitionIndex, ProducerId, TopicId};

/// Producer ids that a node takes at a time (KIP-730).
pub const PRODUCER_ID_BLOCK: u32 = 1000;

/// The setting that says how many in-sync replicas acks=all needs.
const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";

/// The replicated state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    image: Image,
}

impl State {
    /// A state that goes on from `image`: an empty one, or a snapshot's.
    pub fn new(image: Image) -> Self {
        Self { image }
    }

    /// The state as readers see it. Cheap: it shares all that does not change later.
    pub fn image(&self) -> Arc<Image> {
        Arc::new(self.image.clone())
    }

    /// The Raft index of the last command applied.
    pub fn index(&self) -> u64 {
        self.image.index
    }

    /// Goes to `index` without a command, for entries that Raft makes for itself.
    pub fn skip(&mut self, index: u64) {
        assert!(index > self.image.index, "entries are applied once, in order: {index} after {}", self.image.index);
        self.image.index = index;
    }

    /// Takes note of who votes and who learns, as of the entry that was applied last.
    pub fn seat(&mut self, seats: impl IntoIterator<Item = (NodeId, Seat)>) {
        self.image.seat(seats);
    }

    /// Applies the command of the entry at `index`.
    pub fn apply(&mut self, index: u64, command: Command) -> Outcome {
        self.skip(index);
        let outcome = match command {
            Command::RegisterNode { node, acked_may_be_lost } => self.register_node(node, acked_may_be_lost),
            Command::FenceNode { node, epoch } => self.fence_node(node, epoch),
            Command::CreateTopic(topic) => self.create_topic(topic),
            Command::DeleteTopic(id) => self.delete_topic(id),
            Command::CreatePartitions { topic, existing, assignment } => {
                self.create_partitions(topic, existing, &assignment)
            }
            Command::AlterPartition(change) => self.alter_partition(change),
            Command::SetConfigs { resource, changes } => self.set_configs(resource, changes),
            Command::AllocateProducerIds { node, epoch } => self.allocate_producer_ids(node, epoch),
            Command::AdmitMember { node, directory, address, vote } => {
                self.image.admit_member(node, directory, address, vote)
            }
            Command::SetMemberVote { node, directory, vote } => self.image.set_member_vote(node, directory, vote),
            Command::RemoveMember { node, directory } => self.image.remove_member(node, directory),
            // Built next: refused until then.
            _ => Err(Refused::ClusterVersionTooOld),
        };
        outcome.unwrap_or_else(|why| Outcome::Refused { why, index })
    }

    /// A registration from the same data folder replaces the old one at once; from another one only when the old one
    /// is fenced. The broker epoch is the command's index, so it grows with each.
    fn register_node(&mut self, node: Node, acked_may_be_lost: bool) -> Result<Outcome, Refused> {
        let before = self.image.nodes.get(&node.id);
        let wiped = before.is_some_and(|before| before.directory != node.directory);
        if wiped && before.is_some_and(|before| !before.fenced) {
            return Err(Refused::NodeIdInUse);
        }
        let id = node.id;
        let epoch = BrokerEpoch::new(self.image.index as i64);
        self.image.nodes.insert(id, Arc::new(Node { epoch, fenced: false, stopping: false, ..node }));
        self.update_partitions(|image, minimum, partition| {
            if !partition.replicas.contains(&id) {
                return;
            }
            if wiped || acked_may_be_lost {
                election::disqualify(partition, id);
            }
            if wiped && partition.last_leader == Some(id) {
                partition.last_leader = None;
            }
            // Rule 14: a broker that restarts never resumes an epoch.
            if partition.leader.is_none_or(|leader| leader == id) {
                election::elect(partition, minimum, |node| image.alive(node));
            }
        });
        Ok(Outcome::Registered(epoch))
    }

    fn fence_node(&mut self, id: NodeId, epoch: BrokerEpoch) -> Result<Outcome, Refused> {
        let node = self.registered(id, epoch)?;
        if node.fenced {
            return Ok(Outcome::Done);
        }
        let fenced = Node { fenced: true, ..node.clone() };
        self.image.nodes.insert(id, Arc::new(fenced));
        self.update_partitions(|image, minimum, partition| {
            if partition.isr.contains(&id) {
                let rest = partition.isr.iter().copied().filter(|&member| member != id).collect();
                election::replace_isr(partition, rest, minimum);
            }
            if partition.leader == Some(id) {
                election::elect(partition, minimum, |node| image.alive(node));
            }
        });
        Ok(Outcome::Done)
    }

    fn create_topic(&mut self, new: NewTopic) -> Result<Outcome, Refused> {
        if self.image.topics_by_name.contains_key(new.name.as_str()) || self.image.topics_by_id.contains_key(&new.id) {
            return Err(Refused::TopicExists);
        }
        let partitions = self.first_registrations(&new.assignment)?;
        let name: Arc<str> = new.name.into();
        self.put_topic(Topic { id: new.id, name: Arc::clone(&name), partitions });
        if !new.configs.is_empty() {
            let settings: BTreeMap<String, String> = new.configs.into_iter().collect();
            self.image.configs.insert(ConfigResource::Topic(name), Arc::new(settings));
        }
        Ok(Outcome::Done)
    }

    fn delete_topic(&mut self, id: TopicId) -> Result<Outcome, Refused> {
        let topic = self.image.topics_by_id.remove(&id).ok_or(Refused::UnknownTopic)?;
        self.image.topics_by_name.remove(&topic.name);
        self.image.configs.remove(&ConfigResource::Topic(Arc::clone(&topic.name)));
        Ok(Outcome::Done)
    }

    fn create_partitions(
        &mut self,
        id: TopicId,
        existing: PartitionIndex,
        assignment: &[Vec<NodeId>],
    ) -> Result<Outcome, Refused> {
        let topic = self.image.topics_by_id.get(&id).ok_or(Refused::UnknownTopic)?;
        if topic.partitions.len() != existing.get() as usize {
            return Err(Refused::PartitionCountChanged);
        }
        let new = self.first_registrations(assignment)?;
        let partitions = topic.partitions.iter().cloned().chain(new).collect();
        self.put_topic(Topic { id, name: Arc::clone(&topic.name), partitions });
        Ok(Outcome::Done)
    }

    /// Rule 8: leadership and registration are compared with what the proposer saw; a lost race is refused.
    fn alter_partition(&mut self, change: AlterPartition) -> Result<Outcome, Refused> {
        self.registered(change.leader, change.leader_broker_epoch)?;
        let topic = self.image.topics_by_id.get(&change.partition.topic).ok_or(Refused::UnknownTopic)?;
        let index = change.partition.partition.get() as usize;
        let partition = topic.partitions.get(index).ok_or(Refused::UnknownPartition)?;
        if partition.leader != Some(change.leader) || partition.leader_epoch != change.leader_epoch {
            return Err(Refused::FencedLeaderEpoch);
        }
        if partition.partition_epoch != change.partition_epoch {
            return Err(Refused::PartitionEpochChanged);
        }
        let isr: Vec<NodeId> = change.isr.iter().map(|&(node, _)| node).collect();
        let distinct: BTreeSet<NodeId> = isr.iter().copied().collect();
        let all_replicas = isr.iter().all(|member| partition.replicas.contains(member));
        if distinct.len() != isr.len() || !all_replicas || !isr.contains(&change.leader) {
            return Err(Refused::InvalidIsr);
        }
        if change.isr.iter().any(|&(node, epoch)| self.image.alive(node) != Some(epoch)) {
            return Err(Refused::IneligibleReplica);
        }
        let mut topic = Topic::clone(topic);
        let mut partition = PartitionRegistration::clone(partition);
        let minimum = self.image.minimum_isr(&topic.name, &partition);
        election::replace_isr(&mut partition, isr, minimum);
        partition.partition_epoch = partition.partition_epoch.next();
        topic.partitions[index] = Arc::new(partition);
        self.put_topic(topic);
        Ok(Outcome::Done)
    }

    fn set_configs(&mut self, resource: ConfigResource, changes: Vec<ConfigChange>) -> Result<Outcome, Refused> {
        if let ConfigResource::Topic(name) = &resource
            && !self.image.topics_by_name.contains_key(name)
        {
            return Err(Refused::UnknownTopic);
        }
        let mut settings = self.image.configs.get(&resource).map(|before| BTreeMap::clone(before)).unwrap_or_default();
        let minimum_changes = changes.iter().any(|(name, _)| name == MIN_INSYNC_REPLICAS);
        for (name, value) in changes {
            match value {
                Some(value) => settings.insert(name, value),
                None => settings.remove(&name),
            };
        }
        if settings.is_empty() {
            self.image.configs.remove(&resource);
        } else {
            self.image.configs.insert(resource, Arc::new(settings));
        }
        if minimum_changes {
            // Rule 10: lowering the minimum empties the ELR in the same command.
            self.update_partitions(|_, minimum, partition| election::settle_eligible(partition, minimum));
        }
        Ok(Outcome::Done)
    }

    fn allocate_producer_ids(&mut self, node: NodeId, epoch: BrokerEpoch) -> Result<Outcome, Refused> {
        self.registered(node, epoch)?;
        let first = self.image.next_producer_id;
        let next = first.get().checked_add(i64::from(PRODUCER_ID_BLOCK)).ok_or(Refused::ProducerIdsExhausted)?;
        self.image.next_producer_id = ProducerId::new(next);
        Ok(Outcome::ProducerIds { first, count: PRODUCER_ID_BLOCK })
    }

    /// The node, if `epoch` is its current registration.
    fn registered(&self, id: NodeId, epoch: BrokerEpoch) -> Result<&Node, Refused> {
        let node = self.image.node(id).ok_or(Refused::UnknownNode)?;
        if node.epoch == epoch { Ok(node) } else { Err(Refused::StaleBrokerEpoch) }
    }

    fn first_registrations(&self, assignment: &[Vec<NodeId>]) -> Result<Vec<Arc<PartitionRegistration>>, Refused> {
        if assignment.is_empty() {
            return Err(Refused::InvalidAssignment);
        }
        let registration = |replicas: &Vec<NodeId>| {
            let distinct: BTreeSet<NodeId> = replicas.iter().copied().collect();
            if distinct.len() != replicas.len() || replicas.iter().any(|&node| self.image.node(node).is_none()) {
                return Err(Refused::InvalidAssignment);
            }
            election::first_registration(replicas, |node| self.image.alive(node))
                .map(Arc::new)
                .ok_or(Refused::InvalidAssignment)
        };
        assignment.iter().map(registration).collect()
    }

    fn put_topic(&mut self, topic: Topic) {
        let topic = Arc::new(topic);
        self.image.topics_by_name.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        self.image.topics_by_id.insert(topic.id, topic);
    }

    /// Lets `update` see every partition with its minimum of in-sync replicas, and counts up the partition epoch of
    /// those that it changed.
    fn update_partitions(&mut self, update: impl Fn(&Image, usize, &mut PartitionRegistration)) {
        let mut changed = Vec::new();
        for topic in self.image.topics_by_id.values() {
            let mut updated: Option<Topic> = None;
            for (index, before) in topic.partitions.iter().enumerate() {
                let mut after = PartitionRegistration::clone(before);
                update(&self.image, self.image.minimum_isr(&topic.name, before), &mut after);
                if after != **before {
                    after.partition_epoch = after.partition_epoch.next();
                    updated.get_or_insert_with(|| Topic::clone(topic)).partitions[index] = Arc::new(after);
                }
            }
            changed.extend(updated);
        }
        for topic in changed {
            self.put_topic(topic);
        }
    }
}

impl Image {
    /// The current registration of a node that is not fenced.
    fn alive(&self, id: NodeId) -> Option<BrokerEpoch> {
        self.node(id).filter(|node| !node.fenced).map(|node| node.epoch)
    }

    /// How many in-sync replicas acks=all needs: the topic's dynamic setting, else the brokers' dynamic default, else 1;
    /// never more than there are replicas.
    fn minimum_isr(&self, topic: &Arc<str>, partition: &PartitionRegistration) -> usize {
        let setting = |resource| self.config(&resource, MIN_INSYNC_REPLICAS).and_then(|value| value.parse().ok());
        let minimum: usize = setting(ConfigResource::Topic(Arc::clone(topic)))
            .or_else(|| setting(ConfigResource::BrokerDefault))
            .unwrap_or(1);
        minimum.min(partition.replicas.len()).max(1)
    }
}
