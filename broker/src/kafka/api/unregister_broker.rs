//! UnregisterBroker (KIP-500): the cluster forgets a broker.

use kafka_wire::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use crate::ids::NodeId;
use crate::kafka::RequestContext;
use crate::kafka::admin::{Admin, DEFAULT_TIMEOUT, Deadline, Refusal, code_and_text};
use crate::kafka::wire::ErrorCode;
use crate::message;
use crate::metadata::Command;

/// Unregisters; as in Kafka, replicas that are assigned to the broker stay assigned.
pub async fn handle(context: &RequestContext, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse {
    answer(Admin::of(&context.broker), request.broker_id).await
}

async fn answer(admin: Admin<'_>, broker: i32) -> UnregisterBrokerResponse {
    let (error_code, error_message) = code_and_text(&unregister(admin, broker).await);
    message!(UnregisterBrokerResponse { error_code, error_message })
}

async fn unregister(admin: Admin<'_>, broker: i32) -> Result<(), Refusal> {
    let node = NodeId::try_from(broker).ok().filter(|id| admin.metadata.image().node(*id).is_some());
    let Some(node) = node else {
        let message = format!("Broker ID {broker} is not currently registered");
        return Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, message));
    };
    admin.propose(Command::UnregisterNode { node, only_if_empty: false }, Deadline::after(DEFAULT_TIMEOUT)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::testing::Plane;
    use crate::kafka::wire::EncodeResponse;

    #[tokio::test]
    async fn a_broker_is_forgotten_once() {
        let plane = Plane::of_nodes(2).await;
        for unknown in [54321, 2, -1] {
            let response = answer(plane.admin(), unknown).await;
            assert_eq!(response.error_code, ErrorCode::BrokerIdNotRegistered.code(), "{unknown}");
            response.encode(0).expect("version 0 carries it");
        }
        assert_eq!(answer(plane.admin(), 1).await.error_code, 0);
        assert_eq!(plane.image().nodes().count(), 1);
        assert_eq!(answer(plane.admin(), 1).await.error_code, ErrorCode::BrokerIdNotRegistered.code());
    }
}
