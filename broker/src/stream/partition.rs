//! One replica: who leads it, how far it is committed, and who waits for that.
//!
//! Its locks are always taken in this order. `follower` is held while a leader's frame is obeyed, the cut of the log
//! included, so that a leadership of this node begins after it. `leadership` is held (shared) from the check that this
//! node leads until the append is queued, so that no append slips past the end of its epoch. `progress` is held for
//! moments only, by the WAL thread among others; the log's own lock and that of `tails` come last. Waiters are called
//! when all are free.

mod deleting;
mod following;
mod leading;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot};

use self::following::Following;
use super::follower::{Follower, View};
use super::membership::Membership;
use super::news::News;
use super::replication::{Led, Reject};
use super::tails::Tails;
use super::waiters::{self, AckQueue, AckWait, DataQueue, DueAcks, DueReaders};
use super::{AckWaiter, DataWaiter, Isr, PartitionError};
use crate::ids::{LeaderEpoch, NodeId, Offset, PartitionEpoch, PartitionIndex, TopicPartition};
use crate::log::{
    AppendError, Appended, Brief, Log, LogConfig, LogError, LogListener, LogOffsets, Origin, ReadBatches, ReadError,
};
use crate::metadata::PartitionRegistration;
use crate::wal::{Admission, GroupCommitWal};

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

    /// The offsets.
    pub fn offsets(&self) -> LogOffsets {
        self.log.offsets()
    }

    /// The offsets, for a reader that asks for the latest: a new leader does not know the high watermark until it has
    /// committed a record of its own epoch, or everything that it found.
    pub fn latest_offsets(&self) -> Result<LogOffsets, PartitionError> {
        let epoch_start = self.progress.lock().epoch_start;
        let offsets = self.log.offsets();
        if offsets.high_watermark < epoch_start {
            return Err(PartitionError::OffsetNotAvailable);
        }
        Ok(offsets)
    }

    /// Reads below the high watermark, or below the last stable offset when `committed`.
    pub fn read(
        &self,
        from: i64,
        max_bytes: usize,
        at_least_one: bool,
        committed: bool,
    ) -> Result<ReadBatches, PartitionError> {
        self.read_within(&self.offsets(), from, max_bytes, at_least_one, committed)
    }

    /// Like `read`, with the bounds of `offsets`: what is read fits what is reported beside it.
    ///
    /// Between the bound and the log's end there is nothing to read yet, beyond the end nothing ever was: the first is
    /// an empty answer, the second an error, as in Kafka.
    pub fn read_within(
        &self,
        offsets: &LogOffsets,
        from: i64,
        max_bytes: usize,
        at_least_one: bool,
        committed: bool,
    ) -> Result<ReadBatches, PartitionError> {
        match readable(offsets, from, committed)? {
            Some((start, upto)) if max_bytes > 0 || at_least_one => {
                Ok(self.log.read(start, upto, max_bytes, at_least_one, committed)?)
            }
            _ => Ok(ReadBatches::default()),
        }
    }

    /// Like `read_within`, but waits for no disk: `None` when that takes more than memory holds.
    pub fn read_cached_within(
        &self,
        offsets: &LogOffsets,
        from: i64,
        max_bytes: usize,
        at_least_one: bool,
        committed: bool,
    ) -> Result<Option<ReadBatches>, PartitionError> {
        match readable(offsets, from, committed)? {
            Some((start, upto)) if max_bytes > 0 || at_least_one => {
                Ok(self.log.read_cached(start, upto, max_bytes, at_least_one, committed)?)
            }
            _ => Ok(Some(ReadBatches::default())),
        }
    }

    /// Calls the waiter once when more becomes readable than what lies below `seen`, or when the leadership that this
    /// node holds or follows ends; maybe at once.
    pub fn when_readable(&self, seen: Offset, committed: bool, waiter: Weak<dyn DataWaiter>) {
        {
            let mut progress = self.progress.lock();
            if progress.is_led {
                let bound = if committed { self.log.offsets().last_stable } else { progress.high_watermark };
                if bound <= seen {
                    progress.readers.push(seen, committed, waiter);
                    return;
                }
            }
        }
        if let Some(waiter) = waiter.upgrade() {
            waiter.changed();
        }
    }

    /// Takes new settings of its topic. `minimum` is the smallest ISR that acknowledges.
    pub(super) fn configure(&self, config: Arc<LogConfig>, minimum: usize) {
        self.log.set_config(config);
        let mut leadership = self.leadership.write();
        let due = {
            let mut progress = self.progress.lock();
            progress.isr.set_minimum(minimum);
            leadership.has_minimum = progress.isr.has_minimum();
            self.advance(&mut progress)
        };
        drop(leadership);
        due.settle();
    }

    /// Takes a registration, with the `min.insync.replicas` of the same image: an ISR is enough, or not, by the minimum
    /// that it was committed under. `leads` says whether this node leads by it. Returns the epoch when a leadership of
    /// this node began. Waits for a cut of the log that a leader before has ordered.
    pub(super) fn register(
        &self,
        registration: &PartitionRegistration,
        leads: bool,
        min_insync: usize,
    ) -> Result<Option<LeaderEpoch>, LogError> {
        let follower = self.follower.lock();
        let mut leadership = self.leadership.write();
        let epoch = registration.leader_epoch;
        debug_assert!(leadership.epoch.is_none_or(|known| known <= epoch), "leader epochs only grow");
        let begins = leads && !(leadership.leading && leadership.epoch == Some(epoch));
        if begins {
            self.log.begin_epoch(epoch)?;
        }
        let mut due = Due::default();
        {
            let mut progress = self.progress.lock();
            if begins || !leads {
                self.end_leadership(&mut progress, &mut due);
            }
            if leadership.epoch != Some(epoch) {
                progress.following = None;
            }
            let minimum = registration.minimum_isr(min_insync);
            progress.isr.set_minimum(minimum);
            if begins {
                self.begin_leadership(&mut progress, registration, minimum);
            } else if leads && registration.partition_epoch != progress.partition_epoch {
                // The registration that is known already is no proposal's outcome (rule 6).
                progress.isr.commit(&registration.replicas, &registration.isr);
                progress.membership.commit(&registration.replicas);
                self.tails.keep(&registration.replicas);
                if !progress.replicated {
                    self.begin_tails(&mut progress, registration);
                }
            }
            progress.is_led = leads || registration.leader.is_some_and(|leader| leader != self.node);
            progress.partition_epoch = registration.partition_epoch;
            progress.elr.clone_from(&registration.elr);
            leadership.epoch = Some(epoch);
            leadership.leading = leads;
            leadership.leader = registration.leader.filter(|leader| *leader != self.node);
            leadership.has_minimum = leads && progress.isr.has_minimum();
            due.append(self.advance(&mut progress));
        }
        drop(leadership);
        drop(follower);
        due.settle();
        self.low_watermark_moves.notify_waiters();
        Ok(begins.then_some(epoch))
    }

    fn begin_leadership(&self, progress: &mut Progress, registration: &PartitionRegistration, minimum: usize) {
        let offsets = self.log.offsets();
        progress.epoch = Some(registration.leader_epoch);
        progress.epoch_start = offsets.log_end;
        progress.isr = Isr::new(&registration.replicas, &registration.isr, minimum);
        progress.membership = Membership::new(self.node, &registration.replicas);
        progress.batch_before = None;
        progress.flushed_end = offsets.flushed_end;
        progress.high_watermark = offsets.high_watermark;
        progress.isr.flushed(self.node, offsets.flushed_end);
        self.begin_tails(progress, registration);
    }

    /// Lets the tails see what is appended from now on, if anybody follows. Nobody appends meanwhile.
    fn begin_tails(&self, progress: &mut Progress, registration: &PartitionRegistration) {
        if registration.replicas.len() > 1 {
            let led = Led { partition: self.id, epoch: registration.leader_epoch };
            let offsets = self.log.offsets();
            self.tails.begin(led, offsets.flushed_end, offsets.log_end);
            self.log.observe(Some(Arc::clone(&self.tails) as _));
            progress.replicated = true;
        }
    }

    /// Ends this node's leadership for good: the replica goes away, or the process stops.
    pub(super) fn resign(&self) {
        let mut due = Due::default();
        let mut follower = self.follower.lock();
        follower.end();
        let mut leadership = self.leadership.write();
        leadership.leading = false;
        leadership.leader = None;
        {
            let mut progress = self.progress.lock();
            progress.following = None;
            progress.is_led = false;
            self.end_leadership(&mut progress, &mut due);
        }
        drop(leadership);
        drop(follower);
        due.settle();
        self.low_watermark_moves.notify_waiters();
    }

    /// Ends the epoch of the waiters: offsets that the next leader fills again must not satisfy them.
    fn end_leadership(&self, progress: &mut Progress, due: &mut Due) {
        progress.epoch = None;
        if std::mem::take(&mut progress.replicated) {
            self.log.observe(None);
            self.tails.end();
        }
        #[cfg(test)]
        if crate::sim::planted(crate::sim::Plant::WaiterSurvivesEpoch) {
            return;
        }
        progress.waiting_for_flush.take_all(&mut due.deposed);
        progress.waiting_for_commit.take_all(&mut due.deposed);
        progress.readers.take_all(&mut due.readers);
    }

    /// Moves the high watermark to where the ISR is, and takes those who waited for it.
    fn advance(&self, progress: &mut Progress) -> Due {
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

    fn move_high_watermark(&self, progress: &mut Progress, to: Offset, due: &mut Due) {
        progress.high_watermark = to;
        self.log.advance_high_watermark(to);
        let last_stable = if progress.readers.has_committed() { self.log.offsets().last_stable } else { to };
        progress.readers.take_readable(to, last_stable, &mut due.readers);
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

/// From where to where a read goes; `None` when there is nothing to read yet.
fn readable(offsets: &LogOffsets, from: i64, committed: bool) -> Result<Option<(Offset, Offset)>, ReadError> {
    let upto = if committed { offsets.last_stable } else { offsets.high_watermark };
    let out_of_range = || ReadError::OutOfRange { offset: from, start: offsets.log_start, end: offsets.high_watermark };
    let start = Offset::try_from(from).map_err(|_| out_of_range())?;
    if start < offsets.log_start || start > offsets.log_end {
        return Err(out_of_range());
    }
    Ok((start < upto).then_some((start, upto)))
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
struct Due {
    acknowledged: DueAcks,
    below_minimum: DueAcks,
    refused: DueAcks,
    deposed: DueAcks,
    readers: DueReaders,
}

impl Due {
    fn append(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.below_minimum.extend(other.below_minimum);
        self.refused.extend(other.refused);
        self.deposed.extend(other.deposed);
        self.readers.extend(other.readers);
    }

    fn settle(self) {
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

#[cfg(test)]
mod tests;
