//! InitProducerId (KIP-98, KIP-360, KIP-939): an id for an idempotent producer.
//!
//! There is no transaction coordinator yet: well-formed requests with a transactional id are refused with
//! INVALID_REQUEST, which clients take as final, as they do FindCoordinator's answer that comes before.

use kafka_wire::{InitProducerIdRequest, InitProducerIdResponse};

use crate::kafka::RequestContext;
use crate::kafka::wire::ErrorCode;
use crate::message;

/// Stands for no id and for no epoch.
const NONE: i64 = -1;
/// `transaction.max.timeout.ms`, Kafka's default.
const MAX_TRANSACTION_TIMEOUT_MS: i32 = 900_000;

/// Answers with a fresh id and epoch 0.
pub async fn handle(context: &RequestContext, request: InitProducerIdRequest) -> InitProducerIdResponse {
    if let Err(error) = check(&request) {
        return refused(error);
    }
    match context.broker.producer_ids.next().await {
        Ok(id) => message!(InitProducerIdResponse { producer_id: id.get(), producer_epoch: 0 }),
        // A client asks again after this one.
        Err(_) => refused(ErrorCode::CoordinatorLoadInProgress),
    }
}

fn check(request: &InitProducerIdRequest) -> Result<(), ErrorCode> {
    if (request.producer_id == NONE) != (i64::from(request.producer_epoch) == NONE) {
        return Err(ErrorCode::InvalidRequest);
    }
    let Some(transactional_id) = &request.transactional_id else { return Ok(()) };
    if transactional_id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    if !(1..=MAX_TRANSACTION_TIMEOUT_MS).contains(&request.transaction_timeout_ms) {
        return Err(ErrorCode::InvalidTransactionTimeout);
    }
    Err(ErrorCode::InvalidRequest)
}

fn refused(error: ErrorCode) -> InitProducerIdResponse {
    message!(InitProducerIdResponse { error_code: error.code(), producer_id: NONE, producer_epoch: -1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_idempotent_producers_are_served() {
        let plain = message!(InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            producer_id: NONE,
            producer_epoch: -1,
        });
        assert_eq!(check(&plain), Ok(()));
        for (id, timeout, producer, epoch, expected) in [
            (Some(""), 60_000, NONE, -1, ErrorCode::InvalidRequest),
            (Some("x"), 0, NONE, -1, ErrorCode::InvalidTransactionTimeout),
            (Some("x"), 999_999_999, NONE, -1, ErrorCode::InvalidTransactionTimeout),
            (Some("x"), 60_000, NONE, -1, ErrorCode::InvalidRequest),
            (Some("x"), 60_000, 123_456, -1, ErrorCode::InvalidRequest),
            (None, 60_000, NONE, 3, ErrorCode::InvalidRequest),
        ] {
            let mut request = plain.clone();
            request.transactional_id = id.map(Into::into);
            request.transaction_timeout_ms = timeout;
            request.producer_id = producer;
            request.producer_epoch = epoch;
            assert_eq!(check(&request), Err(expected), "{id:?} {timeout} {producer} {epoch}");
        }
    }
}
