//! Fetch, versions 4–18, by hand: the response is a few encoded fields between slices of record data that are written
//! as they were read, never copied.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire_core::{DecodeError, Decoder, EncodeError, StrBytes, TagOutcome};

use super::fields::{
    self, CurrentLeader, NodeEndpoint, TopicRef, put_array_len, put_no_tags, put_null_array, put_uvarint,
};
use super::{Body, DecodeRequest, EncodeResponse, ErrorCode};
use crate::ids::{NodeId, Offset, ProducerId};
use crate::kafka::response_memory::Held;

/// First version with the log start offset.
const LOG_START: i16 = 5;
/// First version with sessions (KIP-227).
const SESSIONS: i16 = 7;
/// First version with leader epochs (KIP-320).
const LEADER_EPOCHS: i16 = 9;
/// First version with racks and preferred replicas (KIP-392).
const RACKS: i16 = 11;
/// First version with tagged fields, and with the epoch of the last fetched record (KIP-595).
const FLEXIBLE: i16 = 12;
/// First version with topic ids (KIP-516).
const TOPIC_IDS: i16 = 13;
/// First version where the replica's id is a tagged field (KIP-903).
const REPLICA_STATE: i16 = 15;
/// First version with the leader in answers to those who asked another (KIP-951).
const CURRENT_LEADER: i16 = 16;

/// A Fetch request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// The follower that asks; negative for a consumer.
    pub replica_id: i32,
    /// How long to wait for `min_bytes`, ms; as it was sent.
    pub max_wait_ms: i32,
    /// Fewer bytes are worth waiting for more.
    pub min_bytes: i32,
    /// No more bytes than this, as far as whole batches allow.
    pub max_bytes: i32,
    /// Whether only committed transactions are to be read (`isolation_level` 1).
    pub read_committed: bool,
    /// The session, 0 without.
    pub session_id: i32,
    /// The session's epoch: 0 opens one, −1 is none or closes it.
    pub session_epoch: i32,
    /// What to fetch, in order; in a session: what is new or changed.
    pub partitions: Vec<FetchPartition>,
    /// What the session is to forget.
    pub forgotten: Vec<(TopicRef, i32)>,
    /// Where the consumer is.
    pub rack_id: StrBytes,
}

/// What to fetch of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPartition {
    /// Its topic.
    pub topic: TopicRef,
    /// Its number, as it was sent.
    pub index: i32,
    /// The epoch that the client knows, −1 for none.
    pub current_leader_epoch: i32,
    /// From where, as it was sent.
    pub fetch_offset: i64,
    /// The epoch of the record before, −1 for none.
    pub last_fetched_epoch: i32,
    /// No more bytes of this partition, as far as whole batches allow.
    pub max_bytes: i32,
}

impl DecodeRequest for FetchRequest {
    fn decode(body: Bytes, version: i16) -> Result<Self, DecodeError> {
        let limits = super::limits(&body);
        let mut from = Decoder::new(body, limits)?;
        let flexible = version >= FLEXIBLE;
        let mut replica_id = if version < REPLICA_STATE { from.read_i32()? } else { -1 };
        let max_wait_ms = from.read_i32()?;
        let min_bytes = from.read_i32()?;
        let max_bytes = from.read_i32()?;
        let read_committed = from.read_i8()? == 1;
        let (session_id, session_epoch) =
            if version >= SESSIONS { (from.read_i32()?, from.read_i32()?) } else { (0, -1) };
        let mut partitions = Vec::new();
        for _ in 0..fields::read_array_len(&mut from, flexible)? {
            let topic = TopicRef::read(&mut from, version >= TOPIC_IDS, flexible)?;
            for _ in 0..fields::read_partitions_len(&mut from, flexible, partitions.len())? {
                partitions.push(FetchPartition::decode(&mut from, topic.clone(), version)?);
            }
            fields::skip_tagged(&mut from, flexible)?;
        }
        let mut forgotten = Vec::new();
        if version >= SESSIONS {
            for _ in 0..fields::read_array_len(&mut from, flexible)? {
                let topic = TopicRef::read(&mut from, version >= TOPIC_IDS, flexible)?;
                for _ in 0..fields::read_partitions_len(&mut from, flexible, forgotten.len())? {
                    forgotten.push((topic.clone(), from.read_i32()?));
                }
                fields::skip_tagged(&mut from, flexible)?;
            }
        }
        let rack_id = match (version >= RACKS, flexible) {
            (false, _) => StrBytes::default(),
            (true, false) => from.read_string()?,
            (true, true) => from.read_compact_string()?,
        };
        if flexible {
            from.read_tagged_fields_with(|tag, from| {
                match tag {
                    // The cluster's id means something to Raft's own fetches only.
                    0 => drop(from.read_compact_nullable_string()?),
                    1 if version >= REPLICA_STATE => {
                        replica_id = from.read_i32()?;
                        from.read_i64()?;
                        fields::skip_tagged(from, true)?;
                    }
                    _ => return Ok(TagOutcome::Retained),
                }
                Ok(TagOutcome::Decoded)
            })?;
        }
        Ok(Self {
            replica_id,
            max_wait_ms,
            min_bytes,
            max_bytes,
            read_committed,
            session_id,
            session_epoch,
            partitions,
            forgotten,
            rack_id,
        })
    }
}

impl FetchPartition {
    fn decode(from: &mut Decoder, topic: TopicRef, version: i16) -> Result<Self, DecodeError> {
        let index = from.read_i32()?;
        let current_leader_epoch = if version >= LEADER_EPOCHS { from.read_i32()? } else { -1 };
        let fetch_offset = from.read_i64()?;
        let last_fetched_epoch = if version >= FLEXIBLE { from.read_i32()? } else { -1 };
        if version >= LOG_START {
            from.read_i64()?; // a follower's log start: its tags too are of followers only
        }
        let max_bytes = from.read_i32()?;
        fields::skip_tagged(from, version >= FLEXIBLE)?;
        Ok(Self { topic, index, current_leader_epoch, fetch_offset, last_fetched_epoch, max_bytes })
    }
}

/// A Fetch response.
#[derive(Debug, Default)]
pub struct FetchResponse {
    /// What went wrong with the request as a whole.
    pub error: Option<ErrorCode>,
    /// The session, 0 without.
    pub session_id: i32,
    /// The partitions; neighbours of one topic are written together.
    pub partitions: Vec<(TopicRef, PartitionData)>,
    /// Where the leaders named in `partitions` are.
    pub endpoints: Vec<NodeEndpoint>,
    /// What is reserved for the records.
    pub memory: Option<Held>,
}

/// What was fetched of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionData {
    /// Its number, as it was sent.
    pub index: i32,
    /// What went wrong.
    pub error: ErrorCode,
    /// The high watermark, −1 when unknown.
    pub high_watermark: i64,
    /// The last stable offset, −1 when unknown.
    pub last_stable_offset: i64,
    /// Where the log starts, −1 when unknown.
    pub log_start_offset: i64,
    /// Where the client's log and this one part: the largest epoch both have, and its end here.
    pub diverging_epoch: Option<(i32, i64)>,
    /// Who leads, for those who asked another.
    pub current_leader: Option<CurrentLeader>,
    /// The replica that the client is asked to read from instead (KIP-392); `None` for this one.
    pub preferred_read_replica: Option<NodeId>,
    /// Aborted transactions in the range; null unless read_committed.
    pub aborted: Option<Vec<(ProducerId, Offset)>>,
    /// Whole batches, back to back.
    pub records: Vec<Bytes>,
}

impl PartitionData {
    /// The answer of a partition that could not be read.
    pub fn failed(index: i32, error: ErrorCode) -> Self {
        Self {
            index,
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            preferred_read_replica: None,
            aborted: None,
            records: Vec::new(),
        }
    }

    /// Bytes of records.
    pub fn size(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

impl EncodeResponse for FetchResponse {
    fn encode(self, version: i16) -> Result<Body, EncodeError> {
        let flexible = version >= FLEXIBLE;
        let mut body = Body::with_capacity(32 + 72 * self.partitions.len());
        let to = body.fields();
        to.put_i32(0); // throttle time
        if version >= SESSIONS {
            to.put_i16(self.error.map_or(0, ErrorCode::code));
            to.put_i32(self.session_id);
        }
        put_array_len(to, self.partitions.chunk_by(same_topic).count(), flexible);
        for partitions in self.partitions.chunk_by(same_topic) {
            let to = body.fields();
            partitions[0].0.put(to, flexible);
            put_array_len(to, partitions.len(), flexible);
            for (_, partition) in partitions {
                put_partition(&mut body, partition, version);
            }
            put_no_tags(body.fields(), flexible);
        }
        if version >= CURRENT_LEADER {
            fields::put_endpoints(body.fields(), &self.endpoints);
        } else {
            put_no_tags(body.fields(), flexible);
        }
        body.hold(self.memory);
        Ok(body)
    }
}

fn same_topic(one: &(TopicRef, PartitionData), other: &(TopicRef, PartitionData)) -> bool {
    one.0 == other.0
}

fn put_partition(body: &mut Body, partition: &PartitionData, version: i16) {
    let flexible = version >= FLEXIBLE;
    let to = body.fields();
    to.put_i32(partition.index);
    to.put_i16(partition.error.code());
    to.put_i64(partition.high_watermark);
    to.put_i64(partition.last_stable_offset);
    if version >= LOG_START {
        to.put_i64(partition.log_start_offset);
    }
    match &partition.aborted {
        None => put_null_array(to, flexible),
        Some(aborted) => {
            put_array_len(to, aborted.len(), flexible);
            for (producer, first) in aborted {
                to.put_i64(producer.get());
                to.put_i64(first.get());
                put_no_tags(to, flexible);
            }
        }
    }
    if version >= RACKS {
        to.put_i32(partition.preferred_read_replica.map_or(-1, NodeId::get));
    }
    put_array_len(to, partition.size(), flexible);
    for records in &partition.records {
        body.push(records.clone());
    }
    if flexible {
        put_tags(body.fields(), partition, version);
    }
}

fn put_tags(to: &mut BytesMut, partition: &PartitionData, version: i16) {
    let leader = partition.current_leader.filter(|_| version >= CURRENT_LEADER);
    put_uvarint(to, u32::from(partition.diverging_epoch.is_some()) + u32::from(leader.is_some()));
    if let Some((epoch, end)) = partition.diverging_epoch {
        put_uvarint(to, 0);
        put_uvarint(to, 13);
        to.put_i32(epoch);
        to.put_i64(end);
        put_uvarint(to, 0);
    }
    if let Some(leader) = leader {
        leader.put_tagged(to, 1);
    }
}

#[cfg(test)]
mod tests;
