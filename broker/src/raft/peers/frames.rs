//! Raft messages as frames of a stream: a message is cut into parts, so that a snapshot of any size passes.

use bytes::{Bytes, BytesMut};
use protobuf::Message as _;
use raft::eraftpb::Message;

use super::{RaftFrame, Refusal};

/// Bytes of one part.
const PART_BYTES: usize = 256 << 10;
/// Bytes of one message at most: a snapshot of far more than the 100,000 partitions that are promised.
const MESSAGE_BYTES: usize = 512 << 20;

/// The frames of one message.
pub(in crate::raft) fn frames_of(
    message: &Message,
) -> Result<impl Iterator<Item = RaftFrame> + Send + use<>, raft::Error> {
    let bytes = Bytes::from(message.write_to_bytes()?);
    let count = bytes.len().div_ceil(PART_BYTES).max(1);
    Ok((0..count).map(move |at| {
        let end = bytes.len().min((at + 1) * PART_BYTES);
        RaftFrame { envelope: None, part: bytes.slice(at * PART_BYTES..end), last: at + 1 == count }
    }))
}

/// Puts the frames of one stream together again.
#[derive(Debug)]
pub(in crate::raft) struct Assembler {
    parts: BytesMut,
    limit: usize,
}

impl Default for Assembler {
    fn default() -> Self {
        Self { parts: BytesMut::new(), limit: MESSAGE_BYTES }
    }
}

impl Assembler {
    /// Takes the next frame; the message, if it ends with it, and its size.
    pub(in crate::raft) fn take(&mut self, frame: RaftFrame) -> Result<Option<(Message, usize)>, Refusal> {
        if self.parts.len() + frame.part.len() > self.limit {
            return Err(Refusal::Malformed("a message is too large"));
        }
        self.parts.extend_from_slice(&frame.part);
        if !frame.last {
            return Ok(None);
        }
        let bytes = self.parts.split().freeze();
        let message = Message::parse_from_bytes(&bytes).map_err(|_| Refusal::Malformed("no Raft message"))?;
        Ok(Some((message, bytes.len())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use raft::eraftpb::{Entry, MessageType};

    use super::*;

    fn message(size: usize) -> Message {
        let entry = Entry { index: 1, data: vec![7; size].into(), ..Entry::default() };
        Message { msg_type: MessageType::MsgAppend, from: 1, to: 2, entries: vec![entry].into(), ..Message::default() }
    }

    #[test]
    fn a_message_of_any_size_passes_in_bounded_parts() {
        let mut assembler = Assembler::default();
        for size in [0, 1, PART_BYTES, 5 * PART_BYTES + 17] {
            let sent = message(size);
            let frames: Vec<RaftFrame> = frames_of(&sent).expect("encodes").collect();
            assert!(frames.iter().all(|frame| frame.part.len() <= PART_BYTES));
            let mut received = None;
            for frame in frames {
                assert_eq!(received, None, "nothing follows the last part");
                received = assembler.take(frame).expect("well formed").map(|(message, _)| message);
            }
            assert_eq!(received, Some(sent));
        }
    }

    #[test]
    fn a_message_that_never_ends_is_refused() {
        let mut assembler = Assembler { limit: 100, ..Assembler::default() };
        let part = Bytes::from(vec![0; 100]);
        let frame = |part| RaftFrame { envelope: None, part, last: false };
        assert_eq!(assembler.take(frame(part)), Ok(None));
        let more = assembler.take(frame(Bytes::from_static(b"x")));
        assert_eq!(more, Err(Refusal::Malformed("a message is too large")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            // Reaching the end without a panic is the point.
            let _ = Assembler::default().take(RaftFrame { envelope: None, part: bytes.into(), last: true });
        }
    }
}
