//! Drains: nodes that are being emptied. The plan is only who; the controller moves what is still there, so that it can go
//! on after any restart.

use super::State;
use crate::ids::{NodeId, TopicPartition};
use crate::metadata::outcome::{Outcome, Refused};
use crate::metadata::topology::Drain;

impl State {
    pub(super) fn begin_drain(&mut self, id: NodeId) -> Result<Outcome, Refused> {
        if self.image.node(id).is_none() {
            return Err(Refused::UnknownNode);
        }
        if self.image.drains.contains_key(&id) {
            return Ok(Outcome::Done);
        }
        if self.image.too_wide_without(id).next().is_some() {
            return Err(Refused::TooFewNodes);
        }
        let held = self.image.partitions().filter(|(_, partition)| partition.replicas.contains(&id)).count();
        self.image.drains.insert(id, Drain { partitions: u32::try_from(held).unwrap_or(u32::MAX) });
        Ok(Outcome::Done)
    }

    /// Moves away from the node are cancelled where that is possible; the others end where they were going.
    pub(super) fn cancel_drain(&mut self, id: NodeId) -> Result<Outcome, Refused> {
        self.image.drains.remove(&id).ok_or(Refused::NotDraining)?;
        let leaving: Vec<TopicPartition> = self
            .image
            .partitions()
            .filter(|(_, partition)| {
                let away = |from: &[NodeId], to: &[NodeId]| from.contains(&id) && !to.contains(&id);
                partition.reassignment.as_ref().is_some_and(|moving| away(&moving.original, &moving.target))
            })
            .map(|(id, _)| id)
            .collect();
        for partition in leaving {
            match self.cancel_reassignment(partition) {
                // The replicas before are not in sync any more: it goes on to its target.
                Ok(()) | Err(Refused::NotEnoughInSync) => {}
                Err(why) => unreachable!("a reassignment that was just seen is refused only for its ISR: {why}"),
            }
        }
        Ok(Outcome::Done)
    }
}
