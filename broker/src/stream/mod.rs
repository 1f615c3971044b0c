//! The data plane: partitions, their leadership, ISR and high watermark.
//!
//! `Partitions` follows the metadata image: it opens and deletes logs, and tells each partition who leads it.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicPartition};
use crate::io::clock::Clock;
use crate::log::{
    AppendError, Appended, Log, LogConfig, LogError, LogOffsets, LogStore, Origin, ReadBatches, ReadError,
};
use crate::metadata::Image;
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

/// Why a partition refused.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// This node does not lead it (any more).
    #[error("not the leader")]
    NotLeader,
    /// The client knows an older leadership.
    #[error("the leader epoch is fenced")]
    FencedLeaderEpoch,
    /// The client knows a newer leadership than this node.
    #[error("the leader epoch is unknown here yet")]
    UnknownLeaderEpoch,
    /// Fewer in-sync replicas than `min.insync.replicas`; nothing was appended.
    #[error("not enough in-sync replicas")]
    NotEnoughReplicas,
    /// The ISR shrank below the minimum after the append.
    #[error("not enough in-sync replicas after the append")]
    NotEnoughReplicasAfterAppend,
    /// Not acknowledged in time.
    #[error("not acknowledged in time")]
    TimedOut,
    /// A new leader that does not know the high watermark yet.
    #[error("the offset is not available yet")]
    OffsetNotAvailable,
    /// The log refused the append.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The log refused the read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Waits for acknowledgements; called on the WAL thread: returns at once.
pub trait AckWaiter: Send + Sync {
    /// The append registered as `slot` is acknowledged, or never will be.
    fn settled(&self, slot: u32, outcome: Result<(), PartitionError>);
}

/// Waits for data; called on the WAL thread: returns at once.
pub trait DataWaiter: Send + Sync {
    /// Something became readable, or leadership changed.
    fn changed(&self);
}

/// One replica on this node.
pub struct Partition {}

impl Partition {
    /// Which.
    pub fn id(&self) -> TopicPartition {
        todo!()
    }

    /// Its topic's name.
    pub fn topic(&self) -> &Arc<str> {
        todo!()
    }

    /// Its log.
    pub fn log(&self) -> &Arc<Log> {
        todo!()
    }

    /// The epoch in which this node leads it.
    pub fn leading(&self) -> Option<LeaderEpoch> {
        todo!()
    }

    /// Checks what a client believes: that this node leads, in the epoch that the client knows (`None`: any).
    pub fn check_leader(&self, _client_epoch: Option<i32>) -> Result<LeaderEpoch, PartitionError> {
        todo!()
    }

    /// Appends as the leader. Returns at once; `when_acked` tells when it is acknowledged.
    pub fn append(
        &self,
        _records: Bytes,
        _acks: Acks,
        _origin: Origin,
        _admission: Admission,
    ) -> Result<Appended, PartitionError> {
        todo!()
    }

    /// Calls the waiter once the records below `end` are acknowledged by the rules of `acks`, maybe at once.
    pub fn when_acked(&self, _end: Offset, _acks: Acks, _waiter: Arc<dyn AckWaiter>, _slot: u32) {
        todo!()
    }

    /// Appends and waits: for coordinators.
    pub async fn append_and_wait(&self, _records: Bytes, _origin: Origin) -> Result<Appended, PartitionError> {
        todo!()
    }

    /// The offsets.
    pub fn offsets(&self) -> LogOffsets {
        todo!()
    }

    /// Reads below the high watermark, or below the last stable offset when `committed`.
    pub fn read(
        &self,
        _from: i64,
        _max_bytes: usize,
        _at_least_one: bool,
        _committed: bool,
    ) -> Result<ReadBatches, PartitionError> {
        todo!()
    }

    /// Calls the waiter once when more becomes readable than what lies below `seen`, maybe at once.
    pub fn when_readable(&self, _seen: Offset, _committed: bool, _waiter: Weak<dyn DataWaiter>) {
        todo!()
    }
}

/// Told about the leaderships of this node, in order: for coordinators.
pub trait LeadershipListener: Send + Sync {
    /// This node leads the partition now.
    fn elected(&self, partition: &Arc<Partition>, epoch: LeaderEpoch);
    /// This node leads it no more (or the topic was deleted).
    fn resigned(&self, topic: &str, partition: PartitionIndex);
}

/// Effective settings of a topic: the dynamic ones over the brokers' over Kafka's defaults.
pub trait TopicSettings: Send + Sync {
    /// What its logs need.
    fn log_config(&self, image: &Image, topic: &str) -> Arc<LogConfig>;
    /// `min.insync.replicas`.
    fn min_insync_replicas(&self, image: &Image, topic: &str) -> usize;
}

/// All replicas of this node.
pub struct Partitions {}

impl Partitions {
    /// No replicas yet: `apply` brings them.
    pub fn new(
        _node: NodeId,
        _logs: Arc<LogStore>,
        _settings: Arc<dyn TopicSettings>,
        _clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        todo!()
    }

    /// Tells leaderships of one topic to a coordinator.
    pub fn listen(&self, _topic: &str, _listener: Arc<dyn LeadershipListener>) {
        todo!()
    }

    /// Makes the replicas what the image says. Blocks on files: called from the one task that follows images.
    pub fn apply(&self, _image: &Arc<Image>) -> Result<(), LogError> {
        todo!()
    }

    /// Waits until the image of this Raft index is applied.
    pub async fn applied(&self, _index: u64) {
        todo!()
    }

    /// A replica by topic id.
    pub fn get(&self, _id: &TopicPartition) -> Option<Arc<Partition>> {
        todo!()
    }

    /// A replica by topic name.
    pub fn by_name(&self, _topic: &str, _partition: i32) -> Option<Arc<Partition>> {
        todo!()
    }

    /// All replicas.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        todo!()
    }
}
