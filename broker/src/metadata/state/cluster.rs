//! What concerns the cluster as a whole: producer ids, the operator's lease, the cluster version.

use super::State;
use crate::ids::{BrokerEpoch, NodeId, ProducerId};
use crate::metadata::command::Command;
use crate::metadata::outcome::{Outcome, Refused};
use crate::metadata::topology::{ClusterVersion, OperatorLease};

/// Producer ids that a node takes at a time (KIP-730).
pub const PRODUCER_ID_BLOCK: u32 = 1000;

impl State {
    pub(super) fn allocate_producer_ids(&mut self, node: NodeId, epoch: BrokerEpoch) -> Result<Outcome, Refused> {
        self.registered(node, epoch)?;
        let first = self.image.next_producer_id;
        let next = first.get().checked_add(i64::from(PRODUCER_ID_BLOCK)).ok_or(Refused::ProducerIdsExhausted)?;
        self.image.next_producer_id = ProducerId::new(next);
        Ok(Outcome::ProducerIds { first, count: PRODUCER_ID_BLOCK })
    }

    /// The epoch is the command's index: no lease that was ever given has it, whatever became of the operators.
    pub(super) fn acquire_operator_lease(&mut self, holder: String) -> Outcome {
        let epoch = self.image.index;
        self.image.operator = Some(OperatorLease { epoch, holder });
        Outcome::Leased(epoch)
    }

    /// A paused operator that wakes up after another took over changes nothing.
    pub(super) fn under_lease(&mut self, epoch: u64, command: Command) -> Result<Outcome, Refused> {
        if self.image.operator.as_ref().is_none_or(|lease| lease.epoch != epoch) {
            return Err(Refused::StaleOperatorLease);
        }
        assert!(!matches!(command, Command::UnderLease { .. }), "decoding refuses a lease within a lease");
        self.carry_out(command)
    }

    /// Goes forward only, and only to what every registered node understands, fenced ones too: they come back.
    pub(super) fn set_cluster_version(&mut self, version: ClusterVersion) -> Result<Outcome, Refused> {
        let understood = self.image.nodes().all(|node| node.newest_version >= version);
        if version < self.image.cluster_version || !understood {
            return Err(Refused::UnsupportedClusterVersion);
        }
        self.image.cluster_version = version;
        Ok(Outcome::Done)
    }
}
