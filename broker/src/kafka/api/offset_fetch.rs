//! OffsetFetch (KIP-447, KIP-709, KIP-848): a group's committed offsets, since version 8 of several groups. Since
//! version 10 topics are identified, not named.
//!
//! What is asked for several times is told once: a short request must not have an endless answer.
//!
//! `require_stable` waits for offsets that open transactions have written; without transactions there are none.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_wire::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_wire::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_wire::{OffsetFetchRequest, OffsetFetchResponse};

use super::group_requests::{owned, topic, wire};
use crate::coordinator::offsets::OffsetKey;
use crate::coordinator::records::CommittedOffset;
use crate::coordinator::shard::{FetchRequest, FetchedOffsets, Request};
use crate::kafka::RequestContext;
use crate::kafka::wire::{ErrorCode, StrBytes, Uuid};
use crate::message;
use crate::metadata::Image;

/// A request may name several groups from this version on.
const GROUPS_FROM: i16 = 8;
/// Topics are identified from this version on.
const IDS_FROM: i16 = 10;
/// An error of the whole request has its own field from this version on.
const TOP_LEVEL_ERROR_FROM: i16 = 2;
/// What stands for no offset.
const NO_OFFSET: i64 = -1;

/// Answers with what is durable.
pub async fn handle(context: &RequestContext, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if context.version >= GROUPS_FROM {
        let mut groups = Vec::with_capacity(request.groups.len());
        let mut seen = HashSet::new();
        for group in request.groups.iter().filter(|group| seen.insert(&group.group_id)) {
            groups.push(of_group(context, group).await);
        }
        return message!(OffsetFetchResponse { groups: groups });
    }
    of_one_group(context, request).await
}

/// One topic asked for: its name (`None`: there is no topic of this id), its id and partitions.
struct Asked {
    name: Option<Arc<str>>,
    id: Uuid,
    partitions: Vec<i32>,
}

/// One topic of the answer.
struct Found {
    name: Arc<str>,
    id: Uuid,
    partitions: Vec<(i32, Result<Option<CommittedOffset>, ErrorCode>)>,
}

async fn of_group(context: &RequestContext, group: &OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let image = context.broker.metadata.image();
    let by_id = context.version >= IDS_FROM;
    let asked = group.topics.as_ref().map(|topics| {
        let asked = topics.iter().map(|requested| Asked {
            name: if by_id {
                topic(&image, "", requested.topic_id, true).ok().map(|topic| topic.name.clone())
            } else {
                Some(owned(&requested.name))
            },
            id: requested.topic_id,
            partitions: requested.partition_indexes.clone(),
        });
        asked.collect()
    });
    let found = match fetch(context, &group.group_id, asked).await {
        Ok(found) => found,
        Err(error) => {
            return message!(OffsetFetchResponseGroup { group_id: group.group_id.clone(), error_code: error.code() });
        }
    };
    let topics = found.into_iter().filter_map(|found| {
        let (name, id) =
            if by_id { (StrBytes::default(), identify(&found, &image)?) } else { (wire(&found.name), Uuid::ZERO) };
        let partition = |(index, outcome)| grouped_partition(index, matching(outcome, id));
        let partitions = found.partitions.into_iter().map(partition).collect();
        Some(message!(OffsetFetchResponseTopics { name: name, topic_id: id, partitions: partitions }))
    });
    message!(OffsetFetchResponseGroup { group_id: group.group_id.clone(), topics: topics.collect() })
}

/// The id to answer with; topics that do not exist any more have none, and are left out of "all".
fn identify(found: &Found, image: &Image) -> Option<Uuid> {
    if !found.id.is_zero() || found.name.is_empty() {
        return Some(found.id);
    }
    image.topic(&found.name).map(|topic| Uuid::from_bytes(topic.id.to_bytes()))
}

/// An offset that was committed for a former topic of the name is none of this one.
fn matching(
    outcome: Result<Option<CommittedOffset>, ErrorCode>,
    id: Uuid,
) -> Result<Option<CommittedOffset>, ErrorCode> {
    let matches = |value: &CommittedOffset| {
        id.is_zero() || value.topic_id.is_none_or(|committed| committed.to_bytes() == id.to_bytes())
    };
    outcome.map(|value| value.filter(matches))
}

async fn of_one_group(context: &RequestContext, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let asked = request.topics.as_ref().map(|topics| {
        let asked = topics.iter().map(|requested| Asked {
            name: Some(owned(&requested.name)),
            id: Uuid::ZERO,
            partitions: requested.partition_indexes.clone(),
        });
        asked.collect::<Vec<_>>()
    });
    let found = match fetch(context, &request.group_id, asked).await {
        Ok(found) => found,
        Err(error) if context.version >= TOP_LEVEL_ERROR_FROM => {
            return message!(OffsetFetchResponse { error_code: error.code() });
        }
        Err(error) => {
            let failed = request.topics.iter().flatten().map(|requested| Found {
                name: owned(&requested.name),
                id: Uuid::ZERO,
                partitions: requested.partition_indexes.iter().map(|index| (*index, Err(error))).collect(),
            });
            failed.collect()
        }
    };
    let topics = found.into_iter().map(|found| {
        let partitions = found.partitions.into_iter().map(|(index, outcome)| single_partition(index, outcome));
        message!(OffsetFetchResponseTopic { name: wire(&found.name), partitions: partitions.collect() })
    });
    message!(OffsetFetchResponse { topics: topics.collect() })
}

/// Looks up what is asked for; `None` is everything.
async fn fetch(context: &RequestContext, group: &StrBytes, asked: Option<Vec<Asked>>) -> Result<Vec<Found>, ErrorCode> {
    let group_id = owned(group);
    let asked = asked.map(once);
    let request = match &asked {
        None => FetchRequest::All { group: group_id },
        Some(topics) => {
            let keys = topics.iter().filter_map(|topic| topic.name.as_ref().map(|name| (name, &topic.partitions)));
            let keys = keys.flat_map(|(name, partitions)| {
                partitions.iter().map(|index| OffsetKey { topic: name.clone(), partition: *index })
            });
            FetchRequest::Some { group: group_id, keys: keys.collect() }
        }
    };
    let offsets = context.broker.groups.ask(group, |reply| Request::FetchOffsets(request, reply)).await?;
    Ok(match asked {
        None => by_topic(offsets),
        Some(asked) => as_asked(asked, offsets),
    })
}

/// Drops partitions that were asked for before, and topics of which nothing else is asked.
fn once(mut asked: Vec<Asked>) -> Vec<Asked> {
    let mut seen = HashSet::new();
    asked.retain_mut(|topic| {
        let before = topic.partitions.len();
        let (name, id) = (&topic.name, topic.id);
        topic.partitions.retain(|index| seen.insert((name.clone(), id, *index)));
        before == 0 || !topic.partitions.is_empty()
    });
    asked
}

/// All offsets, which come ordered by topic.
fn by_topic(offsets: FetchedOffsets) -> Vec<Found> {
    let mut topics: Vec<Found> = Vec::new();
    for (key, value) in offsets {
        if topics.last().is_none_or(|last| last.name != key.topic) {
            topics.push(Found { name: key.topic, id: Uuid::ZERO, partitions: Vec::new() });
        }
        topics.last_mut().expect("one was pushed").partitions.push((key.partition, Ok(value)));
    }
    topics
}

/// The offsets of the topics that exist come in the order in which they were asked for.
fn as_asked(asked: Vec<Asked>, offsets: FetchedOffsets) -> Vec<Found> {
    let mut offsets = offsets.into_iter();
    let found = asked.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|index| match topic.name {
            None => (index, Err(ErrorCode::UnknownTopicId)),
            Some(_) => (index, Ok(offsets.next().expect("every key asked for is answered").1)),
        });
        let partitions = partitions.collect();
        Found { name: topic.name.unwrap_or_else(|| "".into()), id: topic.id, partitions }
    });
    found.collect()
}

/// Offset, leader epoch, metadata and error of a partition.
fn fields(outcome: Result<Option<CommittedOffset>, ErrorCode>) -> (i64, i32, Option<StrBytes>, i16) {
    match outcome {
        Ok(Some(value)) => (value.offset, value.leader_epoch, Some(wire(&value.metadata)), 0),
        Ok(None) => (NO_OFFSET, -1, Some("".into()), 0),
        Err(error) => (NO_OFFSET, -1, Some("".into()), error.code()),
    }
}

fn grouped_partition(index: i32, outcome: Result<Option<CommittedOffset>, ErrorCode>) -> OffsetFetchResponsePartitions {
    let (offset, epoch, metadata, error_code) = fields(outcome);
    message!(OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: offset,
        committed_leader_epoch: epoch,
        metadata,
        error_code,
    })
}

fn single_partition(index: i32, outcome: Result<Option<CommittedOffset>, ErrorCode>) -> OffsetFetchResponsePartition {
    let (offset, epoch, metadata, error_code) = fields(outcome);
    message!(OffsetFetchResponsePartition {
        partition_index: index,
        committed_offset: offset,
        committed_leader_epoch: epoch,
        metadata,
        error_code,
    })
}
