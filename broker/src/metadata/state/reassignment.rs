//! Reassignments (KIP-455) by rule 15: both the old and the new replicas until the new ones are in sync, then only those.

use std::collections::BTreeSet;

use super::State;
use crate::ids::{NodeId, PartitionEpoch, TopicPartition};
use crate::metadata::command::Move;
use crate::metadata::election;
use crate::metadata::image::Image;
use crate::metadata::outcome::{Outcome, Refused};
use crate::metadata::topology::{PartitionRegistration, Reassignment};

impl State {
    pub(super) fn begin_reassignments(&mut self, moves: Vec<Move>) -> Outcome {
        Outcome::Partitions(moves.into_iter().map(|wanted| self.begin_reassignment(wanted)).collect())
    }

    fn begin_reassignment(&mut self, wanted: Move) -> Result<(), Refused> {
        let Move { partition, target, partition_epoch } = wanted;
        self.update_partition(partition, |image, min_insync, partition| {
            if partition_epoch.is_some_and(|seen| seen != partition.partition_epoch) {
                return Err(Refused::PartitionEpochChanged);
            }
            let distinct: BTreeSet<NodeId> = target.iter().copied().collect();
            let known = target.iter().all(|&node| image.node(node).is_some());
            if target.is_empty() || distinct.len() != target.len() || !known {
                return Err(Refused::InvalidAssignment);
            }
            begin(partition, target);
            // A move to fewer replicas may ask for fewer in sync from now on.
            let minimum = partition.minimum_isr(min_insync);
            election::settle_eligible(partition, minimum);
            Ok(())
        })
    }

    /// The proposer saw that the added replicas are in sync; here it is checked.
    pub(super) fn complete_reassignment(
        &mut self,
        partition: TopicPartition,
        partition_epoch: PartitionEpoch,
    ) -> Result<Outcome, Refused> {
        self.update_partition(partition, |image, min_insync, partition| {
            let moving = partition.reassignment.clone().ok_or(Refused::NoReassignment)?;
            if partition.partition_epoch != partition_epoch {
                return Err(Refused::PartitionEpochChanged);
            }
            if !may_complete(partition, min_insync) {
                return Err(Refused::NotEnoughInSync);
            }
            settle(image, min_insync, partition, moving.target);
            Ok(Outcome::Done)
        })
    }

    pub(super) fn cancel_reassignments(&mut self, partitions: &[TopicPartition]) -> Outcome {
        Outcome::Partitions(partitions.iter().map(|&id| self.cancel_reassignment(id)).collect())
    }

    pub(super) fn cancel_reassignment(&mut self, partition: TopicPartition) -> Result<(), Refused> {
        self.update_partition(partition, |image, min_insync, partition| {
            let moving = partition.reassignment.clone().ok_or(Refused::NoReassignment)?;
            if !may_cancel(partition, &moving.original, min_insync) {
                return Err(Refused::NotEnoughInSync);
            }
            settle(image, min_insync, partition, moving.original);
            Ok(())
        })
    }
}

/// Begins, or turns a reassignment under way to another target. Nobody leaves before it is done: not the replicas of
/// an earlier target either, since the ISR may rest on them.
fn begin(partition: &mut PartitionRegistration, target: Vec<NodeId>) {
    let moving = partition.reassignment.take();
    let same_nodes = target.len() == partition.replicas.len() && target.iter().all(|n| partition.replicas.contains(n));
    if moving.is_none() && same_nodes {
        // Only the order changes: who is preferred.
        partition.replicas = target;
        return;
    }
    let leaving = partition.replicas.iter().copied().filter(|node| !target.contains(node));
    let replicas = target.iter().copied().chain(leaving).collect();
    let original = moving.map_or_else(|| partition.replicas.clone(), |moving| moving.original);
    partition.replicas = replicas;
    partition.reassignment = Some(Box::new(Reassignment { original, target }));
}

/// Rule 15: all that were added are in sync, and of the target enough that acks=all goes on.
pub(in crate::metadata) fn may_complete(partition: &PartitionRegistration, min_insync: usize) -> bool {
    let target = partition.target();
    let in_sync = partition.isr.iter().filter(|member| target.contains(member)).count();
    partition.adding().all(|node| partition.isr.contains(&node)) && in_sync >= min_insync.min(target.len()).max(1)
}

/// Going back takes nothing away that acknowledged records rest on: enough of the original replicas are in sync, or
/// nobody else is.
fn may_cancel(partition: &PartitionRegistration, original: &[NodeId], min_insync: usize) -> bool {
    let in_sync = partition.isr.iter().filter(|member| original.contains(member)).count();
    if in_sync >= min_insync.min(original.len()).max(1) {
        return true;
    }
    let nobody_eligible = partition.isr.is_empty() && partition.elr.is_empty();
    let last_leader = partition.last_leader.iter().filter(|_| nobody_eligible);
    partition.isr.iter().chain(&partition.elr).chain(last_leader).all(|node| original.contains(node))
}

/// The replicas become `replicas` and nothing else, under a new leader epoch: those that are gone may not go on in the
/// old one.
fn settle(image: &Image, min_insync: usize, partition: &mut PartitionRegistration, replicas: Vec<NodeId>) {
    partition.isr.retain(|member| replicas.contains(member));
    partition.elr.retain(|eligible| replicas.contains(eligible));
    partition.last_leader = partition.last_leader.filter(|last| replicas.contains(last));
    partition.replicas = replicas;
    partition.reassignment = None;
    let minimum = partition.minimum_isr(min_insync);
    election::settle_eligible(partition, minimum);
    match partition.leader.filter(|leader| partition.replicas.contains(leader)) {
        Some(_) => partition.leader_epoch = partition.leader_epoch.next(),
        None => election::elect(partition, minimum, |node| image.candidate(node)),
    }
}
