//! The Kafka codec: generated messages (crate `kafka-wire`), error codes, headers; Produce and Fetch by hand.

mod body;
mod error_code;
pub mod fetch;
pub mod fields;
mod header;
pub mod produce;

pub use body::Body;
pub use error_code::ErrorCode;
pub use header::RequestHeader;
pub use kafka_wire_core::{DecodeError, EncodeError, StrBytes, Uuid};

use bytes::Bytes;
use kafka_wire::{KafkaRequest, KafkaResponse};
use kafka_wire_core::{ApiVersion, DecodeLimits, Decoder};

/// No array of a request has more elements than this: a decoded element takes up to a hundred times its bytes on the
/// wire, so that a frame's length alone is not a bound on memory.
const MAX_ARRAY_ELEMENTS: usize = 250_000;

/// Decoding is bounded by what is in the frame: no string, blob or array is longer than that.
pub fn limits(frame: &Bytes) -> DecodeLimits {
    let mut limits = DecodeLimits::default();
    limits.max_frame_bytes = frame.len();
    limits.max_string_bytes = frame.len();
    limits.max_bytes_bytes = frame.len();
    limits.max_array_elements = frame.len().min(MAX_ARRAY_ELEMENTS);
    limits
}

/// A request that a frame's body can be decoded to. Generated messages are; Fetch is by hand.
pub trait DecodeRequest: Sized {
    /// Decodes the body. What follows the last field is ignored, as Kafka does.
    fn decode(body: Bytes, version: i16) -> Result<Self, DecodeError>;
}

impl<R: KafkaRequest> DecodeRequest for R {
    fn decode(body: Bytes, version: i16) -> Result<Self, DecodeError> {
        let limits = limits(&body);
        R::decode(&mut Decoder::new(body, limits)?, ApiVersion::new(version))
    }
}

/// A response that can be encoded. Generated messages are; Fetch's is by hand.
pub trait EncodeResponse {
    /// Encodes at the request's version.
    fn encode(self, version: i16) -> Result<Body, EncodeError>;
}

impl<R: KafkaResponse> EncodeResponse for R {
    fn encode(self, version: i16) -> Result<Body, EncodeError> {
        Body::encode(&self, version)
    }
}

/// Builds a generated message: `message!(FindCoordinatorResponse { node_id: 1, ..})` sets the named fields over the
/// protocol's defaults (the generated structs are `non_exhaustive`: a literal can't).
#[macro_export]
macro_rules! message {
    ($type:ty { $($field:ident $(: $value:expr)?),* $(,)? }) => {{
        #[allow(unused_mut, clippy::field_reassign_with_default)]
        {
            let mut message = <$type>::default();
            $( message.$field = $crate::message!(@value $field $($value)?); )*
            message
        }
    }};
    (@value $field:ident $value:expr) => { $value };
    (@value $field:ident) => { $field };
}
