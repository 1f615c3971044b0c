//! One replica: who leads it, how far it is committed, and who waits for that.
//!
//! Its locks are always taken in this order. `follower` is held while a leader's frame is obeyed, the cut of the log
//! included, so that a leadership of this node begins after it. `leadership` is held (shared) from the check that this
//! node leads until the append is queued, so that no append slips past the end of its epoch. `progress` is held for
//! moments only, by the WAL thread among others; the log's own lock and that of `tails` come last. Waiters are called
//! when all are free.

mod advancing;
mod appending;
mod deleting;
mod following;
mod leading;
mod reading;
mod registering;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use self::advancing::Due;
pub use self::appending::{Accepted, Acks};
use self::following::Following;
use super::follower::{Follower, View};
use super::membership::Membership;
use super::news::News;
use super::tails::Tails;
use super::waiters::{AckQueue, DataQueue};
use super::{Isr, PartitionError};
use crate::ids::{LeaderEpoch, NodeId, Offset, PartitionEpoch, PartitionIndex, TopicPartition};
use crate::log::Log;
use crate::wal::GroupCommitWal;

/// Who leads, as the image says.
struct Leadership {
    /// The newest epoch that is known; `None` before the first registration.
    epoch: Option<LeaderEpoch>,
    /// Whether this node leads in it.
    leading: bool,
    /// Who else leads in it.
    leader: Option<NodeId>,
    /// Whether the ISR is large enough for acks=all.
    has_minimum: bool,
}

/// How far things are, and who waits.
struct Progress {
    /// The epoch in which this node leads; waiters belong to it.
    epoch: Option<LeaderEpoch>,
    /// Where that epoch began.
    epoch_start: Offset,
    isr: Isr,
    /// Who else may be elected.
    elr: Vec<NodeId>,
    membership: Membership,
    /// A session was to begin within a batch, which begins here: the next one is to begin with it.
    batch_before: Option<Offset>,
    /// The registration that the ISR is of.
    partition_epoch: PartitionEpoch,
    /// The leader that this replica follows.
    following: Option<Following>,
    /// Whether anybody leads, so that there is more to come.
    is_led: bool,
    /// Whether the tails see the appends of this leadership: somebody follows.
    replicated: bool,
    flushed_end: Offset,
    high_watermark: Offset,
    waiting_for_flush: AckQueue,
    waiting_for_commit: AckQueue,
    readers: DataQueue,
}

/// One replica on this node.
pub struct Partition {
    id: TopicPartition,
    topic: Arc<str>,
    node: NodeId,
    log: Arc<Log>,
    wal: Arc<GroupCommitWal>,
    follower: Mutex<Follower>,
    leadership: RwLock<Leadership>,
    progress: Mutex<Progress>,
    tails: Arc<Tails>,
    news: Arc<News>,
    /// Told whenever `low_watermark` may be another one.
    low_watermark_moves: Notify,
    /// How often the log lost appends that it had accepted (the disk was full).
    refusals: AtomicU64,
}

impl Partition {
    /// A replica that nobody leads yet.
    pub(super) fn new(
        id: TopicPartition,
        topic: Arc<str>,
        node: NodeId,
        log: Arc<Log>,
        wal: Arc<GroupCommitWal>,
        news: Arc<News>,
    ) -> Arc<Self> {
        let offsets = log.offsets();
        let partition = Arc::new(Self {
            id,
            topic,
            node,
            wal,
            follower: Mutex::default(),
            leadership: RwLock::new(Leadership { epoch: None, leading: false, leader: None, has_minimum: false }),
            progress: Mutex::new(Progress {
                epoch: None,
                epoch_start: offsets.log_end,
                isr: Isr::new(&[], &[], 1),
                elr: Vec::new(),
                membership: Membership::new(node, &[]),
                batch_before: None,
                partition_epoch: PartitionEpoch::FIRST,
                following: None,
                is_led: false,
                replicated: false,
                flushed_end: offsets.flushed_end,
                high_watermark: offsets.high_watermark,
                waiting_for_flush: AckQueue::default(),
                waiting_for_commit: AckQueue::default(),
                readers: DataQueue::default(),
            }),
            tails: Arc::default(),
            news,
            low_watermark_moves: Notify::new(),
            refusals: AtomicU64::new(0),
            log,
        });
        let listener: Weak<Self> = Arc::downgrade(&partition);
        partition.log.set_listener(listener);
        partition
    }

    /// Which.
    pub fn id(&self) -> TopicPartition {
        self.id
    }

    /// Its number in its topic.
    pub fn index(&self) -> PartitionIndex {
        self.id.partition
    }

    /// Its topic's name.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Its log.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The epoch in which this node leads it.
    pub fn leading(&self) -> Option<LeaderEpoch> {
        let leadership = self.leadership.read();
        leadership.epoch.filter(|_| leadership.leading)
    }

    /// Checks what a client believes: that this node leads, in the epoch that the client knows (`None`, or negative: any).
    pub fn check_leader(&self, client_epoch: Option<i32>) -> Result<LeaderEpoch, PartitionError> {
        let leadership = self.leadership.read();
        let known = leadership.check(client_epoch)?;
        if leadership.leading { Ok(known) } else { Err(PartitionError::NotLeader) }
    }

    /// Like `check_leader`, for a consumer who may read from followers too (KIP-392): as long as there is a leader.
    pub fn check_replica(&self, client_epoch: Option<i32>) -> Result<LeaderEpoch, PartitionError> {
        let leadership = self.leadership.read();
        let known = leadership.check(client_epoch)?;
        if leadership.leading || leadership.leader.is_some() { Ok(known) } else { Err(PartitionError::NotLeader) }
    }
}

impl Leadership {
    /// The epoch, if it is the one that a client knows (`None`, or negative: any).
    fn check(&self, client_epoch: Option<i32>) -> Result<LeaderEpoch, PartitionError> {
        let known = self.epoch.ok_or(PartitionError::NotLeader)?;
        match client_epoch.filter(|epoch| *epoch >= 0) {
            Some(epoch) if epoch < known.get() => Err(PartitionError::FencedLeaderEpoch),
            Some(epoch) if epoch > known.get() => Err(PartitionError::UnknownLeaderEpoch),
            _ => Ok(known),
        }
    }

    /// What a follower obeys by.
    fn view(&self) -> View {
        View { epoch: self.epoch, leader: self.leader }
    }
}

#[cfg(test)]
mod tests;
