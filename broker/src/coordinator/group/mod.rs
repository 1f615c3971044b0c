//! A classic consumer group: a state machine without I/O. Requests, timers and outcomes of writes go in; answers to
//! waiting members, records to persist and timers come out. The rules are those of Kafka 4.4's group coordinator.
//!
//! `join` has JoinGroup and the phase of waiting for members, `sync` the hand-out of assignments, `membership`
//! heartbeats and leaving; here are the group's parts and what they all need.

mod describe;
mod join;
mod member;
mod membership;
mod static_member;
mod subscription;
mod sync;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

pub(crate) use describe::{GroupDescription, MemberDescription};
pub(crate) use join::{JoinAnswer, JoinRequest, JoinedMember};
pub(crate) use member::{Member, millis};
pub(crate) use membership::{HeartbeatRequest, LeaveAnswer, LeaveRequest, LeavingMember};
pub(crate) use static_member::StaticReplacement;
pub(crate) use sync::{SyncAnswer, SyncRequest};

use super::options::GroupOptions;
use super::records::{GroupRecord, StateRecord};
use super::timers::{Timer, Timers};
use super::write::{AfterWrite, Write};
use crate::kafka::wire::ErrorCode;

/// Where an answer goes. Dropped without one when the coordinator unloads: the handler then answers NOT_COORDINATOR.
pub(crate) type Reply<T> = tokio::sync::oneshot::Sender<T>;

/// Answers. Who asked may be gone, and then needs no answer.
pub(crate) fn respond<T>(reply: Reply<T>, answer: T) {
    let _ = reply.send(answer);
}

/// The time of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// For timers.
    pub monotonic: Duration,
    /// For records, ms since the epoch.
    pub wall_ms: i64,
}

/// What an input may draw on and produce.
pub(crate) struct Context<'a> {
    pub now: Now,
    pub options: &'a GroupOptions,
    pub timers: &'a mut Timers,
    pub writes: &'a mut Vec<Write>,
    /// Draws the random part of a new member's id.
    pub new_id: &'a mut (dyn FnMut() -> Uuid + Send),
    pub completed_rebalances: &'a mut u64,
}

impl Context<'_> {
    fn set_timer(&mut self, timer: Timer, after: Duration) {
        self.timers.set(timer, self.now.monotonic + after);
    }

    fn write(&mut self, records: Vec<StateRecord>, after: AfterWrite) {
        self.writes.push(Write { records, after });
    }
}

/// A group's state, by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum GroupState {
    /// No members; perhaps offsets.
    Empty,
    /// Waiting for members to join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
    /// Being deleted.
    Dead,
}

impl GroupState {
    /// The name that tools show.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// A group.
#[derive(Debug)]
pub(crate) struct Group {
    id: Arc<str>,
    state: GroupState,
    /// The state before `PreparingRebalance`.
    prepared_from: GroupState,
    /// When the state was entered, ms since the epoch; unknown of groups written by old brokers.
    state_timestamp_ms: Option<i64>,
    generation: i32,
    /// `consumer`, `connect`, …; stays when the members leave.
    protocol_type: Option<Arc<str>>,
    protocol: Option<Arc<str>>,
    leader: Option<Arc<str>>,
    members: BTreeMap<Arc<str>, Member>,
    /// `group.instance.id` → member id (KIP-345).
    static_members: HashMap<Arc<str>, Arc<str>>,
    /// Ids that were given out and have not joined yet (KIP-394).
    pending_joins: BTreeSet<Arc<str>>,
    /// Members of this generation that have not sent SyncGroup yet.
    pending_syncs: BTreeSet<Arc<str>>,
    /// Whether someone joined during the initial rebalance's delay, which extends it.
    new_member_added: bool,
    /// Topics that the members subscribe to, when all of them say so in the consumer protocol.
    subscribed: Option<BTreeSet<Arc<str>>>,
    /// Whether a record of the group may be in the log.
    persisted: bool,
}

impl Group {
    /// A group that nobody has joined yet.
    pub(crate) fn new(id: Arc<str>, now: Now) -> Self {
        Self {
            id,
            state: GroupState::Empty,
            prepared_from: GroupState::Empty,
            state_timestamp_ms: Some(now.wall_ms),
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: HashMap::new(),
            pending_joins: BTreeSet::new(),
            pending_syncs: BTreeSet::new(),
            new_member_added: false,
            subscribed: None,
            persisted: false,
        }
    }

    /// A group as its record has it: stable with its members, or empty.
    pub(crate) fn from_record(id: Arc<str>, record: GroupRecord) -> Self {
        let type_known = Some(record.protocol_type).filter(|name| !name.is_empty());
        let protocol = record.protocol.unwrap_or_else(|| "".into());
        let mut members = BTreeMap::new();
        let mut static_members = HashMap::new();
        for member in record.members {
            if let Some(instance) = &member.instance_id {
                static_members.insert(instance.clone(), member.member_id.clone());
            }
            members.insert(member.member_id.clone(), Member::from_record(member, protocol.clone()));
        }
        let state = if members.is_empty() { GroupState::Empty } else { GroupState::Stable };
        let mut group = Self {
            id,
            state,
            prepared_from: state,
            state_timestamp_ms: record.state_timestamp_ms,
            generation: record.generation,
            protocol_type: type_known,
            protocol: Some(protocol).filter(|_| state == GroupState::Stable),
            leader: record.leader,
            members,
            static_members,
            pending_joins: BTreeSet::new(),
            pending_syncs: BTreeSet::new(),
            new_member_added: false,
            subscribed: None,
            persisted: true,
        };
        group.subscribed = group.compute_subscribed();
        group
    }

    /// Starts the sessions of the members that a record brought; a group that is too large now rebalances.
    pub(crate) fn loaded(&mut self, cx: &mut Context<'_>) {
        let members: Vec<_> = self.members.keys().cloned().collect();
        for member in &members {
            self.renew_session(cx, member);
        }
        if members.len() > cx.options.max_size {
            self.prepare_rebalance(cx);
        }
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(crate) fn state(&self) -> GroupState {
        self.state
    }

    pub(crate) fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    pub(crate) fn state_timestamp_ms(&self) -> Option<i64> {
        self.state_timestamp_ms
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Whether nothing would be lost without this group's entry, its offsets apart.
    pub(crate) fn is_unused(&self) -> bool {
        self.state == GroupState::Empty && self.pending_joins.is_empty()
    }

    /// Whether a record of the group may be in the log, which deleting it must then cover.
    pub(crate) fn is_persisted(&self) -> bool {
        self.persisted
    }

    /// Refuses joins while the group is being deleted.
    pub(crate) fn begin_delete(&mut self, cx: &mut Context<'_>) {
        assert_eq!(self.state, GroupState::Empty, "only empty groups are deleted");
        self.enter(cx, GroupState::Dead);
        for member in std::mem::take(&mut self.pending_joins) {
            cx.timers.cancel_session(&self.id, &member);
        }
    }

    /// The deletion could not be written.
    pub(crate) fn abandon_delete(&mut self, cx: &mut Context<'_>) {
        assert_eq!(self.state, GroupState::Dead, "only a group that is being deleted");
        self.enter(cx, GroupState::Empty);
    }

    /// Whether members of the group consume a topic now, as far as they tell.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            // Members whose subscriptions can't be read may consume anything.
            None => self.uses_consumer_protocol(),
        }
    }

    /// Whether the subscriptions of a consumer group are known.
    pub(crate) fn knows_subscriptions(&self) -> bool {
        self.uses_consumer_protocol() && self.subscribed.is_some()
    }

    /// Whether the members speak the consumer protocol, not Connect's or another.
    pub(crate) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some("consumer")
    }

    /// The group's record; `assignments` go before those that the members have.
    fn record(&self, assignments: Option<&HashMap<Arc<str>, Bytes>>) -> StateRecord {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| {
            let assignment = match assignments {
                Some(assignments) => assignments.get(&member.id).cloned().unwrap_or_default(),
                None => member.assignment.clone(),
            };
            member.to_record(protocol, assignment)
        });
        let value = GroupRecord {
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| "".into()),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: self.state_timestamp_ms,
            members: members.collect(),
        };
        StateRecord::Group { group: self.id.clone(), value: Some(value) }
    }

    fn enter(&mut self, cx: &Context<'_>, state: GroupState) {
        use GroupState::{CompletingRebalance, Dead, Empty, PreparingRebalance, Stable};
        let allowed: &[GroupState] = match state {
            Empty => &[PreparingRebalance, Dead],
            PreparingRebalance => &[Empty, CompletingRebalance, Stable],
            CompletingRebalance => &[PreparingRebalance],
            Stable => &[CompletingRebalance],
            Dead => &[Empty],
        };
        assert!(allowed.contains(&self.state), "group {} can't go from {:?} to {state:?}", self.id, self.state);
        if state == PreparingRebalance {
            self.prepared_from = self.state;
        }
        self.state = state;
        self.state_timestamp_ms = Some(cx.now.wall_ms);
    }

    /// Finds the member that a request speaks for; static members must be the newest of their instance.
    fn validate_member(&self, member: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if **current != *member => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    /// The longest that a rebalance waits: the largest of the members' rebalance timeouts.
    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    /// Starts a member's session anew.
    fn renew_session(&self, cx: &mut Context<'_>, member: &Arc<str>) {
        let member = self.members.get(member).expect("only sessions of members are renewed");
        cx.set_timer(Timer::Session(self.id.clone(), member.id.clone()), member.session_timeout);
    }

    /// Takes a member out; what it waits for is answered with UNKNOWN_MEMBER_ID, so that it joins anew if it lives.
    fn remove_member(&mut self, cx: &mut Context<'_>, member: &Arc<str>) {
        cx.timers.cancel_session(&self.id, member);
        self.pending_joins.remove(member);
        self.pending_syncs.remove(member);
        let Some(mut gone) = self.members.remove(member) else { return };
        gone.answer_join(JoinAnswer::refused(ErrorCode::UnknownMemberId, "".into()));
        gone.answer_sync(SyncAnswer::refused(ErrorCode::UnknownMemberId));
        if let Some(instance) = &gone.instance_id {
            self.static_members.remove(instance);
        }
        if self.is_leader(member) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Whether a client may commit offsets, by what it says of itself (generation −1: it is no member).
    pub(crate) fn validate_commit(
        &self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if generation < 0 && member.is_empty() && instance.is_none() {
            // Offsets of a group with members are theirs to commit.
            return Err(ErrorCode::UnknownMemberId);
        }
        self.validate_member(member, instance)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if self.state == GroupState::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// A commit of a member shows that it lives.
    pub(crate) fn committed(&self, cx: &mut Context<'_>, member: &str) {
        if matches!(self.state, GroupState::Stable | GroupState::PreparingRebalance)
            && let Some((id, _)) = self.members.get_key_value(member)
        {
            let id = id.clone();
            self.renew_session(cx, &id);
        }
    }
}
