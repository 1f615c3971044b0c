//! Keys and values of `__consumer_offsets`, byte for byte as Kafka writes them, so that Kafka's tools read them;
//! `record_reader` reads them.
//!
//! Written: OffsetCommitKey v1 with OffsetCommitValue v4 (v1 when a commit carries its own retention), GroupMetadataKey
//! v2 with GroupMetadataValue v3. Read: every version that Kafka defines. Versions are those of Kafka's
//! `OffsetCommitKey.json`, `OffsetCommitValue.json`, `GroupMetadataKey.json` and `GroupMetadataValue.json`.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::ids::TopicId;

/// The key version that tells a group's record from an offset's.
pub(super) const GROUP_KEY_VERSION: i16 = 2;

/// A committed offset with all that Kafka keeps of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    /// The offset to resume from; Kafka accepts any number.
    pub offset: i64,
    /// The leader epoch of the last consumed record, −1 when unknown.
    pub leader_epoch: i32,
    /// What the client attached.
    pub metadata: Arc<str>,
    /// When it was committed, ms since the epoch.
    pub commit_timestamp_ms: i64,
    /// When it expires, of clients that chose the retention themselves (OffsetCommit v2–4).
    pub expire_timestamp_ms: Option<i64>,
    /// The topic's id when it was committed.
    pub topic_id: Option<TopicId>,
}

/// A member, as its group's record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberRecord {
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// A group's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupRecord {
    pub protocol_type: Arc<str>,
    pub generation: i32,
    pub protocol: Option<Arc<str>>,
    pub leader: Option<Arc<str>>,
    /// When the group entered its state, ms since the epoch.
    pub state_timestamp_ms: Option<i64>,
    pub members: Vec<MemberRecord>,
}

/// One record of the topic; without a value it is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StateRecord {
    /// A committed offset of a group.
    Offset { group: Arc<str>, topic: Arc<str>, partition: i32, value: Option<CommittedOffset> },
    /// A group's metadata.
    Group { group: Arc<str>, value: Option<GroupRecord> },
}

/// Bytes that are no record of a known version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// Kinds of records that are of later Kafka versions, or of other group types.
    #[error("key version {0} is not known")]
    UnknownKey(i16),
    /// A value version that is not known.
    #[error("value version {0} is not known")]
    UnknownValue(i16),
    /// The bytes end early or are no text.
    #[error("the {0} is malformed")]
    Malformed(&'static str),
}

impl StateRecord {
    /// The key's bytes.
    pub(crate) fn key(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Offset { group, topic, partition, .. } => {
                out.put_i16(1);
                put_string(&mut out, group);
                put_string(&mut out, topic);
                out.put_i32(*partition);
            }
            Self::Group { group, .. } => {
                out.put_i16(GROUP_KEY_VERSION);
                put_string(&mut out, group);
            }
        }
        out.freeze()
    }

    /// The value's bytes; `None` for a tombstone.
    pub(crate) fn value(&self) -> Option<Bytes> {
        match self {
            Self::Offset { value, .. } => value.as_ref().map(offset_value),
            Self::Group { value, .. } => value.as_ref().map(group_value),
        }
    }
}

fn offset_value(value: &CommittedOffset) -> Bytes {
    let mut out = BytesMut::new();
    if let Some(expires) = value.expire_timestamp_ms {
        out.put_i16(1);
        out.put_i64(value.offset);
        put_string(&mut out, &value.metadata);
        out.put_i64(value.commit_timestamp_ms);
        out.put_i64(expires);
        return out.freeze();
    }
    out.put_i16(4);
    out.put_i64(value.offset);
    out.put_i32(value.leader_epoch);
    put_varint(&mut out, value.metadata.len() as u32 + 1);
    out.put_slice(value.metadata.as_bytes());
    out.put_i64(value.commit_timestamp_ms);
    match value.topic_id {
        None => put_varint(&mut out, 0),
        Some(id) => {
            put_varint(&mut out, 1); // one tagged field
            put_varint(&mut out, 0); // its tag: topicId
            put_varint(&mut out, 16);
            out.put_slice(&id.to_bytes());
        }
    }
    out.freeze()
}

fn group_value(value: &GroupRecord) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(3);
    put_string(&mut out, &value.protocol_type);
    out.put_i32(value.generation);
    put_nullable(&mut out, value.protocol.as_deref());
    put_nullable(&mut out, value.leader.as_deref());
    out.put_i64(value.state_timestamp_ms.unwrap_or(-1));
    out.put_i32(value.members.len() as i32);
    for member in &value.members {
        put_string(&mut out, &member.member_id);
        put_nullable(&mut out, member.instance_id.as_deref());
        put_string(&mut out, &member.client_id);
        put_string(&mut out, &member.client_host);
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        for bytes in [&member.subscription, &member.assignment] {
            out.put_i32(bytes.len() as i32);
            out.put_slice(bytes);
        }
    }
    out.freeze()
}

fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("at most 32767 bytes because the handlers refuse longer strings"));
    out.put_slice(text.as_bytes());
}

fn put_nullable(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.put_i16(-1),
    }
}

fn put_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
