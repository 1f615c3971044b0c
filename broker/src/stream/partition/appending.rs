//! A replica as the leader that clients write to: what is taken, and when it is acknowledged.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Partition;
use crate::ids::LeaderEpoch;
use crate::log::{AppendError, Appended, Brief, Origin};
use crate::stream::waiters::AckWait;
use crate::stream::{AckWaiter, PartitionError};
use crate::wal::Admission;

/// `acks` of a Produce request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// No answer.
    None,
    /// When the leader has it on disk.
    Leader,
    /// When every in-sync replica has it on disk.
    All,
}

/// An append that a partition took: what `when_acked` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// What the log did.
    pub appended: Appended,
    /// The leadership that it was made in. An acknowledgement never comes from a later one.
    epoch: LeaderEpoch,
    /// The log's refusals that were known before the append.
    refusals: u64,
}

/// What an append met.
struct Taken {
    epoch: LeaderEpoch,
    refusals: u64,
}

impl Taken {
    fn of(self, appended: Appended) -> Accepted {
        Accepted { appended, epoch: self.epoch, refusals: self.refusals }
    }
}

impl Partition {
    /// Appends as the leader. Returns at once; `when_acked` tells when it is acknowledged.
    pub fn append(
        &self,
        records: Bytes,
        acks: Acks,
        origin: Origin,
        admission: Admission,
    ) -> Result<Accepted, PartitionError> {
        self.append_in(None, acks, |epoch| self.log.append_as_leader(records, epoch, origin, admission))
            .map(|(appended, taken)| taken.of(appended))
    }

    /// Appends a client's batch as the leader, but gives it back when checking it takes long.
    pub fn append_briefly(
        &self,
        records: Bytes,
        acks: Acks,
        admission: Admission,
    ) -> Result<Brief<Accepted>, PartitionError> {
        let append = |epoch| self.log.append_briefly(records, epoch, admission);
        self.append_in(None, acks, append).map(|(appended, taken)| match appended {
            Brief::Done(appended) => Brief::Done(taken.of(appended)),
            Brief::Long(records) => Brief::Long(records),
        })
    }

    /// Appends as the leader, in this epoch if one is given.
    fn append_in<T>(
        &self,
        wanted: Option<LeaderEpoch>,
        acks: Acks,
        append: impl FnOnce(LeaderEpoch) -> Result<T, AppendError>,
    ) -> Result<(T, Taken), PartitionError> {
        let leadership = self.leadership.read();
        let epoch = leadership.epoch.filter(|_| leadership.leading).ok_or(PartitionError::NotLeader)?;
        if wanted.is_some_and(|wanted| wanted != epoch) {
            return Err(PartitionError::FencedLeaderEpoch);
        }
        if acks == Acks::All && !leadership.has_minimum {
            return Err(PartitionError::NotEnoughReplicas);
        }
        let refusals = self.refusals.load(Ordering::Acquire);
        match append(epoch) {
            Ok(appended) => Ok((appended, Taken { epoch, refusals })),
            Err(error) => {
                if error == AppendError::DiskFull {
                    self.has_no_room(&mut self.progress.lock());
                }
                Err(error.into())
            }
        }
    }

    /// Calls the waiter once the append is acknowledged by the rules of `acks`, maybe at once. A duplicate waits like
    /// its original: for the same end under the same rule.
    pub fn when_acked(&self, accepted: &Accepted, acks: Acks, waiter: Arc<dyn AckWaiter>, slot: u32) {
        let end = accepted.appended.end_offset;
        let outcome = {
            let mut progress = self.progress.lock();
            let mark = if acks == Acks::All { progress.high_watermark } else { progress.flushed_end };
            if progress.epoch != Some(accepted.epoch) {
                Err(PartitionError::NotLeader)
            } else if self.refusals.load(Ordering::Acquire) != accepted.refusals {
                // The refused appends may include this one, and its offsets may hold other records by now.
                Err(AppendError::DiskFull.into())
            } else if acks == Acks::None || mark >= end {
                Ok(())
            } else if acks == Acks::All && !progress.isr.has_minimum() {
                Err(PartitionError::NotEnoughReplicasAfterAppend)
            } else {
                let wait = AckWait { end, waiter, slot };
                match acks {
                    Acks::All => progress.waiting_for_commit.push(wait),
                    Acks::Leader | Acks::None => progress.waiting_for_flush.push(wait),
                }
                return;
            }
        };
        waiter.settled(slot, outcome);
    }

    /// Whether acks=all waits for this node's disk only.
    pub fn is_alone_in_sync(&self) -> bool {
        self.progress.lock().isr.is_one()
    }

    /// Appends with acks=all in a leadership and waits: for coordinators, who bound the wait themselves, and whose state
    /// is that of one leadership's log.
    pub async fn append_and_wait(
        &self,
        records: Bytes,
        epoch: LeaderEpoch,
        origin: Origin,
    ) -> Result<Appended, PartitionError> {
        struct Once(Mutex<Option<oneshot::Sender<Result<(), PartitionError>>>>);

        impl AckWaiter for Once {
            fn settled(&self, _slot: u32, outcome: Result<(), PartitionError>) {
                if let Some(sender) = self.0.lock().take() {
                    // The receiver is gone when the coordinator stopped waiting: then nobody asks.
                    let _ = sender.send(outcome);
                }
            }
        }

        let admission = self.wal.admit(records.len()).await;
        let append = |epoch| self.log.append_as_leader(records, epoch, origin, admission);
        let (appended, taken) = self.append_in(Some(epoch), Acks::All, append)?;
        let accepted = taken.of(appended);
        let (sender, receiver) = oneshot::channel();
        self.when_acked(&accepted, Acks::All, Arc::new(Once(Mutex::new(Some(sender)))), 0);
        // The sender is dropped unused only together with this partition.
        receiver.await.unwrap_or(Err(PartitionError::NotLeader))?;
        Ok(accepted.appended)
    }
}
