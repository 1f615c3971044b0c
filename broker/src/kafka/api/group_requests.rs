//! What the group APIs share: from the wire's types to the coordinator's and back.

use std::net::IpAddr;
use std::sync::Arc;

use crate::ids::TopicId;
use crate::kafka::wire::{ErrorCode, StrBytes, Uuid};
use crate::metadata::{Image, Topic};

/// The longest string that is let in, bytes: what the coordinator's records can hold, less the random part that makes an
/// instance's id a member's.
const MAX_STRING: usize = i16::MAX as usize - 64;

/// The longest client id that goes into member ids, bytes.
const MAX_CLIENT_ID: usize = 1024;

/// Copies a string of a request, whose own bytes keep the whole request in memory.
pub(super) fn owned(text: &StrBytes) -> Arc<str> {
    text.as_str().into()
}

/// The same, of one that may be absent.
pub(super) fn owned_option(text: Option<&StrBytes>) -> Option<Arc<str>> {
    text.map(owned)
}

/// For a response.
pub(super) fn wire(text: &str) -> StrBytes {
    text.into()
}

/// For a response, of one that may be absent.
pub(super) fn wire_option(text: Option<&Arc<str>>) -> Option<StrBytes> {
    text.map(|text| wire(text))
}

/// Whether the coordinator's records can hold these strings.
pub(super) fn storable<'a>(strings: impl IntoIterator<Item = &'a StrBytes>) -> bool {
    strings.into_iter().all(|text| text.len() <= MAX_STRING)
}

/// A group that members can join: it has a name. (Offsets may be committed without.)
pub(super) fn joinable_group(id: &StrBytes) -> Result<Arc<str>, ErrorCode> {
    if id.is_empty() || !storable([id]) { Err(ErrorCode::InvalidGroupId) } else { Ok(owned(id)) }
}

/// The client id, as member ids begin with it.
pub(super) fn client_id(id: &StrBytes) -> Arc<str> {
    let mut end = id.len().min(MAX_CLIENT_ID);
    while !id.as_str().is_char_boundary(end) {
        end -= 1;
    }
    id.as_str()[..end].into()
}

/// An address as Java prints it, which tools show.
pub(super) fn client_host(address: IpAddr) -> Arc<str> {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("/{v4}").into(),
        IpAddr::V6(v6) => format!("/{}", v6.segments().map(|segment| format!("{segment:x}")).join(":")).into(),
    }
}

/// The topic that a request names, or since some version identifies.
pub(super) fn topic<'a>(image: &'a Image, name: &str, id: Uuid, by_id: bool) -> Result<&'a Arc<Topic>, ErrorCode> {
    if by_id {
        let id = TopicId::from_bytes(id.to_bytes());
        id.and_then(|id| image.topic_by_id(id)).ok_or(ErrorCode::UnknownTopicId)
    } else {
        image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)
    }
}

/// Whether a topic has a partition.
pub(super) fn has_partition(topic: &Topic, partition: i32) -> bool {
    usize::try_from(partition).is_ok_and(|partition| partition < topic.partitions.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_written_as_java_does() {
        for (address, host) in [
            ("127.0.0.1", "/127.0.0.1"),
            ("::ffff:10.0.0.7", "/10.0.0.7"),
            ("::1", "/0:0:0:0:0:0:0:1"),
            ("2001:db8::a", "/2001:db8:0:0:0:0:0:a"),
        ] {
            assert_eq!(&*client_host(address.parse().expect("an address")), host);
        }
    }

    #[test]
    fn client_ids_are_cut_between_characters() {
        assert_eq!(&*client_id(&"me".into()), "me");
        let long = format!("x{}", "ä".repeat(600));
        assert_eq!(client_id(&long.as_str().into()).len(), 1023);
    }

    #[test]
    fn groups_without_a_name_cannot_be_joined() {
        assert_eq!(joinable_group(&"".into()), Err(ErrorCode::InvalidGroupId));
        assert_eq!(joinable_group(&"x".repeat(40_000).into()), Err(ErrorCode::InvalidGroupId));
        assert_eq!(joinable_group(&"g".into()).as_deref(), Ok("g"));
    }
}
