//! Staying in a group and leaving it: Heartbeat, LeaveGroup, sessions that end.

use std::sync::Arc;

use super::{Context, Group, GroupState, Member};
use crate::kafka::wire::ErrorCode;

/// A Heartbeat request.
#[derive(Debug, Clone)]
pub(crate) struct HeartbeatRequest {
    pub group: Arc<str>,
    pub generation: i32,
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
}

/// A LeaveGroup request.
#[derive(Debug, Clone)]
pub(crate) struct LeaveRequest {
    pub group: Arc<str>,
    pub members: Vec<LeavingMember>,
}

/// Who leaves: a member by its id, or a static one by its instance alone (an administrator removes it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeavingMember {
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
}

/// The answer to a LeaveGroup request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaveAnswer {
    pub error: ErrorCode,
    pub members: Vec<(LeavingMember, ErrorCode)>,
}

impl LeaveAnswer {
    /// The same outcome for each.
    pub(crate) fn all(members: Vec<LeavingMember>, outcome: ErrorCode) -> Self {
        Self { error: ErrorCode::None, members: members.into_iter().map(|member| (member, outcome)).collect() }
    }

    /// A refusal of the whole request.
    pub(crate) fn refused(error: ErrorCode) -> Self {
        Self { error, members: Vec::new() }
    }
}

impl Group {
    /// Takes a Heartbeat request.
    pub(crate) fn heartbeat(&mut self, cx: &mut Context<'_>, request: &HeartbeatRequest) -> ErrorCode {
        if self.state == GroupState::Dead {
            return ErrorCode::CoordinatorNotAvailable;
        }
        if let Err(error) = self.validate_member(&request.member_id, request.instance_id.as_deref()) {
            return error;
        }
        if request.generation != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        match self.state {
            GroupState::Empty | GroupState::Dead => ErrorCode::UnknownMemberId,
            GroupState::PreparingRebalance => {
                self.renew_session(cx, &request.member_id);
                ErrorCode::RebalanceInProgress
            }
            // Members may heartbeat as soon as they have joined, before they have their assignment.
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.renew_session(cx, &request.member_id);
                ErrorCode::None
            }
        }
    }

    /// Takes a LeaveGroup request; one rebalance follows, however many left.
    pub(crate) fn leave(&mut self, cx: &mut Context<'_>, members: Vec<LeavingMember>) -> LeaveAnswer {
        if self.state == GroupState::Dead {
            return LeaveAnswer::refused(ErrorCode::CoordinatorNotAvailable);
        }
        let mut left = false;
        let mut outcomes = Vec::with_capacity(members.len());
        for member in members {
            let outcome = match self.find_leaving(&member) {
                Ok(id) => {
                    self.remove_member(cx, &id);
                    left = true;
                    ErrorCode::None
                }
                Err(error) => error,
            };
            outcomes.push((member, outcome));
        }
        if left {
            self.after_removal(cx);
        }
        LeaveAnswer { error: ErrorCode::None, members: outcomes }
    }

    fn find_leaving(&self, member: &LeavingMember) -> Result<Arc<str>, ErrorCode> {
        if member.member_id.is_empty() {
            let instance = member.instance_id.as_ref();
            return instance
                .and_then(|instance| self.static_members.get(instance))
                .cloned()
                .ok_or(ErrorCode::UnknownMemberId);
        }
        if !self.pending_joins.contains(&member.member_id) {
            self.validate_member(&member.member_id, member.instance_id.as_deref())?;
        }
        Ok(member.member_id.clone())
    }

    /// A member was not heard of for its session timeout, or one that was given an id did not join with it.
    pub(crate) fn session_due(&mut self, cx: &mut Context<'_>, member: &Arc<str>) {
        if self.pending_joins.remove(member) {
            // Nobody counted on it, but a rebalance may have waited for it.
            self.maybe_complete_join(cx);
        } else if self.members.get(member).is_some_and(Member::may_expire) {
            self.remove_member(cx, member);
            self.after_removal(cx);
        }
    }

    fn after_removal(&mut self, cx: &mut Context<'_>) {
        match self.state {
            // Only ids that had not joined were taken back.
            GroupState::Empty | GroupState::Dead => {}
            GroupState::PreparingRebalance => self.maybe_complete_join(cx),
            GroupState::CompletingRebalance | GroupState::Stable => self.prepare_rebalance(cx),
        }
    }
}
