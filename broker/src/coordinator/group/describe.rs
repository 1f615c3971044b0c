//! A group as DescribeGroups and ListGroups show it.

use std::sync::Arc;

use bytes::Bytes;

use super::{Group, GroupState};

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupDescription {
    pub state: &'static str,
    pub protocol_type: Arc<str>,
    /// The protocol of a stable group, otherwise empty.
    pub protocol: Arc<str>,
    pub members: Vec<MemberDescription>,
}

/// One member. Metadata and assignment are shown of stable groups only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberDescription {
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

impl Group {
    /// The group as it is now.
    pub(crate) fn describe(&self) -> GroupDescription {
        let protocol = self.protocol.clone().filter(|_| self.state == GroupState::Stable);
        let members = self.members.values().map(|member| MemberDescription {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: protocol.as_deref().map(|name| member.metadata(name)).unwrap_or_default(),
            assignment: if protocol.is_some() { member.assignment.clone() } else { Bytes::new() },
        });
        GroupDescription {
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| "".into()),
            members: members.collect(),
            protocol: protocol.unwrap_or_else(|| "".into()),
        }
    }
}
