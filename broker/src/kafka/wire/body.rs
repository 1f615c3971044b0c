//! A response's body on its way out: encoded bytes, and slices of record data that are never copied.

use bytes::{Bytes, BytesMut};
use kafka_wire_core::{ApiVersion, EncodeError, KafkaEncode};
use smallvec::SmallVec;

use crate::kafka::response_memory::Held;

/// Slices shorter than this are copied: cheaper than an entry in a vectored write.
const COPY_BELOW: usize = 512;

/// A response's body, without size and header: the connection writes those.
#[derive(Debug, Default)]
pub struct Body {
    /// What lies before `tail`.
    chunks: SmallVec<[Bytes; 4]>,
    /// Bytes in `chunks`.
    chunk_bytes: usize,
    /// What is being written.
    tail: BytesMut,
    /// The memory that the chunks were read into.
    held: Option<Held>,
}

impl Body {
    /// An empty body with room for `capacity` bytes of encoded fields.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { tail: BytesMut::with_capacity(capacity), ..Self::default() }
    }

    /// A generated message, at its version.
    pub fn encode(message: &impl KafkaEncode, version: i16) -> Result<Self, EncodeError> {
        let mut body = Self::default();
        message.encode_into(&mut body.tail, ApiVersion::new(version))?;
        Ok(body)
    }

    /// Where fields are written: append only.
    pub fn fields(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends data by reference.
    pub fn push(&mut self, data: Bytes) {
        if data.len() < COPY_BELOW {
            self.tail.extend_from_slice(&data);
            return;
        }
        if !self.tail.is_empty() {
            let fields = self.tail.split().freeze();
            self.chunk_bytes += fields.len();
            self.chunks.push(fields);
        }
        self.chunk_bytes += data.len();
        self.chunks.push(data);
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.chunk_bytes + self.tail.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps this reservation until the body is sent.
    pub fn hold(&mut self, held: Option<Held>) {
        self.held = held;
    }

    /// Its pieces in order: the chunks, and the fields after the last of them; and what is reserved for them.
    pub fn into_parts(self) -> (SmallVec<[Bytes; 4]>, BytesMut, Option<Held>) {
        (self.chunks, self.tail, self.held)
    }

    /// As one contiguous buffer, for tests and the in-process client.
    pub fn to_bytes(&self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.len());
        for chunk in &self.chunks {
            whole.extend_from_slice(chunk);
        }
        whole.extend_from_slice(&self.tail);
        whole.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_slices_keep_their_identity_and_short_ones_are_copied() {
        let mut body = Body::with_capacity(16);
        body.fields().extend_from_slice(b"head");
        let records = Bytes::from(vec![7; COPY_BELOW]);
        body.push(records.clone());
        body.push(Bytes::from_static(b"short"));
        assert_eq!(body.len(), 4 + COPY_BELOW + 5);
        let whole = body.to_bytes();
        let (chunks, tail, _) = body.into_parts();
        assert_eq!(chunks[1].as_ptr(), records.as_ptr());
        assert_eq!(&tail[..], b"short");
        assert_eq!(&whole[..4], b"head");
        assert_eq!(&whole[4 + COPY_BELOW..], b"short");
    }
}
