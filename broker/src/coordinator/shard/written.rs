//! What follows a write of a coordinator partition: the state takes it up, and whoever waits is answered.

use std::sync::Arc;

use super::{Shard, context};
use crate::coordinator::group::{Context, LeaveAnswer, Now, Reply, respond};
use crate::coordinator::offsets::OffsetKey;
use crate::coordinator::records::CommittedOffset;
use crate::coordinator::write::{AfterWrite, DeleteAnswer, WriteFailure};
use crate::io::flood::Flood;
use crate::kafka::wire::ErrorCode;

/// Lines about what could not be persisted, for which nobody waits.
static NOT_PERSISTED: Flood = Flood::new("group changes that are not persisted");
/// Lines about offsets that could not be deleted, for which nobody waits.
static NOT_DELETED: Flood = Flood::new("offsets that are not deleted");

/// How a write ended.
type Outcome = Result<(), WriteFailure>;

impl Shard {
    /// A write is durable and replicated, or has failed. Called in the order of the writes.
    pub(crate) fn written(&mut self, after: AfterWrite, outcome: Outcome, now: Now) {
        match after {
            AfterWrite::Nothing { what } => {
                if let Err(failure) = outcome
                    && let Some(line) = NOT_PERSISTED.line()
                {
                    tracing::warn!(left_out = line.left_out(), "could not persist {what}: {failure}");
                }
            }
            AfterWrite::Assigned { group, generation, assignments } => {
                if let Some(entry) = self.groups.get_mut(&group) {
                    entry.group.assigned(&mut context!(self, now), generation, assignments, outcome);
                }
            }
            AfterWrite::StaticReplaced(replacement) => {
                if let Some(entry) = self.groups.get_mut(&replacement.group) {
                    entry.group.static_replaced(&mut context!(self, now), replacement, outcome);
                }
            }
            AfterWrite::Left { answer, reply } => {
                let refused = |failure: WriteFailure| LeaveAnswer::refused(failure.group_error());
                respond(reply, outcome.map_or_else(refused, |()| answer));
            }
            AfterWrite::Committed { group, offsets, reply } => self.committed(&group, offsets, reply, outcome),
            AfterWrite::OffsetsDeleted { group, keys, answer } => {
                self.offsets_deleted(&group, &keys, answer, outcome);
            }
            AfterWrite::GroupDeleted { group, keys, reply } => self.group_deleted(&group, &keys, reply, outcome, now),
        }
    }

    fn committed(
        &mut self,
        group: &Arc<str>,
        offsets: Vec<(OffsetKey, CommittedOffset)>,
        reply: Reply<Result<(), ErrorCode>>,
        outcome: Outcome,
    ) {
        let entry = self.groups.get_mut(group).expect("a group stays while a commit of it is being written");
        if outcome.is_ok() {
            self.commits += offsets.len() as u64;
        }
        for (key, value) in offsets {
            entry.offsets.end_commit(&key, outcome.is_ok().then_some(value));
        }
        respond(reply, outcome.map_err(WriteFailure::offset_error));
        self.forget_if_unused(group);
    }

    fn offsets_deleted(
        &mut self,
        group: &Arc<str>,
        keys: &[OffsetKey],
        answer: Option<DeleteAnswer>,
        outcome: Outcome,
    ) {
        if outcome.is_ok()
            && let Some(entry) = self.groups.get_mut(group)
        {
            for key in keys {
                entry.offsets.remove(key);
            }
        }
        match (answer, outcome) {
            (Some(DeleteAnswer { outcomes, reply }), outcome) => {
                respond(reply, outcome.map(|()| outcomes).map_err(WriteFailure::offset_error));
            }
            (None, Err(failure)) => {
                if let Some(line) = NOT_DELETED.line() {
                    tracing::warn!(left_out = line.left_out(), "could not delete offsets of group {group}: {failure}");
                }
            }
            (None, Ok(())) => {}
        }
        self.forget_if_unused(group);
    }

    fn group_deleted(
        &mut self,
        group: &Arc<str>,
        keys: &[OffsetKey],
        reply: Option<Reply<ErrorCode>>,
        outcome: Outcome,
        now: Now,
    ) {
        let entry = self.groups.get_mut(group).expect("a group stays until its deletion is written");
        if outcome.is_ok() {
            for key in keys {
                entry.offsets.remove(key);
            }
        }
        // Offsets that are left are in the log: an earlier part of the deletion could not be written.
        let outcome = if entry.offsets.is_empty() { outcome } else { outcome.and(Err(WriteFailure::Unavailable)) };
        if outcome.is_ok() {
            self.groups.remove(group);
        } else {
            entry.group.abandon_delete(&mut context!(self, now));
        }
        if let Some(reply) = reply {
            respond(reply, outcome.map_or_else(WriteFailure::group_error, |()| ErrorCode::None));
        }
    }
}
