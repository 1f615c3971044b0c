//! Why a partition refuses.

use crate::log::{AppendError, LogError, ReadError};

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
