//! FindCoordinator (KIP-98, KIP-699): which node coordinates a group.
//!
//! Of the other kinds of coordinators there is none yet. Kafka's answer where one does not run,
//! COORDINATOR_NOT_AVAILABLE, makes clients ask again until they time out; INVALID_REQUEST, which Kafka gives to kinds
//! that it does not know, tells a transactional or share client at once that this broker is not for it.

use kafka_wire::find_coordinator_response::Coordinator;
use kafka_wire::{FindCoordinatorRequest, FindCoordinatorResponse};

use crate::kafka::RequestContext;
use crate::kafka::wire::{ErrorCode, StrBytes};
use crate::message;

/// The kind that coordinates groups.
const GROUP: i8 = 0;
/// The kind that coordinates share groups (KIP-932).
const SHARE: i8 = 2;
/// A request may have several keys from this version on.
const KEYS_FROM: i16 = 4;

/// Answers from the metadata image; the offsets topic is made when the first group is looked for.
pub async fn handle(context: &RequestContext, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let kind = request.key_type;
    if context.version < KEYS_FROM {
        return single(find(context, kind, &request.key).await);
    }
    let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
    for key in request.coordinator_keys {
        let found = find(context, kind, &key).await;
        coordinators.push(keyed(key, kind, found));
    }
    message!(FindCoordinatorResponse { coordinators: coordinators })
}

/// Where a coordinator is.
#[derive(Debug)]
struct Place {
    node: i32,
    host: StrBytes,
    port: i32,
}

impl Place {
    fn none() -> Self {
        Self { node: -1, host: "".into(), port: -1 }
    }
}

async fn find(context: &RequestContext, kind: i8, key: &StrBytes) -> Result<Place, ErrorCode> {
    if kind != GROUP {
        return Err(ErrorCode::InvalidRequest);
    }
    let leader = context.broker.groups.find(key).await.ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let image = context.broker.metadata.image();
    let node = image.node(leader).filter(|node| !node.fenced).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    Ok(Place { node: node.id.get(), host: node.host.as_str().into(), port: node.port.into() })
}

/// The text that Kafka has for an error.
fn text(error: ErrorCode) -> StrBytes {
    match error {
        ErrorCode::None => "NONE".into(),
        ErrorCode::InvalidRequest => {
            "This most likely occurs because of a request being malformed by the client library or the message was \
             sent to an incompatible broker. See the broker logs for more details."
                .into()
        }
        _ => "The coordinator is not available.".into(),
    }
}

fn split(found: Result<Place, ErrorCode>) -> (Place, ErrorCode) {
    match found {
        Ok(place) => (place, ErrorCode::None),
        Err(error) => (Place::none(), error),
    }
}

fn single(found: Result<Place, ErrorCode>) -> FindCoordinatorResponse {
    let (place, error) = split(found);
    message!(FindCoordinatorResponse {
        error_code: error.code(),
        error_message: Some(text(error)),
        node_id: place.node,
        host: place.host,
        port: place.port,
    })
}

fn keyed(key: StrBytes, kind: i8, found: Result<Place, ErrorCode>) -> Coordinator {
    let (place, error) = split(found);
    // Kafka has no text for success here, nor for a share key.
    let silent = error == ErrorCode::None || kind == SHARE;
    message!(Coordinator {
        key: key,
        node_id: place.node,
        host: place.host,
        port: place.port,
        error_code: error.code(),
        error_message: Some(if silent { "".into() } else { text(error) }),
    })
}
