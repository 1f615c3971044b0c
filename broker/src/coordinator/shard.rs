//! The groups of one partition of `__consumer_offsets`: requests, timers and outcomes of writes go in; answers and
//! writes come out. No I/O; the actor drives it.

mod requests;
mod written;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

pub(crate) use self::requests::{CommitRequest, FetchRequest, FetchedOffsets, ListedGroup, Request};
use super::group::{
    Context, Group, GroupState, JoinAnswer, JoinRequest, LeaveAnswer, LeaveRequest, Now, Reply, SyncAnswer,
    SyncRequest, respond,
};
use super::metrics::ShardMetrics;
use super::offsets::{OffsetKey, Offsets};
use super::options::GroupOptions;
use super::records::{CommittedOffset, StateRecord};
use super::timers::{Timer, Timers};
use super::write::{AfterWrite, DeleteAnswer, Write, delete_offsets, forget_offsets, in_parts};
use crate::kafka::wire::ErrorCode;

#[derive(Debug)]
struct Entry {
    group: Group,
    offsets: Offsets,
}

/// The state of one coordinator partition.
pub(crate) struct Shard {
    options: Arc<GroupOptions>,
    groups: HashMap<Arc<str>, Entry>,
    timers: Timers,
    writes: Vec<Write>,
    new_id: Box<dyn FnMut() -> Uuid + Send>,
    completed_rebalances: u64,
    commits: u64,
}

/// What a group's methods draw on, borrowed apart from the groups.
macro_rules! context {
    ($shard:expr, $now:expr) => {
        Context {
            now: $now,
            options: &$shard.options,
            timers: &mut $shard.timers,
            writes: &mut $shard.writes,
            new_id: &mut *$shard.new_id,
            completed_rebalances: &mut $shard.completed_rebalances,
        }
    };
}
use context;

impl Shard {
    /// A partition without groups.
    pub(crate) fn new(options: Arc<GroupOptions>, new_id: Box<dyn FnMut() -> Uuid + Send>) -> Self {
        Self {
            options,
            groups: HashMap::new(),
            timers: Timers::default(),
            writes: Vec::new(),
            new_id,
            completed_rebalances: 0,
            commits: 0,
        }
    }

    /// Takes one record of the log, in order; afterwards `loaded`.
    pub(crate) fn replay(&mut self, record: StateRecord, now: Now) {
        match record {
            StateRecord::Offset { group, topic, partition, value } => {
                self.entry(&group, now).offsets.replay(OffsetKey { topic, partition }, value);
            }
            StateRecord::Group { group, value } => {
                let entry = self.entry(&group, now);
                entry.group = match value {
                    Some(record) => Group::from_record(group, record),
                    None => Group::new(group, now),
                };
            }
        }
    }

    /// The log has been replayed: sessions start. Offsets of topics that are gone go (`exists` tells).
    pub(crate) fn loaded(&mut self, now: Now, exists: impl Fn(crate::ids::TopicId) -> bool) {
        self.groups.retain(|_, entry| entry.group.is_persisted() || !entry.offsets.is_empty());
        let mut cx = context!(self, now);
        for (id, entry) in &mut self.groups {
            entry.group.loaded(&mut cx);
            let gone = entry.offsets.iter().filter(|(_, value)| value.topic_id.is_some_and(|topic| !exists(topic)));
            let gone: Vec<_> = gone.map(|(key, _)| key.clone()).collect();
            forget_offsets(cx.writes, id, gone);
        }
        self.timers.set(Timer::Expiry, now.monotonic + self.options.offsets_retention_check_interval);
    }

    /// Takes one request.
    pub(crate) fn handle(&mut self, request: Request, now: Now) {
        match request {
            Request::Join(request, reply) => self.join(request, reply, now),
            Request::Sync(request, reply) => self.sync(request, reply, now),
            Request::Heartbeat(request, reply) => {
                let mut cx = context!(self, now);
                let entry = self.groups.get_mut(&request.group);
                let answer = entry.map_or(ErrorCode::UnknownMemberId, |entry| entry.group.heartbeat(&mut cx, &request));
                respond(reply, answer);
            }
            Request::Leave(request, reply) => self.leave(request, reply, now),
            Request::Commit(request, reply) => self.commit(request, reply, now),
            Request::FetchOffsets(request, reply) => respond(reply, self.fetch(request)),
            Request::DeleteOffsets(group, keys, reply) => self.delete_offsets(&group, keys, reply),
            Request::Describe(group, reply) => {
                let entry = self.groups.get(&group).filter(|entry| entry.group.state() != GroupState::Dead);
                respond(reply, entry.map(|entry| entry.group.describe()));
            }
            Request::List(reply) => respond(reply, self.list()),
            Request::DeleteGroup(group, reply) => self.delete_group(&group, reply, now),
            Request::TopicsDeleted(topics) => self.topics_deleted(&topics),
            Request::Metrics(reply) => respond(reply, self.metrics()),
        }
    }

    /// When `tick` has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.timers.next_deadline()
    }

    /// Fires the timers that are due.
    pub(crate) fn tick(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop_due(now.monotonic) {
            let (Timer::Session(id, _) | Timer::Join(id) | Timer::InitialJoin(id, _) | Timer::Sync(id, _)) = &timer
            else {
                self.expire(now);
                continue;
            };
            let id = id.clone();
            let entry = self.groups.get_mut(&id).expect("a group's timers go with it");
            let mut cx = context!(self, now);
            match timer {
                Timer::Session(_, member) => entry.group.session_due(&mut cx, &member),
                Timer::Join(_) => entry.group.join_due(&mut cx),
                Timer::InitialJoin(_, remaining) => entry.group.initial_join_due(&mut cx, remaining),
                Timer::Sync(_, generation) => entry.group.sync_due(&mut cx, generation),
                Timer::Expiry => unreachable!("handled above"),
            }
            self.forget_if_unused(&id);
        }
    }

    /// Takes what is to be written, in order.
    pub(crate) fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
    }

    fn entry(&mut self, group: &Arc<str>, now: Now) -> &mut Entry {
        self.groups
            .entry(group.clone())
            .or_insert_with(|| Entry { group: Group::new(group.clone(), now), offsets: Offsets::default() })
    }

    /// Drops a group of which nothing was kept and nothing is in the log.
    fn forget_if_unused(&mut self, group: &Arc<str>) {
        if let Some(entry) = self.groups.get(group)
            && entry.group.is_unused()
            && !entry.group.is_persisted()
            && entry.offsets.is_empty()
        {
            self.groups.remove(group);
        }
    }

    fn join(&mut self, request: JoinRequest, reply: Reply<JoinAnswer>, now: Now) {
        let id = request.group.clone();
        if !request.member_id.is_empty() && !self.groups.contains_key(&id) {
            respond(reply, JoinAnswer::refused(ErrorCode::UnknownMemberId, request.member_id));
            return;
        }
        self.entry(&id, now);
        let entry = self.groups.get_mut(&id).expect("made if it was not there");
        entry.group.join(&mut context!(self, now), request, reply);
        self.forget_if_unused(&id);
    }

    fn sync(&mut self, request: SyncRequest, reply: Reply<SyncAnswer>, now: Now) {
        let mut cx = context!(self, now);
        match self.groups.get_mut(&request.group) {
            Some(entry) => entry.group.sync(&mut cx, request, reply),
            None => respond(reply, SyncAnswer::refused(ErrorCode::UnknownMemberId)),
        }
    }

    fn leave(&mut self, request: LeaveRequest, reply: Reply<LeaveAnswer>, now: Now) {
        let Some(entry) = self.groups.get_mut(&request.group) else {
            respond(reply, LeaveAnswer::all(request.members, ErrorCode::UnknownMemberId));
            return;
        };
        let mut cx = context!(self, now);
        let before = cx.writes.len();
        let answer = entry.group.leave(&mut cx, request.members);
        if cx.writes.len() == before {
            respond(reply, answer);
        } else {
            // The group is empty now, which is to be durable before it is told.
            cx.writes.push(Write { records: Vec::new(), after: AfterWrite::Left { answer, reply } });
        }
        self.forget_if_unused(&request.group);
    }

    fn commit(&mut self, request: CommitRequest, reply: Reply<Result<(), ErrorCode>>, now: Now) {
        if request.generation >= 0 && !self.groups.contains_key(&request.group) {
            respond(reply, Err(request.unknown_group_error));
            return;
        }
        self.entry(&request.group, now);
        let entry = self.groups.get_mut(&request.group).expect("made if it was not there");
        let instance = request.instance_id.as_deref();
        if let Err(error) = entry.group.validate_commit(&request.member_id, instance, request.generation) {
            respond(reply, Err(error));
            return;
        }
        entry.group.committed(&mut context!(self, now), &request.member_id);
        let group = request.group;
        let record = |(key, value): &(OffsetKey, CommittedOffset)| key.record(&group, Some(value.clone()));
        let records = request.offsets.iter().map(record).collect();
        for (key, _) in &request.offsets {
            entry.offsets.begin_commit(key);
        }
        let after = AfterWrite::Committed { group, offsets: request.offsets, reply };
        self.writes.push(Write { records, after });
    }

    fn fetch(&self, request: FetchRequest) -> FetchedOffsets {
        match request {
            FetchRequest::All { group } => {
                let offsets = self.groups.get(&group).into_iter().flat_map(|entry| entry.offsets.iter());
                offsets.map(|(key, value)| (key.clone(), Some(value.clone()))).collect()
            }
            FetchRequest::Some { group, keys } => {
                let entry = self.groups.get(&group);
                let find = |key: &OffsetKey| entry.and_then(|entry| entry.offsets.get(key)).cloned();
                keys.into_iter()
                    .map(|key| {
                        let found = find(&key);
                        (key, found)
                    })
                    .collect()
            }
        }
    }

    fn delete_offsets(&mut self, id: &Arc<str>, keys: Vec<OffsetKey>, reply: Reply<Result<Vec<ErrorCode>, ErrorCode>>) {
        let group = self.groups.get(id).filter(|entry| entry.group.state() != GroupState::Dead);
        let Some(entry) = group else {
            respond(reply, Err(ErrorCode::GroupIdNotFound));
            return;
        };
        if entry.group.state() != GroupState::Empty && !entry.group.uses_consumer_protocol() {
            respond(reply, Err(ErrorCode::NonEmptyGroup));
            return;
        }
        let subscribed = |key: &OffsetKey| entry.group.is_subscribed_to(&key.topic);
        let outcome = |key| if subscribed(key) { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None };
        let outcomes = keys.iter().map(outcome).collect();
        let gone = keys.into_iter().filter(|key| !subscribed(key) && entry.offsets.may_have(key)).collect();
        delete_offsets(&mut self.writes, id, gone, Some(DeleteAnswer { outcomes, reply }));
    }

    fn list(&self) -> Vec<ListedGroup> {
        let listed = |entry: &Entry| ListedGroup {
            group: entry.group.id().clone(),
            protocol_type: entry.group.protocol_type().cloned().unwrap_or_else(|| "".into()),
            state: entry.group.state().name(),
        };
        self.groups.values().filter(|entry| entry.group.state() != GroupState::Dead).map(listed).collect()
    }

    fn delete_group(&mut self, id: &Arc<str>, reply: Reply<ErrorCode>, now: Now) {
        let error = match self.groups.get(id).map(|entry| entry.group.state()) {
            None | Some(GroupState::Dead) => ErrorCode::GroupIdNotFound,
            Some(GroupState::Empty) => return self.write_group_deletion(id, Some(reply), now),
            Some(_) => ErrorCode::NonEmptyGroup,
        };
        respond(reply, error);
    }

    /// Deletes an empty group with all its offsets.
    fn write_group_deletion(&mut self, id: &Arc<str>, reply: Option<Reply<ErrorCode>>, now: Now) {
        let entry = self.groups.get_mut(id).expect("only existing groups are deleted");
        entry.group.begin_delete(&mut context!(self, now));
        let mut parts = in_parts(id, entry.offsets.keys());
        let keys = parts.pop().unwrap_or_default();
        let mut records: Vec<_> = keys.iter().map(|key| key.record(id, None)).collect();
        if entry.group.is_persisted() {
            records.push(StateRecord::Group { group: id.clone(), value: None });
        }
        for keys in parts {
            delete_offsets(&mut self.writes, id, keys, None);
        }
        self.writes.push(Write { records, after: AfterWrite::GroupDeleted { group: id.clone(), keys, reply } });
    }

    fn topics_deleted(&mut self, topics: &[Arc<str>]) {
        for (id, entry) in &self.groups {
            let gone = entry.offsets.keys().into_iter().filter(|key| topics.contains(&key.topic)).collect();
            forget_offsets(&mut self.writes, id, gone);
        }
    }

    /// Deletes offsets whose retention is over, and groups that have neither members nor offsets.
    fn expire(&mut self, now: Now) {
        let mut unused = Vec::new();
        for (id, entry) in &self.groups {
            let expired = entry.offsets.expired(&entry.group, now.wall_ms, self.options.offsets_retention);
            if entry.group.is_unused() && expired.len() == entry.offsets.keys().len() {
                unused.push(id.clone());
            } else {
                forget_offsets(&mut self.writes, id, expired);
            }
        }
        for id in &unused {
            self.write_group_deletion(id, None, now);
        }
        self.timers.set(Timer::Expiry, now.monotonic + self.options.offsets_retention_check_interval);
    }

    fn metrics(&self) -> ShardMetrics {
        let mut metrics = ShardMetrics {
            completed_rebalances: self.completed_rebalances,
            commits: self.commits,
            ..ShardMetrics::default()
        };
        for (id, entry) in &self.groups {
            metrics.count(entry.group.state(), entry.group.member_count(), entry.offsets.len());
            let offset = |(key, value): (&OffsetKey, &CommittedOffset)| (id.clone(), key.clone(), value.offset);
            metrics.offsets.extend(entry.offsets.iter().map(offset));
        }
        metrics
    }
}
