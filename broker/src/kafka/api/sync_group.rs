//! SyncGroup (KIP-559): the leader hands the assignments in, every member fetches its own.

use bytes::Bytes;
use kafka_wire::{SyncGroupRequest, SyncGroupResponse};

use super::group_requests::{joinable_group, owned, owned_option, wire_option};
use crate::coordinator::group::{SyncAnswer, SyncRequest};
use crate::coordinator::shard::Request;
use crate::kafka::RequestContext;
use crate::kafka::wire::ErrorCode;
use crate::message;

/// Answers once the assignment is durable.
pub async fn handle(context: &RequestContext, request: SyncGroupRequest) -> SyncGroupResponse {
    let answer = match accept(context.version, &request) {
        Ok(sync) => {
            context.broker.groups.ask_until_release(&request.group_id, |reply| Request::Sync(sync, reply)).await
        }
        Err(error) => Err(error),
    };
    let answer = answer.unwrap_or_else(SyncAnswer::refused);
    message!(SyncGroupResponse {
        error_code: answer.error.code(),
        protocol_type: wire_option(answer.protocol_type.as_ref()),
        protocol_name: wire_option(answer.protocol.as_ref()),
        assignment: answer.assignment,
    })
}

/// Checks what does not depend on the group. Since version 5 a member must say which protocol it means.
fn accept(version: i16, request: &SyncGroupRequest) -> Result<SyncRequest, ErrorCode> {
    if version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    let assignments = request.assignments.iter();
    Ok(SyncRequest {
        group: joinable_group(&request.group_id)?,
        generation: request.generation_id,
        member_id: owned(&request.member_id),
        instance_id: owned_option(request.group_instance_id.as_ref()),
        protocol_type: owned_option(request.protocol_type.as_ref()),
        protocol: owned_option(request.protocol_name.as_ref()),
        assignments: assignments.map(|a| (owned(&a.member_id), Bytes::copy_from_slice(&a.assignment))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_asked_for_before_anything_else_since_version_5() {
        let request = message!(SyncGroupRequest { group_id: "".into() });
        assert_eq!(accept(4, &request).err(), Some(ErrorCode::InvalidGroupId));
        assert_eq!(accept(5, &request).err(), Some(ErrorCode::InconsistentGroupProtocol));
    }
}
