//! Who waits on a partition: for acknowledgements of appends, and for data to read.
//!
//! Plain queues: they decide who is due, the partition calls them after it has let go of its lock.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use smallvec::SmallVec;

use super::PartitionError;
use crate::ids::Offset;

/// Waits for acknowledgements; called on the WAL thread: returns at once.
pub trait AckWaiter: Send + Sync {
    /// The append registered as `slot` is acknowledged, or never will be. Called once for each slot.
    fn settled(&self, slot: u32, outcome: Result<(), PartitionError>);
}

/// Waits for data; called on the WAL thread: returns at once.
pub trait DataWaiter: Send + Sync {
    /// Something became readable, or leadership changed.
    fn changed(&self);
}

/// One append that waits for its acknowledgement.
pub(super) struct AckWait {
    pub(super) end: Offset,
    pub(super) waiter: Arc<dyn AckWaiter>,
    pub(super) slot: u32,
}

/// Those that are due at once. A commit round usually settles a few of a partition.
pub(super) type DueAcks = SmallVec<[AckWait; 8]>;

/// Appends that wait for one mark (the flushed end, or the high watermark), in the order of their ends.
#[derive(Default)]
pub(super) struct AckQueue(VecDeque<AckWait>);

impl AckQueue {
    /// Appends register in nearly the order of their offsets: the place is looked for from the back.
    pub(super) fn push(&mut self, wait: AckWait) {
        let place = self.0.iter().rposition(|earlier| earlier.end <= wait.end).map_or(0, |last| last + 1);
        self.0.insert(place, wait);
    }

    /// Takes those whose records all lie below `mark`.
    pub(super) fn take_reached(&mut self, mark: Offset, due: &mut DueAcks) {
        while self.0.front().is_some_and(|wait| wait.end <= mark) {
            due.extend(self.0.pop_front());
        }
        self.give_back_room();
    }

    /// Takes those that have records at `from` or beyond.
    pub(super) fn take_beyond(&mut self, from: Offset, due: &mut DueAcks) {
        let first = self.0.partition_point(|wait| wait.end <= from);
        due.extend(self.0.drain(first..));
        self.give_back_room();
    }

    /// Takes all.
    pub(super) fn take_all(&mut self, due: &mut DueAcks) {
        due.extend(std::mem::take(&mut self.0));
    }

    /// A burst on one of ten thousand partitions shall not pin its memory.
    fn give_back_room(&mut self) {
        if self.0.is_empty() && self.0.capacity() > 64 {
            self.0 = VecDeque::new();
        }
    }
}

/// One reader that waits for more than it has seen.
struct DataWait {
    seen: Offset,
    committed: bool,
    waiter: Weak<dyn DataWaiter>,
}

/// Those that are due at once.
pub(super) type DueReaders = SmallVec<[Weak<dyn DataWaiter>; 8]>;

/// Readers that wait, each for one call. A reader that is gone is dropped unasked, so that readers who poll an idle
/// partition for ever don't pile up in it.
#[derive(Default)]
pub(super) struct DataQueue {
    waits: Vec<DataWait>,
    sweep_at: usize,
}

impl DataQueue {
    /// Whether any reader waits for committed transactions only.
    pub(super) fn has_committed(&self) -> bool {
        self.waits.iter().any(|wait| wait.committed)
    }

    pub(super) fn push(&mut self, seen: Offset, committed: bool, waiter: Weak<dyn DataWaiter>) {
        if self.waits.len() >= self.sweep_at {
            self.waits.retain(|wait| wait.waiter.strong_count() > 0);
            self.sweep_at = (2 * self.waits.len()).max(8);
        }
        self.waits.push(DataWait { seen, committed, waiter });
    }

    /// Takes those who can read on now.
    pub(super) fn take_readable(&mut self, high_watermark: Offset, last_stable: Offset, due: &mut DueReaders) {
        for index in (0..self.waits.len()).rev() {
            let wait = &self.waits[index];
            if wait.seen < (if wait.committed { last_stable } else { high_watermark }) {
                due.push(self.waits.swap_remove(index).waiter);
            }
        }
    }

    /// Takes all.
    pub(super) fn take_all(&mut self, due: &mut DueReaders) {
        due.extend(std::mem::take(&mut self.waits).into_iter().map(|wait| wait.waiter));
    }
}

/// Calls readers; those that are gone are skipped.
pub(super) fn notify(readers: DueReaders) {
    for reader in readers {
        if let Some(reader) = reader.upgrade() {
            reader.changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl AckWaiter for Nobody {
        fn settled(&self, _slot: u32, _outcome: Result<(), PartitionError>) {}
    }

    impl DataWaiter for Nobody {
        fn changed(&self) {}
    }

    fn wait(end: i64, slot: u32) -> AckWait {
        AckWait { end: Offset::new(end), waiter: Arc::new(Nobody), slot }
    }

    fn slots(due: &DueAcks) -> Vec<u32> {
        due.iter().map(|wait| wait.slot).collect()
    }

    #[test]
    fn acknowledgements_are_taken_in_offset_order_whatever_order_they_came_in() {
        let mut queue = AckQueue::default();
        for (end, slot) in [(5, 0), (9, 1), (7, 2), (5, 3)] {
            queue.push(wait(end, slot));
        }
        let mut due = DueAcks::new();
        queue.take_reached(Offset::new(7), &mut due);
        assert_eq!(slots(&due), [0, 3, 2]);
    }

    #[test]
    fn a_refusal_takes_those_that_have_records_beyond_it() {
        let mut queue = AckQueue::default();
        for (end, slot) in [(5, 0), (9, 1), (7, 2)] {
            queue.push(wait(end, slot));
        }
        let mut due = DueAcks::new();
        queue.take_beyond(Offset::new(5), &mut due);
        assert_eq!(slots(&due), [2, 1]);
        due.clear();
        queue.take_all(&mut due);
        assert_eq!(slots(&due), [0]);
    }

    #[test]
    fn readers_of_committed_data_wait_for_the_last_stable_offset() {
        let reader: Arc<dyn DataWaiter> = Arc::new(Nobody);
        let mut queue = DataQueue::default();
        queue.push(Offset::new(3), false, Arc::downgrade(&reader));
        queue.push(Offset::new(3), true, Arc::downgrade(&reader));
        let mut due = DueReaders::new();
        queue.take_readable(Offset::new(3), Offset::new(3), &mut due);
        assert_eq!(due.len(), 0);
        queue.take_readable(Offset::new(4), Offset::new(3), &mut due);
        assert_eq!(due.len(), 1);
        assert!(queue.has_committed());
    }

    #[test]
    fn readers_that_are_gone_do_not_pile_up() {
        let mut queue = DataQueue::default();
        for _ in 0..10_000 {
            let reader: Arc<dyn DataWaiter> = Arc::new(Nobody);
            queue.push(Offset::new(3), false, Arc::downgrade(&reader));
        }
        assert!(queue.waits.len() <= 8);
    }
}
