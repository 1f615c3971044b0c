//! The state machine: `apply` takes the state from one Raft index to the next.
//!
//! Pure (no I/O, no clock, no chance), deterministic (the same log gives the same state on every node) and total (a
//! command that can't be carried out is refused and changes nothing). Preconditions travel in the command and are
//! checked here, never when a request arrives.
//!
//! This file dispatches and has what commands share; each group of commands has a file of its own.

use std::sync::Arc;

use super::command::Command;
use super::image::Image;
use super::membership::Seat;
use super::outcome::{Outcome, Refused};
use super::topology::{Node, PartitionRegistration, Topic};
use crate::ids::{BrokerEpoch, NodeId, TopicPartition};

mod cluster;
mod drain;
mod nodes;
mod partitions;
mod reassignment;
mod stop;
mod topics;

pub use cluster::PRODUCER_ID_BLOCK;
pub(super) use reassignment::may_complete;

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
        self.carry_out(command).unwrap_or_else(|why| Outcome::Refused { why, index })
    }

    fn carry_out(&mut self, command: Command) -> Result<Outcome, Refused> {
        if command.since() > self.image.cluster_version {
            return Err(Refused::ClusterVersionTooOld);
        }
        match command {
            Command::RegisterNode { node, acked_may_be_lost } => self.register_node(node, acked_may_be_lost),
            Command::FenceNode { node, epoch } => self.fence_node(node, epoch),
            Command::UnfenceNode { node, epoch } => self.unfence_node(node, epoch),
            Command::UnregisterNode { node, only_if_empty } => self.unregister_node(node, only_if_empty),
            Command::BeginStop { node, epoch } => self.begin_stop(node, epoch),
            Command::PrepareStop { node, epoch } => self.prepare_stop(node, epoch),
            Command::EndStop { node, epoch } => self.end_stop(node, epoch),
            Command::CreateTopic(topic) => self.create_topic(topic),
            Command::DeleteTopic(id) => self.delete_topic(id),
            Command::CreatePartitions { topic, existing, assignment } => {
                self.create_partitions(topic, existing, &assignment)
            }
            Command::SetConfigs { resource, changes } => self.set_configs(resource, changes),
            Command::AlterPartition(change) => self.alter_partition(&change),
            Command::ElectLeaders { kind, partitions } => Ok(self.elect_leaders(kind, &partitions)),
            Command::BeginReassignment(moves) => Ok(self.begin_reassignments(moves)),
            Command::CompleteReassignment { partition, partition_epoch } => {
                self.complete_reassignment(partition, partition_epoch)
            }
            Command::CancelReassignment(partitions) => Ok(self.cancel_reassignments(&partitions)),
            Command::BeginDrain(node) => self.begin_drain(node),
            Command::CancelDrain(node) => self.cancel_drain(node),
            Command::AllocateProducerIds { node, epoch } => self.allocate_producer_ids(node, epoch),
            Command::AcquireOperatorLease { holder } => Ok(self.acquire_operator_lease(holder)),
            Command::SetClusterVersion(version) => self.set_cluster_version(version),
            Command::SetThrottle(bytes_per_second) => {
                self.image.throttle = bytes_per_second;
                Ok(Outcome::Done)
            }
            Command::AdmitMember { node, directory, address, vote } => {
                self.image.admit_member(node, directory, address, vote)
            }
            Command::SetMemberVote { node, directory, vote } => self.image.set_member_vote(node, directory, vote),
            Command::RemoveMember { node, directory } => self.image.remove_member(node, directory),
            Command::UnderLease { epoch, command } => self.under_lease(epoch, *command),
        }
    }

    /// The node, if `epoch` is its current registration.
    fn registered(&self, id: NodeId, epoch: BrokerEpoch) -> Result<&Node, Refused> {
        let node = self.image.node(id).ok_or(Refused::UnknownNode)?;
        if node.epoch == epoch { Ok(node) } else { Err(Refused::StaleBrokerEpoch) }
    }

    /// Replaces what is known of a node.
    fn update_node(&mut self, id: NodeId, update: impl FnOnce(&mut Node)) {
        if let Some(node) = self.image.nodes.get_mut(&id) {
            update(Arc::make_mut(node));
        }
    }

    fn put_topic(&mut self, topic: Topic) {
        let topic = Arc::new(topic);
        self.image.topics_by_name.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        self.image.topics_by_id.insert(topic.id, topic);
    }

    /// Lets `update` see every partition that `concerns` chooses, and counts up the partition epoch of those that it
    /// changed. `concerns` is asked for all of them and should be cheap.
    fn update_partitions(
        &mut self,
        concerns: impl Fn(&PartitionRegistration) -> bool,
        update: impl Fn(&Image, usize, &mut PartitionRegistration),
    ) {
        let mut changed = Vec::new();
        for topic in self.image.topics_by_id.values() {
            let mut updated: Option<Topic> = None;
            for (index, before) in topic.partitions.iter().enumerate().filter(|(_, partition)| concerns(partition)) {
                let mut after = PartitionRegistration::clone(before);
                update(&self.image, self.image.minimum_isr(topic, before), &mut after);
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

    /// Lets `update` change one partition, with a look at the image and its setting `min.insync.replicas`, and counts
    /// its partition epoch up if it did.
    fn update_partition<T>(
        &mut self,
        id: TopicPartition,
        update: impl FnOnce(&Image, usize, &mut PartitionRegistration) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let topic = self.image.topics_by_id.get(&id.topic).ok_or(Refused::UnknownTopic)?;
        let index = id.partition.get() as usize;
        let before = topic.partitions.get(index).ok_or(Refused::UnknownPartition)?;
        let mut after = PartitionRegistration::clone(before);
        let done = update(&self.image, self.image.min_insync_replicas(&topic.name), &mut after)?;
        if after != **before {
            after.partition_epoch = after.partition_epoch.next();
            let mut topic = Topic::clone(topic);
            topic.partitions[index] = Arc::new(after);
            self.put_topic(topic);
        }
        Ok(done)
    }
}
