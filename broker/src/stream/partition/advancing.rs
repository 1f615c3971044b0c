//! How flushes, and the disk's refusals, move what is acknowledged and committed; who is told then.

use std::sync::atomic::Ordering;

use super::{Partition, Progress};
use crate::ids::Offset;
use crate::log::{AppendError, LogListener};
use crate::stream::PartitionError;
use crate::stream::replication::Reject;
use crate::stream::waiters::{self, DueAcks, DueReaders};

impl Partition {
    /// Moves the high watermark to where the ISR is, and takes those who waited for it.
    pub(super) fn advance(&self, progress: &mut Progress) -> Due {
        let mut due = Due::default();
        if progress.epoch.is_none() {
            return due;
        }
        progress.waiting_for_flush.take_reached(progress.flushed_end, &mut due.acknowledged);
        if !progress.isr.has_minimum() {
            progress.waiting_for_commit.take_all(&mut due.below_minimum);
        }
        if let Some(to) = progress.isr.high_watermark().filter(|to| *to > progress.high_watermark) {
            assert!(
                to <= progress.flushed_end,
                "the leader is in its ISR: nothing is committed that it has not flushed"
            );
            self.move_high_watermark(progress, to, &mut due);
            progress.waiting_for_commit.take_reached(to, &mut due.acknowledged);
            self.tell_marks(progress);
        }
        due
    }

    pub(super) fn move_high_watermark(&self, progress: &mut Progress, to: Offset, due: &mut Due) {
        progress.high_watermark = to;
        self.log.advance_high_watermark(to);
        let last_stable = if progress.readers.has_committed() { self.log.offsets().last_stable } else { to };
        progress.readers.take_readable(to, last_stable, &mut due.readers);
    }
}

impl LogListener for Partition {
    fn flushed(&self, end: Offset) {
        let (ack, due) = {
            let mut progress = self.progress.lock();
            if progress.flushed_end < end {
                progress.flushed_end = end;
                progress.membership.leader_is_full(false);
            }
            progress.isr.flushed(self.node, end);
            if self.tails.flushed(end) {
                self.news.leaderships_changed();
            }
            let mut due = self.advance(&mut progress);
            (self.advance_following(&mut progress, &mut due), due)
        };
        due.settle();
        if let Some(ack) = ack {
            ack.send(self.id, end);
        }
    }

    fn refused(&self, from: Offset) {
        let mut due = Due::default();
        let following = {
            let mut progress = self.progress.lock();
            self.refusals.fetch_add(1, Ordering::Release);
            progress.waiting_for_flush.take_beyond(from, &mut due.refused);
            progress.waiting_for_commit.take_beyond(from, &mut due.refused);
            progress.epoch_start = progress.epoch_start.min(from);
            self.has_no_room(&mut progress);
            if self.tails.begins_at(from) {
                self.news.leaderships_changed();
            }
            progress.following.take()
        };
        due.settle();
        if let Some(following) = following {
            following.reject(self.id, Reject::DiskFull);
        }
    }
}

/// Whom to call once the locks are free.
#[derive(Default)]
pub(super) struct Due {
    pub(super) acknowledged: DueAcks,
    pub(super) below_minimum: DueAcks,
    pub(super) refused: DueAcks,
    pub(super) deposed: DueAcks,
    pub(super) readers: DueReaders,
}

impl Due {
    pub(super) fn append(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.below_minimum.extend(other.below_minimum);
        self.refused.extend(other.refused);
        self.deposed.extend(other.deposed);
        self.readers.extend(other.readers);
    }

    pub(super) fn settle(self) {
        for wait in self.acknowledged {
            wait.waiter.settled(wait.slot, Ok(()));
        }
        for wait in self.below_minimum {
            wait.waiter.settled(wait.slot, Err(PartitionError::NotEnoughReplicasAfterAppend));
        }
        for wait in self.refused {
            wait.waiter.settled(wait.slot, Err(AppendError::DiskFull.into()));
        }
        for wait in self.deposed {
            wait.waiter.settled(wait.slot, Err(PartitionError::NotLeader));
        }
        waiters::notify(self.readers);
    }
}
