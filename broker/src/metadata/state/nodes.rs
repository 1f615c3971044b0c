//! Nodes come, are taken for dead, are heard again, and go.

use std::sync::Arc;

use super::State;
use crate::ids::{BrokerEpoch, NodeId};
use crate::metadata::election;
use crate::metadata::outcome::{Outcome, Refused};
use crate::metadata::topology::{Node, PartitionRegistration};

impl State {
    /// A registration from the same data folder replaces the old one at once; from another one only when the old one
    /// is fenced. The broker epoch is the command's index, so it grows with each.
    ///
    /// A node is alive from its registration on: it registers only once its image has caught up, so it need not start
    /// fenced as Kafka's brokers do (KIP-631).
    pub(super) fn register_node(&mut self, node: Node, acked_may_be_lost: bool) -> Result<Outcome, Refused> {
        let before = self.image.nodes.get(&node.id);
        let wiped = before.is_some_and(|before| before.directory != node.directory);
        if wiped && before.is_some_and(|before| !before.fenced) {
            return Err(Refused::NodeIdInUse);
        }
        if node.newest_version < self.image.cluster_version {
            return Err(Refused::UnsupportedClusterVersion);
        }
        #[cfg(test)]
        let wiped = wiped && !crate::metadata::testing::WIPED_ELECTABLE.get();
        let id = node.id;
        let epoch = BrokerEpoch::new(self.image.index as i64);
        self.image.nodes.insert(id, Arc::new(Node { epoch, fenced: false, stopping: false, ..node }));
        self.image.stop = self.image.stop.filter(|grant| grant.node != id);
        self.update_partitions(
            |partition| partition.replicas.contains(&id),
            |image, minimum, partition| {
                if wiped || acked_may_be_lost {
                    election::disqualify(partition, id);
                }
                if wiped && partition.last_leader == Some(id) {
                    partition.last_leader = None;
                }
                // Rule 14: a broker that restarts never resumes an epoch.
                if partition.leader.is_none_or(|leader| leader == id) {
                    election::elect(partition, minimum, |node| image.candidate(node));
                }
            },
        );
        Ok(Outcome::Registered(epoch))
    }

    pub(super) fn fence_node(&mut self, id: NodeId, epoch: BrokerEpoch) -> Result<Outcome, Refused> {
        if self.registered(id, epoch)?.fenced {
            return Ok(Outcome::Done);
        }
        self.update_node(id, |node| node.fenced = true);
        self.update_partitions(
            |partition| partition.isr.contains(&id) || partition.leader == Some(id),
            |image, minimum, partition| {
                let rest = partition.isr.iter().copied().filter(|&member| member != id).collect();
                election::replace_isr(partition, rest, minimum);
                if partition.leader == Some(id) {
                    election::elect(partition, minimum, |node| image.candidate(node));
                }
            },
        );
        Ok(Outcome::Done)
    }

    /// The process has lived on, so it keeps its registration: whatever it led has another leader epoch by now.
    pub(super) fn unfence_node(&mut self, id: NodeId, epoch: BrokerEpoch) -> Result<Outcome, Refused> {
        if !self.registered(id, epoch)?.fenced {
            return Ok(Outcome::Done);
        }
        self.update_node(id, |node| node.fenced = false);
        self.update_partitions(
            |partition| partition.leader.is_none() && partition.replicas.contains(&id),
            |image, minimum, partition| election::elect(partition, minimum, |node| image.candidate(node)),
        );
        Ok(Outcome::Done)
    }

    /// Its data folder is forgotten with it: whatever it registers with later may not count as what it had. So it is
    /// refused while it holds the only copy that may lead.
    pub(super) fn unregister_node(&mut self, id: NodeId, only_if_empty: bool) -> Result<Outcome, Refused> {
        let node = self.image.node(id).ok_or(Refused::UnknownNode)?;
        if only_if_empty && !node.fenced {
            return Err(Refused::NodeAlive);
        }
        let keeps = |partition: &PartitionRegistration| only_if_empty || election::is_last_copy(partition, id);
        let held = |partition: &PartitionRegistration| partition.replicas.contains(&id) && keeps(partition);
        if self.image.partitions().any(|(_, partition)| held(partition)) {
            return Err(Refused::NodeNotEmpty);
        }
        self.image.nodes.remove(&id);
        self.image.drains.remove(&id);
        self.image.stop = self.image.stop.filter(|grant| grant.node != id);
        self.update_partitions(
            |partition| partition.replicas.contains(&id),
            |image, minimum, partition| {
                election::disqualify(partition, id);
                if partition.leader == Some(id) {
                    election::elect(partition, minimum, |node| image.candidate(node));
                }
                if partition.last_leader == Some(id) {
                    partition.last_leader = None;
                }
            },
        );
        Ok(Outcome::Done)
    }
}
