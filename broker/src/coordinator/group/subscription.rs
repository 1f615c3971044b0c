//! What the members of a consumer group subscribe to, read from the metadata that they join with.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Buf;

use super::Group;

impl Group {
    /// The topics of all members; `None` when the group speaks another protocol, or a subscription can't be read.
    pub(super) fn compute_subscribed(&self) -> Option<BTreeSet<Arc<str>>> {
        self.protocol_type.as_ref()?;
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref().filter(|_| self.uses_consumer_protocol())?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.append(&mut subscribed_topics(&member.metadata(protocol))?);
        }
        Some(topics)
    }
}

/// The topics of a `ConsumerProtocolSubscription`: in every version a version number, then the array of names.
fn subscribed_topics(mut metadata: &[u8]) -> Option<BTreeSet<Arc<str>>> {
    let input = &mut metadata;
    if input.try_get_i16().ok()? < 0 {
        return None;
    }
    let count = input.try_get_i32().ok()?;
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let length = usize::try_from(input.try_get_i16().ok()?).ok()?;
        let (name, rest) = input.split_at_checked(length)?;
        topics.insert(std::str::from_utf8(name).ok()?.into());
        *input = rest;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_what_follows_is_left() {
        let metadata = b"\0\x03\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff";
        let topics = subscribed_topics(metadata).expect("well formed");
        assert_eq!(topics.iter().map(|t| &**t).collect::<Vec<_>>(), ["a", "bc"]);
    }

    #[test]
    fn what_is_no_subscription_is_not_read() {
        for bytes in [&b""[..], b"x", b"\xff\xff\0\0\0\0", b"\0\0\x7f\xff\xff\xff\0\x01a", b"\0\0\0\0\0\x01\0\x02a"] {
            assert_eq!(subscribed_topics(bytes), None, "{bytes:?}");
        }
    }
}
