//! JoinGroup (KIP-62, KIP-345, KIP-394, KIP-559, KIP-800, KIP-814): a member asks into a group's next generation.

use bytes::Bytes;
use kafka_wire::join_group_response::JoinGroupResponseMember;
use kafka_wire::{JoinGroupRequest, JoinGroupResponse};

use super::group_requests::{client_host, client_id, joinable_group, owned, owned_option, storable, wire, wire_option};
use crate::coordinator::group::{JoinAnswer, JoinRequest, JoinedMember, millis};
use crate::coordinator::shard::Request;
use crate::kafka::RequestContext;
use crate::kafka::wire::ErrorCode;
use crate::message;

/// Answers once the member's generation starts, or at once when it is refused.
pub async fn handle(context: &RequestContext, request: JoinGroupRequest) -> JoinGroupResponse {
    let coordinator = &context.broker.groups;
    let member_id = owned(&request.member_id);
    if let Some(reason) = &request.reason {
        tracing::debug!(group = %request.group_id, member = %member_id, %reason, "a member joins");
    }
    let answer = match accept(context, &request) {
        Ok(join) => coordinator.ask_until_release(&request.group_id, |reply| Request::Join(join, reply)).await,
        Err(error) => Err(error),
    };
    response(context.version, answer.unwrap_or_else(|error| JoinAnswer::refused(error, member_id)))
}

/// Checks what does not depend on the group.
fn accept(context: &RequestContext, request: &JoinGroupRequest) -> Result<JoinRequest, ErrorCode> {
    let options = context.broker.groups.options();
    let group = joinable_group(&request.group_id)?;
    let session_timeout = millis(request.session_timeout_ms);
    if request.session_timeout_ms < 0
        || !(options.min_session_timeout..=options.max_session_timeout).contains(&session_timeout)
    {
        return Err(ErrorCode::InvalidSessionTimeout);
    }
    let names = request.protocols.iter().map(|protocol| &protocol.name);
    if !storable(names.chain([&request.protocol_type])) {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    if !storable(request.group_instance_id.iter().chain([&request.member_id])) {
        return Err(ErrorCode::UnknownMemberId);
    }
    // Version 0 knew one timeout for both.
    let rebalance_timeout_ms =
        if context.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
    let protocols = request.protocols.iter();
    Ok(JoinRequest {
        group,
        member_id: owned(&request.member_id),
        instance_id: owned_option(request.group_instance_id.as_ref()),
        client_id: client_id(&context.client_id),
        client_host: client_host(context.peer.ip()),
        session_timeout,
        rebalance_timeout: millis(rebalance_timeout_ms),
        protocol_type: owned(&request.protocol_type),
        protocols: protocols.map(|p| (owned(&p.name), Bytes::copy_from_slice(&p.metadata))).collect(),
        requires_known_id: context.version >= 4,
        supports_skip_assignment: context.version >= 9,
    })
}

fn response(version: i16, answer: JoinAnswer) -> JoinGroupResponse {
    let member = |member: JoinedMember| {
        message!(JoinGroupResponseMember {
            member_id: wire(&member.member_id),
            group_instance_id: wire_option(member.instance_id.as_ref()),
            metadata: member.metadata,
        })
    };
    // Null is "none" since version 7; before, it is the empty string.
    let none = if version >= 7 { None } else { Some("".into()) };
    message!(JoinGroupResponse {
        error_code: answer.error.code(),
        generation_id: answer.generation,
        protocol_type: wire_option(answer.protocol_type.as_ref()),
        protocol_name: wire_option(answer.protocol.as_ref()).or(none),
        leader: wire(&answer.leader),
        skip_assignment: answer.skip_assignment,
        member_id: wire(&answer.member_id),
        members: answer.members.into_iter().map(member).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::wire::StrBytes;

    #[test]
    fn a_missing_protocol_is_empty_before_version_7_and_null_since() {
        let answer = JoinAnswer::refused(ErrorCode::InvalidGroupId, "".into());
        for version in 0..=9 {
            let response = response(version, answer.clone());
            let expected = if version < 7 { Some("") } else { None };
            assert_eq!(response.protocol_name.as_ref().map(StrBytes::as_str), expected, "version {version}");
            assert_eq!(response.protocol_type, None);
            assert_eq!(response.generation_id, -1);
        }
    }
}
