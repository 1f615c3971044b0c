//! OffsetCommit (KIP-320, KIP-848): a group's positions, kept. Since version 10 topics are identified, not named.

use kafka_wire::offset_commit_request::OffsetCommitRequestPartition;
use kafka_wire::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_wire::{OffsetCommitRequest, OffsetCommitResponse};

use super::group_requests::{has_partition, owned, owned_option, storable, topic};
use crate::coordinator::offsets::OffsetKey;
use crate::coordinator::records::CommittedOffset;
use crate::coordinator::shard::{CommitRequest, Request};
use crate::kafka::RequestContext;
use crate::kafka::wire::ErrorCode;
use crate::message;
use crate::metadata::{Image, Topic};

/// Topics are identified from this version on.
const IDS_FROM: i16 = 10;
/// "As the broker keeps offsets": versions 2–4 could say otherwise.
const DEFAULT_RETENTION: i64 = -1;

/// Answers once the offsets are durable and replicated.
pub async fn handle(context: &RequestContext, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let image = context.broker.metadata.image();
    let now_ms = context.broker.clock.wall_ms();
    let limit = context.broker.groups.options().offset_metadata_max;
    let plan = Plan::new(&request, context.version, &image, now_ms, limit);
    let outcome = if plan.asks_coordinator { commit(context, &request, plan.offsets).await } else { Ok(()) };
    let outcomes = plan.outcomes.into_iter().map(|own| match own {
        Own::Refused(error) => error,
        Own::MetadataTooLarge => outcome.err().unwrap_or(ErrorCode::OffsetMetadataTooLarge),
        Own::Commits => outcome.err().unwrap_or(ErrorCode::None),
    });
    response(context.version, &request, outcomes)
}

async fn commit(
    context: &RequestContext,
    request: &OffsetCommitRequest,
    offsets: Vec<(OffsetKey, CommittedOffset)>,
) -> Result<(), ErrorCode> {
    if !storable([&request.group_id]) {
        return Err(ErrorCode::InvalidGroupId);
    }
    let commit = CommitRequest {
        group: owned(&request.group_id),
        generation: request.generation_id_or_member_epoch,
        member_id: owned(&request.member_id),
        instance_id: owned_option(request.group_instance_id.as_ref()),
        offsets,
        unknown_group_error: if context.version >= 9 {
            ErrorCode::GroupIdNotFound
        } else {
            ErrorCode::IllegalGeneration
        },
    };
    context.broker.groups.ask_within_timeout(&request.group_id, |reply| Request::Commit(commit, reply)).await?
}

/// What becomes of one partition of a request, as far as it does not depend on the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Refused(ErrorCode),
    /// Refused too, but only after the group has accepted the request.
    MetadataTooLarge,
    Commits,
}

#[derive(Debug)]
struct Plan {
    offsets: Vec<(OffsetKey, CommittedOffset)>,
    /// In the order of the request.
    outcomes: Vec<Own>,
    /// Whether any partition exists; Kafka doesn't look at the group otherwise.
    asks_coordinator: bool,
}

impl Plan {
    fn new(request: &OffsetCommitRequest, version: i16, image: &Image, now_ms: i64, metadata_limit: usize) -> Self {
        let mut plan = Self { offsets: Vec::new(), outcomes: Vec::new(), asks_coordinator: false };
        let expires =
            (request.retention_time_ms != DEFAULT_RETENTION).then(|| now_ms.saturating_add(request.retention_time_ms));
        for requested in &request.topics {
            let topic = topic(image, &requested.name, requested.topic_id, version >= IDS_FROM);
            for partition in &requested.partitions {
                let own = match topic {
                    Err(error) => Own::Refused(error),
                    Ok(topic) if !has_partition(topic, partition.partition_index) => {
                        Own::Refused(ErrorCode::UnknownTopicOrPartition)
                    }
                    Ok(_) if metadata_units(partition) > metadata_limit => Own::MetadataTooLarge,
                    Ok(topic) => {
                        plan.offsets.push(offset(topic, partition, now_ms, expires));
                        Own::Commits
                    }
                };
                plan.asks_coordinator |= !matches!(own, Own::Refused(_));
                plan.outcomes.push(own);
            }
        }
        plan
    }
}

/// The metadata's length as Java counts it.
fn metadata_units(partition: &OffsetCommitRequestPartition) -> usize {
    partition.committed_metadata.as_ref().map_or(0, |text| text.as_str().encode_utf16().count())
}

fn offset(
    topic: &Topic,
    partition: &OffsetCommitRequestPartition,
    now_ms: i64,
    expires: Option<i64>,
) -> (OffsetKey, CommittedOffset) {
    let key = OffsetKey { topic: topic.name.clone(), partition: partition.partition_index };
    let value = CommittedOffset {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: owned_option(partition.committed_metadata.as_ref()).unwrap_or_else(|| "".into()),
        commit_timestamp_ms: now_ms,
        expire_timestamp_ms: expires,
        topic_id: Some(topic.id),
    };
    (key, value)
}

fn response(
    version: i16,
    request: &OffsetCommitRequest,
    mut outcomes: impl Iterator<Item = ErrorCode>,
) -> OffsetCommitResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|partition| {
            let outcome = outcomes.next().expect("there is an outcome for each partition");
            message!(OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: outcome.code(),
            })
        });
        let partitions = partitions.collect();
        topics.push(if version >= IDS_FROM {
            message!(OffsetCommitResponseTopic { topic_id: topic.topic_id, partitions: partitions })
        } else {
            message!(OffsetCommitResponseTopic { name: topic.name.clone(), partitions: partitions })
        });
    }
    message!(OffsetCommitResponse { topics: topics })
}
