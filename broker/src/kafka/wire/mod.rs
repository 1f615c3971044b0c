//! The Kafka codec: generated messages (crate `kafka-wire`), error codes, frames; Produce and Fetch by hand.

mod error_code;

pub use error_code::ErrorCode;
pub use kafka_wire_core::{StrBytes, Uuid};

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
