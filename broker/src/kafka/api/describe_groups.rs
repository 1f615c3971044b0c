//! DescribeGroups (KIP-1043): groups with their members.

use std::collections::HashSet;

use kafka_wire::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_wire::{DescribeGroupsRequest, DescribeGroupsResponse};

use super::group_requests::{owned, wire, wire_option};
use crate::coordinator::group::{GroupDescription, MemberDescription};
use crate::coordinator::shard::Request;
use crate::kafka::RequestContext;
use crate::kafka::wire::{ErrorCode, StrBytes};
use crate::message;

/// What everybody may do with a group where there is no authorizer, as the bits of Kafka's operations: read, delete,
/// describe, describe and alter its configs.
const ALL_GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
/// Stands for operations that were not asked for.
const NOT_ASKED: i32 = i32::MIN;
/// A group that does not exist is an error from this version on; before, it is one in the state "Dead".
const NOT_FOUND_FROM: i16 = 6;

/// Answers from the groups' state, each group once: a short request must not have an endless answer.
pub async fn handle(context: &RequestContext, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    let mut seen = HashSet::new();
    for id in request.groups.iter().filter(|id| seen.insert(*id)) {
        let group = owned(id);
        let found = context.broker.groups.ask(id, |reply| Request::Describe(group, reply)).await;
        groups.push(match found {
            Ok(Some(group)) => described(id, group, request.include_authorized_operations),
            Ok(None) => not_found(id, context.version),
            Err(error) => message!(DescribedGroup {
                group_id: id.clone(),
                error_code: error.code(),
                authorized_operations: NOT_ASKED,
            }),
        });
    }
    message!(DescribeGroupsResponse { groups: groups })
}

fn described(id: &StrBytes, group: GroupDescription, with_operations: bool) -> DescribedGroup {
    let member = |member: MemberDescription| {
        message!(DescribedGroupMember {
            member_id: wire(&member.member_id),
            group_instance_id: wire_option(member.instance_id.as_ref()),
            client_id: wire(&member.client_id),
            client_host: wire(&member.client_host),
            member_metadata: member.metadata,
            member_assignment: member.assignment,
        })
    };
    message!(DescribedGroup {
        group_id: id.clone(),
        group_state: wire(group.state),
        protocol_type: wire(&group.protocol_type),
        protocol_data: wire(&group.protocol),
        members: group.members.into_iter().map(member).collect(),
        authorized_operations: if with_operations { ALL_GROUP_OPERATIONS } else { NOT_ASKED },
    })
}

fn not_found(id: &StrBytes, version: i16) -> DescribedGroup {
    let mut group =
        message!(DescribedGroup { group_id: id.clone(), group_state: "Dead".into(), authorized_operations: NOT_ASKED });
    if version >= NOT_FOUND_FROM {
        group.error_code = ErrorCode::GroupIdNotFound.code();
        group.error_message = Some(format!("Group {id} not found.").into());
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_group_is_dead_and_since_version_6_an_error() {
        for version in 0..=6 {
            let group = not_found(&"g".into(), version);
            assert_eq!(group.group_state.as_str(), "Dead");
            let expected = if version < 6 { 0 } else { ErrorCode::GroupIdNotFound.code() };
            assert_eq!((group.error_code, group.error_message.is_some()), (expected, version >= 6));
            assert_eq!(group.authorized_operations, NOT_ASKED);
        }
    }

    #[test]
    fn the_operations_are_those_that_kafka_shows() {
        assert_eq!(ALL_GROUP_OPERATIONS, 3400);
    }
}
