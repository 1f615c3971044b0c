//! What the WAL reports: appends that are durable, and appends that it refused because the disk was full.

use crate::ids::Offset;
use crate::io::flood::Flood;
use crate::wal::Refusal;

use super::partition_log::{Counters, Log, Pending, Standing, State};
use super::segment::Slot;

/// Lines about appends that are refused.
static REFUSED: Flood = Flood::new("appends that are refused");

/// Pending appends above which an emptied queue gives its memory back.
const KEPT_PENDING: usize = 64;

impl Log {
    /// Appends to a segment are durable up to a token.
    pub(super) fn segment_flushed(&self, base: Offset, token: u64) {
        let moved = {
            let mut state = self.state.lock();
            if let Some(slot) = state.slot_at_mut(base) {
                slot.flushed_token = token;
            }
            if self.identity.is_durable() { state.advance_flushed() } else { None }
        };
        self.tell_flushed(moved);
    }

    /// `partition.json` is durable: what was appended may count as durable.
    pub(super) fn identity_flushed(&self) {
        let moved = self.state.lock().advance_flushed();
        self.tell_flushed(moved);
    }

    /// An append to a segment was refused, and all later ones are.
    pub(super) fn segment_refused(&self, base: Offset, token: u64, why: &Refusal) {
        let cut = {
            let mut state = self.state.lock();
            let before = state.pending.len();
            let cut = state.refused(base, token);
            Counters::add(&self.shared.counters.appends_refused, (before - state.pending.len()) as u64);
            // Before the lock is free: the next append may come before the listener is told.
            if let (Some(from), Some(observer)) = (cut, &state.observer) {
                observer.refused(from);
            }
            cut
        };
        let Some(from) = cut else { return };
        if let Some(line) = REFUSED.line() {
            tracing::warn!(log = %self.name, %from, %why, left_out = line.left_out(), "appends are refused");
        }
        if let Some(listener) = self.listener() {
            listener.refused(from);
        }
    }

    fn tell_flushed(&self, moved: Option<Offset>) {
        if let (Some(end), Some(listener)) = (moved, self.listener()) {
            listener.flushed(end);
        }
    }
}

impl State {
    /// Moves the durable end in the order of the log, whatever the order of its segments' reports. Returns it when it
    /// moved.
    fn advance_flushed(&mut self) -> Option<Offset> {
        let before = self.flushed_end;
        while let Some(pending) = self.pending.front() {
            let (segment, token, end, position) = (pending.segment, pending.token, pending.end, pending.end_position);
            let Some(slot) = self.slot_at_mut(segment) else { break };
            if slot.flushed_token < token {
                break;
            }
            slot.flushed_size = position;
            self.flushed_end = end;
            self.pending.pop_front();
        }
        if self.pending.is_empty() && self.pending.capacity() > KEPT_PENDING {
            self.pending.shrink_to_fit();
        }
        (self.flushed_end > before).then_some(self.flushed_end)
    }

    /// An append was refused: it and all behind it are taken back. Returns where the log ends now; `None` when they
    /// were taken back before.
    fn refused(&mut self, segment: Offset, token: u64) -> Option<Offset> {
        let at = self.pending.iter().position(|pending| pending.token == token && pending.segment == segment)?;
        let back: Vec<Pending> = self.pending.drain(at..).collect();
        let first = back.first().expect("at least the refused one");
        let cut = first.base;
        assert!(cut >= self.flushed_end, "what is durable is never refused");
        let (position, max_timestamp) = (first.position, first.max_timestamp_before);

        let kept = self.slots.partition_point(|slot| slot.base() <= segment);
        self.orphans.extend(self.slots.drain(kept..).map(|slot| slot.segment));
        let slot = self.active_mut();
        assert_eq!(slot.base(), segment, "the refused append's segment is there until it is flushed");
        slot.size = position;
        slot.end = cut;
        slot.max_timestamp = max_timestamp;
        if position == 0 {
            slot.first_timestamp = i64::MIN;
        }
        slot.segment.forget_index_from(position);
        self.log_end = cut;
        // The epoch itself stays begun: the leadership goes on.
        let newest = self.epochs.newest();
        self.epochs.truncate_end(cut);
        if let Some(newest) = newest {
            self.epochs.assign(newest.epoch, newest.start.min(cut));
        }
        self.producers.take_back(back.into_iter().rev().flat_map(|pending| pending.undos.into_iter().rev()), cut);
        self.producers_version += 1;
        self.standing = if self.standing == Standing::Closed { Standing::Closed } else { Standing::Refused };
        self.cuts += 1;
        Some(cut)
    }

    pub(super) fn slot_at_mut(&mut self, base: Offset) -> Option<&mut Slot> {
        self.slots.iter_mut().rev().find(|slot| slot.base() == base)
    }
}
