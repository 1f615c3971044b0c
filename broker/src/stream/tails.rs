//! A leader's live end: what it appended goes to its followers once it is on its own disk.
//!
//! A record is kept (as a reference) from the append until its flush, and then told to every tail. So no follower ever
//! has what its leader may still lose: an append that the disk refuses leaves no copy elsewhere, and its offsets may
//! be given again within the same leader epoch.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::replication::{CanonicalRecord, Deposed, Led, Marks, Tail};
use crate::ids::{NodeId, Offset};
use crate::log::AppendObserver;
use crate::log::batch::BatchHeader;

/// Who is told of a leader's records.
pub(super) struct Tails(Mutex<Leading>);

struct Leading {
    /// `None` while this node does not lead, or nobody follows.
    led: Option<Led>,
    /// What was appended in this leadership and is not on the disk yet.
    unflushed: VecDeque<CanonicalRecord>,
    /// Everything below is on the disk, and was told.
    position: Offset,
    /// Where the leadership began: tails begin there at the earliest.
    from: Offset,
    tails: SmallVec<[(NodeId, Arc<dyn Tail>); 2]>,
}

impl Default for Tails {
    fn default() -> Self {
        Self(Mutex::new(Leading {
            led: None,
            unflushed: VecDeque::new(),
            position: Offset::FIRST,
            from: Offset::FIRST,
            tails: SmallVec::new(),
        }))
    }
}

impl Tails {
    /// A leadership begins: the log ends at `log_end`, and is on the disk up to `flushed_end`.
    pub(super) fn begin(&self, led: Led, flushed_end: Offset, log_end: Offset) {
        let mut leading = self.0.lock();
        *leading = Leading {
            led: Some(led),
            unflushed: VecDeque::new(),
            position: flushed_end,
            from: log_end,
            tails: SmallVec::new(),
        };
    }

    /// The leadership is over: nobody is told of anything any more.
    pub(super) fn end(&self) {
        let mut leading = self.0.lock();
        leading.led = None;
        leading.unflushed.clear();
        leading.tails.clear();
    }

    /// Whether followers may come: everything that the leadership found is on the disk.
    pub(super) fn is_open(&self) -> bool {
        self.0.lock().is_open()
    }

    /// From now on `tail` is told. Returns where that begins.
    pub(super) fn tail(&self, led: Led, follower: NodeId, tail: Arc<dyn Tail>) -> Result<Offset, Deposed> {
        let mut leading = self.0.lock();
        if leading.led != Some(led) || !leading.is_open() {
            return Err(Deposed);
        }
        leading.tails.retain(|(known, _)| *known != follower);
        leading.tails.push((follower, tail));
        Ok(leading.position)
    }

    /// `follower` is told no more.
    pub(super) fn untail(&self, led: Led, follower: NodeId) {
        let mut leading = self.0.lock();
        if leading.led == Some(led) {
            leading.tails.retain(|(known, _)| *known != follower);
        }
    }

    /// Only these follow any more.
    pub(super) fn keep(&self, replicas: &[NodeId]) {
        self.0.lock().tails.retain(|(follower, _)| replicas.contains(follower));
    }

    /// Everything below `end` is on the disk. Returns whether followers may come from now on.
    pub(super) fn flushed(&self, end: Offset) -> bool {
        let mut leading = self.0.lock();
        let Some(led) = leading.led else { return false };
        let before = leading.is_open();
        while leading.unflushed.front().is_some_and(|record| record.end <= end) {
            let record = leading.unflushed.pop_front().expect("there is one because it was just looked at");
            for (_, tail) in &leading.tails {
                tail.appended(led, record.clone());
            }
        }
        leading.position = leading.position.max(end);
        !before && leading.is_open()
    }

    /// The leadership begins at `from`: what it found beyond is lost. Returns whether followers may come from now on.
    pub(super) fn begins_at(&self, from: Offset) -> bool {
        let mut leading = self.0.lock();
        let before = leading.is_open();
        leading.from = leading.from.min(from);
        leading.led.is_some() && !before && leading.is_open()
    }

    /// The high watermark or the log start moved.
    pub(super) fn moved(&self, marks: Marks) {
        let leading = self.0.lock();
        let Some(led) = leading.led else { return };
        for (_, tail) in &leading.tails {
            tail.moved(led, marks);
        }
    }
}

impl Leading {
    fn is_open(&self) -> bool {
        self.led.is_some() && self.position >= self.from
    }
}

impl AppendObserver for Tails {
    fn appended(&self, base: Offset, batches: Bytes) {
        let mut leading = self.0.lock();
        if leading.led.is_some() {
            leading.unflushed.extend(split(base, batches));
        }
    }

    fn refused(&self, from: Offset) {
        let mut leading = self.0.lock();
        let kept = leading.unflushed.partition_point(|record| record.end <= from);
        leading.unflushed.truncate(kept);
    }
}

/// Stored batches, back to back, as records that continue at `previous`.
pub(super) fn split(previous: Offset, batches: Bytes) -> impl Iterator<Item = CanonicalRecord> {
    let (mut previous, mut left) = (previous, batches);
    std::iter::from_fn(move || {
        let header = BatchHeader::read(&left).ok().filter(|header| header.size() <= left.len())?;
        let record =
            CanonicalRecord { previous, base: header.base(), end: header.end(), batch: left.split_to(header.size()) };
        previous = record.end;
        Some(record)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LeaderEpoch, PartitionIndex, TopicId, TopicPartition};
    use crate::log::batch::place;
    use crate::stream::testing::batch;

    const FOLLOWER: NodeId = NodeId::new(1);

    #[derive(Default)]
    struct Heard(Mutex<Vec<(i64, i64)>>);

    impl Tail for Heard {
        fn appended(&self, _led: Led, record: CanonicalRecord) {
            assert_eq!(record.previous, record.base);
            self.0.lock().push((record.base.get(), record.end.get()));
        }

        fn moved(&self, _led: Led, _marks: Marks) {}
    }

    impl Heard {
        fn take(&self) -> Vec<(i64, i64)> {
            std::mem::take(&mut self.0.lock())
        }
    }

    fn led(epoch: i32) -> Led {
        let topic = TopicId::from_bytes([3; 16]).expect("not zero");
        let partition = TopicPartition { topic, partition: PartitionIndex::FIRST };
        Led { partition, epoch: LeaderEpoch::new(epoch) }
    }

    fn at(offset: i64) -> Offset {
        Offset::new(offset)
    }

    fn append(tails: &Tails, base: i64, records: usize) {
        let mut bytes = batch(records).to_vec();
        place(&mut bytes, at(base), LeaderEpoch::new(1));
        tails.appended(at(base), bytes.into());
    }

    #[test]
    fn a_tail_is_told_what_is_flushed_in_order() {
        let (tails, heard) = (Tails::default(), Arc::new(Heard::default()));
        tails.begin(led(1), at(10), at(10));
        append(&tails, 10, 2);
        assert_eq!(tails.tail(led(1), FOLLOWER, heard.clone()), Ok(at(10)));
        append(&tails, 12, 3);
        assert_eq!(heard.take(), []);
        tails.flushed(at(12));
        assert_eq!(heard.take(), [(10, 12)]);
        tails.flushed(at(15));
        assert_eq!(heard.take(), [(12, 15)]);
        tails.untail(led(1), FOLLOWER);
        append(&tails, 15, 1);
        tails.flushed(at(16));
        assert_eq!(heard.take(), []);
    }

    #[test]
    fn what_the_disk_refused_is_told_to_nobody() {
        let (tails, heard) = (Tails::default(), Arc::new(Heard::default()));
        tails.begin(led(1), at(0), at(0));
        tails.tail(led(1), FOLLOWER, heard.clone()).expect("led");
        append(&tails, 0, 2);
        append(&tails, 2, 2);
        tails.refused(at(2));
        append(&tails, 2, 1);
        tails.flushed(at(3));
        assert_eq!(heard.take(), [(0, 2), (2, 3)]);
    }

    #[test]
    fn followers_come_once_what_the_leadership_found_is_flushed() {
        let (tails, heard) = (Tails::default(), Arc::new(Heard::default()));
        tails.begin(led(1), at(5), at(9));
        append(&tails, 9, 1);
        assert_eq!(tails.tail(led(1), FOLLOWER, heard.clone()), Err(Deposed));
        assert!(!tails.flushed(at(7)));
        assert!(tails.flushed(at(9)));
        assert_eq!(tails.tail(led(1), FOLLOWER, heard.clone()), Ok(at(9)));
        assert!(!tails.flushed(at(10)), "said once");
        assert_eq!(heard.take(), [(9, 10)]);

        tails.begin(led(2), at(5), at(9));
        assert!(tails.begins_at(at(5)), "the rest is lost, so there is nothing to wait for");
    }

    #[test]
    fn another_leadership_has_other_tails() {
        let (tails, heard) = (Tails::default(), Arc::new(Heard::default()));
        tails.begin(led(1), at(0), at(0));
        tails.tail(led(1), FOLLOWER, heard.clone()).expect("led");
        tails.end();
        append(&tails, 0, 1);
        tails.begin(led(2), at(0), at(0));
        append(&tails, 0, 1);
        tails.flushed(at(1));
        assert_eq!(heard.take(), []);
        assert_eq!(tails.tail(led(1), FOLLOWER, heard.clone()), Err(Deposed));
    }
}
