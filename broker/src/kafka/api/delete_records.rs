//! DeleteRecords: moves the start of logs (KIP-107), and answers once no replica that is alive has what was deleted.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kafka_wire::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_wire::{DeleteRecordsRequest, DeleteRecordsResponse};
use tokio::time::{Instant, timeout_at};

use super::replica;
use crate::ids::Offset;
use crate::kafka::RequestContext;
use crate::kafka::wire::ErrorCode;
use crate::message;
use crate::stream::Partition;

/// In the request: up to the high watermark.
const HIGH_WATERMARK: i64 = -1;
/// In the response: no low watermark.
const NO_LOW_WATERMARK: i64 = -1;

/// Answers a DeleteRecords request.
pub async fn handle(context: &RequestContext, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let deadline = Instant::now() + Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let topics = request.topics.iter().map(async |topic| {
        let partitions = topic.partitions.iter().map(async |asked| {
            let index = asked.partition_index;
            let (error, low_watermark) = match delete(context, &topic.name, index, asked.offset) {
                Ok(deletion) => deletion.settle(context, &topic.name, deadline).await,
                Err(error) => (error, NO_LOW_WATERMARK),
            };
            message!(DeleteRecordsPartitionResult { partition_index: index, low_watermark, error_code: error.code() })
        });
        message!(DeleteRecordsTopicResult { name: topic.name.clone(), partitions: join_all(partitions).await })
    });
    message!(DeleteRecordsResponse { topics: join_all(topics).await })
}

/// Deletes the records below `upto` here, and has the followers do so.
fn delete(context: &RequestContext, topic: &str, index: i32, upto: i64) -> Result<Deletion, ErrorCode> {
    let partition = replica::find_by_name(&context.broker, topic, index)?;
    if replica::is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    partition.check_leader(None).map_err(|error| ErrorCode::from(&error))?;
    let policy = partition.log().config().cleanup_policy;
    if policy.compact && !policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let upto = match upto {
        HIGH_WATERMARK => partition.offsets().high_watermark,
        upto => Offset::try_from(upto).map_err(|_| ErrorCode::OffsetOutOfRange)?,
    };
    partition.delete_records(upto).map_err(|error| ErrorCode::from(&error))?;
    Ok(Deletion { partition, upto })
}

/// Records that are deleted here, and on their way to be on the followers.
struct Deletion {
    partition: Arc<Partition>,
    upto: Offset,
}

impl Deletion {
    /// Waits until the low watermark has reached the deletion. Returns how that ended, and the low watermark.
    async fn settle(&self, context: &RequestContext, topic: &str, deadline: Instant) -> (ErrorCode, i64) {
        // Where it is when the time begins is what an answer says whose time ran out, as Kafka does.
        let at_first = self.low_watermark(context, topic);
        let settled = timeout_at(deadline, self.reached(context, topic)).await;
        match settled.unwrap_or_else(|_| at_first.map(|low| (ErrorCode::RequestTimedOut, low))) {
            Ok((error, low_watermark)) => (error, low_watermark.get()),
            Err(error) => (error, NO_LOW_WATERMARK),
        }
    }

    async fn reached(&self, context: &RequestContext, topic: &str) -> Result<(ErrorCode, Offset), ErrorCode> {
        let mut images = context.broker.metadata.subscribe();
        loop {
            let moves = self.partition.low_watermark_moves();
            images.mark_unchanged();
            let low_watermark = self.low_watermark(context, topic)?;
            if low_watermark >= self.upto {
                return Ok((ErrorCode::None, low_watermark));
            }
            tokio::select! {
                () = moves => {}
                changed = images.changed() => changed.map_err(|_| ErrorCode::NotLeaderOrFollower)?,
            }
        }
    }

    fn low_watermark(&self, context: &RequestContext, topic: &str) -> Result<Offset, ErrorCode> {
        let current = replica::find_by_name(&context.broker, topic, self.partition.index().get())?;
        if current.id() != self.partition.id() {
            // Another topic of the same name by now.
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        let image = context.broker.metadata.image();
        let is_alive = |node| image.node(node).is_some_and(|node| !node.fenced);
        self.partition.low_watermark(is_alive).map_err(|error| ErrorCode::from(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kafka_wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};

    use super::*;
    use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId};
    use crate::kafka::testing::TestBroker;
    use crate::kafka::wire::StrBytes;
    use crate::log::{CleanupPolicy, LogConfig, Origin};
    use crate::metadata::testing::node;
    use crate::metadata::{Command, MetadataPlane};
    use crate::stream::Acks;
    use crate::stream::replication::{Extent, Leaders, Led};
    use crate::stream::testing::{batch, follow, lead, registration};
    use crate::wal::Admission;

    /// That of the requests.
    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Topic `t`: five flushed records and two that are not.
    fn with_data(config: LogConfig) -> TestBroker {
        let broker = TestBroker::start();
        *broker.node.settings.log.lock() = Arc::new(config);
        let partition = broker.node.partition("t");
        for records in [5, 2] {
            broker.node.flush();
            // A compacted topic takes no records without keys, and needs none here.
            let _ = partition.append(batch(records), Acks::Leader, Origin::Client, Admission::unbounded());
        }
        broker
    }

    async fn deleted(broker: &TestBroker, topic: &str, index: i32, offset: i64) -> (i16, i64) {
        let partitions = vec![message!(DeleteRecordsPartition { partition_index: index, offset })];
        let topics = vec![message!(DeleteRecordsTopic { name: StrBytes::from(topic), partitions })];
        let context = broker.context::<DeleteRecordsRequest>(2);
        let response =
            handle(&context, message!(DeleteRecordsRequest { topics, timeout_ms: TIMEOUT.as_millis() as i32 })).await;
        let partition = &response.topics[0].partitions[0];
        (partition.error_code, partition.low_watermark)
    }

    #[tokio::test]
    async fn the_log_start_moves_up_to_the_high_watermark_and_never_back() {
        let broker = with_data(LogConfig::default());
        let out_of_range = (ErrorCode::OffsetOutOfRange.code(), -1);
        assert_eq!(deleted(&broker, "t", 0, 2).await, (0, 2));
        assert_eq!(deleted(&broker, "t", 0, 1).await, (0, 2));
        assert_eq!(deleted(&broker, "t", 0, 6).await, out_of_range, "appended, but not committed");
        assert_eq!(deleted(&broker, "t", 0, -9).await, out_of_range);
        assert_eq!(deleted(&broker, "t", 0, HIGH_WATERMARK).await, (0, 5));
    }

    #[tokio::test]
    async fn unknown_compacted_and_internal_topics_are_refused() {
        let cleanup_policy = CleanupPolicy { delete: false, compact: true };
        let broker = with_data(LogConfig { cleanup_policy, ..LogConfig::default() });
        broker.node.create("__consumer_offsets", 1);
        let refused = |error: ErrorCode| (error.code(), -1);
        assert_eq!(deleted(&broker, "t", 0, 0).await, refused(ErrorCode::PolicyViolation));
        assert_eq!(deleted(&broker, "t", 6, 0).await, refused(ErrorCode::UnknownTopicOrPartition));
        assert_eq!(deleted(&broker, "u", 0, 0).await, refused(ErrorCode::UnknownTopicOrPartition));
        let internal = deleted(&broker, "__consumer_offsets", 0, 0).await;
        assert_eq!(internal, refused(ErrorCode::InvalidTopicException));
    }

    /// Topic `t` as in `with_data`, all of it committed, with node 1 as a follower in sync.
    fn with_follower() -> (TestBroker, Led) {
        let broker = with_data(LogConfig::default());
        let alive = Command::RegisterNode { node: node(1), acked_may_be_lost: false };
        broker.node.command(alive);
        let partition = broker.node.partitions.by_name("t", 0).expect("it was created");
        lead(&partition, &registration(1, &[0, 1], &[0, 1]));
        broker.node.flush();
        let led = Led { partition: partition.id(), epoch: LeaderEpoch::new(1) };
        acked(&broker, led, 0);
        (broker, led)
    }

    /// The follower says where its log begins.
    fn acked(broker: &TestBroker, led: Led, log_start: i64) {
        let extent = Extent { log_start: Offset::new(log_start), flushed_end: Offset::new(7) };
        broker.node.partitions.acked(led, NodeId::new(1), BrokerEpoch::new(5), extent);
    }

    /// Asks for a deletion, and looks once whether it is answered: `None` while it is not.
    macro_rules! asked {
        ($broker:ident, $upto:literal) => {{
            let asked = tokio::time::timeout(Duration::from_hours(1), deleted(&$broker, "t", 0, $upto));
            let mut asked = Box::pin(asked);
            assert!(futures::poll!(&mut asked).is_pending(), "the follower has not deleted anything yet");
            asked
        }};
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_answered_when_the_followers_log_begins_there_too() {
        let (broker, led) = with_follower();
        let mut asked = asked!(broker, 4);
        acked(&broker, led, 3);
        assert!(futures::poll!(&mut asked).is_pending(), "not far enough");
        acked(&broker, led, 4);
        assert_eq!(asked.await.expect("answered"), (0, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_that_does_not_delete_in_time_times_it_out() {
        let (broker, led) = with_follower();
        acked(&broker, led, 1);
        let before = Instant::now();
        assert_eq!(deleted(&broker, "t", 0, 4).await, (ErrorCode::RequestTimedOut.code(), 1));
        assert_eq!(before.elapsed().as_secs(), TIMEOUT.as_secs());
        let partition = broker.node.partitions.by_name("t", 0).expect("it was created");
        assert_eq!(partition.offsets().log_start.get(), 4, "it is deleted nevertheless");
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_that_is_fenced_is_not_waited_for() {
        let (broker, _) = with_follower();
        let asked = asked!(broker, 4);
        let epoch = broker.node.plane.image().node(NodeId::new(1)).expect("registered").epoch;
        let fence = Command::FenceNode { node: NodeId::new(1), epoch };
        broker.node.plane.propose(fence).await.expect("the plane is there");
        assert_eq!(asked.await.expect("answered"), (0, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_leadership_ends_the_wait() {
        let (broker, _) = with_follower();
        let asked = asked!(broker, 4);
        let partition = broker.node.partitions.by_name("t", 0).expect("it was created");
        follow(&partition, &registration(2, &[0, 1], &[1]));
        assert_eq!(asked.await.expect("answered"), (ErrorCode::NotLeaderOrFollower.code(), -1));
    }
}
