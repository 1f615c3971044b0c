//! DescribeConfigs (KIP-133, KIP-226, KIP-569): settings, where they come from, what they do.

use std::collections::HashSet;

use kafka_wire::describe_configs_request::DescribeConfigsResource;
use kafka_wire::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_wire::{DescribeConfigsRequest, DescribeConfigsResponse};

use crate::config::describe::{
    Entry, broker_default_entries, broker_entries, client_metrics_entries, group_entries, topic_entries,
};
use crate::kafka::RequestContext;
use crate::kafka::admin::{Admin, Refusal};
use crate::kafka::configs::resource_type;
use crate::kafka::topics::check_name;
use crate::kafka::wire::{ErrorCode, StrBytes};
use crate::message;
use crate::metadata::{ConfigResource, Image};

/// Where a log level comes from, on the wire.
const LOGGER_SOURCE: i8 = 6;
/// What is told of settings that do nothing.
const NO_EFFECT: &str = "Accepted for compatibility with Apache Kafka; has no effect in Chronik.";

/// Answers from this node's image and from what it was started with.
pub async fn handle(context: &RequestContext, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    answer(Admin::of(&context.broker), &request, context.version)
}

fn answer(admin: Admin<'_>, request: &DescribeConfigsRequest, version: i16) -> DescribeConfigsResponse {
    let image = admin.metadata.image();
    let shape = Shape { version, synonyms: request.include_synonyms, documentation: request.include_documentation };
    // One resource of a type that does not exist spoils the request, as in Kafka.
    let spoilt = request.resources.iter().any(|resource| !KNOWN.contains(&resource.resource_type));
    let result = |asked: &DescribeConfigsResource| {
        let found = if spoilt {
            Err(Refusal::new(ErrorCode::InvalidRequest, "The request has a resource of an unknown type."))
        } else {
            configs(admin, &image, asked, &shape)
        };
        let mut result = message!(DescribeConfigsResult {
            resource_type: asked.resource_type,
            resource_name: asked.resource_name.clone(),
            error_message: Some(StrBytes::default()),
        });
        match found {
            Ok(configs) => result.configs = configs,
            Err(refusal) => {
                result.error_code = refusal.code.code();
                result.error_message = Some(refusal.text().unwrap_or_default());
            }
        }
        result
    };
    // Each resource once: a short request must not have an endless answer.
    let mut seen = HashSet::new();
    let resources = request.resources.iter();
    let once = resources.filter(|asked| seen.insert((asked.resource_type, &asked.resource_name)));
    message!(DescribeConfigsResponse { results: once.map(result).collect() })
}

const KNOWN: &[i8] = &[
    resource_type::TOPIC,
    resource_type::BROKER,
    resource_type::BROKER_LOGGER,
    resource_type::CLIENT_METRICS,
    resource_type::GROUP,
];

fn configs(
    admin: Admin<'_>,
    image: &Image,
    asked: &DescribeConfigsResource,
    shape: &Shape,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let name = asked.resource_name.as_str();
    let layers = admin.settings.layers(image);
    let own = |resource: ConfigResource| move |setting: &str| image.config(&resource, setting);
    let invalid = |message: &str| Refusal::new(ErrorCode::InvalidRequest, message);
    let entries = match asked.resource_type {
        resource_type::TOPIC => {
            check_name(name)?;
            image.topic(name).ok_or(Refusal::bare(ErrorCode::UnknownTopicOrPartition))?;
            topic_entries(&layers, own(ConfigResource::Topic(name.into())))
        }
        resource_type::BROKER if name.is_empty() => broker_default_entries(&layers),
        resource_type::BROKER => {
            check_broker(admin, name, "or empty string, ")?;
            broker_entries(&layers)
        }
        resource_type::BROKER_LOGGER if name.is_empty() => return Err(invalid("Broker id must not be empty")),
        resource_type::BROKER_LOGGER => {
            check_broker(admin, name, "")?;
            return Ok(loggers(asked.configuration_keys.as_deref()));
        }
        resource_type::GROUP if name.is_empty() => return Err(invalid("Group name must not be empty")),
        resource_type::GROUP => group_entries(&layers, own(ConfigResource::Group(name.into()))),
        _ if name.is_empty() => return Err(invalid("Client metrics subscription name must not be empty")),
        _ => client_metrics_entries(own(ConfigResource::ClientMetrics(name.into()))),
    };
    let keys = asked.configuration_keys.as_deref().filter(|keys| !keys.is_empty());
    let keys: Option<HashSet<&str>> = keys.map(|keys| keys.iter().map(StrBytes::as_str).collect());
    let asked_for = |entry: &Entry| keys.as_ref().is_none_or(|keys| keys.contains(entry.definition.name));
    Ok(entries.into_iter().filter(asked_for).map(|entry| shape.entry(entry)).collect())
}

fn check_broker(admin: Admin<'_>, name: &str, or: &str) -> Result<(), Refusal> {
    let node = admin.settings.node();
    let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    match name.parse::<i32>() {
        Err(_) => refuse(format!("Broker id must be an integer, but it is: {name}")),
        Ok(id) if id != node.get() => refuse(format!("Unexpected broker id, expected {node} {or}but received {name}")),
        Ok(_) => Ok(()),
    }
}

/// The log levels: one, of everything.
fn loggers(keys: Option<&[StrBytes]>) -> Vec<DescribeConfigsResourceResult> {
    let asked = keys.is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| key.as_str() == "root"));
    let level = tracing::level_filters::LevelFilter::current().to_string().to_ascii_uppercase();
    let root = message!(DescribeConfigsResourceResult {
        name: "root".into(),
        value: Some(level.into()),
        config_source: LOGGER_SOURCE,
    });
    asked.then_some(root).into_iter().collect()
}

/// How a response of one version shows settings.
struct Shape {
    version: i16,
    synonyms: bool,
    documentation: bool,
}

impl Shape {
    fn entry(&self, entry: Entry) -> DescribeConfigsResourceResult {
        let definition = entry.definition;
        let mut shown = message!(DescribeConfigsResourceResult {
            name: definition.name.into(),
            value: entry.value.map(Into::into),
            read_only: entry.read_only,
            config_source: entry.source.wire(),
            is_sensitive: definition.sensitive(),
        });
        if self.synonyms {
            let synonym = |it: crate::config::Synonym| {
                message!(DescribeConfigsSynonym {
                    name: it.name.into(),
                    value: it.value.map(Into::into),
                    source: it.source.wire(),
                })
            };
            shown.synonyms = entry.synonyms.into_iter().map(synonym).collect();
        }
        if self.version >= 3 {
            shown.config_type = definition.kind.wire();
            if self.documentation {
                let text = if definition.has_effect() { definition.documentation } else { NO_EFFECT };
                shown.documentation = Some(text.into());
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::testing::Plane;
    use crate::kafka::wire::EncodeResponse;

    fn of(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
        message!(DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).into()).collect()),
        })
    }

    fn ask(plane: &Plane, resources: Vec<DescribeConfigsResource>, version: i16) -> DescribeConfigsResponse {
        let request =
            message!(DescribeConfigsRequest { resources, include_synonyms: true, include_documentation: true });
        answer(plane.admin(), &request, version)
    }

    #[tokio::test]
    async fn error_paths() {
        let plane = Plane::new(&[]);
        for (resource, expected) in [
            (of(2, "none", None), ErrorCode::UnknownTopicOrPartition),
            (of(2, "a/b", None), ErrorCode::InvalidTopicException),
            (of(2, "", None), ErrorCode::InvalidTopicException),
            (of(4, "77777", None), ErrorCode::InvalidRequest),
            (of(4, "one", None), ErrorCode::InvalidRequest),
            (of(8, "77777", None), ErrorCode::InvalidRequest),
            (of(8, "", None), ErrorCode::InvalidRequest),
            (of(16, "", None), ErrorCode::InvalidRequest),
            (of(32, "", None), ErrorCode::InvalidRequest),
            (of(99, "x", None), ErrorCode::InvalidRequest),
        ] {
            let result = &ask(&plane, vec![resource.clone()], 4).results[0];
            assert_eq!((result.error_code, result.configs.len()), (expected.code(), 0), "{resource:?}");
        }
        let spoilt = ask(&plane, vec![of(4, "", None), of(0, "x", None)], 4);
        assert!(spoilt.results.iter().all(|it| it.error_code == ErrorCode::InvalidRequest.code()));
    }

    #[tokio::test]
    async fn names_choose_and_an_empty_list_chooses_all() {
        let plane = Plane::new(&[]);
        plane.create("t", 1).await;
        for (kind, name, keys, count) in [
            (2, "t", None, 37),
            (2, "t", Some(&[][..]), 37),
            (2, "t", Some(&["cleanup.policy", "no.such"][..]), 1),
            (4, "0", None, 350),
            (4, "0", Some(&["num.partitions"][..]), 1),
            (4, "", None, 0),
            (8, "0", None, 1),
            (16, "cm", None, 3),
            (32, "g", None, 21),
        ] {
            let response = ask(&plane, vec![of(kind, name, keys)], 4);
            assert_eq!(response.results[0].configs.len(), count, "{kind} {name} {keys:?}");
            assert_eq!(response.results[0].error_message.as_deref(), Some(""));
        }
    }

    #[tokio::test]
    async fn every_version_can_be_encoded() {
        let plane = Plane::new(&[]);
        plane.create("t", 1).await;
        for version in 1..=4 {
            let response = ask(&plane, vec![of(2, "t", None), of(4, "0", None), of(8, "0", None)], version);
            let typed = response.results[0].configs[0].config_type != 0;
            assert_eq!(typed, version >= 3);
            response.encode(version).unwrap_or_else(|error| panic!("v{version}: {error}"));
        }
    }
}
