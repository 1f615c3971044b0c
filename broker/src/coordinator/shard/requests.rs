//! What a coordinator partition is asked, and what it answers.

use std::sync::Arc;

use crate::coordinator::group::{
    GroupDescription, HeartbeatRequest, JoinAnswer, JoinRequest, LeaveAnswer, LeaveRequest, Reply, SyncAnswer,
    SyncRequest,
};
use crate::coordinator::metrics::ShardMetrics;
use crate::coordinator::offsets::OffsetKey;
use crate::coordinator::records::CommittedOffset;
use crate::kafka::wire::ErrorCode;

/// An OffsetCommit request of one group; its partitions exist and their metadata is not too large.
#[derive(Debug)]
pub(crate) struct CommitRequest {
    pub group: Arc<str>,
    pub generation: i32,
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    pub offsets: Vec<(OffsetKey, CommittedOffset)>,
    /// What a version answers to a generation of a group that does not exist.
    pub unknown_group_error: ErrorCode,
}

/// What OffsetFetch asks of one group.
#[derive(Debug)]
pub(crate) enum FetchRequest {
    /// All committed offsets.
    All { group: Arc<str> },
    /// Those of these keys.
    Some { group: Arc<str>, keys: Vec<OffsetKey> },
}

/// Each key asked for, with its offset if one is committed.
pub(crate) type FetchedOffsets = Vec<(OffsetKey, Option<CommittedOffset>)>;

/// A group as ListGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedGroup {
    pub group: Arc<str>,
    pub protocol_type: Arc<str>,
    pub state: &'static str,
}

/// A request with where its answer goes.
#[derive(Debug)]
pub(crate) enum Request {
    Join(JoinRequest, Reply<JoinAnswer>),
    Sync(SyncRequest, Reply<SyncAnswer>),
    Heartbeat(HeartbeatRequest, Reply<ErrorCode>),
    Leave(LeaveRequest, Reply<LeaveAnswer>),
    Commit(CommitRequest, Reply<Result<(), ErrorCode>>),
    FetchOffsets(FetchRequest, Reply<FetchedOffsets>),
    DeleteOffsets(Arc<str>, Vec<OffsetKey>, Reply<Result<Vec<ErrorCode>, ErrorCode>>),
    Describe(Arc<str>, Reply<Option<GroupDescription>>),
    List(Reply<Vec<ListedGroup>>),
    DeleteGroup(Arc<str>, Reply<ErrorCode>),
    /// Topics that do not exist any more: their offsets go. Nobody waits.
    TopicsDeleted(Arc<[Arc<str>]>),
    Metrics(Reply<ShardMetrics>),
}
