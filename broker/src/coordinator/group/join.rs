//! JoinGroup, and the phase in which a group waits for its members.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Context, Group, GroupState, Member, Reply, respond};
use crate::coordinator::timers::Timer;
use crate::coordinator::write::AfterWrite;
use crate::kafka::wire::ErrorCode;

/// A JoinGroup request, already checked for what does not depend on the group.
#[derive(Debug, Clone)]
pub(crate) struct JoinRequest {
    pub group: Arc<str>,
    /// Empty when the client has none yet.
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocol_type: Arc<str>,
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// Since v4 a client joins only once it knows its member id (KIP-394).
    pub requires_known_id: bool,
    /// Since v9 a returning static leader can be told to leave the assignment as it is (KIP-814).
    pub supports_skip_assignment: bool,
}

/// The answer to a JoinGroup request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinAnswer {
    pub error: ErrorCode,
    /// −1 with an error.
    pub generation: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub leader: Arc<str>,
    pub member_id: Arc<str>,
    pub skip_assignment: bool,
    /// For the leader: all members with what they attached to the protocol.
    pub members: Vec<JoinedMember>,
}

/// A member, as the leader is told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    pub metadata: Bytes,
}

impl JoinAnswer {
    /// A refusal, which names the member that it is for.
    pub(crate) fn refused(error: ErrorCode, member_id: Arc<str>) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: "".into(),
            member_id,
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

impl Group {
    /// Takes a JoinGroup request; the answer may come with a later input.
    pub(crate) fn join(&mut self, cx: &mut Context<'_>, request: JoinRequest, reply: Reply<JoinAnswer>) {
        let refuse = |reply: Reply<JoinAnswer>, error, member: &Arc<str>| {
            respond(reply, JoinAnswer::refused(error, member.clone()));
        };
        let unknown: Arc<str> = "".into();
        if !self.has_room_for(cx, &request.member_id) {
            self.remove_member(cx, &request.member_id);
            refuse(reply, ErrorCode::GroupMaxSizeReached, &unknown);
            self.maybe_complete_join(cx);
            return;
        }
        if self.state == GroupState::Dead {
            return refuse(reply, ErrorCode::CoordinatorNotAvailable, &request.member_id);
        }
        if !self.supports(&request) {
            return refuse(reply, ErrorCode::InconsistentGroupProtocol, &request.member_id);
        }
        if request.member_id.is_empty() {
            self.join_new(cx, request, reply);
        } else if self.pending_joins.contains(&request.member_id) {
            // An id that was given out is no static member's; one that claims to be has the wrong id.
            if request.instance_id.is_some() {
                return refuse(reply, ErrorCode::UnknownMemberId, &request.member_id);
            }
            let id = request.member_id.clone();
            self.add_member(cx, id, request, reply);
        } else if let Err(error) = self.validate_member(&request.member_id, request.instance_id.as_deref()) {
            refuse(reply, error, &request.member_id);
        } else {
            self.join_again(cx, request, reply);
        }
    }

    fn join_new(&mut self, cx: &mut Context<'_>, request: JoinRequest, reply: Reply<JoinAnswer>) {
        let prefix = request.instance_id.as_ref().unwrap_or(&request.client_id);
        let id: Arc<str> = format!("{prefix}-{}", (cx.new_id)()).into();
        if let Some(instance) = &request.instance_id {
            match self.static_members.get(instance).cloned() {
                Some(current) => self.replace_static(cx, &current, id, request, reply),
                None => self.add_member(cx, id, request, reply),
            }
        } else if request.requires_known_id {
            self.pending_joins.insert(id.clone());
            cx.set_timer(Timer::Session(self.id.clone(), id.clone()), request.session_timeout);
            respond(reply, JoinAnswer::refused(ErrorCode::MemberIdRequired, id));
        } else {
            self.add_member(cx, id, request, reply);
        }
    }

    fn join_again(&mut self, cx: &mut Context<'_>, request: JoinRequest, reply: Reply<JoinAnswer>) {
        let unchanged = self.members[&request.member_id].protocols == request.protocols;
        match self.state {
            GroupState::PreparingRebalance => {
                self.update_member(request, reply);
                self.maybe_complete_join(cx);
            }
            // It asks again because it missed the answer, or a follower has nothing new to say.
            GroupState::CompletingRebalance if unchanged => {
                respond(reply, self.joined_answer(&request.member_id));
            }
            GroupState::Stable if unchanged && !self.is_leader(&request.member_id) => {
                respond(reply, self.joined_answer(&request.member_id));
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.update_member(request, reply);
                self.prepare_rebalance(cx);
            }
            GroupState::Empty | GroupState::Dead => {
                unreachable!("a group with a validated member is neither empty nor dead")
            }
        }
    }

    fn has_room_for(&self, cx: &Context<'_>, member: &Arc<str>) -> bool {
        let known = self.members.get(member);
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                known.is_some_and(|member| member.awaiting_join.is_some()) || self.awaiting_join() < cx.options.max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                known.is_some() || self.members.len() < cx.options.max_size
            }
        }
    }

    fn supports(&self, request: &JoinRequest) -> bool {
        if self.members.is_empty() {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request.protocols.iter().any(|(name, _)| self.members.values().all(|member| member.speaks(name)))
    }

    fn awaiting_join(&self) -> usize {
        self.members.values().filter(|member| member.awaiting_join.is_some()).count()
    }

    fn add_member(&mut self, cx: &mut Context<'_>, id: Arc<str>, request: JoinRequest, reply: Reply<JoinAnswer>) {
        if self.state == GroupState::PreparingRebalance && self.prepared_from == GroupState::Empty {
            self.new_member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type);
        }
        if let Some(instance) = &request.instance_id {
            self.static_members.insert(instance.clone(), id.clone());
        }
        self.pending_joins.remove(&id);
        self.leader.get_or_insert_with(|| id.clone());
        let member = Member {
            id: id.clone(),
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout: request.session_timeout,
            rebalance_timeout: request.rebalance_timeout,
            protocols: request.protocols,
            assignment: Bytes::new(),
            is_new: true,
            awaiting_join: Some(reply),
            awaiting_sync: None,
        };
        self.members.insert(id.clone(), member);
        // It may not know its id yet and can't heartbeat; should it give up and ask anew, this ends what it left.
        cx.set_timer(Timer::Session(self.id.clone(), id), cx.options.new_member_join_timeout);
        self.rebalance_or_complete_join(cx);
    }

    pub(super) fn update_member(&mut self, request: JoinRequest, reply: Reply<JoinAnswer>) {
        let member = self.members.get_mut(&request.member_id).expect("only members are updated");
        member.protocols = request.protocols;
        member.session_timeout = request.session_timeout;
        member.rebalance_timeout = request.rebalance_timeout;
        // The older of two joins of one member: whoever still waits for it should try again.
        member.answer_join(JoinAnswer::refused(ErrorCode::RebalanceInProgress, member.id.clone()));
        member.awaiting_join = Some(reply);
    }

    /// The answer to a member that has joined the current generation.
    pub(super) fn joined_answer(&self, member: &Arc<str>) -> JoinAnswer {
        let members = if self.is_leader(member) { self.joined_members() } else { Vec::new() };
        JoinAnswer {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_else(|| "".into()),
            member_id: member.clone(),
            skip_assignment: false,
            members,
        }
    }

    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let joined = |member: &Member| JoinedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        self.members.values().map(joined).collect()
    }

    pub(super) fn rebalance_or_complete_join(&mut self, cx: &mut Context<'_>) {
        match self.state {
            GroupState::Empty | GroupState::CompletingRebalance | GroupState::Stable => self.prepare_rebalance(cx),
            GroupState::PreparingRebalance => self.maybe_complete_join(cx),
            GroupState::Dead => {}
        }
    }

    /// Starts waiting for all members to join.
    pub(super) fn prepare_rebalance(&mut self, cx: &mut Context<'_>) {
        if self.state == GroupState::CompletingRebalance {
            self.reset_assignments(cx, ErrorCode::RebalanceInProgress);
        }
        cx.timers.cancel_sync(&self.id);
        let initial = self.state == GroupState::Empty;
        self.enter(cx, GroupState::PreparingRebalance);
        if initial {
            let delay = cx.options.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            self.new_member_added = false;
            cx.set_timer(Timer::InitialJoin(self.id.clone(), remaining), delay);
        } else if self.all_joined() {
            self.complete_join(cx);
        } else {
            cx.set_timer(Timer::Join(self.id.clone()), self.rebalance_timeout());
        }
    }

    fn all_joined(&self) -> bool {
        self.pending_joins.is_empty() && self.members.values().all(|member| member.awaiting_join.is_some())
    }

    /// Ends the wait when nobody is missing any more. A group that was empty waits its delay out.
    pub(super) fn maybe_complete_join(&mut self, cx: &mut Context<'_>) {
        if self.state == GroupState::PreparingRebalance && self.prepared_from != GroupState::Empty && self.all_joined()
        {
            self.complete_join(cx);
        }
    }

    /// The delay of a group that was empty is over: it starts, or waits for more when someone came meanwhile.
    pub(crate) fn initial_join_due(&mut self, cx: &mut Context<'_>, remaining: Duration) {
        if self.new_member_added && !remaining.is_zero() {
            self.new_member_added = false;
            let delay = cx.options.initial_rebalance_delay.min(remaining);
            let remaining = remaining.saturating_sub(delay);
            cx.set_timer(Timer::InitialJoin(self.id.clone(), remaining), delay);
        } else {
            self.complete_join(cx);
        }
    }

    /// The members had their time to join.
    pub(crate) fn join_due(&mut self, cx: &mut Context<'_>) {
        self.complete_join(cx);
    }

    /// Starts the next generation with those who joined; static members stay in even if they did not.
    fn complete_join(&mut self, cx: &mut Context<'_>) {
        assert_eq!(self.state, GroupState::PreparingRebalance, "joins complete while they are waited for");
        cx.timers.cancel_join(&self.id);
        let missing: Vec<_> = self
            .members
            .values()
            .filter(|member| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect();
        for member in &missing {
            self.remove_member(cx, member);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Nobody came back: their sessions will end, until then there may still be somebody.
            cx.set_timer(Timer::Join(self.id.clone()), self.rebalance_timeout().max(Duration::from_secs(1)));
            return;
        }
        self.start_generation(cx);
    }

    /// Makes sure that the leader is one who joined; `false` when nobody did.
    fn elect_joined_leader(&mut self) -> bool {
        let joined = |member: &&Member| member.awaiting_join.is_some();
        if self.leader.as_ref().and_then(|leader| self.members.get(leader)).as_ref().is_some_and(joined) {
            return true;
        }
        let Some(leader) = self.members.values().find(joined) else { return false };
        self.leader = Some(leader.id.clone());
        true
    }

    fn start_generation(&mut self, cx: &mut Context<'_>) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_syncs.clear();
        *cx.completed_rebalances += 1;
        if self.members.is_empty() {
            self.protocol = None;
            self.leader = None;
            self.subscribed = self.compute_subscribed();
            self.enter(cx, GroupState::Empty);
            self.persisted = true;
            cx.write(vec![self.record(None)], AfterWrite::Nothing { what: "an emptied group" });
            return;
        }
        self.protocol = Some(self.select_protocol());
        self.subscribed = self.compute_subscribed();
        self.enter(cx, GroupState::CompletingRebalance);
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in &ids {
            let answer = self.joined_answer(id);
            let member = self.members.get_mut(id).expect("its id was just read");
            member.answer_join(answer);
            member.is_new = false;
            self.renew_session(cx, id);
            self.pending_syncs.insert(id.clone());
        }
        cx.set_timer(Timer::Sync(self.id.clone(), self.generation), self.rebalance_timeout());
    }

    /// The protocol that most members prefer among those that all speak; of equals, the one the leader prefers.
    pub(super) fn select_protocol(&self) -> Arc<str> {
        let common = |name: &Arc<str>| self.members.values().all(|member| member.speaks(name));
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let (choice, _) = member
                .protocols
                .iter()
                .find(|(name, _)| common(name))
                .expect("no member is let in without a protocol that all members speak");
            *votes.entry(choice).or_default() += 1;
        }
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        let rank = |name: &Arc<str>| {
            let place = leader.and_then(|leader| leader.protocols.iter().position(|(other, _)| other == name));
            std::cmp::Reverse(place.unwrap_or(usize::MAX))
        };
        let (choice, _) =
            votes.into_iter().max_by_key(|(name, votes)| (*votes, rank(name))).expect("a group with members has votes");
        choice.clone()
    }
}
