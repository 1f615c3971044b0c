//! DescribeCluster (KIP-700, KIP-919, KIP-1073): the brokers and who controls them.

use kafka_wire::describe_cluster_response::DescribeClusterBroker;
use kafka_wire::{DescribeClusterRequest, DescribeClusterResponse};

use super::metadata::controller;
use crate::ids::NodeId;
use crate::kafka::RequestContext;
use crate::kafka::admin::Refusal;
use crate::kafka::authorized::CLUSTER_OPERATIONS;
use crate::kafka::wire::ErrorCode;
use crate::message;
use crate::metadata::Image;

/// The type of this endpoint: brokers.
const BROKERS: i8 = 1;
/// The type of endpoints that Chronik has not: Kafka's controllers.
const CONTROLLERS: i8 = 2;

/// Answers from this node's image.
pub async fn handle(context: &RequestContext, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let metadata = &context.broker.metadata;
    answer(&metadata.image(), metadata.leader(), &request, context.version)
}

fn answer(
    image: &Image,
    leader: Option<NodeId>,
    request: &DescribeClusterRequest,
    version: i16,
) -> DescribeClusterResponse {
    if let Err(refusal) = check_endpoint(request.endpoint_type) {
        return message!(DescribeClusterResponse { error_code: refusal.code.code(), error_message: refusal.text() });
    }
    let nodes = image.nodes().filter(|node| !node.fenced || request.include_fenced_brokers);
    let brokers = nodes.map(|node| {
        let mut broker = message!(DescribeClusterBroker {
            broker_id: node.id.get(),
            host: node.host.as_str().into(),
            port: i32::from(node.port),
            rack: node.rack.as_deref().map(Into::into),
        });
        if version >= 2 {
            broker.is_fenced = node.fenced;
        }
        broker
    });
    let mut response = message!(DescribeClusterResponse {
        cluster_id: image.cluster_id().into(),
        controller_id: controller(image, leader),
        brokers: brokers.collect(),
    });
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

fn check_endpoint(endpoint_type: i8) -> Result<(), Refusal> {
    match endpoint_type {
        BROKERS => Ok(()),
        CONTROLLERS => Err(Refusal::new(
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of brokers, but asks for controllers",
        )),
        other => Err(Refusal::new(ErrorCode::UnsupportedEndpointType, format!("Unsupported endpoint type {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::testing::Plane;
    use crate::kafka::wire::EncodeResponse;
    use crate::metadata::{Command, MetadataPlane};

    #[test]
    fn only_brokers_are_asked_here() {
        let plane = Plane::new(&[]);
        for (endpoint_type, expected) in
            [(1, ErrorCode::None), (2, ErrorCode::MismatchedEndpointType), (9, ErrorCode::UnsupportedEndpointType)]
        {
            let request = message!(DescribeClusterRequest { endpoint_type });
            let response = answer(&plane.image(), None, &request, 1);
            assert_eq!(response.error_code, expected.code());
            assert_eq!(response.brokers.len(), usize::from(endpoint_type == 1));
            response.encode(1).expect("can be encoded");
        }
    }

    #[tokio::test]
    async fn fenced_brokers_are_shown_to_those_who_ask() {
        let plane = Plane::new(&[]);
        let epoch = plane.image().node(NodeId::FIRST).expect("registered").epoch;
        plane.metadata.propose(Command::FenceNode { node: NodeId::FIRST, epoch }).await.expect("applied");
        for include_fenced_brokers in [false, true] {
            let request = message!(DescribeClusterRequest { include_fenced_brokers });
            let response = answer(&plane.image(), Some(NodeId::FIRST), &request, 2);
            assert_eq!(response.brokers.iter().filter(|it| it.is_fenced).count(), usize::from(include_fenced_brokers));
            assert_eq!(response.controller_id, -1);
        }
    }

    #[test]
    fn every_version_can_be_encoded() {
        let plane = Plane::new(&[]);
        for version in 0..=2 {
            let request = message!(DescribeClusterRequest { include_cluster_authorized_operations: true });
            let response = answer(&plane.image(), Some(NodeId::FIRST), &request, version);
            assert_eq!((response.controller_id, response.cluster_authorized_operations), (0, CLUSTER_OPERATIONS));
            response.encode(version).unwrap_or_else(|error| panic!("v{version}: {error}"));
        }
    }
}
