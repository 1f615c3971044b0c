//! A static member that comes back takes its old place (KIP-345), without a rebalance where that is safe.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Context, Group, GroupState, JoinAnswer, JoinRequest, Reply, SyncAnswer};
use crate::coordinator::write::{AfterWrite, WriteFailure};
use crate::kafka::wire::ErrorCode;

/// A replacement whose record is being written.
#[derive(Debug)]
pub(crate) struct StaticReplacement {
    pub group: Arc<str>,
    instance: Arc<str>,
    old_id: Arc<str>,
    new_id: Arc<str>,
    /// Who led before: a client that can't skip the assignment must not find itself the leader.
    old_leader: Option<Arc<str>>,
    generation: i32,
    skip_assignment: bool,
    old_protocols: Vec<(Arc<str>, Bytes)>,
    old_session_timeout: Duration,
    old_rebalance_timeout: Duration,
}

impl Group {
    /// Gives the place of `old_id` to `new_id`.
    pub(super) fn replace_static(
        &mut self,
        cx: &mut Context<'_>,
        old_id: &Arc<str>,
        new_id: Arc<str>,
        mut request: JoinRequest,
        reply: Reply<JoinAnswer>,
    ) {
        let instance = request.instance_id.clone().expect("only static members are replaced");
        let old_leader = self.leader.clone();
        self.rename_static(cx, &instance, old_id, &new_id);
        let member = &self.members[&new_id];
        let mut replacement = StaticReplacement {
            group: self.id.clone(),
            instance,
            old_id: old_id.clone(),
            new_id: new_id.clone(),
            old_leader,
            generation: self.generation,
            skip_assignment: request.supports_skip_assignment,
            old_protocols: Vec::new(),
            old_session_timeout: member.session_timeout,
            old_rebalance_timeout: member.rebalance_timeout,
        };
        replacement.old_protocols.clone_from(&member.protocols);
        request.member_id = new_id.clone();
        self.update_member(request, reply);
        self.renew_session(cx, &new_id);
        match self.state {
            GroupState::Stable if self.protocol.as_ref() == Some(&self.select_protocol()) => {
                self.persisted = true;
                cx.write(vec![self.record(None)], AfterWrite::StaticReplaced(replacement));
            }
            // The protocol may change, or the leader may assign to the old id: all join anew.
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(cx),
            GroupState::PreparingRebalance => self.maybe_complete_join(cx),
            GroupState::Empty | GroupState::Dead => unreachable!("a group with a member is neither empty nor dead"),
        }
    }

    /// The replacement's record is written, or can't be: then the old member is put back.
    pub(crate) fn static_replaced(
        &mut self,
        cx: &mut Context<'_>,
        replacement: StaticReplacement,
        outcome: Result<(), WriteFailure>,
    ) {
        let current = self.static_members.get(&replacement.instance) == Some(&replacement.new_id);
        if !current || self.state != GroupState::Stable || self.generation != replacement.generation {
            // What came between answers the join.
            return;
        }
        let new_id = &replacement.new_id;
        if let Err(failure) = outcome {
            let member = self.members.get_mut(new_id).expect("a static member is a member");
            member.answer_join(JoinAnswer::refused(failure.group_error(), "".into()));
            member.protocols = replacement.old_protocols;
            member.session_timeout = replacement.old_session_timeout;
            member.rebalance_timeout = replacement.old_rebalance_timeout;
            self.rename_static(cx, &replacement.instance, new_id, &replacement.old_id);
            self.renew_session(cx, &replacement.old_id);
            return;
        }
        let leads = self.is_leader(new_id);
        let mut answer = self.joined_answer(new_id);
        if replacement.skip_assignment {
            answer.skip_assignment = leads;
        } else {
            answer.members = Vec::new();
            answer.leader = replacement.old_leader.unwrap_or_else(|| "".into());
        }
        self.members.get_mut(new_id).expect("a static member is a member").answer_join(answer);
        self.renew_session(cx, new_id);
    }

    /// Puts a member under another id; what waits under the old one is fenced.
    fn rename_static(&mut self, cx: &mut Context<'_>, instance: &Arc<str>, old_id: &Arc<str>, new_id: &Arc<str>) {
        let mut member = self.members.remove(old_id).expect("a static member is a member");
        cx.timers.cancel_session(&self.id, old_id);
        member.answer_join(JoinAnswer::refused(ErrorCode::FencedInstanceId, old_id.clone()));
        member.answer_sync(SyncAnswer::refused(ErrorCode::FencedInstanceId));
        member.id = new_id.clone();
        member.is_new = false;
        self.members.insert(new_id.clone(), member);
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        if self.pending_syncs.remove(old_id) {
            self.pending_syncs.insert(new_id.clone());
        }
        self.static_members.insert(instance.clone(), new_id.clone());
    }
}
