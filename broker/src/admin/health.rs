//! Which partitions are not as they should be, and how many.

use std::cmp::Reverse;

use super::proto::{self, PartitionHealth};
use crate::ids::NodeId;
use crate::metadata::{Image, PartitionRegistration};

/// Partitions that are named; more are counted only.
const NAMED: usize = 1000;

/// What can be wrong with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Health {
    /// In-sync replicas that acks=all asks for.
    minimum: usize,
    under_replicated: bool,
    under_minimum: bool,
    offline: bool,
}

impl Health {
    fn of(partition: &PartitionRegistration, min_insync: usize) -> Self {
        let minimum = partition.minimum_isr(min_insync);
        // Replicas that a reassignment adds are not expected to be in sync.
        let adding = partition.adding().filter(|node| !partition.isr.contains(node)).count();
        Self {
            minimum,
            under_replicated: partition.isr.len() + adding < partition.replicas.len(),
            under_minimum: partition.isr.len() < minimum,
            offline: partition.leader.is_none(),
        }
    }

    /// The worst of it; `None` where nothing is wrong.
    fn worst(self) -> Option<PartitionHealth> {
        match self {
            Self { offline: true, .. } => Some(PartitionHealth::Offline),
            Self { under_minimum: true, .. } => Some(PartitionHealth::UnderMinimum),
            Self { under_replicated: true, .. } => Some(PartitionHealth::UnderReplicated),
            _ => None,
        }
    }
}

/// How many partitions there are, and how many need attention.
pub fn partition_counts(image: &Image) -> proto::PartitionCounts {
    let mut counts = proto::PartitionCounts { topics: image.topic_count() as u32, ..Default::default() };
    for topic in image.topics() {
        let min_insync = image.min_insync_replicas(&topic.name);
        for partition in &topic.partitions {
            let health = Health::of(partition, min_insync);
            counts.partitions += 1;
            counts.under_replicated += u32::from(health.under_replicated);
            counts.under_minimum += u32::from(health.under_minimum);
            counts.at_minimum += u32::from(partition.isr.len() == health.minimum);
            counts.offline += u32::from(health.offline);
            counts.reassigning += u32::from(partition.reassignment.is_some());
            let preferred = partition.replicas.first().copied();
            counts.not_preferred += u32::from(partition.leader.is_some() && partition.leader != preferred);
        }
    }
    counts
}

/// The partitions that are not as they should be, the worst first.
pub fn unhealthy_partitions(image: &Image) -> proto::ListUnhealthyPartitionsResponse {
    let mut partitions = Vec::new();
    for topic in image.topics() {
        let min_insync = image.min_insync_replicas(&topic.name);
        for (id, partition) in topic.indexed() {
            let health = Health::of(partition, min_insync);
            let Some(worst) = health.worst() else { continue };
            partitions.push(proto::UnhealthyPartition {
                topic: topic.name.to_string(),
                partition: id.partition.get(),
                health: worst.into(),
                leader: partition.leader.map(NodeId::get),
                replicas: partition.replicas.iter().map(|node| node.get()).collect(),
                in_sync: partition.isr.iter().map(|node| node.get()).collect(),
                minimum: health.minimum as u32,
            });
        }
    }
    // Stable: within one kind they stay in the topics' order.
    partitions.sort_by_key(|partition| Reverse(partition.health));
    let total = partitions.len() as u32;
    partitions.truncate(NAMED);
    proto::ListUnhealthyPartitionsResponse { partitions, total }
}
