//! ListOffsets: where a partition begins and ends, and where records of a time are.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_wire::{ListOffsetsRequest, ListOffsetsResponse};

use super::replica;
use crate::ids::{LeaderEpoch, Offset};
use crate::io::blocking;
use crate::kafka::RequestContext;
use crate::kafka::wire::{ErrorCode, StrBytes};
use crate::log::TimestampOffset;
use crate::message;
use crate::stream::{Partition, PartitionError};

/// First version with leader epochs (KIP-320).
const LEADER_EPOCHS: i16 = 4;
/// First version that knows OFFSET_NOT_AVAILABLE (KIP-207).
const OFFSET_NOT_AVAILABLE: i16 = 5;

/// What a timestamp field asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    /// The end: one past the last record that may be read.
    Latest,
    /// The log's start.
    Earliest,
    /// The record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// The start of what is not in tiered storage only (KIP-405): here the log's start.
    EarliestLocal,
    /// The end of what is in tiered storage (KIP-1005): here nothing is.
    LatestTiered,
    /// The start of what is still to go to tiered storage (KIP-1023): here nothing does.
    EarliestPendingUpload,
    /// The first record at or after a time, ms.
    At(i64),
}

impl Spec {
    /// Reads the field; the special ones came one by one.
    fn of(timestamp: i64, version: i16) -> Result<Self, ErrorCode> {
        let (spec, since) = match timestamp {
            -1 => (Self::Latest, 1),
            -2 => (Self::Earliest, 1),
            -3 => (Self::MaxTimestamp, 7),
            -4 => (Self::EarliestLocal, 8),
            -5 => (Self::LatestTiered, 9),
            -6 => (Self::EarliestPendingUpload, 11),
            time if time >= 0 => (Self::At(time), 1),
            _ => return Err(ErrorCode::UnsupportedVersion),
        };
        if version < since { Err(ErrorCode::UnsupportedVersion) } else { Ok(spec) }
    }
}

/// What was found; −1 where there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    timestamp: i64,
    offset: i64,
    leader_epoch: i32,
}

impl Found {
    const NOTHING: Self = Self { timestamp: -1, offset: -1, leader_epoch: -1 };

    fn at(offset: Offset, leader_epoch: Option<LeaderEpoch>) -> Self {
        Self { offset: offset.get(), leader_epoch: leader_epoch.map_or(-1, LeaderEpoch::get), timestamp: -1 }
    }

    fn record(found: TimestampOffset) -> Self {
        Self { timestamp: found.timestamp_ms, ..Self::at(found.offset, found.leader_epoch) }
    }
}

/// Answers a ListOffsets request. A partition that is asked for twice is answered once, as an error.
pub async fn handle(context: &RequestContext, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let committed = request.isolation_level == 1;
    let duplicates = duplicates(&request.topics);
    let mut answered = HashSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let key = (topic.name.clone(), partition.partition_index);
            let found = if duplicates.contains(&key) {
                if !answered.insert(key) {
                    continue;
                }
                Err(ErrorCode::InvalidRequest)
            } else {
                look_up(context, &topic.name, partition, committed).await
            };
            partitions.push(answer(context.version, partition.partition_index, found));
        }
        topics.push(message!(ListOffsetsTopicResponse { name: topic.name.clone(), partitions }));
    }
    message!(ListOffsetsResponse { topics })
}

fn duplicates(topics: &[ListOffsetsTopic]) -> HashSet<(StrBytes, i32)> {
    let mut once = HashSet::new();
    let all = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.name.clone(), partition.partition_index)));
    all.filter(|key| !once.insert(key.clone())).collect()
}

fn answer(version: i16, index: i32, found: Result<Found, ErrorCode>) -> ListOffsetsPartitionResponse {
    let (error, found) = match found {
        Ok(found) => (ErrorCode::None, found),
        Err(error) => (error, Found::NOTHING),
    };
    message!(ListOffsetsPartitionResponse {
        partition_index: index,
        error_code: error.code(),
        timestamp: found.timestamp,
        offset: found.offset,
        leader_epoch: if version >= LEADER_EPOCHS { found.leader_epoch } else { -1 },
    })
}

async fn look_up(
    context: &RequestContext,
    topic: &str,
    asked: &ListOffsetsPartition,
    committed: bool,
) -> Result<Found, ErrorCode> {
    let spec = Spec::of(asked.timestamp, context.version)?;
    let partition = replica::find_by_name(&context.broker, topic, asked.partition_index)?;
    let leader_epoch =
        partition.check_leader(Some(asked.current_leader_epoch)).map_err(|error| ErrorCode::from(&error))?;
    find(partition, leader_epoch, spec, committed).await.map_err(|error| match ErrorCode::from(&error) {
        ErrorCode::OffsetNotAvailable if context.version < OFFSET_NOT_AVAILABLE => ErrorCode::LeaderNotAvailable,
        error => error,
    })
}

async fn find(
    partition: Arc<Partition>,
    leader_epoch: LeaderEpoch,
    spec: Spec,
    committed: bool,
) -> Result<Found, PartitionError> {
    let time = match spec {
        Spec::Latest => {
            let offsets = partition.latest_offsets()?;
            let end = if committed { offsets.last_stable } else { offsets.high_watermark };
            return Ok(Found::at(end, Some(leader_epoch)));
        }
        Spec::Earliest | Spec::EarliestLocal => {
            let start = partition.offsets().log_start;
            let log = partition.log();
            return Ok(Found::at(start, log.epoch_at(start).or(Some(leader_epoch))));
        }
        Spec::LatestTiered | Spec::EarliestPendingUpload => return Ok(Found::NOTHING),
        Spec::MaxTimestamp => None,
        Spec::At(time) => Some(time),
    };
    // Looks for records, on the disk if need be.
    let found = blocking(move || {
        let offsets = partition.offsets();
        let upto = if committed { offsets.last_stable } else { offsets.high_watermark };
        let log = partition.log();
        match time {
            Some(time) => log.offset_for_timestamp(time, upto),
            None => log.offset_of_max_timestamp(upto),
        }
    })
    .await?;
    Ok(found.map_or(Found::NOTHING, Found::record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::testing::TestBroker;
    use crate::log::Origin;
    use crate::stream::Acks;
    use crate::stream::testing::{lead, registration, timed_batch};
    use crate::wal::Admission;

    /// Topic `t`: partition 0 has records of 1000, 1010, 1020 ms and one of 2000 ms, partition 1 nothing.
    fn with_data() -> TestBroker {
        let broker = TestBroker::start();
        broker.node.create("t", 2);
        let partition = broker.node.partitions.by_name("t", 0).expect("it was created");
        for times in [&[1000, 1010, 1020][..], &[2000]] {
            partition
                .append(timed_batch(times), Acks::Leader, Origin::Client, Admission::unbounded())
                .expect("it is taken");
        }
        broker.node.flush();
        broker
    }

    fn ask(index: i32, timestamp: i64) -> ListOffsetsPartition {
        message!(ListOffsetsPartition { partition_index: index, current_leader_epoch: -1, timestamp })
    }

    /// Error code, timestamp, offset and leader epoch of each partition.
    async fn answers(
        broker: &TestBroker,
        version: i16,
        topic: &str,
        partitions: Vec<ListOffsetsPartition>,
    ) -> Vec<(i16, i64, i64, i32)> {
        let topic = message!(ListOffsetsTopic { name: StrBytes::from(topic), partitions });
        let request = message!(ListOffsetsRequest { replica_id: -1, topics: vec![topic] });
        let response = handle(&broker.context::<ListOffsetsRequest>(version), request).await;
        let partitions = response.topics.into_iter().flat_map(|topic| topic.partitions);
        partitions.map(|one| (one.error_code, one.timestamp, one.offset, one.leader_epoch)).collect()
    }

    #[tokio::test]
    async fn every_spec_is_answered_as_kafka_does() {
        let broker = with_data();
        for (timestamp, found) in [
            (-1, (0, -1, 4, 0)),
            (-2, (0, -1, 0, 0)),
            (-3, (0, 2000, 3, 0)),
            (-4, (0, -1, 0, 0)),
            (-5, (0, -1, -1, -1)),
            (-6, (0, -1, -1, -1)),
            (1000, (0, 1000, 0, 0)),
            (1005, (0, 1010, 1, 0)),
            (1500, (0, 2000, 3, 0)),
            (5000, (0, -1, -1, -1)),
            (-42, (ErrorCode::UnsupportedVersion.code(), -1, -1, -1)),
        ] {
            assert_eq!(answers(&broker, 11, "t", vec![ask(0, timestamp)]).await, [found], "{timestamp}");
        }
        assert_eq!(answers(&broker, 3, "t", vec![ask(0, -1)]).await, [(0, -1, 4, -1)], "no epochs before version 4");
    }

    #[tokio::test]
    async fn an_empty_partition_begins_and_ends_at_0() {
        let broker = with_data();
        let all = answers(&broker, 11, "t", vec![ask(1, -1)]).await;
        assert_eq!(all, [(0, -1, 0, 0)]);
        assert_eq!(answers(&broker, 11, "t", vec![ask(1, -2)]).await, [(0, -1, 0, 0)]);
        assert_eq!(answers(&broker, 11, "t", vec![ask(1, -3)]).await, [(0, -1, -1, -1)]);
    }

    #[tokio::test]
    async fn a_partition_that_is_asked_for_twice_is_answered_once_as_an_error() {
        let broker = with_data();
        let found = answers(&broker, 11, "t", vec![ask(0, -1), ask(0, -2), ask(1, -1)]).await;
        assert_eq!(found, [(ErrorCode::InvalidRequest.code(), -1, -1, -1), (0, -1, 0, 0)]);
    }

    #[tokio::test]
    async fn unknown_partitions_and_newer_epochs_are_errors() {
        let broker = with_data();
        let unknown = (ErrorCode::UnknownTopicOrPartition.code(), -1, -1, -1);
        assert_eq!(answers(&broker, 11, "t", vec![ask(9, -1)]).await, [unknown]);
        assert_eq!(answers(&broker, 11, "u", vec![ask(0, -1)]).await, [unknown]);
        let newer = message!(ListOffsetsPartition { partition_index: 0, current_leader_epoch: 99, timestamp: -1 });
        let newer = answers(&broker, 11, "t", vec![newer]).await;
        assert_eq!(newer, [(ErrorCode::UnknownLeaderEpoch.code(), -1, -1, -1)]);
    }

    #[tokio::test]
    async fn what_a_new_leader_does_not_know_yet_has_an_older_name_for_older_clients() {
        let broker = with_data();
        let partition = broker.node.partitions.by_name("t", 0).expect("it was created");
        lead(&partition, &registration(1, &[0, 1], &[0, 1]));
        partition
            .append(timed_batch(&[3000]), Acks::Leader, Origin::Client, Admission::unbounded())
            .expect("it is taken");
        broker.node.flush();
        lead(&partition, &registration(2, &[0, 1], &[0, 1]));
        for (version, error) in [(4, ErrorCode::LeaderNotAvailable), (5, ErrorCode::OffsetNotAvailable)] {
            assert_eq!(answers(&broker, version, "t", vec![ask(0, -1)]).await, [(error.code(), -1, -1, -1)]);
        }
    }

    #[test]
    fn special_timestamps_came_one_by_one() {
        for (timestamp, since) in
            [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11), (0, 1), (1_700_000_000_000, 1)]
        {
            for version in 1..=11 {
                assert_eq!(Spec::of(timestamp, version).is_ok(), version >= since, "{timestamp} at version {version}");
            }
        }
        assert_eq!(Spec::of(-42, 11), Err(ErrorCode::UnsupportedVersion));
        assert_eq!(Spec::of(i64::MIN, 11), Err(ErrorCode::UnsupportedVersion));
    }
}
