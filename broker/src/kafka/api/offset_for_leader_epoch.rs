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

#[cfg(test)]
mod tests {
    use kafka_wire::offset_for_leader_epoch_request::OffsetForLeaderTopic;

    use super::*;
    use crate::kafka::testing::TestBroker;
    use crate::kafka::wire::StrBytes;
    use crate::log::Origin;
    use crate::stream::Acks;
    use crate::stream::testing::{batch, lead, registration};
    use crate::wal::Admission;

    #[tokio::test]
    async fn the_end_of_the_epoch_at_or_below_the_one_asked_for_is_told() {
        let broker = TestBroker::start();
        let partition = broker.node.partition("t");
        for epoch in [0, 3] {
            lead(&partition, &registration(epoch, &[0], &[0]));
            partition.append(batch(5), Acks::Leader, Origin::Client, Admission::unbounded()).expect("it is taken");
        }
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        for (topic, current, asked, found) in [
            ("t", -1, 0, (0, 0, 5)),
            ("t", -1, 2, (0, 0, 5)),
            ("t", 3, 3, (0, 3, 10)),
            ("t", -1, 9, (0, -1, -1)),
            ("t", -1, -1, (0, -1, -1)),
            ("t", 2, 0, (ErrorCode::FencedLeaderEpoch.code(), -1, -1)),
            ("t", 99, 0, (ErrorCode::UnknownLeaderEpoch.code(), -1, -1)),
            ("u", -1, 0, (unknown, -1, -1)),
        ] {
            let partition =
                message!(OffsetForLeaderPartition { partition: 0, current_leader_epoch: current, leader_epoch: asked });
            let topic = message!(OffsetForLeaderTopic { topic: StrBytes::from(topic), partitions: vec![partition] });
            let request = message!(OffsetForLeaderEpochRequest { replica_id: -2, topics: vec![topic] });
            let response = handle(&broker.context::<OffsetForLeaderEpochRequest>(4), request).await;
            let end = &response.topics[0].partitions[0];
            assert_eq!((end.error_code, end.leader_epoch, end.end_offset), found, "epoch {asked}");
        }
    }
}
