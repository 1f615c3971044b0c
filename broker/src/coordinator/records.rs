//! Keys and values of `__consumer_offsets`, byte for byte as Kafka writes them, so that Kafka's tools read them.
//!
//! Written: OffsetCommitKey v1 with OffsetCommitValue v4 (v1 when a commit carries its own retention), GroupMetadataKey
//! v2 with GroupMetadataValue v3. Read: every version that Kafka defines. Versions are those of Kafka's
//! `OffsetCommitKey.json`, `OffsetCommitValue.json`, `GroupMetadataKey.json` and `GroupMetadataValue.json`.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::ids::TopicId;

/// The key version that tells a group's record from an offset's.
const GROUP_KEY_VERSION: i16 = 2;

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

    /// Reads a record.
    pub(crate) fn parse(mut key: Bytes, value: Option<Bytes>) -> Result<Self, RecordError> {
        let input = &mut key;
        match short(input).ok_or(RecordError::Malformed("key"))? {
            0 | 1 => (|| Some((string(input)?, string(input)?, int(input)?)))()
                .ok_or(RecordError::Malformed("offset's key"))
                .and_then(|(group, topic, partition)| {
                    let value = value.map(parse_offset).transpose()?;
                    Ok(Self::Offset { group, topic, partition, value })
                }),
            GROUP_KEY_VERSION => {
                let group = string(input).ok_or(RecordError::Malformed("group's key"))?;
                Ok(Self::Group { group, value: value.map(parse_group).transpose()? })
            }
            other => Err(RecordError::UnknownKey(other)),
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

fn parse_offset(mut value: Bytes) -> Result<CommittedOffset, RecordError> {
    let input = &mut value;
    let malformed = RecordError::Malformed("offset's value");
    let version = short(input).ok_or(malformed.clone())?;
    if !(0..=4).contains(&version) {
        return Err(RecordError::UnknownValue(version));
    }
    let flexible = version >= 4;
    (|| {
        Some(CommittedOffset {
            offset: long(input)?,
            leader_epoch: if version >= 3 { int(input)? } else { -1 },
            metadata: if flexible { compact_string(input)?? } else { string(input)? },
            commit_timestamp_ms: long(input)?,
            expire_timestamp_ms: if version == 1 { Some(long(input)?).filter(|at| *at != -1) } else { None },
            topic_id: if flexible { topic_id_tag(input)? } else { None },
        })
    })()
    .ok_or(malformed)
}

fn parse_group(mut value: Bytes) -> Result<GroupRecord, RecordError> {
    let input = &mut value;
    let malformed = RecordError::Malformed("group's value");
    let version = short(input).ok_or(malformed.clone())?;
    if !(0..=4).contains(&version) {
        return Err(RecordError::UnknownValue(version));
    }
    let flexible = version >= 4;
    (|| {
        let protocol_type = if flexible { compact_string(input)?? } else { string(input)? };
        let generation = int(input)?;
        let protocol = any_nullable(input, flexible)?;
        let leader = any_nullable(input, flexible)?;
        let state_timestamp_ms = if version >= 2 { Some(long(input)?).filter(|at| *at != -1) } else { None };
        let count =
            if flexible { varint(input)?.checked_sub(1)? as usize } else { usize::try_from(int(input)?).ok()? };
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(parse_member(input, version)?);
        }
        Some(GroupRecord { protocol_type, generation, protocol, leader, state_timestamp_ms, members })
    })()
    .ok_or(malformed)
}

fn parse_member(input: &mut Bytes, version: i16) -> Option<MemberRecord> {
    let flexible = version >= 4;
    let text = |input: &mut Bytes| if flexible { compact_string(input)? } else { string(input) };
    let member_id = text(input)?;
    let instance_id = if version >= 3 { any_nullable(input, flexible)? } else { None };
    let client_id = text(input)?;
    let client_host = text(input)?;
    let rebalance_timeout = if version >= 1 { Some(int(input)?) } else { None };
    let session_timeout_ms = int(input)?;
    let blob = |input: &mut Bytes| {
        let length =
            if flexible { varint(input)?.checked_sub(1)? as usize } else { usize::try_from(int(input)?).ok()? };
        (input.len() >= length).then(|| input.split_to(length))
    };
    let member = MemberRecord {
        member_id,
        instance_id,
        client_id,
        client_host,
        // Version 0 knew one timeout only.
        rebalance_timeout_ms: rebalance_timeout.unwrap_or(session_timeout_ms),
        session_timeout_ms,
        subscription: blob(input)?,
        assignment: blob(input)?,
    };
    if flexible {
        topic_id_tag(input)?;
    }
    Some(member)
}

fn put_string(out: &mut BytesMut, text: &str) {
    // Longer than the length field holds cannot come in: requests count their strings with 16 bits as well, or are
    // refused by the codec's bound on a string.
    out.put_i16(i16::try_from(text.len()).expect("a string of the protocol has at most 32767 bytes"));
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

fn short(input: &mut Bytes) -> Option<i16> {
    input.try_get_i16().ok()
}

fn int(input: &mut Bytes) -> Option<i32> {
    input.try_get_i32().ok()
}

fn long(input: &mut Bytes) -> Option<i64> {
    input.try_get_i64().ok()
}

fn varint(input: &mut Bytes) -> Option<u32> {
    let mut value = 0u32;
    for shift in (0..35).step_by(7) {
        let byte = input.try_get_u8().ok()?;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn text(input: &mut Bytes, length: usize) -> Option<Arc<str>> {
    if input.len() < length {
        return None;
    }
    std::str::from_utf8(&input.split_to(length)).ok().map(Arc::from)
}

fn string(input: &mut Bytes) -> Option<Arc<str>> {
    let length = usize::try_from(short(input)?).ok()?;
    text(input, length)
}

/// The outer `None`: malformed. The inner: null.
fn compact_string(input: &mut Bytes) -> Option<Option<Arc<str>>> {
    match varint(input)? {
        0 => Some(None),
        length => text(input, length as usize - 1).map(Some),
    }
}

/// The outer `None`: malformed. The inner: null.
fn any_nullable(input: &mut Bytes, flexible: bool) -> Option<Option<Arc<str>>> {
    if flexible {
        return compact_string(input);
    }
    match short(input)? {
        -1 => Some(None),
        length => text(input, usize::try_from(length).ok()?).map(Some),
    }
}

/// Reads a value's tagged fields; of those only tag 0, the topic id, is kept. The outer `None`: malformed.
fn topic_id_tag(input: &mut Bytes) -> Option<Option<TopicId>> {
    let mut id = None;
    for _ in 0..varint(input)? {
        let (tag, length) = (varint(input)?, varint(input)? as usize);
        if input.len() < length {
            return None;
        }
        let field = input.split_to(length);
        if tag == 0 && length == 16 {
            id = TopicId::from_bytes(field[..].try_into().ok()?);
        }
    }
    Some(id)
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
