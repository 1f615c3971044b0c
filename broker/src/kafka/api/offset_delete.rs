//! OffsetDelete (KIP-496): a group forgets offsets, unless it consumes the topic.

use kafka_wire::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_wire::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::group_requests::{has_partition, joinable_group, owned};
use crate::coordinator::offsets::OffsetKey;
use crate::coordinator::shard::Request;
use crate::kafka::RequestContext;
use crate::kafka::wire::ErrorCode;
use crate::message;

/// Answers once the deletion is durable.
pub async fn handle(context: &RequestContext, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let image = context.broker.metadata.image();
    let mut keys = Vec::new();
    let mut exists = Vec::new();
    for topic in &request.topics {
        let name = owned(&topic.name);
        let known = image.topic(&topic.name);
        for partition in &topic.partitions {
            let found = known.is_some_and(|topic| has_partition(topic, partition.partition_index));
            exists.push(found);
            if found {
                keys.push(OffsetKey { topic: name.clone(), partition: partition.partition_index });
            }
        }
    }
    match delete(context, &request, keys).await {
        Ok(outcomes) => response(&request, &exists, outcomes),
        Err(error) => message!(OffsetDeleteResponse { error_code: error.code() }),
    }
}

async fn delete(
    context: &RequestContext,
    request: &OffsetDeleteRequest,
    keys: Vec<OffsetKey>,
) -> Result<Vec<ErrorCode>, ErrorCode> {
    if keys.is_empty() {
        // Kafka doesn't look at the group then.
        return Ok(Vec::new());
    }
    let group = joinable_group(&request.group_id)?;
    let ask = |reply| Request::DeleteOffsets(group, keys, reply);
    context.broker.groups.ask_within_timeout(&request.group_id, ask).await?
}

fn response(request: &OffsetDeleteRequest, exists: &[bool], outcomes: Vec<ErrorCode>) -> OffsetDeleteResponse {
    let (mut exists, mut outcomes) = (exists.iter(), outcomes.into_iter());
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let found = *exists.next().expect("every partition was looked up");
            let outcome = if found {
                outcomes.next().expect("every existing partition was asked for")
            } else {
                ErrorCode::UnknownTopicOrPartition
            };
            message!(OffsetDeleteResponsePartition {
                partition_index: partition.partition_index,
                error_code: outcome.code(),
            })
        });
        message!(OffsetDeleteResponseTopic { name: topic.name.clone(), partitions: partitions.collect() })
    });
    message!(OffsetDeleteResponse { topics: topics.collect() })
}
