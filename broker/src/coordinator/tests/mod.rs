//! A coordinator partition with a clock that is moved by hand and a log that is a list.

mod classic;
mod model;
mod offsets;
mod static_members;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::group::{
    GroupDescription, HeartbeatRequest, JoinAnswer, JoinRequest, LeaveAnswer, LeaveRequest, LeavingMember, Now,
    SyncAnswer, SyncRequest,
};
use super::offsets::OffsetKey;
use super::options::GroupOptions;
use super::records::{CommittedOffset, StateRecord};
use super::shard::{CommitRequest, FetchRequest, Request, Shard};
use super::write::{Write, WriteFailure};
use crate::ids::TopicId;
use crate::kafka::wire::ErrorCode;

const SESSION: Duration = Duration::from_secs(10);
const JUST_IN_SESSION: Duration = Duration::from_millis(9999);
const REBALANCE: Duration = Duration::from_mins(1);

/// An answer that may not have come yet.
type Pending<T> = oneshot::Receiver<T>;

/// The answer, which must have come.
#[track_caller]
fn now<T>(mut pending: Pending<T>) -> T {
    pending.try_recv().expect("an answer at once")
}

/// Whether the answer has not come yet.
fn waits<T>(pending: &mut Pending<T>) -> bool {
    matches!(pending.try_recv(), Err(oneshot::error::TryRecvError::Empty))
}

struct Harness {
    shard: Shard,
    now: Now,
    options: Arc<GroupOptions>,
    /// What is durable.
    log: Vec<StateRecord>,
    queue: VecDeque<Write>,
    /// Ids that are drawn after a restart differ from those before.
    restarts: u128,
}

impl Harness {
    fn new() -> Self {
        Self::with(GroupOptions::default())
    }

    fn with(options: GroupOptions) -> Self {
        let options = Arc::new(options);
        let now = Now { monotonic: Duration::from_secs(1000), wall_ms: 1_700_000_000_000 };
        let mut harness =
            Self { shard: shard(&options, 0), now, options, log: Vec::new(), queue: VecDeque::new(), restarts: 0 };
        harness.shard.loaded(now, |_| true);
        harness
    }

    /// The process ends, another one loads the log.
    fn restart(&mut self) {
        self.queue.clear();
        self.restarts += 1;
        self.shard = shard(&self.options, self.restarts);
        for record in self.log.clone() {
            let (key, value) = (record.key(), record.value());
            let read = StateRecord::parse(key, value).expect("the log reads back");
            assert_eq!(read, record);
            self.shard.replay(read, self.now);
        }
        self.shard.loaded(self.now, |_| true);
        self.flush();
    }

    /// Brings a request; its writes stay in the queue.
    fn send<T>(&mut self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Pending<T> {
        let (reply, pending) = oneshot::channel();
        self.shard.handle(request(reply), self.now);
        self.queue.extend(self.shard.take_writes());
        pending
    }

    /// Brings a request, and makes everything durable.
    fn ask<T>(&mut self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Pending<T> {
        let pending = self.send(request);
        self.flush();
        pending
    }

    fn flush(&mut self) {
        self.queue.extend(self.shard.take_writes());
        while let Some(write) = self.queue.pop_front() {
            self.log.extend(write.records);
            self.shard.written(write.after, Ok(()), self.now);
            self.queue.extend(self.shard.take_writes());
        }
    }

    /// Lets all queued writes fail.
    fn fail(&mut self, failure: WriteFailure) {
        for write in std::mem::take(&mut self.queue) {
            self.shard.written(write.after, Err(failure), self.now);
        }
        self.queue.extend(self.shard.take_writes());
    }

    /// Lets time pass; every timer fires at its moment.
    fn pass(&mut self, time: Duration) {
        let end = self.now.monotonic + time;
        while let Some(deadline) = self.shard.next_deadline().filter(|deadline| *deadline <= end) {
            self.move_to(deadline.max(self.now.monotonic));
            self.shard.tick(self.now);
            self.flush();
        }
        self.move_to(end);
    }

    fn move_to(&mut self, at: Duration) {
        self.now.wall_ms += at.saturating_sub(self.now.monotonic).as_millis() as i64;
        self.now.monotonic = at;
    }

    fn join(&mut self, group: &str, member: &str) -> Pending<JoinAnswer> {
        let request = join(group, member);
        self.ask(|reply| Request::Join(request, reply))
    }

    fn join_with(&mut self, request: JoinRequest) -> Pending<JoinAnswer> {
        self.ask(|reply| Request::Join(request, reply))
    }

    fn sync(
        &mut self,
        group: &str,
        generation: i32,
        member: &str,
        assignments: &[(&str, &str)],
    ) -> Pending<SyncAnswer> {
        let request = sync(group, generation, member, assignments);
        self.ask(|reply| Request::Sync(request, reply))
    }

    fn heartbeat(&mut self, group: &str, generation: i32, member: &str) -> ErrorCode {
        let request = HeartbeatRequest { group: group.into(), generation, member_id: member.into(), instance_id: None };
        now(self.ask(|reply| Request::Heartbeat(request, reply)))
    }

    fn leave(&mut self, group: &str, members: &[(&str, Option<&str>)]) -> Vec<ErrorCode> {
        let members = members.iter().map(|(member, instance)| LeavingMember {
            member_id: (*member).into(),
            instance_id: instance.map(Into::into),
        });
        let request = LeaveRequest { group: group.into(), members: members.collect() };
        let answer: LeaveAnswer = now(self.ask(|reply| Request::Leave(request, reply)));
        assert_eq!(answer.error, ErrorCode::None);
        answer.members.into_iter().map(|(_, outcome)| outcome).collect()
    }

    fn describe(&mut self, group: &str) -> Option<GroupDescription> {
        now(self.ask(|reply| Request::Describe(group.into(), reply)))
    }

    fn state(&mut self, group: &str) -> &'static str {
        self.describe(group).map_or("none", |group| group.state)
    }

    fn commit(&mut self, group: &str, generation: i32, member: &str, offset: i64) -> Result<(), ErrorCode> {
        let request = commit(group, generation, member, "t", offset, self.now);
        now(self.ask(|reply| Request::Commit(request, reply)))
    }

    fn committed(&mut self, group: &str, topic: &str) -> Option<i64> {
        let keys = vec![OffsetKey { topic: topic.into(), partition: 0 }];
        let request = FetchRequest::Some { group: group.into(), keys };
        let mut found = now(self.ask(|reply| Request::FetchOffsets(request, reply)));
        found.remove(0).1.map(|value| value.offset)
    }

    /// A stable group of one member, its id and its generation.
    fn stable(&mut self, group: &str) -> (String, i32) {
        let first = self.join(group, "");
        self.pass(self.options.initial_rebalance_delay);
        let joined = now(first);
        assert_eq!(joined.error, ErrorCode::None);
        let id = joined.member_id.to_string();
        let synced = now(self.sync(group, joined.generation, &id, &[(&id, "all")]));
        assert_eq!((synced.error, &synced.assignment[..]), (ErrorCode::None, &b"all"[..]));
        (id, joined.generation)
    }
}

fn shard(options: &Arc<GroupOptions>, seed: u128) -> Shard {
    let mut drawn = seed << 64;
    let new_id = move || {
        drawn += 1;
        Uuid::from_u128(drawn)
    };
    Shard::new(options.clone(), Box::new(new_id))
}

/// A consumer's subscription to one topic.
fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, topic.len() as u8];
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(b"\xff\xff\xff\xff\0\0\0\0");
    bytes.into()
}

/// As an old client joins: without knowing its id first.
fn join(group: &str, member: &str) -> JoinRequest {
    JoinRequest {
        group: group.into(),
        member_id: member.into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), subscription("t"))],
        requires_known_id: false,
        supports_skip_assignment: false,
    }
}

fn sync(group: &str, generation: i32, member: &str, assignments: &[(&str, &str)]) -> SyncRequest {
    let assignments = assignments.iter();
    SyncRequest {
        group: group.into(),
        generation,
        member_id: member.into(),
        instance_id: None,
        protocol_type: None,
        protocol: None,
        assignments: assignments
            .map(|(member, text)| ((*member).into(), Bytes::copy_from_slice(text.as_bytes())))
            .collect(),
    }
}

fn commit(group: &str, generation: i32, member: &str, topic: &str, offset: i64, now: Now) -> CommitRequest {
    let value = CommittedOffset {
        offset,
        leader_epoch: -1,
        metadata: "".into(),
        commit_timestamp_ms: now.wall_ms,
        expire_timestamp_ms: None,
        topic_id: TopicId::from_bytes([7; 16]),
    };
    CommitRequest {
        group: group.into(),
        generation,
        member_id: member.into(),
        instance_id: None,
        offsets: vec![(OffsetKey { topic: topic.into(), partition: 0 }, value)],
        unknown_group_error: ErrorCode::IllegalGeneration,
    }
}
