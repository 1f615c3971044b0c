//! Fields of the messages that are encoded by hand: arrays, strings, tagged fields (KIP-482), topics by name or id.

use bytes::{BufMut, BytesMut};
use kafka_wire_core::{DecodeError, Decoder, StrBytes, TagOutcome, Uuid};

/// A topic as a request names it: by name, or by id (KIP-516), as the version has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// By name.
    Name(StrBytes),
    /// By id.
    Id(Uuid),
}

impl TopicRef {
    /// Reads the field: an id, or a name.
    pub(super) fn read(from: &mut Decoder, by_id: bool, flexible: bool) -> Result<Self, DecodeError> {
        Ok(match (by_id, flexible) {
            (true, _) => Self::Id(from.read_uuid()?),
            (false, true) => Self::Name(from.read_compact_string()?),
            (false, false) => Self::Name(from.read_string()?),
        })
    }

    pub(super) fn put(&self, to: &mut BytesMut, flexible: bool) {
        match self {
            Self::Name(name) => put_string(to, name, flexible),
            Self::Id(id) => to.put_slice(id.as_bytes()),
        }
    }
}

/// Who leads a partition, for clients whose knowledge is stale (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentLeader {
    /// Its node id, −1 when there is none.
    pub leader_id: i32,
    /// Its epoch, −1 when unknown.
    pub leader_epoch: i32,
}

impl CurrentLeader {
    /// Bytes as a tagged field's value.
    const LEN: u32 = 9;

    /// As a tagged field.
    pub(super) fn put_tagged(self, to: &mut BytesMut, tag: u32) {
        put_uvarint(to, tag);
        put_uvarint(to, Self::LEN);
        to.put_i32(self.leader_id);
        to.put_i32(self.leader_epoch);
        put_uvarint(to, 0);
    }
}

/// Where a node is reached, beside a `CurrentLeader` (KIP-951).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// Its id.
    pub node_id: i32,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its rack.
    pub rack: Option<String>,
}

/// The tagged fields of a response: the endpoints in tag 0 where there are any.
pub(super) fn put_endpoints(to: &mut BytesMut, endpoints: &[NodeEndpoint]) {
    if endpoints.is_empty() {
        put_uvarint(to, 0);
        return;
    }
    let mut value = BytesMut::new();
    put_array_len(&mut value, endpoints.len(), true);
    for endpoint in endpoints {
        value.put_i32(endpoint.node_id);
        put_string(&mut value, &endpoint.host, true);
        value.put_i32(i32::from(endpoint.port));
        put_nullable_string(&mut value, endpoint.rack.as_deref(), true);
        put_uvarint(&mut value, 0);
    }
    put_uvarint(to, 1);
    put_uvarint(to, 0);
    put_uvarint(to, value.len() as u32);
    to.put_slice(&value);
}

/// Reads an array's length; the elements are not backed by it until they are read.
pub(super) fn read_array_len(from: &mut Decoder, flexible: bool) -> Result<usize, DecodeError> {
    let count = if flexible { from.read_compact_array_len() } else { from.read_array_len() }?;
    Ok(count.get())
}

/// Reads the length of a topic's partitions, `before` of which came with earlier topics: together they are no more than
/// one array may have.
pub(super) fn read_partitions_len(from: &mut Decoder, flexible: bool, before: usize) -> Result<usize, DecodeError> {
    let offset = from.offset();
    let count = read_array_len(from, flexible)?;
    from.check_collection_limit("partitions of all topics", before + count, offset)?;
    Ok(count)
}

/// Reads and drops tagged fields that mean nothing to this broker.
pub(super) fn skip_tagged(from: &mut Decoder, flexible: bool) -> Result<(), DecodeError> {
    if flexible {
        from.read_tagged_fields_with(|_, _| Ok(TagOutcome::Retained))?;
    }
    Ok(())
}

/// No tagged fields.
pub(super) fn put_no_tags(to: &mut BytesMut, flexible: bool) {
    if flexible {
        put_uvarint(to, 0);
    }
}

pub(super) fn put_uvarint(to: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        to.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    to.put_u8(value as u8);
}

pub(super) fn put_array_len(to: &mut BytesMut, len: usize, flexible: bool) {
    if flexible {
        put_uvarint(to, len as u32 + 1);
    } else {
        to.put_i32(len as i32);
    }
}

/// The length of a string or an array that may be null.
pub(super) fn put_null_array(to: &mut BytesMut, flexible: bool) {
    if flexible {
        put_uvarint(to, 0);
    } else {
        to.put_i32(-1);
    }
}

pub(super) fn put_string(to: &mut BytesMut, value: &str, flexible: bool) {
    put_nullable_string(to, Some(value), flexible);
}

/// A string; of one too long for its length field (32 KiB) only as much as fits is sent: such are error messages.
pub(super) fn put_nullable_string(to: &mut BytesMut, value: Option<&str>, flexible: bool) {
    let value = value.map(|value| &value[..value.floor_char_boundary(i16::MAX as usize)]);
    match (value, flexible) {
        (None, true) => put_uvarint(to, 0),
        (None, false) => to.put_i16(-1),
        (Some(value), true) => put_uvarint(to, value.len() as u32 + 1),
        (Some(value), false) => to.put_i16(value.len() as i16),
    }
    to.put_slice(value.unwrap_or_default().as_bytes());
}
