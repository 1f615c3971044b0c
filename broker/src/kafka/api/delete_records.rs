//! DeleteRecords: moves the start of logs (KIP-107).

use kafka_wire::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_wire::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::replica;
use crate::ids::Offset;
use crate::io::blocking;
use crate::kafka::RequestContext;
use crate::kafka::wire::ErrorCode;
use crate::message;

/// In the request: up to the high watermark.
const HIGH_WATERMARK: i64 = -1;
/// In the response: no low watermark.
const NO_LOW_WATERMARK: i64 = -1;

/// Answers a DeleteRecords request.
pub async fn handle(context: &RequestContext, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let deleted = delete(context, &topic.name, asked.partition_index, asked.offset).await;
            partitions.push(message!(DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: deleted.map_or(NO_LOW_WATERMARK, Offset::get),
                error_code: deleted.err().unwrap_or(ErrorCode::None).code(),
            }));
        }
        topics.push(message!(DeleteRecordsTopicResult { name: topic.name.clone(), partitions }));
    }
    message!(DeleteRecordsResponse { topics })
}

/// Deletes the records below `upto`; answers where the log starts now.
async fn delete(context: &RequestContext, topic: &str, index: i32, upto: i64) -> Result<Offset, ErrorCode> {
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
    blocking(move || partition.log().delete_records(upto)).await.map_err(|error| ErrorCode::from(&error))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kafka_wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};

    use super::*;
    use crate::kafka::testing::TestBroker;
    use crate::kafka::wire::StrBytes;
    use crate::log::{CleanupPolicy, LogConfig, Origin};
    use crate::stream::Acks;
    use crate::stream::testing::batch;
    use crate::wal::Admission;

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
        let response = handle(&context, message!(DeleteRecordsRequest { topics })).await;
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
}
