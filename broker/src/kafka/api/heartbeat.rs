//! Heartbeat: a member shows that it lives, and learns of rebalances.

use kafka_wire::{HeartbeatRequest, HeartbeatResponse};

use super::group_requests::{joinable_group, owned, owned_option};
use crate::coordinator::group;
use crate::coordinator::shard::Request;
use crate::kafka::RequestContext;
use crate::kafka::wire::ErrorCode;
use crate::message;

/// Answers from the group's state.
pub async fn handle(context: &RequestContext, request: HeartbeatRequest) -> HeartbeatResponse {
    let error = heartbeat(context, &request).await.unwrap_or_else(|error| error);
    message!(HeartbeatResponse { error_code: error.code() })
}

async fn heartbeat(context: &RequestContext, request: &HeartbeatRequest) -> Result<ErrorCode, ErrorCode> {
    let heartbeat = group::HeartbeatRequest {
        group: joinable_group(&request.group_id)?,
        generation: request.generation_id,
        member_id: owned(&request.member_id),
        instance_id: owned_option(request.group_instance_id.as_ref()),
    };
    context.broker.groups.ask(&request.group_id, |reply| Request::Heartbeat(heartbeat, reply)).await
}
