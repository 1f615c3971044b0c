//! AlterConfigs (KIP-133): replaces all settings of a resource. Clients of today use IncrementalAlterConfigs.

use std::time::Duration;

use kafka_wire::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::alter_configs_response::AlterConfigsResourceResponse;
use kafka_wire::{AlterConfigsRequest, AlterConfigsResponse};

use crate::kafka::RequestContext;
use crate::kafka::admin::{Admin, Deadline, code_and_text};
use crate::kafka::configs::{Alteration, Asked, alter_each};
use crate::message;

/// How long a change may take: the request says nothing of it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Alters each resource by itself; answers when this node's replicas have their settings.
pub async fn handle(context: &RequestContext, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let deadline = Deadline::after(TIMEOUT);
    let response = answer(Admin::of(&context.broker), &request, deadline).await;
    deadline.applied(&context.broker).await;
    response
}

async fn answer(admin: Admin<'_>, request: &AlterConfigsRequest, deadline: Deadline) -> AlterConfigsResponse {
    let asked = request.resources.iter().map(|it| Asked {
        kind: it.resource_type,
        name: &it.resource_name,
        alteration: Ok(replacement(it)),
    });
    let outcomes = alter_each(admin, asked.collect(), request.validate_only, deadline).await;
    let responses = request.resources.iter().zip(&outcomes).map(|(asked, outcome)| {
        let (error_code, error_message) = code_and_text(outcome);
        message!(AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: asked.resource_type,
            resource_name: asked.resource_name.clone(),
        })
    });
    message!(AlterConfigsResponse { responses: responses.collect::<Vec<_>>() })
}

fn replacement(asked: &AlterConfigsResource) -> Alteration {
    let setting = |config: &AlterableConfig| {
        (config.name.as_str().to_owned(), config.value.as_ref().map(|it| it.as_str().to_owned()))
    };
    Alteration::Replace(asked.configs.iter().map(setting).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::testing::Plane;
    use crate::kafka::configs::initial_settings;
    use crate::kafka::wire::{EncodeResponse, ErrorCode};
    use crate::metadata::{ConfigResource, MetadataPlane};

    fn of(kind: i8, name: &str, configs: &[(&str, Option<&str>)]) -> AlterConfigsResource {
        let config = |(name, value): &(&str, Option<&str>)| {
            message!(AlterableConfig { name: (*name).into(), value: value.map(Into::into) })
        };
        message!(AlterConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configs: configs.iter().map(config).collect(),
        })
    }

    async fn ask(plane: &Plane, resources: Vec<AlterConfigsResource>) -> Vec<i16> {
        let request = message!(AlterConfigsRequest { resources });
        let response = answer(plane.admin(), &request, Deadline::after(TIMEOUT)).await;
        for version in 0..=2 {
            response.clone().encode(version).unwrap_or_else(|error| panic!("v{version}: {error}"));
        }
        response.responses.into_iter().map(|it| it.error_code).collect()
    }

    #[tokio::test]
    async fn what_is_not_named_is_removed() {
        let plane = Plane::new(&[]);
        plane.create("t", 1).await;
        assert_eq!(ask(&plane, vec![of(2, "t", &[("retention.ms", Some("1")), ("segment.ms", Some("2"))])]).await, [0]);
        assert_eq!(ask(&plane, vec![of(2, "t", &[("segment.ms", Some("3"))])]).await, [0]);
        let image = plane.image();
        let settings: Vec<_> = image.configs(&ConfigResource::Topic("t".into())).collect();
        assert_eq!(settings, [("segment.ms", "3")]);
    }

    #[tokio::test]
    async fn error_paths() {
        let plane = Plane::new(&[]);
        plane.create("t", 1).await;
        for (resource, expected) in [
            (of(2, "none", &[]), ErrorCode::UnknownTopicOrPartition),
            (of(2, "t", &[("no.such", Some("1"))]), ErrorCode::InvalidConfig),
            (of(2, "t", &[("retention.ms", None)]), ErrorCode::InvalidRequest),
            (of(2, "t", &[("a", Some("1")), ("a", Some("2"))]), ErrorCode::InvalidRequest),
            (of(4, "0", &[("num.partitions", Some("1"))]), ErrorCode::InvalidRequest),
            (of(8, "0", &[]), ErrorCode::InvalidRequest),
            (of(99, "t", &[]), ErrorCode::InvalidRequest),
        ] {
            assert_eq!(ask(&plane, vec![resource.clone()]).await, [expected.code()], "{resource:?}");
        }
        assert_eq!(ask(&plane, vec![of(2, "t", &[]), of(2, "t", &[])]).await, [42, 42]);
    }

    #[tokio::test]
    async fn the_clusters_min_insync_replicas_can_be_changed_and_not_removed() {
        let plane = Plane::new(&[]);
        let command = initial_settings(&plane.image(), 2).expect("a new cluster has none");
        plane.metadata.propose(command).await.expect("applied");
        assert_eq!(initial_settings(&plane.image(), 2), None);
        assert_eq!(plane.settings.topic(&plane.image(), "t").min_insync_replicas, 2);
        let name = "min.insync.replicas";
        assert_eq!(ask(&plane, vec![of(4, "", &[])]).await, [ErrorCode::InvalidConfig.code()]);
        assert_eq!(ask(&plane, vec![of(4, "", &[(name, Some("1"))])]).await, [0]);
        assert_eq!(plane.settings.topic(&plane.image(), "t").min_insync_replicas, 1);
    }
}
