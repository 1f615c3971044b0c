//! Administration: topics, settings, groups and their offsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_wire::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_wire::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::delete_topics_request::DeleteTopicState;
use kafka_wire::describe_configs_request::DescribeConfigsResource;
use kafka_wire::describe_configs_response::DescribeConfigsResourceResult;
use kafka_wire::describe_groups_response::DescribedGroup;
use kafka_wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::list_groups_response::ListedGroup;
use kafka_wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_wire::{
    AlterPartitionReassignmentsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeClusterResponse, DescribeConfigsRequest, DescribeGroupsRequest,
    IncrementalAlterConfigsRequest, ListGroupsRequest, ListPartitionReassignmentsRequest, OffsetCommitRequest,
    OffsetFetchRequest,
};
use kafka_wire_core::StrBytes;

use super::assignor::Assignment;
use super::cluster::retry_coordinator;
use super::{Client, ClientError, check, check_group, check_topic};
use crate::kafka::wire::ErrorCode;
use crate::message;

/// How long the cluster may take for a change, ms.
const TIMEOUT_MS: i32 = 30_000;
/// The newest OffsetCommit and OffsetFetch version that names topics.
const OFFSETS_BY_NAME: i16 = 9;
/// Kafka's number of a topic's settings.
const RESOURCE_TOPIC: i8 = 2;

/// A topic to create.
#[derive(Debug, Clone)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// How many partitions; the broker's default when not given.
    pub partitions: Option<i32>,
    /// How many replicas of each; the broker's default when not given.
    pub replication_factor: Option<i16>,
    /// Its settings.
    pub configs: Vec<(String, String)>,
}

/// Creates a topic; returns how many partitions it has.
pub async fn create_topic(client: &Arc<Client>, spec: &TopicSpec) -> Result<i32, ClientError> {
    let config = |(name, value): &(String, String)| {
        message!(CreatableTopicConfig {
            name: StrBytes::from(name.as_str()),
            value: Some(StrBytes::from(value.as_str())),
        })
    };
    let topic = message!(CreatableTopic {
        name: StrBytes::from(spec.name.as_str()),
        num_partitions: spec.partitions.unwrap_or(-1),
        replication_factor: spec.replication_factor.unwrap_or(-1),
        configs: spec.configs.iter().map(config).collect::<Vec<_>>(),
    });
    let request = message!(CreateTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS });
    let response = client.controller().await?.send(&request).await?;
    let attempt = || format!("create topic {}", spec.name);
    let answer = only(response.topics, attempt)?;
    check(attempt, answer.error_code, answer.error_message.as_deref())?;
    Ok(answer.num_partitions)
}

/// Deletes a topic with all it holds.
pub async fn delete_topic(client: &Arc<Client>, name: &str) -> Result<(), ClientError> {
    let topic = message!(DeleteTopicState { name: Some(StrBytes::from(name)) });
    let request = message!(DeleteTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS });
    let response = client.controller().await?.send(&request).await?;
    let attempt = || format!("delete topic {name}");
    let answer = only(response.responses, attempt)?;
    check_topic(name, attempt, answer.error_code, answer.error_message.as_deref())
}

/// A topic's effective settings.
pub async fn topic_configs(
    client: &Arc<Client>,
    topic: &str,
) -> Result<Vec<DescribeConfigsResourceResult>, ClientError> {
    let resource = message!(DescribeConfigsResource {
        resource_type: RESOURCE_TOPIC,
        resource_name: StrBytes::from(topic),
        configuration_keys: None,
    });
    let request = message!(DescribeConfigsRequest { resources: vec![resource] });
    let response = client.any().await?.send(&request).await?;
    let attempt = || format!("settings of topic {topic}");
    let answer = only(response.results, attempt)?;
    check_topic(topic, attempt, answer.error_code, answer.error_message.as_deref())?;
    Ok(answer.configs)
}

/// Changes a topic's settings: `None` takes a setting back to its default.
pub async fn alter_topic_configs(
    client: &Arc<Client>,
    topic: &str,
    changes: &[(String, Option<String>)],
) -> Result<(), ClientError> {
    let change = |(name, value): &(String, Option<String>)| {
        message!(AlterableConfig {
            name: StrBytes::from(name.as_str()),
            config_operation: i8::from(value.is_none()),
            value: value.as_deref().map(StrBytes::from),
        })
    };
    let resource = message!(AlterConfigsResource {
        resource_type: RESOURCE_TOPIC,
        resource_name: StrBytes::from(topic),
        configs: changes.iter().map(change).collect::<Vec<_>>(),
    });
    let request = message!(IncrementalAlterConfigsRequest { resources: vec![resource] });
    let response = client.controller().await?.send(&request).await?;
    let attempt = || format!("change settings of topic {topic}");
    let answer = only(response.responses, attempt)?;
    check_topic(topic, attempt, answer.error_code, answer.error_message.as_deref())
}

/// A partition whose replicas are being moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    /// Its index.
    pub partition: i32,
    /// The replicas that are being added.
    pub adding: Vec<i32>,
    /// Those that will go.
    pub removing: Vec<i32>,
}

/// Gives partitions of a topic other replicas, the preferred leader first; `None` cancels a move under way.
pub async fn alter_reassignments(
    client: &Arc<Client>,
    topic: &str,
    targets: &[(i32, Option<Vec<i32>>)],
) -> Result<(), ClientError> {
    let partition = |(partition_index, replicas): &(i32, Option<Vec<i32>>)| {
        message!(ReassignablePartition { partition_index: *partition_index, replicas: replicas.clone() })
    };
    let partitions = targets.iter().map(partition).collect();
    let topics = vec![message!(ReassignableTopic { name: StrBytes::from(topic), partitions })];
    let request = message!(AlterPartitionReassignmentsRequest { timeout_ms: TIMEOUT_MS, topics });
    let response = client.controller().await?.send(&request).await?;
    check(|| format!("reassign topic {topic}"), response.error_code, response.error_message.as_deref())?;
    for answer in response.responses.iter().flat_map(|topic| &topic.partitions) {
        let attempt = || format!("reassign {topic}-{}", answer.partition_index);
        check(attempt, answer.error_code, answer.error_message.as_deref())?;
    }
    Ok(())
}

/// A topic's partitions whose replicas are being moved.
pub async fn list_reassignments(client: &Arc<Client>, topic: &str) -> Result<Vec<Moving>, ClientError> {
    let request = message!(ListPartitionReassignmentsRequest { timeout_ms: TIMEOUT_MS, topics: None });
    let response = client.controller().await?.send(&request).await?;
    check(|| format!("moves of topic {topic}"), response.error_code, response.error_message.as_deref())?;
    let partitions = response.topics.into_iter().filter(|it| it.name.as_str() == topic).flat_map(|it| it.partitions);
    let moving = partitions.map(|it| Moving {
        partition: it.partition_index,
        adding: it.adding_replicas,
        removing: it.removing_replicas,
    });
    Ok(moving.collect())
}

/// The cluster's id, controller and nodes.
pub async fn describe_cluster(client: &Arc<Client>) -> Result<DescribeClusterResponse, ClientError> {
    let request = message!(DescribeClusterRequest { include_fenced_brokers: true, endpoint_type: 1_i8 });
    let response = client.any().await?.send(&request).await?;
    check(|| "describe the cluster".to_owned(), response.error_code, response.error_message.as_deref())?;
    Ok(response)
}

/// The groups that a cluster's nodes coordinate, by name.
pub async fn list_groups(client: &Arc<Client>) -> Result<Vec<ListedGroup>, ClientError> {
    let mut groups = Vec::new();
    for broker in client.metadata(Some(&[])).await?.brokers {
        let listed = retry_coordinator(|| async {
            let response = client.broker(broker.node_id).await?.send(&ListGroupsRequest::default()).await?;
            check(|| "list groups".to_owned(), response.error_code, None)?;
            Ok(response.groups)
        });
        groups.extend(listed.await?);
    }
    groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    Ok(groups)
}

/// A group's state and members.
pub async fn describe_group(client: &Arc<Client>, group: &str) -> Result<DescribedGroup, ClientError> {
    let request = message!(DescribeGroupsRequest { groups: vec![StrBytes::from(group)] });
    let attempt = || format!("describe group {group}");
    retry_coordinator(|| async {
        let response = client.coordinator(group).await?.send(&request).await?;
        let answer = only(response.groups, attempt)?;
        check_group(group, attempt, answer.error_code, answer.error_message.as_deref())?;
        Ok(answer)
    })
    .await
}

/// Deletes a group with its offsets.
pub async fn delete_group(client: &Arc<Client>, group: &str) -> Result<(), ClientError> {
    let request = message!(DeleteGroupsRequest { groups_names: vec![StrBytes::from(group)] });
    let attempt = || format!("delete group {group}");
    retry_coordinator(|| async {
        let response = client.coordinator(group).await?.send(&request).await?;
        let answer = only(response.results, attempt)?;
        check_group(group, attempt, answer.error_code, None)
    })
    .await
}

/// A group's positions: in these partitions, or in all that it has positions in.
pub async fn committed_offsets(
    client: &Arc<Client>,
    group: &str,
    of: Option<&Assignment>,
) -> Result<BTreeMap<(String, i32), i64>, ClientError> {
    let topics = of.map(|assignment| {
        let topic = |(name, partitions): (&String, &Vec<i32>)| {
            message!(OffsetFetchRequestTopics {
                name: StrBytes::from(name.as_str()),
                partition_indexes: partitions.clone(),
            })
        };
        assignment.iter().map(topic).collect()
    });
    let asked = message!(OffsetFetchRequestGroup { group_id: StrBytes::from(group), topics });
    let request = message!(OffsetFetchRequest { groups: vec![asked], require_stable: true });
    let attempt = || format!("offsets of group {group}");
    retry_coordinator(|| async {
        let response = client.coordinator(group).await?.send_at_most(&request, OFFSETS_BY_NAME).await?;
        let answer = only(response.groups, attempt)?;
        check(attempt, answer.error_code, None)?;
        let mut offsets = BTreeMap::new();
        for topic in answer.topics {
            for partition in topic.partitions {
                check(attempt, partition.error_code, None)?;
                if partition.committed_offset >= 0 {
                    let place = (topic.name.as_str().to_owned(), partition.partition_index);
                    offsets.insert(place, partition.committed_offset);
                }
            }
        }
        Ok(offsets)
    })
    .await
}

/// Stores a group's positions: as a member (generation and id), or from outside when it has no members.
pub async fn commit_offsets(
    client: &Arc<Client>,
    group: &str,
    member: Option<(i32, StrBytes)>,
    positions: &BTreeMap<(String, i32), i64>,
) -> Result<(), ClientError> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition), offset) in positions {
        let position = message!(OffsetCommitRequestPartition {
            partition_index: *partition,
            committed_offset: *offset,
            committed_metadata: Some(StrBytes::default()),
        });
        topics.entry(topic).or_default().push(position);
    }
    let topic = |(name, partitions)| message!(OffsetCommitRequestTopic { name: StrBytes::from(name), partitions });
    let (generation, member_id) = member.unwrap_or((-1, StrBytes::default()));
    let request = message!(OffsetCommitRequest {
        group_id: StrBytes::from(group),
        generation_id_or_member_epoch: generation,
        member_id,
        topics: topics.into_iter().map(topic).collect::<Vec<_>>(),
    });
    retry_coordinator(|| async {
        let response = client.coordinator(group).await?.send_at_most(&request, OFFSETS_BY_NAME).await?;
        for answer in response.topics.iter().flat_map(|topic| &topic.partitions) {
            check(|| format!("commit offsets of group {group}"), answer.error_code, None)?;
        }
        Ok(())
    })
    .await
}

/// The one element of an answer to a question about one thing.
fn only<T>(answers: Vec<T>, attempt: impl FnOnce() -> String) -> Result<T, ClientError> {
    answers.into_iter().next().ok_or_else(|| {
        ClientError::refused(attempt(), ErrorCode::UnknownServerError.code(), Some("the answer is empty"))
    })
}
