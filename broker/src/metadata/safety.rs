//! Whether a node can stop now. Pure: the image answers.

use std::collections::BTreeSet;

use super::image::Image;
use super::membership::Seat;
use crate::ids::{NodeId, TopicPartition};

/// What a stop would do to the metadata plane's quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuorumSafety {
    /// Enough voters would be left.
    Kept,
    /// Too few of the voters that would be left are alive; once they are, it is safe.
    Lost,
    /// There are too few voters for any of them to stop without losing the quorum.
    Unavoidable,
}

/// What a stop would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopSafety {
    /// Partitions whose ISR would fall below their minimum, though another time it would not.
    pub blocking: Vec<TopicPartition>,
    /// Partitions that no order of stops keeps available: they have one replica, or as many as `min.insync.replicas`. A stop
    /// does not wait for them.
    pub unavoidable: Vec<TopicPartition>,
    /// The metadata plane.
    pub quorum: QuorumSafety,
}

impl StopSafety {
    /// Whether nothing is lost that waiting could save.
    pub fn is_safe(&self) -> bool {
        self.blocking.is_empty() && self.quorum != QuorumSafety::Lost
    }
}

/// What a stop of `node` would do now, when nodes that are stopping already are taken for gone.
pub fn is_safe_to_stop(image: &Image, node: NodeId) -> StopSafety {
    let mut safety = StopSafety { blocking: Vec::new(), unavoidable: Vec::new(), quorum: quorum_without(image, node) };
    let stays = |member: &&NodeId| **member != node && image.node(**member).is_some_and(|other| !other.stopping);
    for topic in image.topics() {
        let min_insync = image.min_insync_replicas(&topic.name);
        for (id, partition) in topic.indexed() {
            if !partition.isr.contains(&node) {
                continue;
            }
            let minimum = partition.minimum_isr(min_insync);
            if partition.replicas.len() <= minimum {
                safety.unavoidable.push(id);
            } else if partition.isr.iter().filter(stays).count() < minimum {
                safety.blocking.push(id);
            }
        }
    }
    safety
}

fn quorum_without(image: &Image, node: NodeId) -> QuorumSafety {
    let voters: BTreeSet<NodeId> =
        image.seats().filter(|&(_, seat)| seat == Seat::Voter).map(|(voter, _)| voter).collect();
    if !voters.contains(&node) {
        return QuorumSafety::Kept;
    }
    let majority = voters.len() / 2 + 1;
    let works = |voter: &&NodeId| image.node(**voter).is_some_and(|other| !other.fenced && !other.stopping);
    if voters.len() - 1 < majority {
        QuorumSafety::Unavoidable
    } else if voters.iter().filter(|voter| **voter != node).filter(works).count() < majority {
        QuorumSafety::Lost
    } else {
        QuorumSafety::Kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PartitionIndex;
    use crate::metadata::testing::Cluster;

    fn partitions(indexes: &[i32]) -> Vec<TopicPartition> {
        let topic = Cluster::topic_id(1);
        indexes.iter().map(|&index| TopicPartition { topic, partition: PartitionIndex::new(index) }).collect()
    }

    #[test]
    fn a_stop_is_safe_while_the_minimum_stays_in_sync() {
        let mut cluster = Cluster::of(3);
        cluster.create("t", 1, &[&[0, 1, 2]], 2);
        assert!(is_safe_to_stop(&cluster.image(), NodeId::new(0)).is_safe());
        cluster.set_isr("t", &[0, 1]);
        let safety = is_safe_to_stop(&cluster.image(), NodeId::new(0));
        assert_eq!((safety.is_safe(), safety.blocking), (false, partitions(&[0])));
        assert!(is_safe_to_stop(&cluster.image(), NodeId::new(2)).is_safe(), "it is not in sync: nothing is lost");
    }

    #[test]
    fn what_no_order_keeps_available_is_named_and_does_not_block() {
        let mut cluster = Cluster::of(3);
        cluster.create("t", 1, &[&[0], &[0, 1, 2], &[0, 1]], 2);
        let safety = is_safe_to_stop(&cluster.image(), NodeId::new(0));
        assert!(safety.is_safe());
        assert_eq!(safety.unavoidable, partitions(&[0, 2]));
    }

    #[test]
    fn a_node_that_is_stopping_counts_as_gone() {
        let mut cluster = Cluster::of(3);
        cluster.create("t", 1, &[&[0, 1, 2]], 2);
        cluster.begin_stop(1);
        assert!(!is_safe_to_stop(&cluster.image(), NodeId::new(0)).is_safe());
        assert!(is_safe_to_stop(&cluster.image(), NodeId::new(1)).is_safe(), "its own stop does not count twice");
    }

    #[test]
    fn the_quorum_of_the_metadata_plane_counts_too() {
        let mut cluster = Cluster::of(3);
        let quorum = |cluster: &Cluster| is_safe_to_stop(&cluster.image(), NodeId::new(0)).quorum;
        assert_eq!(quorum(&cluster), QuorumSafety::Kept, "a node that does not vote");
        cluster.seat(&[0, 1, 2]);
        assert_eq!(quorum(&cluster), QuorumSafety::Kept);
        cluster.fence(1);
        assert_eq!(quorum(&cluster), QuorumSafety::Lost);
        assert!(!is_safe_to_stop(&cluster.image(), NodeId::new(0)).is_safe());
        cluster.seat(&[0, 1]);
        assert_eq!(quorum(&cluster), QuorumSafety::Unavoidable, "two voters can spare none");
        assert!(is_safe_to_stop(&cluster.image(), NodeId::new(0)).is_safe());
    }
}
