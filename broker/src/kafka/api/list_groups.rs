//! ListGroups (KIP-518, KIP-848): the groups that this node coordinates, filtered by state and type.

use kafka_wire::list_groups_response::ListedGroup;
use kafka_wire::{ListGroupsRequest, ListGroupsResponse};

use super::group_requests::wire;
use crate::coordinator::shard;
use crate::kafka::RequestContext;
use crate::message;

/// The one type of group that there is.
const CLASSIC: &str = "classic";

/// Answers from the groups' state.
pub async fn handle(context: &RequestContext, request: ListGroupsRequest) -> ListGroupsResponse {
    match context.broker.groups.list().await {
        Ok(groups) => {
            let groups = groups.iter().filter(|group| wanted(&request, group)).map(listed);
            message!(ListGroupsResponse { groups: groups.collect() })
        }
        Err(error) => message!(ListGroupsResponse { error_code: error.code() }),
    }
}

/// Whether the filters let a group through; an empty one lets all. Neither minds the case.
fn wanted(request: &ListGroupsRequest, group: &shard::ListedGroup) -> bool {
    let state = request.states_filter.is_empty()
        || request.states_filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(group.state));
    let kind = request.types_filter.is_empty()
        || request.types_filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(CLASSIC));
    state && kind
}

fn listed(group: &shard::ListedGroup) -> ListedGroup {
    message!(ListedGroup {
        group_id: wire(&group.group),
        protocol_type: wire(&group.protocol_type),
        group_state: wire(group.state),
        group_type: CLASSIC.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_by_state_and_type_in_any_case() {
        let group = shard::ListedGroup { group: "g".into(), protocol_type: "consumer".into(), state: "Stable" };
        for (states, types, expected) in [
            (vec![], vec![], true),
            (vec!["stable"], vec!["Classic"], true),
            (vec!["Empty", "Stable"], vec![], true),
            (vec!["Empty"], vec![], false),
            (vec!["NoSuchState"], vec![], false),
            (vec![], vec!["consumer"], false),
        ] {
            let request = message!(ListGroupsRequest {
                states_filter: states.iter().map(|s| (*s).into()).collect(),
                types_filter: types.iter().map(|t| (*t).into()).collect(),
            });
            assert_eq!(wanted(&request, &group), expected, "{states:?} {types:?}");
        }
    }
}
