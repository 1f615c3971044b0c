//! LeaveGroup (KIP-345, KIP-800): members leave, since version 3 several at once, static ones also by their instance.

use kafka_wire::leave_group_response::MemberResponse;
use kafka_wire::{LeaveGroupRequest, LeaveGroupResponse};

use super::group_requests::{joinable_group, owned, owned_option, wire, wire_option};
use crate::coordinator::group::{LeaveAnswer, LeaveRequest, LeavingMember};
use crate::coordinator::shard::Request;
use crate::kafka::RequestContext;
use crate::kafka::wire::ErrorCode;
use crate::message;

/// Answers once what they leave behind is durable.
pub async fn handle(context: &RequestContext, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let answer = leave(context, &request).await.unwrap_or_else(LeaveAnswer::refused);
    response(context.version, answer)
}

async fn leave(context: &RequestContext, request: &LeaveGroupRequest) -> Result<LeaveAnswer, ErrorCode> {
    let group = joinable_group(&request.group_id)?;
    let members = if context.version < 3 {
        vec![LeavingMember { member_id: owned(&request.member_id), instance_id: None }]
    } else {
        for member in &request.members {
            if let Some(reason) = &member.reason {
                tracing::debug!(%group, member = %member.member_id, %reason, "a member leaves");
            }
        }
        let members = request.members.iter().map(|member| LeavingMember {
            member_id: owned(&member.member_id),
            instance_id: owned_option(member.group_instance_id.as_ref()),
        });
        members.collect()
    };
    let leave = LeaveRequest { group, members };
    context.broker.groups.ask_within_timeout(&request.group_id, |reply| Request::Leave(leave, reply)).await
}

fn response(version: i16, answer: LeaveAnswer) -> LeaveGroupResponse {
    if version < 3 {
        // One member, whose outcome is the request's.
        let own = answer.members.first().map_or(ErrorCode::None, |(_, outcome)| *outcome);
        let error = if answer.error == ErrorCode::None { own } else { answer.error };
        return message!(LeaveGroupResponse { error_code: error.code() });
    }
    let member = |(member, outcome): (LeavingMember, ErrorCode)| {
        message!(MemberResponse {
            member_id: wire(&member.member_id),
            group_instance_id: wire_option(member.instance_id.as_ref()),
            error_code: outcome.code(),
        })
    };
    message!(LeaveGroupResponse {
        error_code: answer.error.code(),
        members: answer.members.into_iter().map(member).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_member_of_old_versions_makes_the_error() {
        let member = LeavingMember { member_id: "m".into(), instance_id: None };
        let answer = LeaveAnswer::all(vec![member], ErrorCode::UnknownMemberId);
        let old = response(2, answer.clone());
        assert_eq!((old.error_code, old.members.len()), (ErrorCode::UnknownMemberId.code(), 0));
        let new = response(3, answer);
        assert_eq!((new.error_code, new.members[0].error_code), (0, ErrorCode::UnknownMemberId.code()));
    }
}
