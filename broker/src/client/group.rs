//! Membership in a consumer group by the classic protocol: join, sync, heartbeat, commit, leave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_wire::consumer_protocol_assignment::TopicPartition;
use kafka_wire::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::leave_group_request::MemberIdentity;
use kafka_wire::sync_group_request::SyncGroupRequestAssignment;
use kafka_wire::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, SyncGroupRequest, decode_consumer_protocol_assignment, decode_consumer_protocol_subscription,
    encode_consumer_protocol_assignment, encode_consumer_protocol_subscription,
};
use kafka_wire_core::{ApiVersion, DecodeLimits, StrBytes};

use super::assignor::{self, Assignment};
use super::cluster::{RETRY_PAUSE, retry};
use super::{Client, ClientError, admin, check};
use crate::kafka::wire::ErrorCode;
use crate::message;

/// A member that is silent for so long is expelled.
const SESSION_TIMEOUT_MS: i32 = 10_000;
/// How long members have to join anew.
const REBALANCE_TIMEOUT_MS: i32 = 30_000;
/// How often to send `GroupMember::heartbeat`.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(3);
/// The embedded protocol's version: the oldest, which every member understands.
const EMBEDDED: ApiVersion = ApiVersion::new(0);
/// Which assignor.
const PROTOCOL: &str = "range";

/// A member of a group that subscribed to one topic.
pub struct GroupMember {
    client: Arc<Client>,
    group: String,
    topic: String,
    member: StrBytes,
    generation: i32,
}

impl GroupMember {
    /// Not joined yet.
    pub fn new(client: Arc<Client>, group: &str, topic: &str) -> Self {
        Self { client, group: group.to_owned(), topic: topic.to_owned(), member: StrBytes::default(), generation: -1 }
    }

    /// Joins (again) and waits for this member's partitions.
    pub async fn join(&mut self) -> Result<Assignment, ClientError> {
        loop {
            match self.join_once().await {
                Ok(assignment) => return Ok(assignment),
                Err(why) if why.is(ErrorCode::UnknownMemberId) => self.member = StrBytes::default(),
                Err(why) if is_rebalance(&why) || why.is_retriable() => self.client.tries_again(&why),
                Err(why) => return Err(why),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn join_once(&mut self) -> Result<Assignment, ClientError> {
        let mut metadata = BytesMut::new();
        let subscription = message!(ConsumerProtocolSubscription { topics: vec![StrBytes::from(self.topic.as_str())] });
        encode_consumer_protocol_subscription(&mut metadata, &subscription, EMBEDDED)
            .expect("a subscription of one topic is encodable, because the topic's name was accepted by the broker");
        let protocol =
            message!(JoinGroupRequestProtocol { name: StrBytes::from(PROTOCOL), metadata: metadata.freeze() });
        let mut request = message!(JoinGroupRequest {
            group_id: StrBytes::from(self.group.as_str()),
            session_timeout_ms: SESSION_TIMEOUT_MS,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            member_id: self.member.clone(),
            protocol_type: StrBytes::from("consumer"),
            protocols: vec![protocol],
        });
        let coordinator = self.client.coordinator(&self.group).await?;
        let mut joined = coordinator.send(&request).await?;
        if joined.error_code == ErrorCode::MemberIdRequired.code() {
            request.member_id = joined.member_id;
            joined = coordinator.send(&request).await?;
        }
        check(|| format!("join group {}", self.group), joined.error_code, None)?;
        self.member = joined.member_id.clone();
        self.generation = joined.generation_id;
        self.sync(joined).await
    }

    async fn sync(&self, joined: JoinGroupResponse) -> Result<Assignment, ClientError> {
        let leads = joined.leader == joined.member_id && !joined.skip_assignment;
        let assignments = if leads { self.assign(&joined).await? } else { Vec::new() };
        let request = message!(SyncGroupRequest {
            group_id: StrBytes::from(self.group.as_str()),
            generation_id: self.generation,
            member_id: self.member.clone(),
            protocol_type: Some(StrBytes::from("consumer")),
            protocol_name: Some(StrBytes::from(PROTOCOL)),
            assignments,
        });
        let response = self.client.coordinator(&self.group).await?.send(&request).await?;
        check(|| format!("join group {}", self.group), response.error_code, None)?;
        Ok(read_assignment(response.assignment))
    }

    /// As the leader: everyone's partitions.
    async fn assign(&self, joined: &JoinGroupResponse) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
        let members: BTreeMap<String, Vec<String>> = joined
            .members
            .iter()
            .map(|member| (member.member_id.as_str().to_owned(), read_subscription(member.metadata.clone())))
            .collect();
        let mut partitions = BTreeMap::new();
        for topic in members.values().flatten() {
            if !partitions.contains_key(topic) {
                let count = retry(&self.client, || self.client.topic(topic)).await?.partitions.len();
                partitions.insert(topic.clone(), count as i32);
            }
        }
        let assigned = assignor::range(&members, &partitions);
        Ok(assigned.into_iter().map(|(member, topics)| write_assignment(&member, topics)).collect())
    }

    /// Says that this member lives; `false` asks it to join again.
    pub async fn heartbeat(&self) -> Result<bool, ClientError> {
        let request = message!(HeartbeatRequest {
            group_id: StrBytes::from(self.group.as_str()),
            generation_id: self.generation,
            member_id: self.member.clone(),
        });
        let coordinator = self.client.coordinator(&self.group).await?;
        let outcome = match coordinator.send(&request).await {
            Ok(response) => check(|| format!("heartbeat to group {}", self.group), response.error_code, None),
            Err(why) => Err(why),
        };
        match outcome {
            Ok(()) => Ok(true),
            Err(why) if is_rebalance(&why) || why.is(ErrorCode::UnknownMemberId) => Ok(false),
            // Said again with the next heartbeat: the session lasts for several.
            Err(why) if why.is_retriable() => Ok(true),
            Err(why) => Err(why),
        }
    }

    /// The group's positions in these partitions; those that have none are missing.
    pub async fn committed(&self, assignment: &Assignment) -> Result<BTreeMap<(String, i32), i64>, ClientError> {
        retry(&self.client, || admin::committed_offsets(&self.client, &self.group, Some(assignment))).await
    }

    /// Stores positions; `false` when the group is rebalancing and they no longer are this member's to store.
    pub async fn commit(&self, positions: &BTreeMap<(String, i32), i64>) -> Result<bool, ClientError> {
        let member = Some((self.generation, self.member.clone()));
        match retry(&self.client, || admin::commit_offsets(&self.client, &self.group, member.clone(), positions)).await
        {
            Ok(()) => Ok(true),
            Err(why) if is_rebalance(&why) || why.is(ErrorCode::UnknownMemberId) => Ok(false),
            Err(why) => Err(why),
        }
    }

    /// Leaves, so that the others need not wait for the session's end.
    pub async fn leave(&self) -> Result<(), ClientError> {
        let request = message!(LeaveGroupRequest {
            group_id: StrBytes::from(self.group.as_str()),
            members: vec![message!(MemberIdentity { member_id: self.member.clone() })],
        });
        let response = self.client.coordinator(&self.group).await?.send(&request).await?;
        check(|| format!("leave group {}", self.group), response.error_code, None)
    }
}

fn is_rebalance(why: &ClientError) -> bool {
    [ErrorCode::RebalanceInProgress, ErrorCode::IllegalGeneration].iter().any(|code| why.is(*code))
}

/// What a member subscribed to; nothing when its bytes are no subscription, as other clients do.
fn read_subscription(metadata: Bytes) -> Vec<String> {
    let subscription = decode_consumer_protocol_subscription(metadata, DecodeLimits::default());
    subscription.map_or_else(
        |_| Vec::new(),
        |(_, subscription)| subscription.topics.into_iter().map(StrBytes::into_string).collect(),
    )
}

/// A member's partitions; none when there are no bytes.
pub fn read_assignment(assignment: Bytes) -> Assignment {
    let decoded = decode_consumer_protocol_assignment(assignment, DecodeLimits::default());
    let topics = decoded.map_or_else(|_| Vec::new(), |(_, assignment)| assignment.assigned_partitions);
    topics.into_iter().map(|topic| (topic.topic.into_string(), topic.partitions)).collect()
}

fn write_assignment(member: &str, topics: Assignment) -> SyncGroupRequestAssignment {
    let topic =
        |(name, partitions)| message!(TopicPartition { topic: StrBytes::from(String::as_str(&name)), partitions });
    let assigned =
        message!(ConsumerProtocolAssignment { assigned_partitions: topics.into_iter().map(topic).collect::<Vec<_>>() });
    let mut assignment = BytesMut::new();
    encode_consumer_protocol_assignment(&mut assignment, &assigned, EMBEDDED)
        .expect("an assignment is encodable, because its topics are names that the broker gave");
    message!(SyncGroupRequestAssignment { member_id: StrBytes::from(member), assignment: assignment.freeze() })
}
