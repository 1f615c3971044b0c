//! What a coordinator partition wants in its log, and what happens once it is there.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::group::{LeaveAnswer, Reply, StaticReplacement};
use super::offsets::OffsetKey;
use super::records::{CommittedOffset, StateRecord};
use crate::kafka::wire::ErrorCode;

/// Tombstones of one write, bytes at most.
const TOMBSTONES_BYTES: usize = 256 << 10;
/// More than a tombstone takes beside the names in its key.
const TOMBSTONE_OVERHEAD: usize = 48;

/// Records that belong together, and what follows when they are durable and replicated, or can't be. Without records
/// it is an answer that waits for the writes before it.
#[derive(Debug)]
pub(crate) struct Write {
    pub records: Vec<StateRecord>,
    pub after: AfterWrite,
}

/// What follows a write.
#[derive(Debug)]
pub(crate) enum AfterWrite {
    /// Nothing waits for it; `what` is for the log line when it fails.
    Nothing { what: &'static str },
    /// A group's assignment.
    Assigned { group: Arc<str>, generation: i32, assignments: HashMap<Arc<str>, Bytes> },
    /// A static member in the place of its former self.
    StaticReplaced(StaticReplacement),
    /// Members left.
    Left { answer: LeaveAnswer, reply: Reply<LeaveAnswer> },
    /// Committed offsets, visible from now on.
    Committed { group: Arc<str>, offsets: Vec<(OffsetKey, CommittedOffset)>, reply: Reply<Result<(), ErrorCode>> },
    /// Offsets that are gone; somebody may wait for it.
    OffsetsDeleted { group: Arc<str>, keys: Vec<OffsetKey>, answer: Option<DeleteAnswer> },
    /// A group that is gone with the last of its offsets; somebody may wait for it.
    GroupDeleted { group: Arc<str>, keys: Vec<OffsetKey>, reply: Option<Reply<ErrorCode>> },
}

/// The answer to an OffsetDelete request: the outcome for each partition, in the order of the request.
#[derive(Debug)]
pub(crate) struct DeleteAnswer {
    pub outcomes: Vec<ErrorCode>,
    pub reply: Reply<Result<Vec<ErrorCode>, ErrorCode>>,
}

/// Why a write has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WriteFailure {
    /// This node does not lead the partition any more.
    #[error("this node does not lead the partition")]
    NotLeader,
    /// Not enough replicas, not in time, no space: trying again may help.
    #[error("the partition could not take the write now")]
    Unavailable,
    /// Larger than a batch of the topic may be.
    #[error("the write is larger than the topic's max.message.bytes")]
    TooLarge,
    /// Anything else.
    #[error("the partition refused the write")]
    Refused,
}

impl WriteFailure {
    /// What JoinGroup, SyncGroup, LeaveGroup and DeleteGroups answer.
    pub(crate) const fn group_error(self) -> ErrorCode {
        match self {
            Self::NotLeader => ErrorCode::NotCoordinator,
            Self::Unavailable => ErrorCode::CoordinatorNotAvailable,
            Self::TooLarge | Self::Refused => ErrorCode::UnknownServerError,
        }
    }

    /// What OffsetCommit and OffsetDelete answer.
    pub(crate) const fn offset_error(self) -> ErrorCode {
        match self {
            Self::TooLarge => ErrorCode::InvalidCommitOffsetSize,
            Self::NotLeader | Self::Unavailable | Self::Refused => self.group_error(),
        }
    }
}

/// Writes the tombstones of offsets that nobody waits for.
pub(super) fn forget_offsets(writes: &mut Vec<Write>, group: &Arc<str>, keys: Vec<OffsetKey>) {
    for keys in in_parts(group, keys) {
        delete_offsets(writes, group, keys, None);
    }
}

/// Writes the tombstones of offsets. Without any, an answer still waits for the writes before it.
pub(super) fn delete_offsets(
    writes: &mut Vec<Write>,
    group: &Arc<str>,
    keys: Vec<OffsetKey>,
    answer: Option<DeleteAnswer>,
) {
    if keys.is_empty() && answer.is_none() {
        return;
    }
    let records = keys.iter().map(|key| key.record(group, None)).collect();
    writes.push(Write { records, after: AfterWrite::OffsetsDeleted { group: group.clone(), keys, answer } });
}

/// Cuts a deletion into what one batch takes: a group may have more offsets than that.
pub(super) fn in_parts(group: &str, keys: Vec<OffsetKey>) -> Vec<Vec<OffsetKey>> {
    let mut parts: Vec<Vec<OffsetKey>> = Vec::new();
    let mut room = 0;
    for key in keys {
        let bytes = group.len() + key.topic.len() + TOMBSTONE_OVERHEAD;
        match parts.last_mut() {
            Some(part) if bytes <= room => {
                room -= bytes;
                part.push(key);
            }
            _ => {
                room = TOMBSTONES_BYTES.saturating_sub(bytes);
                parts.push(vec![key]);
            }
        }
    }
    parts
}
