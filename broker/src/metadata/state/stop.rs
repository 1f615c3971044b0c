//! Nodes that are about to stop: asked by an operator who can wait, or told by a signal.

use super::State;
use crate::ids::{BrokerEpoch, NodeId};
use crate::metadata::election;
use crate::metadata::outcome::{Outcome, Refused};
use crate::metadata::safety::is_safe_to_stop;
use crate::metadata::topology::StopGrant;

impl State {
    /// Leaders move to other members of the ISR, and stay away. The node remains in sync until it is fenced: so long as
    /// it runs it holds nothing up.
    pub(super) fn begin_stop(&mut self, id: NodeId, epoch: BrokerEpoch) -> Result<Outcome, Refused> {
        self.registered(id, epoch)?;
        self.update_node(id, |node| node.stopping = true);
        self.update_partitions(
            |partition| partition.leader == Some(id),
            |image, minimum, partition| election::elect(partition, minimum, |node| image.candidate(node)),
        );
        Ok(Outcome::Done)
    }

    /// One stop at a time, until the node registers again or `EndStop`. Asked again by the same node, the time begins
    /// anew.
    pub(super) fn prepare_stop(&mut self, id: NodeId, epoch: BrokerEpoch) -> Result<Outcome, Refused> {
        self.registered(id, epoch)?;
        if self.image.stop.is_some_and(|grant| grant.node != id) {
            return Err(Refused::AnotherStop);
        }
        if !is_safe_to_stop(&self.image, id).is_safe() {
            return Err(Refused::UnsafeStop);
        }
        self.image.stop = Some(StopGrant { node: id, epoch, granted_at: self.image.index });
        self.begin_stop(id, epoch)
    }

    pub(super) fn end_stop(&mut self, id: NodeId, epoch: BrokerEpoch) -> Result<Outcome, Refused> {
        self.registered(id, epoch)?;
        self.image.stop = self.image.stop.filter(|grant| grant.node != id);
        self.update_node(id, |node| node.stopping = false);
        Ok(Outcome::Done)
    }
}
