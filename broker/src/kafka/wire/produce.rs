//! Produce, versions 3–13, by hand: the request is read in place, its records are slices of the connection's read
//! buffer; nothing is allocated for a request of one partition.

use bytes::{BufMut, Bytes};
use kafka_wire_core::{DecodeError, Decoder, StrBytes};
use smallvec::SmallVec;

use super::fields::{
    self, CurrentLeader, NodeEndpoint, TopicRef, put_array_len, put_no_tags, put_nullable_string, put_uvarint,
};
use super::{Body, ErrorCode};
use crate::log::RecordError;

/// First version with tagged fields.
const FLEXIBLE: i16 = 9;
/// First version with topic ids (KIP-516).
const TOPIC_IDS: i16 = 13;
/// First version with the leader in answers to those who asked another (KIP-951).
const CURRENT_LEADER: i16 = 10;
/// First version with record errors and messages (KIP-467).
const RECORD_ERRORS: i16 = 8;
/// First version with the log start offset.
const LOG_START: i16 = 5;

/// A Produce request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceRequest {
    /// The transaction that the records belong to.
    pub transactional_id: Option<StrBytes>,
    /// Who must have the records before the answer: 0, 1, −1; as it was sent.
    pub acks: i16,
    /// How long the replicas may take, ms; as it was sent.
    pub timeout_ms: i32,
    /// The topics, each with how many of `partitions` are its own.
    pub topics: SmallVec<[(TopicRef, usize); 1]>,
    /// The partitions of all topics, in order.
    pub partitions: SmallVec<[PartitionRecords; 1]>,
}

/// What one partition is to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRecords {
    /// The partition, as it was sent.
    pub index: i32,
    /// The batches, unchecked.
    pub records: Option<Bytes>,
}

impl ProduceRequest {
    /// Decodes the body. What follows the last field is ignored, as Kafka does.
    pub fn decode(body: Bytes, version: i16) -> Result<Self, DecodeError> {
        let limits = super::limits(&body);
        let mut from = Decoder::new(body, limits)?;
        let flexible = version >= FLEXIBLE;
        let transactional_id =
            if flexible { from.read_compact_nullable_string()? } else { from.read_nullable_string()? };
        let acks = from.read_i16()?;
        let timeout_ms = from.read_i32()?;
        let mut topics = SmallVec::new();
        let mut partitions = SmallVec::new();
        for _ in 0..fields::read_array_len(&mut from, flexible)? {
            let topic = TopicRef::read(&mut from, version >= TOPIC_IDS, flexible)?;
            let count = fields::read_partitions_len(&mut from, flexible, partitions.len())?;
            for _ in 0..count {
                let index = from.read_i32()?;
                let records = if flexible { from.read_compact_nullable_bytes()? } else { from.read_nullable_bytes()? };
                fields::skip_tagged(&mut from, flexible)?;
                partitions.push(PartitionRecords { index, records });
            }
            fields::skip_tagged(&mut from, flexible)?;
            topics.push((topic, count));
        }
        fields::skip_tagged(&mut from, flexible)?;
        Ok(Self { transactional_id, acks, timeout_ms, topics, partitions })
    }
}

/// The answer for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionResponse {
    /// The partition, as it was sent.
    pub index: i32,
    /// What went wrong.
    pub error: ErrorCode,
    /// Offset of the first record, −1 without.
    pub base_offset: i64,
    /// The time that the log put on the records, −1 without.
    pub log_append_time_ms: i64,
    /// Where the log starts, −1 when unknown.
    pub log_start_offset: i64,
    /// The records that are to blame.
    pub record_errors: Vec<RecordError>,
    /// What went wrong, in words.
    pub error_message: Option<String>,
    /// Who leads, for those who asked another.
    pub current_leader: Option<CurrentLeader>,
}

impl PartitionResponse {
    /// The answer of a partition that stored nothing.
    pub fn refused(index: i32, error: ErrorCode) -> Self {
        Self {
            index,
            error,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }
    }
}

/// Encodes a response: `partitions` of all `topics` in order, as in the request.
pub fn encode_response(
    version: i16,
    topics: &[(TopicRef, usize)],
    partitions: &[PartitionResponse],
    endpoints: &[NodeEndpoint],
) -> Body {
    let flexible = version >= FLEXIBLE;
    let mut body = Body::with_capacity(32 + 48 * topics.len() + 48 * partitions.len());
    let to = body.fields();
    let mut rest = partitions;
    put_array_len(to, topics.len(), flexible);
    for (topic, count) in topics {
        topic.put(to, flexible);
        let (partitions, others) = rest.split_at(*count);
        rest = others;
        put_array_len(to, partitions.len(), flexible);
        for partition in partitions {
            put_partition(to, partition, version);
        }
        put_no_tags(to, flexible);
    }
    assert!(rest.is_empty(), "every partition belongs to a topic");
    to.put_i32(0); // throttle time
    if version >= CURRENT_LEADER {
        fields::put_endpoints(to, endpoints);
    } else {
        put_no_tags(to, flexible);
    }
    body
}

fn put_partition(to: &mut bytes::BytesMut, partition: &PartitionResponse, version: i16) {
    let flexible = version >= FLEXIBLE;
    to.put_i32(partition.index);
    to.put_i16(partition.error.code());
    to.put_i64(partition.base_offset);
    to.put_i64(partition.log_append_time_ms);
    if version >= LOG_START {
        to.put_i64(partition.log_start_offset);
    }
    if version >= RECORD_ERRORS {
        put_array_len(to, partition.record_errors.len(), flexible);
        for error in &partition.record_errors {
            to.put_i32(error.index);
            put_nullable_string(to, Some(&error.message), flexible);
            put_no_tags(to, flexible);
        }
        put_nullable_string(to, partition.error_message.as_deref(), flexible);
    }
    match partition.current_leader {
        Some(leader) if version >= CURRENT_LEADER => {
            put_uvarint(to, 1);
            leader.put_tagged(to, 0);
        }
        _ => put_no_tags(to, flexible),
    }
}

#[cfg(test)]
mod tests;
