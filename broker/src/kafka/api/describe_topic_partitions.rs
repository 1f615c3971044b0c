//! DescribeTopicPartitions (KIP-966): topics in pages of partitions.

use std::collections::BTreeSet;

use kafka_wire::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_wire::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

use super::metadata::offline;
use crate::ids::NodeId;
use crate::kafka::RequestContext;
use crate::kafka::admin::Admin;
use crate::kafka::authorized::TOPIC_OPERATIONS;
use crate::kafka::topics::{check_name, is_internal};
use crate::kafka::wire::{ErrorCode, StrBytes, Uuid};
use crate::message;
use crate::metadata::{Image, PartitionRegistration};

/// Answers from this node's image.
pub async fn handle(
    context: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let admin = Admin::of(&context.broker);
    let image = admin.metadata.image();
    let limit = admin.settings.broker(&image).max_request_partition_size_limit;
    answer(&image, &request, limit)
}

fn answer(image: &Image, request: &DescribeTopicPartitionsRequest, limit: i32) -> DescribeTopicPartitionsResponse {
    let Ok(start) = start(request) else { return refused(request) };
    let named: Vec<&str> = if request.topics.is_empty() {
        image.topics_from(start.topic).map(|topic| &*topic.name).collect()
    } else {
        let names: BTreeSet<&str> = request.topics.iter().map(|topic| topic.name.as_str()).collect();
        names.into_iter().filter(|name| *name >= start.topic).collect()
    };
    let mut left = request.response_partition_limit.min(limit).max(1) as usize;
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in named {
        let first = if name == start.topic { start.partition } else { 0 };
        if left == 0 {
            response.next_cursor = Some(cursor(name, first));
            break;
        }
        let count = image.topic(name).map_or(0, |topic| topic.partitions.len());
        let end = count.min(first.saturating_add(left));
        response.topics.push(topic(image, name, first..end));
        left -= end.saturating_sub(first);
        if end < count {
            response.next_cursor = Some(cursor(name, end));
            break;
        }
    }
    response
}

/// Where a page begins.
struct Start<'a> {
    topic: &'a str,
    partition: usize,
}

/// A cursor is of a topic that is asked for, at a partition that may be.
fn start(request: &DescribeTopicPartitionsRequest) -> Result<Start<'_>, ()> {
    let Some(cursor) = &request.cursor else { return Ok(Start { topic: "", partition: 0 }) };
    let asked = request.topics.is_empty() || request.topics.iter().any(|topic| topic.name == cursor.topic_name);
    match usize::try_from(cursor.partition_index) {
        Ok(partition) if asked => Ok(Start { topic: &cursor.topic_name, partition }),
        _ => Err(()),
    }
}

fn refused(request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let topic = |topic: &kafka_wire::describe_topic_partitions_request::TopicRequest| {
        message!(DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::InvalidRequest.code(),
            name: Some(topic.name.clone()),
        })
    };
    message!(DescribeTopicPartitionsResponse { topics: request.topics.iter().map(topic).collect() })
}

fn cursor(topic: &str, partition: usize) -> Cursor {
    message!(Cursor { topic_name: topic.into(), partition_index: partition as i32 })
}

fn topic(image: &Image, name: &str, page: std::ops::Range<usize>) -> DescribeTopicPartitionsResponseTopic {
    let mut shown = message!(DescribeTopicPartitionsResponseTopic {
        name: Some(StrBytes::from(name)),
        is_internal: is_internal(name),
        topic_authorized_operations: TOPIC_OPERATIONS,
    });
    if let Some(topic) = image.topic(name) {
        shown.topic_id = Uuid::from_bytes(topic.id.to_bytes());
        let partitions = topic.partitions.iter().enumerate().take(page.end).skip(page.start);
        shown.partitions = partitions.map(|(index, it)| partition(image, index, it)).collect();
    } else {
        let unknown = ErrorCode::UnknownTopicOrPartition;
        shown.error_code = check_name(name).map_or_else(|refusal| refusal.code, |()| unknown).code();
    }
    shown
}

fn partition(
    image: &Image,
    index: usize,
    partition: &PartitionRegistration,
) -> DescribeTopicPartitionsResponsePartition {
    let ids = |nodes: &[NodeId]| -> Vec<i32> { nodes.iter().map(|id| id.get()).collect() };
    let leader = partition.leader.filter(|id| image.node(*id).is_some_and(|node| !node.fenced));
    let code = if leader.is_some() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable };
    let nobody = partition.isr.is_empty() && partition.elr.is_empty();
    message!(DescribeTopicPartitionsResponsePartition {
        error_code: code.code(),
        partition_index: index as i32,
        leader_id: leader.map_or(-1, NodeId::get),
        leader_epoch: partition.leader_epoch.get(),
        replica_nodes: ids(&partition.replicas),
        isr_nodes: ids(&partition.isr),
        eligible_leader_replicas: Some(ids(&partition.elr)),
        last_known_elr: Some(partition.last_leader.filter(|_| nobody).map(NodeId::get).into_iter().collect()),
        offline_replicas: offline(image, partition),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::testing::Plane;
    use crate::kafka::wire::EncodeResponse;
    use kafka_wire::describe_topic_partitions_request::{Cursor as RequestCursor, TopicRequest};

    type Page = (Vec<(String, i16, Vec<i32>)>, Option<(String, i32)>);

    async fn plane() -> Plane {
        let plane = Plane::new(&[]);
        plane.create("t", 2).await;
        plane.create("three", 3).await;
        plane
    }

    fn ask(plane: &Plane, topics: &[&str], limit: i32, cursor: Option<(&str, i32)>) -> Page {
        let request = message!(DescribeTopicPartitionsRequest {
            topics: topics.iter().map(|name| message!(TopicRequest { name: (*name).into() })).collect(),
            response_partition_limit: limit,
            cursor: cursor.map(|(topic, partition)| {
                message!(RequestCursor { topic_name: topic.into(), partition_index: partition })
            }),
        });
        let response = answer(&plane.image(), &request, 2000);
        response.clone().encode(0).expect("can be encoded");
        let topics = response.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|it| it.partition_index).collect();
            (topic.name.expect("named").into_string(), topic.error_code, partitions)
        });
        let cursor = response.next_cursor.map(|it| (it.topic_name.into_string(), it.partition_index));
        (topics.collect(), cursor)
    }

    fn shown(name: &str, partitions: &[i32]) -> (String, i16, Vec<i32>) {
        (name.to_owned(), 0, partitions.to_vec())
    }

    #[tokio::test]
    async fn pages() {
        let plane = plane().await;
        let next = |topic: &str, partition: i32| Some((topic.to_owned(), partition));
        for (topics, limit, cursor, expected) in [
            (&["t"][..], 1, None, (vec![shown("t", &[0])], next("t", 1))),
            (&["t"], 10, Some(("t", 1)), (vec![shown("t", &[1])], None)),
            (&["t"], 10, Some(("t", 50)), (vec![shown("t", &[])], None)),
            (&["t"], 0, None, (vec![shown("t", &[0])], next("t", 1))),
            (&["t"], -5, None, (vec![shown("t", &[0])], next("t", 1))),
            (&["three", "t", "t"], 2, None, (vec![shown("t", &[0, 1])], next("three", 0))),
            (&["t", "three"], 20, Some(("three", 1)), (vec![shown("three", &[1, 2])], None)),
            (&[], 3, None, (vec![shown("t", &[0, 1]), shown("three", &[0])], next("three", 1))),
            (&[], 9, Some(("taa", 1)), (vec![shown("three", &[0, 1, 2])], None)),
            (&["t", "zzz"], 2, None, (vec![shown("t", &[0, 1])], next("zzz", 0))),
        ] {
            assert_eq!(ask(&plane, topics, limit, cursor), expected, "{topics:?} {limit} {cursor:?}");
        }
    }

    #[tokio::test]
    async fn errors() {
        let plane = plane().await;
        let code = |code: ErrorCode, name: &str| (name.to_owned(), code.code(), vec![]);
        let (page, _) = ask(&plane, &["none", "a/b"], 9, None);
        let invalid = ErrorCode::InvalidTopicException;
        assert_eq!(page, [code(invalid, "a/b"), code(ErrorCode::UnknownTopicOrPartition, "none")]);
        for cursor in [("t", -1), ("three", 0)] {
            let (page, next) = ask(&plane, &["t"], 9, Some(cursor));
            assert_eq!((page, next), (vec![code(ErrorCode::InvalidRequest, "t")], None), "{cursor:?}");
        }
    }
}
