//! What partitions append, on its way to one follower: bounded, and never in an appender's way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::ids::TopicPartition;
use crate::stream::replication::{CanonicalRecord, Led, Marks, Tail};

/// The tail of all partitions on a live lane.
pub(super) struct LiveQueue {
    limit: usize,
    waiting: Mutex<Waiting>,
    added: Notify,
}

/// What waits. Records are in the order of their appends, marks are the newest.
#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<(Led, CanonicalRecord)>,
    marks: BTreeMap<TopicPartition, (Led, Marks)>,
    overflown: BTreeSet<TopicPartition>,
    /// Of records, those that were taken and are not released yet included.
    bytes: usize,
}

/// What was taken off the queue.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) records: Vec<(Led, CanonicalRecord)>,
    pub(super) marks: Vec<(Led, Marks)>,
    /// Records of these were dropped: they are to be read.
    pub(super) overflown: BTreeSet<TopicPartition>,
}

impl LiveQueue {
    /// A queue that holds `limit` bytes of records, or a single larger one.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, waiting: Mutex::default(), added: Notify::new() }
    }

    /// Waits until there is something. May be dropped without loss.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }

    /// Takes records of about `bytes`, and all the rest.
    pub(super) fn take(&self, bytes: usize) -> Taken {
        let mut waiting = self.waiting.lock();
        let mut taken = 0;
        let enough = |(_, record): &(Led, CanonicalRecord)| {
            taken += record.batch.len();
            taken > bytes
        };
        let count = waiting.records.iter().position(enough).map_or(waiting.records.len(), |at| at.max(1));
        let records = waiting.records.drain(..count).collect();
        if !waiting.records.is_empty() {
            self.added.notify_one();
        }
        let marks = std::mem::take(&mut waiting.marks).into_values().collect();
        let overflown = std::mem::take(&mut waiting.overflown);
        // A record that waits behind would be a gap for the session that follows.
        waiting.drop_records_of(&overflown);
        Taken { records, marks, overflown }
    }

    /// Bytes that were taken are sent, or given up.
    pub(super) fn release(&self, bytes: usize) {
        let mut waiting = self.waiting.lock();
        waiting.bytes = waiting.bytes.checked_sub(bytes).expect("what is released was taken because it is counted");
    }

    /// Bytes of records that wait, or are taken and not sent.
    pub(super) fn bytes(&self) -> usize {
        self.waiting.lock().bytes
    }
}

impl Waiting {
    fn drop_records_of(&mut self, partitions: &BTreeSet<TopicPartition>) {
        if partitions.is_empty() {
            return;
        }
        let bytes = &mut self.bytes;
        self.records.retain(|(led, record)| {
            let kept = !partitions.contains(&led.partition);
            *bytes -= if kept { 0 } else { record.batch.len() };
            kept
        });
    }
}

impl Tail for LiveQueue {
    fn appended(&self, led: Led, record: CanonicalRecord) {
        let mut waiting = self.waiting.lock();
        if waiting.overflown.contains(&led.partition) {
            return;
        }
        let bytes = waiting.bytes + record.batch.len();
        if bytes > self.limit && waiting.bytes > 0 {
            waiting.overflown.insert(led.partition);
        } else {
            waiting.bytes = bytes;
            waiting.records.push_back((led, record));
        }
        drop(waiting);
        self.added.notify_one();
    }

    fn moved(&self, led: Led, marks: Marks) {
        self.waiting.lock().marks.insert(led.partition, (led, marks));
        self.added.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Offset;
    use crate::stream::links::testing::{led, record};

    fn ends(taken: &Taken) -> Vec<i64> {
        taken.records.iter().map(|(_, record)| record.end.get()).collect()
    }

    #[test]
    fn records_come_in_order_and_marks_once() {
        let queue = LiveQueue::new(1_000);
        let marks = |high: i64| Marks { high_watermark: Offset::new(high), log_start: Offset::FIRST };
        queue.appended(led(0), record(0, 1));
        queue.moved(led(0), marks(1));
        queue.appended(led(1), record(0, 2));
        queue.moved(led(0), marks(2));
        let taken = queue.take(usize::MAX);
        assert_eq!(ends(&taken), [1, 2]);
        assert_eq!(taken.marks, [(led(0), marks(2))]);
    }

    #[test]
    fn a_partition_that_does_not_fit_overflows_and_what_it_had_is_dropped() {
        let size = record(0, 1).batch.len();
        let queue = LiveQueue::new(2 * size);
        queue.appended(led(0), record(0, 1));
        queue.appended(led(1), record(0, 1));
        queue.appended(led(1), record(1, 2));
        queue.appended(led(1), record(2, 3));
        let first = queue.take(size);
        assert_eq!((ends(&first), first.overflown.len()), (vec![1], 1));
        assert_eq!(queue.bytes(), size, "what was taken counts until it is sent");
        queue.release(size);
        assert_eq!(ends(&queue.take(usize::MAX)), Vec::<i64>::new());
        queue.appended(led(1), record(3, 4));
        assert_eq!(ends(&queue.take(usize::MAX)), [4], "it may tail again");
    }

    #[test]
    fn a_single_record_larger_than_the_queue_goes_through() {
        let queue = LiveQueue::new(1);
        queue.appended(led(0), record(0, 1));
        let taken = queue.take(1);
        assert_eq!((ends(&taken), taken.overflown.len()), (vec![1], 0));
    }
}
