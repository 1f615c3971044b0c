//! What a follower's replicas have flushed, on its way to their leader: gathered, so that one commit round is one frame.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::codec::MAX_ENTRIES;
use super::frame::{Conversation, Flushed, Frame};
use crate::ids::TopicPartition;
use crate::stream::replication::{AckSink, Extent, Reject, Session};

/// The sink of all sessions of one connection. It goes with the connection, and with it their acknowledgements.
#[derive(Default)]
pub(super) struct Acks {
    told: Mutex<Told>,
    added: Notify,
}

/// The newest of each partition.
#[derive(Debug, Default)]
struct Told {
    flushed: BTreeMap<TopicPartition, (Session, Extent)>,
    rejected: BTreeMap<TopicPartition, (Session, Reject)>,
}

impl Acks {
    /// Waits until there is something. May be dropped without loss.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }

    /// Takes all as frames.
    pub(super) fn take(&self) -> Vec<Frame> {
        let Told { flushed, rejected } = std::mem::take(&mut *self.told.lock());
        let ack = |(partition, (session, extent))| Flushed { about: Conversation { partition, session }, extent };
        let flushed: Vec<Flushed> = flushed.into_iter().map(ack).collect();
        let reject = |(partition, (session, why))| Frame::Reject(Conversation { partition, session }, why);
        let acks = flushed.chunks(MAX_ENTRIES).map(|chunk| Frame::Ack(chunk.to_vec()));
        acks.chain(rejected.into_iter().map(reject)).collect()
    }
}

impl AckSink for Acks {
    fn flushed(&self, partition: TopicPartition, session: Session, extent: Extent) {
        let mut told = self.told.lock();
        let newest = told.flushed.entry(partition).or_insert((session, extent));
        if newest.0 < session {
            *newest = (session, extent);
        } else if newest.0 == session {
            newest.1 = newest.1.newest(extent);
        }
        drop(told);
        self.added.notify_one();
    }

    fn rejected(&self, partition: TopicPartition, session: Session, why: Reject) {
        let mut told = self.told.lock();
        if told.rejected.get(&partition).is_none_or(|(newest, _)| *newest <= session) {
            told.rejected.insert(partition, (session, why));
        }
        drop(told);
        self.added.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Offset;
    use crate::stream::links::testing::about;

    #[test]
    fn a_round_is_one_frame_with_the_newest_of_each_partition() {
        let acks = Acks::default();
        let flushed = |index, session, end| {
            let about = about(index, session);
            acks.flushed(about.partition, about.session, Extent::upto(Offset::new(end)));
        };
        flushed(0, 1, 5);
        flushed(1, 1, 7);
        flushed(0, 1, 6);
        flushed(0, 2, 3);
        flushed(0, 1, 9);
        let one = Flushed { about: about(0, 2), extent: Extent::upto(Offset::new(3)) };
        let other = Flushed { about: about(1, 1), extent: Extent::upto(Offset::new(7)) };
        assert_eq!(acks.take(), [Frame::Ack(vec![one, other])]);
        assert_eq!(acks.take(), []);
    }

    #[test]
    fn what_was_flushed_is_told_before_the_rejection_behind_it() {
        let acks = Acks::default();
        let about = about(0, 1);
        acks.rejected(about.partition, about.session, Reject::DiskFull);
        acks.flushed(about.partition, about.session, Extent::upto(Offset::new(2)));
        let ack = Flushed { about, extent: Extent::upto(Offset::new(2)) };
        assert_eq!(acks.take(), [Frame::Ack(vec![ack]), Frame::Reject(about, Reject::DiskFull)]);
    }

    #[test]
    fn a_log_start_is_told_with_the_newest_end_whatever_came_first() {
        let acks = Acks::default();
        let about = about(0, 1);
        let extent = |log_start, end| Extent { log_start: Offset::new(log_start), flushed_end: Offset::new(end) };
        for told in [extent(3, 5), extent(0, 7)] {
            acks.flushed(about.partition, about.session, told);
        }
        assert_eq!(acks.take(), [Frame::Ack(vec![Flushed { about, extent: extent(3, 7) }])]);
    }
}
