//! OffsetForLeaderEpoch: where the leader's log parts from a client's (KIP-101, KIP-320).

use kafka_wire::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_wire::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_wire::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::replica;
use crate::ids::{LeaderEpoch, Offset};
use crate::kafka::RequestContext;
use crate::kafka::wire::ErrorCode;
use crate::message;

/// Answers an OffsetForLeaderEpoch request.
pub async fn handle(context: &RequestContext, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let (error, end) = match end_of_epoch(context, &topic.topic, asked) {
                Ok(end) => (ErrorCode::None, end),
                Err(error) => (error, None),
            };
            message!(EpochEndOffset {
                error_code: error.code(),
                partition: asked.partition,
                leader_epoch: end.map_or(-1, |(epoch, _)| epoch.get()),
                end_offset: end.map_or(-1, |(_, end)| end.get()),
            })
        });
        message!(OffsetForLeaderTopicResult { topic: topic.topic.clone(), partitions: partitions.collect() })
    });
    message!(OffsetForLeaderEpochResponse { topics: topics.collect() })
}

/// The largest epoch at or below the one asked for, and its end; `None` for one that the leader has not reached.
fn end_of_epoch(
    context: &RequestContext,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
    let partition = replica::find_by_name(&context.broker, topic, asked.partition)?;
    partition.check_leader(Some(asked.current_leader_epoch)).map_err(|error| ErrorCode::from(&error))?;
    let epoch = LeaderEpoch::try_from(asked.leader_epoch).ok();
    Ok(epoch.and_then(|epoch| partition.log().end_offset_for_epoch(epoch)))
}
