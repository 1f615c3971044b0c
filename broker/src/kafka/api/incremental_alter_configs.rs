//! IncrementalAlterConfigs (KIP-339): sets, removes and extends settings one by one.

use std::time::Duration;

use kafka_wire::incremental_alter_configs_request::AlterConfigsResource;
use kafka_wire::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_wire::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use crate::kafka::RequestContext;
use crate::kafka::admin::{Admin, Deadline, Refusal, code_and_text};
use crate::kafka::configs::{Alteration, Asked, Operation, alter_each, null_value};
use crate::kafka::wire::ErrorCode;
use crate::message;

/// How long a change may take: the request says nothing of it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Alters each resource by itself; answers when this node's replicas have their settings.
pub async fn handle(
    context: &RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let deadline = Deadline::after(TIMEOUT);
    let response = answer(Admin::of(&context.broker), &request, deadline).await;
    deadline.applied(&context.broker).await;
    response
}

async fn answer(
    admin: Admin<'_>,
    request: &IncrementalAlterConfigsRequest,
    deadline: Deadline,
) -> IncrementalAlterConfigsResponse {
    // An operation that it does not know makes Kafka fail the request as a whole, without a message.
    let unknown = request.resources.iter().flat_map(|it| &it.configs).any(|it| !(0..=3).contains(&it.config_operation));
    let asked = request.resources.iter().map(|it| Asked {
        kind: it.resource_type,
        name: &it.resource_name,
        alteration: if unknown { Err(Refusal::bare(ErrorCode::UnknownServerError)) } else { changes(it) },
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
    message!(IncrementalAlterConfigsResponse { responses: responses.collect::<Vec<_>>() })
}

fn changes(asked: &AlterConfigsResource) -> Result<Alteration, Refusal> {
    let changes = asked.configs.iter().map(|config| {
        let name = config.name.as_str().to_owned();
        let value = || config.value.as_ref().map(|it| it.as_str().to_owned()).ok_or_else(|| null_value(&config.name));
        let operation = match config.config_operation {
            0 => Operation::Set(value()?),
            1 => Operation::Delete,
            2 => Operation::Append(value()?),
            _ => Operation::Subtract(value()?),
        };
        Ok((name, operation))
    });
    Ok(Alteration::Change(changes.collect::<Result<_, Refusal>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::testing::Plane;
    use crate::kafka::wire::EncodeResponse;
    use crate::metadata::ConfigResource;
    use kafka_wire::incremental_alter_configs_request::AlterableConfig;

    fn of(kind: i8, name: &str, configs: &[(&str, i8, Option<&str>)]) -> AlterConfigsResource {
        let config = |(name, operation, value): &(&str, i8, Option<&str>)| {
            message!(AlterableConfig {
                name: (*name).into(),
                config_operation: *operation,
                value: value.map(Into::into),
            })
        };
        message!(AlterConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configs: configs.iter().map(config).collect(),
        })
    }

    async fn ask(plane: &Plane, resources: Vec<AlterConfigsResource>, validate_only: bool) -> Vec<i16> {
        let request = message!(IncrementalAlterConfigsRequest { resources, validate_only });
        let response = answer(plane.admin(), &request, Deadline::after(TIMEOUT)).await;
        for version in 0..=1 {
            response.clone().encode(version).unwrap_or_else(|error| panic!("v{version}: {error}"));
        }
        response.responses.into_iter().map(|it| it.error_code).collect()
    }

    fn setting(plane: &Plane, name: &str) -> Option<String> {
        plane.image().config(&ConfigResource::Topic("t".into()), name).map(str::to_owned)
    }

    /// Each way in which Kafka refuses, with its code.
    #[tokio::test]
    async fn error_paths() {
        let plane = Plane::new(&[]);
        plane.create("t", 1).await;
        for (resource, expected) in [
            (of(2, "none", &[]), ErrorCode::UnknownTopicOrPartition),
            (of(2, "a/b", &[]), ErrorCode::InvalidTopicException),
            (of(2, "", &[]), ErrorCode::InvalidRequest),
            (of(2, "t", &[("no.such", 0, Some("1"))]), ErrorCode::InvalidConfig),
            (of(2, "t", &[("retention.ms", 0, Some("soon"))]), ErrorCode::InvalidConfig),
            (of(2, "t", &[("retention.ms", 0, None)]), ErrorCode::InvalidRequest),
            (of(2, "t", &[("cleanup.policy", 2, None)]), ErrorCode::InvalidRequest),
            (of(2, "t", &[("retention.ms", 2, Some("1"))]), ErrorCode::InvalidConfig),
            (of(2, "t", &[("no.such", 3, Some("1"))]), ErrorCode::InvalidConfig),
            (of(2, "t", &[("cleanup.policy", 2, Some("bad"))]), ErrorCode::InvalidConfig),
            (of(2, "t", &[("a", 1, None), ("a", 1, None)]), ErrorCode::InvalidRequest),
            (of(2, "t", &[("retention.ms", 9, Some("1"))]), ErrorCode::UnknownServerError),
            (of(4, "0", &[("num.partitions", 0, Some("2"))]), ErrorCode::InvalidRequest),
            (of(4, "", &[("log.cleaner.threads", 0, Some("x"))]), ErrorCode::InvalidRequest),
            (of(4, "", &[("ssl.keystore.location", 0, Some("x"))]), ErrorCode::InvalidRequest),
            (of(4, "7777", &[]), ErrorCode::InvalidRequest),
            (of(4, "one", &[]), ErrorCode::InvalidRequest),
            (of(4, "0", &[("min.insync.replicas", 0, Some("1"))]), ErrorCode::InvalidConfig),
            (of(8, "0", &[]), ErrorCode::InvalidRequest),
            (of(16, "", &[]), ErrorCode::InvalidRequest),
            (of(16, "cm", &[("interval.ms", 0, Some("1"))]), ErrorCode::InvalidRequest),
            (of(16, "cm", &[("match", 0, Some("foo"))]), ErrorCode::InvalidConfig),
            (of(32, "", &[]), ErrorCode::InvalidRequest),
            (of(32, "g", &[("consumer.session.timeout.ms", 0, Some("1"))]), ErrorCode::InvalidConfig),
            (of(99, "x", &[]), ErrorCode::InvalidRequest),
        ] {
            assert_eq!(ask(&plane, vec![resource.clone()], false).await, [expected.code()], "{resource:?}");
        }
        assert_eq!(plane.image().config_resources().count(), 0);
    }

    #[tokio::test]
    async fn lists_are_appended_to_and_subtracted_from() {
        let plane = Plane::new(&[]);
        plane.create("t", 1).await;
        for (operation, value, expected) in [
            (2, Some("compact"), Some("delete,compact")),
            (2, Some("compact,delete"), Some("delete,compact")),
            (3, Some("delete"), Some("compact")),
            (3, Some("compact"), Some("")),
            (1, None, None),
            (3, Some("compact"), Some("delete")),
        ] {
            assert_eq!(ask(&plane, vec![of(2, "t", &[("cleanup.policy", operation, value)])], false).await, [0]);
            assert_eq!(setting(&plane, "cleanup.policy").as_deref(), expected, "{operation} {value:?}");
        }
    }

    #[tokio::test]
    async fn a_resource_named_twice_is_refused_and_the_others_are_not() {
        let plane = Plane::new(&[]);
        plane.create("t", 1).await;
        let set = |kind: i8, name: &str, config: &str| of(kind, name, &[(config, 0, Some("1"))]);
        let resources = vec![set(2, "t", "retention.ms"), set(4, "", "log.cleaner.threads"), set(2, "t", "segment.ms")];
        let invalid = ErrorCode::InvalidRequest.code();
        assert_eq!(ask(&plane, resources, false).await, [invalid, 0, invalid]);
        assert_eq!(setting(&plane, "retention.ms"), None);
    }

    #[tokio::test]
    async fn validate_only_changes_nothing() {
        let plane = Plane::new(&[]);
        plane.create("t", 1).await;
        assert_eq!(ask(&plane, vec![of(2, "t", &[("retention.ms", 0, Some("1"))])], true).await, [0]);
        assert_eq!(setting(&plane, "retention.ms"), None);
    }
}
