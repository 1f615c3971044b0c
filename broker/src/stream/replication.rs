//! The border between partitions and the links that carry their records: what WAL streaming asks of a replica on
//! either end. Links move frames; every rule of replication is decided behind these two traits.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, TopicPartition};
use crate::log::EpochStart;
use crate::wal::Admission;

/// One conversation of a leader with a follower about one partition. Ordered: a follower obeys only the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session {
    /// The leadership that it belongs to.
    pub epoch: LeaderEpoch,
    /// Counts the sessions of that leadership.
    pub number: u64,
}

/// What a follower has: its answer to a Greet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowerState {
    /// Its leader-epoch history.
    pub epochs: Vec<EpochStart>,
    /// Its first offset.
    pub log_start: Offset,
    /// One past the last record that it has on disk.
    pub flushed_end: Offset,
}

/// Where a session begins: the leader's answer to a follower's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elected {
    /// The leader's leader-epoch history.
    pub epochs: Vec<EpochStart>,
    /// The follower cuts off what it has beyond this.
    pub truncate_to: Offset,
    /// The first offset that the leader will send: `truncate_to`, or the leader's log start where that is later (the
    /// follower then drops its log and begins there).
    pub start_at: Offset,
}

/// One record batch on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanonicalRecord {
    /// The session's position before it: the end of the batch before. Its own base offset may lie beyond, where
    /// compaction left a hole.
    pub previous: Offset,
    /// The batch's first offset.
    pub base: Offset,
    /// One past its last offset.
    pub end: Offset,
    /// The batch as Kafka stores it.
    pub batch: Bytes,
}

/// What a leader tells beside records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// The leader's high watermark.
    pub high_watermark: Offset,
    /// The leader's first offset.
    pub log_start: Offset,
}

/// What a follower has, as it acknowledges it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Its first offset.
    pub log_start: Offset,
    /// One past the last record that it has on disk.
    pub flushed_end: Offset,
}

impl Extent {
    /// What two of one session say together: both ends go forward only.
    #[must_use]
    pub fn newest(self, other: Self) -> Self {
        Self { log_start: self.log_start.max(other.log_start), flushed_end: self.flushed_end.max(other.flushed_end) }
    }

    /// That of a log from which nothing was deleted.
    #[cfg(test)]
    pub(crate) fn upto(flushed_end: Offset) -> Self {
        Self { log_start: Offset::FIRST, flushed_end }
    }
}

/// Why a replica refuses a frame. Travels in `Reject`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// This node is no replica of it (as far as its image knows).
    #[error("no such replica here")]
    UnknownPartition,
    /// The epoch is older than the follower's image, or its session.
    #[error("the leader epoch or session is old")]
    Stale,
    /// The epoch is newer than the follower's image: to be tried again once the image has caught up.
    #[error("the leader epoch is not known here yet")]
    NotYetKnown,
    /// The sender is not the leader by the follower's image.
    #[error("the sender does not lead it")]
    NotTheLeader,
    /// The batch does not continue at the session's position.
    #[error("a gap or an overlap: at {at}, got {got}")]
    NotContiguous {
        /// The session's position.
        at: Offset,
        /// What the record said.
        got: Offset,
    },
    /// The batch is damaged.
    #[error("a damaged batch: {0}")]
    Corrupt(String),
    /// No disk space (rule 16).
    #[error("no disk space")]
    DiskFull,
    /// The follower's log failed: what was attempted, and why.
    #[error("the log failed: {0}")]
    Storage(String),
}

/// Told by a replica what to answer its leader; called on the WAL thread: returns at once.
pub trait AckSink: Send + Sync {
    /// This is on disk.
    fn flushed(&self, partition: TopicPartition, session: Session, extent: Extent);
    /// The session is over on the follower's side.
    fn rejected(&self, partition: TopicPartition, session: Session, why: Reject);
}

/// A node's replicas as its WAL receiver sees them: the follower's end.
pub trait Followers: Send + Sync + 'static {
    /// A leader opens a session. `from` was proven by the handshake.
    fn greet(
        &self,
        partition: TopicPartition,
        from: NodeId,
        session: Session,
        acks: Weak<dyn AckSink>,
    ) -> Result<FollowerState, Reject>;

    /// Truncates as told, durably, and is ready for records from `start_at`: which it acknowledges, so that the leader
    /// knows what this replica has though nothing new comes. Blocks on files.
    fn elected(&self, partition: TopicPartition, session: Session, elected: &Elected) -> Result<(), Reject>;

    /// Waits for room for the bytes of the next batch. While there is none, its link reads no further.
    fn admit(&self, bytes: usize) -> BoxFuture<'_, Admission>;

    /// Appends one batch; the acknowledgement comes by `AckSink::flushed`. After a refusal the session is over.
    fn append(
        &self,
        partition: TopicPartition,
        session: Session,
        record: CanonicalRecord,
        admission: Admission,
    ) -> Result<(), Reject>;

    /// Takes the leader's marks.
    fn progress(&self, partition: TopicPartition, session: Session, marks: Marks) -> Result<(), Reject>;
}

/// One partition that this node leads and another follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Led {
    /// Which.
    pub partition: TopicPartition,
    /// In which leadership.
    pub epoch: LeaderEpoch,
}

/// This node leads it no more in that epoch, or the follower is no replica of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not led in that epoch")]
pub struct Deposed;

/// Told of what a leader appends; called under the partition's append order: returns at once, asks `Leaders` nothing.
pub trait Tail: Send + Sync {
    /// A batch was appended, and is on the leader's disk. In offset order, without gaps, until `Leaders::untail`, or the
    /// leadership's end.
    fn appended(&self, led: Led, record: CanonicalRecord);
    /// The high watermark or the log start moved.
    fn moved(&self, led: Led, marks: Marks);
}

/// A node's replicas as its senders see them: the leader's end.
pub trait Leaders: Send + Sync + 'static {
    /// The partitions that this node leads and `follower` replicates.
    fn led_for(&self, follower: NodeId) -> Vec<Led>;

    /// Changes whenever any `led_for` does.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Compares a follower's state with the log, and says where the session begins.
    fn elect(&self, led: Led, follower: NodeId, state: &FollowerState) -> Result<Elected, Deposed>;

    /// From now on `tail` is told of appends, in place of the follower's tail before. Returns the offset at which that
    /// begins: what lies before is read.
    fn tail(&self, led: Led, follower: NodeId, tail: Arc<dyn Tail>) -> Result<Offset, Deposed>;

    /// Ends `tail`.
    fn untail(&self, led: Led, follower: NodeId);

    /// Batches from `from` on, `max_bytes` at most but at least one; none at the end of what is on the leader's disk.
    /// `Deposed` also when the log does not have `from` (any more), or cannot be read: a new session finds out where to
    /// begin. Blocks on files.
    fn read(&self, led: Led, from: Offset, max_bytes: usize) -> Result<Vec<CanonicalRecord>, Deposed>;

    /// The marks now.
    fn marks(&self, led: Led) -> Result<Marks, Deposed>;

    /// A follower acknowledged what it has. The link has checked that the session is this connection's.
    fn acked(&self, led: Led, follower: NodeId, follower_epoch: BrokerEpoch, extent: Extent);

    /// A follower's session ended, or it refused (rule 16: without disk space it leaves the ISR at once).
    fn lost(&self, led: Led, follower: NodeId, why: Option<&Reject>);
}
