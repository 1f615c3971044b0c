//! Reads keys and values of `__consumer_offsets`, of every version that Kafka defines. No bytes make it panic.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::records::{CommittedOffset, GROUP_KEY_VERSION, GroupRecord, MemberRecord, RecordError, StateRecord};
use crate::ids::TopicId;

/// Values from this version on have compact strings and tagged fields.
const FLEXIBLE_FROM: i16 = 4;

/// The bytes end early or are no text.
struct Malformed;

type Read<T> = Result<T, Malformed>;

impl StateRecord {
    /// Reads a record.
    pub(crate) fn parse(key: Bytes, value: Option<Bytes>) -> Result<Self, RecordError> {
        let (version, mut key) = Reader::open(key, "key")?;
        match version {
            0 | 1 => {
                let (group, topic, partition) =
                    key.offset_key().map_err(|Malformed| RecordError::Malformed("offset's key"))?;
                let value = value.map(|value| value_of(value, "offset's value", Reader::offset)).transpose()?;
                Ok(Self::Offset { group, topic, partition, value })
            }
            GROUP_KEY_VERSION => {
                let group = key.string().map_err(|Malformed| RecordError::Malformed("group's key"))?;
                let value = value.map(|value| value_of(value, "group's value", Reader::group)).transpose()?;
                Ok(Self::Group { group, value })
            }
            other => Err(RecordError::UnknownKey(other)),
        }
    }
}

fn value_of<T>(
    value: Bytes,
    what: &'static str,
    read: impl FnOnce(&mut Reader, i16) -> Read<T>,
) -> Result<T, RecordError> {
    let (version, mut reader) = Reader::open(value, what)?;
    if !(0..=FLEXIBLE_FROM).contains(&version) {
        return Err(RecordError::UnknownValue(version));
    }
    reader.flexible = version >= FLEXIBLE_FROM;
    read(&mut reader, version).map_err(|Malformed| RecordError::Malformed(what))
}

/// What is left of a key or a value.
struct Reader {
    bytes: Bytes,
    flexible: bool,
}

impl Reader {
    /// Takes the version off the front.
    fn open(bytes: Bytes, what: &'static str) -> Result<(i16, Self), RecordError> {
        let mut reader = Self { bytes, flexible: false };
        let version = reader.short().map_err(|Malformed| RecordError::Malformed(what))?;
        Ok((version, reader))
    }

    fn offset_key(&mut self) -> Read<(Arc<str>, Arc<str>, i32)> {
        Ok((self.string()?, self.string()?, self.int()?))
    }

    fn offset(&mut self, version: i16) -> Read<CommittedOffset> {
        Ok(CommittedOffset {
            offset: self.long()?,
            leader_epoch: if version >= 3 { self.int()? } else { -1 },
            metadata: self.string()?,
            commit_timestamp_ms: self.long()?,
            expire_timestamp_ms: if version == 1 { Some(self.long()?).filter(|at| *at != -1) } else { None },
            topic_id: if self.flexible { self.tagged_topic_id()? } else { None },
        })
    }

    fn group(&mut self, version: i16) -> Read<GroupRecord> {
        let protocol_type = self.string()?;
        let generation = self.int()?;
        let protocol = self.nullable_string()?;
        let leader = self.nullable_string()?;
        let state_timestamp_ms = if version >= 2 { Some(self.long()?).filter(|at| *at != -1) } else { None };
        let count = self.length()?;
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(self.member(version)?);
        }
        Ok(GroupRecord { protocol_type, generation, protocol, leader, state_timestamp_ms, members })
    }

    fn member(&mut self, version: i16) -> Read<MemberRecord> {
        let member_id = self.string()?;
        let instance_id = if version >= 3 { self.nullable_string()? } else { None };
        let client_id = self.string()?;
        let client_host = self.string()?;
        let rebalance_timeout = if version >= 1 { Some(self.int()?) } else { None };
        let session_timeout_ms = self.int()?;
        let member = MemberRecord {
            member_id,
            instance_id,
            client_id,
            client_host,
            // Version 0 knew one timeout only.
            rebalance_timeout_ms: rebalance_timeout.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription: self.blob()?,
            assignment: self.blob()?,
        };
        if self.flexible {
            self.tagged_topic_id()?;
        }
        Ok(member)
    }

    fn short(&mut self) -> Read<i16> {
        self.bytes.try_get_i16().map_err(|_| Malformed)
    }

    fn int(&mut self) -> Read<i32> {
        self.bytes.try_get_i32().map_err(|_| Malformed)
    }

    fn long(&mut self) -> Read<i64> {
        self.bytes.try_get_i64().map_err(|_| Malformed)
    }

    fn varint(&mut self) -> Read<u32> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.bytes.try_get_u8().map_err(|_| Malformed)?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Read<Bytes> {
        if self.bytes.len() < length { Err(Malformed) } else { Ok(self.bytes.split_to(length)) }
    }

    /// The length of an array or of bytes.
    fn length(&mut self) -> Read<usize> {
        let length = if self.flexible { i64::from(self.varint()?) - 1 } else { i64::from(self.int()?) };
        usize::try_from(length).map_err(|_| Malformed)
    }

    fn blob(&mut self) -> Read<Bytes> {
        let length = self.length()?;
        self.take(length)
    }

    fn nullable_string(&mut self) -> Read<Option<Arc<str>>> {
        let length = if self.flexible { i64::from(self.varint()?) - 1 } else { i64::from(self.short()?) };
        if length == -1 {
            return Ok(None);
        }
        let text = self.take(usize::try_from(length).map_err(|_| Malformed)?)?;
        std::str::from_utf8(&text).map(|text| Some(text.into())).map_err(|_| Malformed)
    }

    fn string(&mut self) -> Read<Arc<str>> {
        self.nullable_string()?.ok_or(Malformed)
    }

    /// The tagged fields, of which only tag 0 of an offset's value is known: the topic's id.
    fn tagged_topic_id(&mut self) -> Read<Option<TopicId>> {
        let mut id = None;
        for _ in 0..self.varint()? {
            let (tag, length) = (self.varint()?, self.varint()?);
            let field = self.take(length as usize)?;
            if let (0, Ok(bytes)) = (tag, <[u8; 16]>::try_from(&field[..])) {
                id = TopicId::from_bytes(bytes);
            }
        }
        Ok(id)
    }
}
