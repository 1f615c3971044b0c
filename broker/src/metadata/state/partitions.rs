//! The ISR as a leader proposes it, and elections as people ask for them.

use std::collections::BTreeSet;

use super::State;
use crate::ids::{NodeId, TopicPartition};
use crate::metadata::command::{AlterPartition, ElectionKind};
use crate::metadata::election;
use crate::metadata::image::Image;
use crate::metadata::outcome::{Outcome, Refused};
use crate::metadata::topology::PartitionRegistration;

impl State {
    /// Rule 8: leadership and registration are compared with what the proposer saw; a lost race is refused. A leader that
    /// is not in the ISR that it asks for gives the partition up: another member leads.
    pub(super) fn alter_partition(&mut self, change: &AlterPartition) -> Result<Outcome, Refused> {
        self.registered(change.leader, change.leader_broker_epoch)?;
        self.update_partition(change.partition, |image, min_insync, partition| {
            if partition.leader != Some(change.leader) || partition.leader_epoch != change.leader_epoch {
                return Err(Refused::FencedLeaderEpoch);
            }
            if partition.partition_epoch != change.partition_epoch {
                return Err(Refused::PartitionEpochChanged);
            }
            let isr: Vec<NodeId> = change.isr.iter().map(|&(node, _)| node).collect();
            let distinct: BTreeSet<NodeId> = isr.iter().copied().collect();
            let all_replicas = isr.iter().all(|member| partition.replicas.contains(member));
            if isr.is_empty() || distinct.len() != isr.len() || !all_replicas {
                return Err(Refused::InvalidIsr);
            }
            if change.isr.iter().any(|&(node, epoch)| image.alive(node) != Some(epoch)) {
                return Err(Refused::IneligibleReplica);
            }
            let gives_up = !isr.contains(&change.leader);
            let minimum = partition.minimum_isr(min_insync);
            election::replace_isr(partition, isr, minimum);
            if gives_up {
                election::elect(partition, minimum, |node| image.candidate(node));
            }
            Ok(Outcome::Done)
        })
    }

    pub(super) fn elect_leaders(&mut self, kind: ElectionKind, partitions: &[TopicPartition]) -> Outcome {
        let elect = |image: &Image, min_insync, partition: &mut PartitionRegistration| {
            let minimum = partition.minimum_isr(min_insync);
            match kind {
                ElectionKind::Preferred => election::elect_preferred(partition, minimum, |node| image.candidate(node)),
                ElectionKind::Unclean => election::elect_unclean(partition, |node| image.candidate(node)),
            }
        };
        Outcome::Partitions(partitions.iter().map(|&id| self.update_partition(id, elect)).collect())
    }
}
