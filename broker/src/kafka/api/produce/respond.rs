//! The response of a Produce request, from how each of its partitions ended.

use std::sync::Arc;

use smallvec::SmallVec;

use super::pending::{Appended, Settlement};
use crate::kafka::api::replica;
use crate::kafka::service::Answer;
use crate::kafka::wire::ErrorCode;
use crate::kafka::wire::produce::{PartitionResponse, encode_response};
use crate::log::AppendError;
use crate::stream::{Accepted, Partition, PartitionError};

/// What came of one partition before any acknowledgement.
pub(super) enum Outcome {
    /// Nothing was stored.
    Refused(PartitionResponse),
    /// The log took it; its acknowledgement comes in the next slot of the countdown.
    Accepted { index: i32, partition: Arc<Partition>, accepted: Accepted },
}

/// Answers. With acks=0 there is no response; an error closes the connection, the only way to tell the client.
pub(super) fn respond(appended: Appended, settlements: SmallVec<[Settlement; 2]>) -> Answer {
    if appended.patience.is_none() {
        let failed = appended.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(_)));
        return if failed { Answer::Close } else { Answer::Silence };
    }
    let mut settlements = settlements.into_iter();
    let mut partitions: SmallVec<[PartitionResponse; 1]> = appended
        .outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Refused(response) => response,
            Outcome::Accepted { index, partition, accepted } => {
                let settlement = settlements.next().expect("each accepted append has a slot, in this order");
                settled(index, &partition, &accepted, settlement)
            }
        })
        .collect();
    let mut endpoints = Vec::new();
    let stale = |partition: &PartitionResponse| partition.error == ErrorCode::NotLeaderOrFollower;
    if partitions.iter().any(stale) {
        let image = appended.context.broker.metadata.image();
        let topics = appended.topics.iter().flat_map(|(topic, count)| std::iter::repeat_n(topic, *count));
        for (partition, topic) in partitions.iter_mut().zip(topics).filter(|(partition, _)| stale(partition)) {
            partition.current_leader = Some(replica::current_leader(&image, topic, partition.index, &mut endpoints));
        }
    }
    Answer::Body(encode_response(appended.context.version, &appended.topics, &partitions, &endpoints))
}

/// The answer of an append that the log took.
fn settled(index: i32, partition: &Partition, accepted: &Accepted, settlement: Settlement) -> PartitionResponse {
    let error = match settlement {
        Settlement::Acknowledged => ErrorCode::None,
        Settlement::Waiting => ErrorCode::RequestTimedOut,
        // As far as it came: the records are in the log, but not on enough replicas.
        Settlement::Failed(PartitionError::NotEnoughReplicasAfterAppend) => ErrorCode::NotEnoughReplicasAfterAppend,
        Settlement::Failed(error) => return refused(index, &error, -1),
    };
    PartitionResponse {
        base_offset: accepted.appended.base_offset.get(),
        log_append_time_ms: accepted.appended.log_append_time_ms.unwrap_or(-1),
        log_start_offset: partition.offsets().log_start.get(),
        ..PartitionResponse::refused(index, error)
    }
}

/// The answer of an append that the partition refused. Kafka tells where the log starts when the records were looked
/// at, and what is wrong with them in words only where single records are to blame.
pub(super) fn refused(index: i32, error: &PartitionError, log_start: i64) -> PartitionResponse {
    let mut response = PartitionResponse::refused(index, error.into());
    let PartitionError::Append(error) = error else { return response };
    match error {
        AppendError::InvalidRecord { message, records } | AppendError::InvalidTimestamp { message, records } => {
            response.log_start_offset = log_start;
            response.error_message = (!records.is_empty()).then(|| message.clone());
            response.record_errors.clone_from(records);
        }
        AppendError::OutOfOrderSequence { .. }
        | AppendError::InvalidProducerEpoch { .. }
        | AppendError::InvalidTransactionState(_)
        | AppendError::CoordinatorFenced { .. } => response.log_start_offset = log_start,
        // The code says no more than that something is wrong with the storage.
        AppendError::DiskFull => response.error_message = Some("The broker's disk is full.".to_owned()),
        AppendError::Corrupt(_)
        | AppendError::TooLarge { .. }
        | AppendError::LargerThanSegment { .. }
        | AppendError::Closed => {}
    }
    response
}
