//! DeleteRecords: moves the start of logs (KIP-107).

use kafka_wire::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_wire::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::{blocking, replica};
use crate::ids::Offset;
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
