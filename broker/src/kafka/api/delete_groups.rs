//! DeleteGroups (KIP-229): groups without members go, with their offsets.

use kafka_wire::delete_groups_response::DeletableGroupResult;
use kafka_wire::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::group_requests::owned;
use crate::coordinator::shard::Request;
use crate::kafka::RequestContext;
use crate::message;

/// Answers once each deletion is durable. A group that is named twice is deleted, and answered, once.
pub async fn handle(context: &RequestContext, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut ids = request.groups_names;
    ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    ids.dedup();
    let delete = ids.into_iter().map(|id| async move {
        let group = owned(&id);
        let ask = |reply| Request::DeleteGroup(group, reply);
        let outcome = context.broker.groups.ask_within_timeout(&id, ask).await;
        let error = outcome.unwrap_or_else(|error| error);
        message!(DeletableGroupResult { group_id: id, error_code: error.code() })
    });
    message!(DeleteGroupsResponse { results: futures::future::join_all(delete).await })
}
