//! ListConfigResources (KIP-1142; version 0 is KIP-714's list of client-metrics subscriptions).

use kafka_wire::list_config_resources_response::ConfigResource as Listed;
use kafka_wire::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use crate::kafka::RequestContext;
use crate::kafka::configs::resource_type::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::kafka::wire::ErrorCode;
use crate::message;
use crate::metadata::{ConfigResource, Image};

/// Answers from this node's image.
pub async fn handle(context: &RequestContext, request: ListConfigResourcesRequest) -> ListConfigResourcesResponse {
    answer(&context.broker.metadata.image(), &request, context.version)
}

fn answer(image: &Image, request: &ListConfigResourcesRequest, version: i16) -> ListConfigResourcesResponse {
    const ALL: &[i8] = &[TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
    let asked = &*request.resource_types;
    let types: Vec<i8> = match version {
        0 => vec![CLIENT_METRICS],
        _ if asked.is_empty() => ALL.to_vec(),
        _ => ALL.iter().copied().filter(|it| asked.contains(it)).collect(),
    };
    if asked.iter().any(|it| !ALL.contains(it)) {
        return message!(ListConfigResourcesResponse { error_code: ErrorCode::UnsupportedVersion.code() });
    }
    let mut config_resources = Vec::new();
    for kind in types {
        config_resources.extend(names(image, kind).into_iter().map(|name| {
            let mut listed = message!(Listed { resource_name: name.into() });
            if version >= 1 {
                listed.resource_type = kind;
            }
            listed
        }));
    }
    message!(ListConfigResourcesResponse { config_resources })
}

/// Topics and brokers all have settings; groups and subscriptions are known by those that they have.
fn names(image: &Image, kind: i8) -> Vec<String> {
    match kind {
        TOPIC => image.topics().map(|topic| topic.name.to_string()).collect(),
        BROKER | BROKER_LOGGER => image.nodes().filter(|node| !node.fenced).map(|node| node.id.to_string()).collect(),
        _ => image
            .config_resources()
            .filter_map(|resource| match resource {
                ConfigResource::Group(name) if kind == GROUP => Some(name.to_string()),
                ConfigResource::ClientMetrics(name) if kind == CLIENT_METRICS => Some(name.to_string()),
                _ => None,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::testing::Plane;
    use crate::kafka::wire::EncodeResponse;
    use crate::metadata::{Command, MetadataPlane};

    #[tokio::test]
    async fn lists() {
        let plane = Plane::new(&[]);
        plane.create("t", 1).await;
        for resource in [ConfigResource::Group("g".into()), ConfigResource::ClientMetrics("cm".into())] {
            let changes = vec![("x".to_owned(), Some("1".to_owned()))];
            plane.metadata.propose(Command::SetConfigs { resource, changes }).await.expect("applied");
        }
        let ask = |types: &[i8], version: i16| {
            let request = message!(ListConfigResourcesRequest { resource_types: types.to_vec() });
            let response = answer(&plane.image(), &request, version);
            response.clone().encode(version).unwrap_or_else(|error| panic!("v{version}: {error}"));
            let listed = response.config_resources.into_iter();
            (response.error_code, listed.map(|it| it.resource_name.into_string()).collect::<Vec<_>>().join(" "))
        };
        for (types, version, expected) in [
            (&[][..], 0, "cm"),
            (&[], 1, "t 0 0 cm g"),
            (&[2], 1, "t"),
            (&[4], 1, "0"),
            (&[8], 1, "0"),
            (&[16], 1, "cm"),
            (&[32], 1, "g"),
            (&[32, 2], 1, "t g"),
        ] {
            assert_eq!(ask(types, version), (0, expected.to_owned()), "{types:?}");
        }
        assert_eq!(ask(&[99], 1), (ErrorCode::UnsupportedVersion.code(), String::new()));
    }
}
