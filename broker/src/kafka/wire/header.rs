//! Request headers: v1, and v2 with tagged fields (KIP-482).

use bytes::{Buf, Bytes};
use kafka_wire_core::{DecodeError, Decoder};

use super::limits;

/// The fixed part: API key, version, correlation id.
const FIXED: usize = 2 + 2 + 4;

/// What precedes every request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub api_key: i16,
    /// At which version.
    pub version: i16,
    /// Comes back in the response's header.
    pub correlation_id: i32,
    /// `client.id`: UTF-8, a slice of the frame; `None` for null. Filled by `finish`.
    pub client_id: Option<Bytes>,
}

impl RequestHeader {
    /// The part whose layout is the same for every API and version; tells how to read the rest.
    pub fn peek(frame: &[u8]) -> Result<Self, DecodeError> {
        let Some((fixed, _)) = frame.split_first_chunk::<FIXED>() else {
            return Err(too_short(FIXED, 0, frame.len()));
        };
        Ok(Self {
            api_key: i16::from_be_bytes([fixed[0], fixed[1]]),
            version: i16::from_be_bytes([fixed[2], fixed[3]]),
            correlation_id: i32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            client_id: None,
        })
    }

    /// Reads the rest of the header (v2 when the request is `flexible`) and returns the body behind it.
    pub fn finish(&mut self, mut frame: Bytes, flexible: bool) -> Result<Bytes, DecodeError> {
        frame.advance(FIXED.min(frame.len()));
        let (len, _) = frame.split_first_chunk::<2>().ok_or_else(|| too_short(2, FIXED, frame.len()))?;
        let len = i16::from_be_bytes(*len);
        frame.advance(2);
        self.client_id = match usize::try_from(len) {
            Ok(len) if len <= frame.len() => Some(utf8(frame.split_to(len))?),
            Ok(len) => return Err(too_short(len, FIXED + 2, frame.len())),
            Err(_) if len == -1 => None,
            Err(_) => return Err(DecodeError::NegativeLength { kind: "client id", length: len.into(), offset: FIXED }),
        };
        match frame.first() {
            _ if !flexible => Ok(frame),
            Some(0) => {
                frame.advance(1);
                Ok(frame)
            }
            _ => skip_tagged_fields(frame),
        }
    }
}

fn too_short(needed: usize, offset: usize, remaining: usize) -> DecodeError {
    DecodeError::UnexpectedEnd { offset, needed, remaining }
}

fn utf8(bytes: Bytes) -> Result<Bytes, DecodeError> {
    match std::str::from_utf8(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(DecodeError::InvalidUtf8 { offset: FIXED + 2, valid_up_to: error.valid_up_to() }),
    }
}

/// Unknown tagged fields are skipped, as KIP-482 asks.
fn skip_tagged_fields(frame: Bytes) -> Result<Bytes, DecodeError> {
    let limits = limits(&frame);
    let mut decoder = Decoder::new(frame, limits)?;
    decoder.read_tagged_fields()?;
    let rest = decoder.remaining();
    decoder.take_bytes(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(parts: &[&[u8]]) -> Bytes {
        Bytes::from(parts.concat())
    }

    #[test]
    fn reads_both_versions() {
        let fixed = [0, 18, 0, 3, 0, 0, 0, 9];
        let v1 = frame(&[&fixed, &[0, 2], b"me", b"body"]);
        let mut header = RequestHeader::peek(&v1).unwrap();
        assert_eq!((header.api_key, header.version, header.correlation_id), (18, 3, 9));
        assert_eq!(header.finish(v1, false).unwrap(), "body");
        assert_eq!(header.client_id.as_deref(), Some(&b"me"[..]));

        let v2 = frame(&[&fixed, &[0xff, 0xff], &[1, 5, 2, 1, 1], b"body"]);
        let mut header = RequestHeader::peek(&v2).unwrap();
        assert_eq!(header.finish(v2, true).unwrap(), "body");
        assert_eq!(header.client_id, None);
    }

    #[test]
    fn refuses_what_is_not_a_header() {
        assert!(RequestHeader::peek(&[0; 7]).is_err());
        let fixed = [0u8; FIXED];
        for rest in [&[][..], &[0], &[0, 5, b'x'], &[0xff, 0xfe], &[0, 1, 0xff]] {
            let frame = frame(&[&fixed, rest]);
            let mut header = RequestHeader::peek(&frame).unwrap();
            assert!(header.finish(frame, false).is_err(), "{rest:?}");
        }
    }
}
