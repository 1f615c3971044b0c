//! SyncGroup: the leader hands assignments in, everybody gets its own.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Context, Group, GroupState, Reply, respond};
use crate::coordinator::write::{AfterWrite, WriteFailure};
use crate::kafka::wire::ErrorCode;

/// A SyncGroup request.
#[derive(Debug, Clone)]
pub(crate) struct SyncRequest {
    pub group: Arc<str>,
    pub generation: i32,
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    /// What the client believes (v5); `None`: nothing.
    pub protocol_type: Option<Arc<str>>,
    /// What the client believes (v5); `None`: nothing.
    pub protocol: Option<Arc<str>>,
    /// The leader's: member id → assignment.
    pub assignments: HashMap<Arc<str>, Bytes>,
}

/// The answer to a SyncGroup request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncAnswer {
    pub error: ErrorCode,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub assignment: Bytes,
}

impl SyncAnswer {
    /// A refusal.
    pub(crate) fn refused(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

impl Group {
    /// Takes a SyncGroup request; the answer may come with a later input.
    pub(crate) fn sync(&mut self, cx: &mut Context<'_>, request: SyncRequest, reply: Reply<SyncAnswer>) {
        if let Err(error) = self.validate_sync(&request) {
            respond(reply, SyncAnswer::refused(error));
            return;
        }
        let id = request.member_id.clone();
        match self.state {
            GroupState::Empty => respond(reply, SyncAnswer::refused(ErrorCode::UnknownMemberId)),
            GroupState::Dead => respond(reply, SyncAnswer::refused(ErrorCode::CoordinatorNotAvailable)),
            GroupState::PreparingRebalance => respond(reply, SyncAnswer::refused(ErrorCode::RebalanceInProgress)),
            GroupState::CompletingRebalance => {
                let member = self.members.get_mut(&id).expect("validated");
                // The older of two requests of one member: whoever still waits for it should try again.
                member.answer_sync(SyncAnswer::refused(ErrorCode::RebalanceInProgress));
                member.awaiting_sync = Some(reply);
                self.synced(cx, &id);
                if self.is_leader(&id) {
                    self.persisted = true;
                    let record = self.record(Some(&request.assignments));
                    let (group, generation) = (self.id.clone(), self.generation);
                    let after = AfterWrite::Assigned { group, generation, assignments: request.assignments };
                    cx.write(vec![record], after);
                }
            }
            GroupState::Stable => {
                self.synced(cx, &id);
                respond(reply, self.synced_answer(&id));
                self.renew_session(cx, &id);
            }
        }
    }

    fn validate_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.validate_member(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let contradicts = |believed: &Option<Arc<str>>, is: &Option<Arc<str>>| believed.is_some() && believed != is;
        if contradicts(&request.protocol_type, &self.protocol_type) || contradicts(&request.protocol, &self.protocol) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn synced(&mut self, cx: &mut Context<'_>, member: &Arc<str>) {
        self.pending_syncs.remove(member);
        if self.pending_syncs.is_empty() {
            cx.timers.cancel_sync(&self.id);
        }
    }

    fn synced_answer(&self, member: &Arc<str>) -> SyncAnswer {
        SyncAnswer {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members[member].assignment.clone(),
        }
    }

    /// The leader's assignment is written, or can't be: then all join anew.
    pub(crate) fn assigned(
        &mut self,
        cx: &mut Context<'_>,
        generation: i32,
        mut assignments: HashMap<Arc<str>, Bytes>,
        outcome: Result<(), WriteFailure>,
    ) {
        if self.state != GroupState::CompletingRebalance || self.generation != generation {
            // Somebody joined or left meanwhile: the assignment is void.
            return;
        }
        if let Err(failure) = outcome {
            self.reset_assignments(cx, failure.group_error());
            self.prepare_rebalance(cx);
            return;
        }
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
        }
        self.enter(cx, GroupState::Stable);
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in &ids {
            let answer = self.synced_answer(id);
            self.answer_sync(cx, id, answer);
        }
    }

    /// Takes all assignments back; who waits for one is told why.
    pub(super) fn reset_assignments(&mut self, cx: &mut Context<'_>, error: ErrorCode) {
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in &ids {
            self.members.get_mut(id).expect("its id was just read").assignment = Bytes::new();
            self.answer_sync(cx, id, SyncAnswer::refused(error));
        }
    }

    /// While a member waited its session could not end; it starts anew.
    fn answer_sync(&mut self, cx: &mut Context<'_>, id: &Arc<str>, answer: SyncAnswer) {
        if self.members.get_mut(id).expect("only members wait").answer_sync(answer) {
            self.renew_session(cx, id);
        }
    }

    /// The members had their time to fetch their assignment; who did not is out.
    pub(crate) fn sync_due(&mut self, cx: &mut Context<'_>, generation: i32) {
        let waits = matches!(self.state, GroupState::CompletingRebalance | GroupState::Stable);
        if !waits || generation != self.generation || self.pending_syncs.is_empty() {
            return;
        }
        for member in std::mem::take(&mut self.pending_syncs) {
            self.remove_member(cx, &member);
        }
        self.prepare_rebalance(cx);
    }
}
