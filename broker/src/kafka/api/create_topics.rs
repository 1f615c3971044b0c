//! CreateTopics (KIP-4, KIP-464, KIP-525).

use std::collections::HashMap;

use kafka_wire::create_topics_request::CreatableTopic;
use kafka_wire::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_wire::{CreateTopicsRequest, CreateTopicsResponse};

use crate::config::describe::new_topic_entries;
use crate::kafka::RequestContext;
use crate::kafka::admin::{Admin, Deadline, Refusal};
use crate::kafka::topics::{MAX_NEW_PARTITIONS, Wanted};
use crate::kafka::wire::{ErrorCode, Uuid};
use crate::message;
use crate::metadata::{Command, Image, NewTopic};

/// Creates topics; answers when this node's replicas of them exist.
pub async fn handle(context: &RequestContext, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let deadline = Deadline::of_request(request.timeout_ms);
    let response = answer(Admin::of(&context.broker), &request, context.version, deadline.clone()).await;
    if let (Ok(deadline), false) = (deadline, request.validate_only) {
        deadline.applied(&context.broker).await;
    }
    response
}

async fn answer(
    admin: Admin<'_>,
    request: &CreateTopicsRequest,
    version: i16,
    deadline: Result<Deadline, Refusal>,
) -> CreateTopicsResponse {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name.as_str()).or_default() += 1;
    }
    let wanted: Vec<Wanted> = request.topics.iter().map(wanted).collect();
    let partitions: i64 = wanted.iter().map(|topic| topic.partition_count(admin)).sum();
    let image = admin.metadata.image();
    let mut results = Vec::with_capacity(wanted.len());
    for topic in &wanted {
        let outcome = match counts.remove(topic.name.as_str()) {
            None => continue, // A duplicate: answered once.
            Some(2..) => Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.")),
            Some(_) if partitions > MAX_NEW_PARTITIONS => {
                let message = "Excessively large number of partitions per request.";
                Err(Refusal::new(ErrorCode::PolicyViolation, message))
            }
            Some(_) => create(admin, &image, topic, request.validate_only, &deadline).await,
        };
        results.push(match outcome {
            Ok(created) => created_result(admin, &created, version),
            Err(refusal) => refused_result(&topic.name, &refusal, version),
        });
    }
    message!(CreateTopicsResponse { topics: results })
}

async fn create(
    admin: Admin<'_>,
    image: &Image,
    wanted: &Wanted,
    validate_only: bool,
    deadline: &Result<Deadline, Refusal>,
) -> Result<NewTopic, Refusal> {
    let topic = wanted.plan(admin, image)?;
    let deadline = deadline.clone()?;
    if !validate_only {
        admin.propose(Command::CreateTopic(topic.clone()), deadline).await?;
    }
    Ok(topic)
}

fn wanted(topic: &CreatableTopic) -> Wanted {
    let text = |value: &crate::kafka::wire::StrBytes| value.as_str().to_owned();
    Wanted {
        name: text(&topic.name),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic.assignments.iter().map(|it| (it.partition_index, it.broker_ids.clone())).collect(),
        configs: topic.configs.iter().map(|it| (text(&it.name), it.value.as_ref().map(text))).collect(),
    }
}

fn created_result(admin: Admin<'_>, topic: &NewTopic, version: i16) -> CreatableTopicResult {
    let mut result = message!(CreatableTopicResult { name: topic.name.as_str().into(), error_message: None });
    if version >= 5 {
        let own: HashMap<&str, &str> = topic.configs.iter().map(|(name, value)| (&**name, &**value)).collect();
        let layers = admin.settings.layers(&admin.metadata.image());
        let entries = new_topic_entries(&layers, |name| own.get(name).copied());
        result.num_partitions = topic.assignment.len() as i32;
        result.replication_factor = topic.assignment.first().map_or(-1, |replicas| replicas.len() as i16);
        let config = |entry: crate::config::describe::Entry| {
            message!(CreatableTopicConfigs {
                name: entry.definition.name.into(),
                value: entry.value.map(Into::into),
                read_only: entry.read_only,
                config_source: entry.source.wire(),
                is_sensitive: entry.definition.sensitive(),
            })
        };
        result.configs = Some(entries.into_iter().map(config).collect());
    }
    if version >= 7 {
        result.topic_id = Uuid::from_bytes(topic.id.to_bytes());
    }
    result
}

fn refused_result(name: &str, refusal: &Refusal, version: i16) -> CreatableTopicResult {
    let mut result = message!(CreatableTopicResult {
        name: name.into(),
        error_code: refusal.code.code(),
        error_message: refusal.text(),
    });
    if version >= 5 {
        result.configs = Some(Vec::new());
    }
    result
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kafka::api::testing::Plane;
    use crate::kafka::wire::EncodeResponse;
    use kafka_wire::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};

    fn topic(name: &str, partitions: i32, replicas: i16) -> CreatableTopic {
        message!(CreatableTopic { name: name.into(), num_partitions: partitions, replication_factor: replicas })
    }

    fn with_config(name: &str, value: Option<&str>) -> CreatableTopic {
        let config = message!(CreatableTopicConfig { name: name.into(), value: value.map(Into::into) });
        let mut topic = topic("c", 1, 1);
        topic.configs.push(config);
        topic
    }

    fn assigned(partitions: &[(i32, &[i32])]) -> CreatableTopic {
        let mut topic = topic("m", -1, -1);
        let assignment = |(partition, replicas): &(i32, &[i32])| {
            message!(CreatableReplicaAssignment { partition_index: *partition, broker_ids: replicas.to_vec() })
        };
        topic.assignments = partitions.iter().map(assignment).collect();
        topic
    }

    async fn ask(plane: &Plane, topics: Vec<CreatableTopic>, validate_only: bool) -> CreateTopicsResponse {
        let request = message!(CreateTopicsRequest { topics, timeout_ms: 5000, validate_only });
        answer(plane.admin(), &request, 7, Ok(Deadline::after(Duration::from_secs(5)))).await
    }

    /// Each way in which Kafka refuses a topic, with its code.
    #[tokio::test]
    async fn error_paths() {
        let plane = Plane::new(&[]);
        plane.create("exists", 1).await;
        plane.create("a.b", 1).await;
        let mut both = assigned(&[(0, &[0])]);
        both.num_partitions = 1;
        for (topic, expected) in [
            (topic("exists", 0, 0), ErrorCode::TopicAlreadyExists),
            (topic("a_b", 1, 1), ErrorCode::InvalidTopicException),
            (topic("", 1, 1), ErrorCode::InvalidTopicException),
            (topic("a/b", 0, 0), ErrorCode::InvalidTopicException),
            (topic("__meta", 1, 1), ErrorCode::InvalidTopicException),
            (topic("__commit", 1, 1), ErrorCode::InvalidTopicException),
            (topic("__cluster_metadata", 1, 1), ErrorCode::InvalidRequest),
            (topic("n", 0, 1), ErrorCode::InvalidPartitions),
            (topic("n", -2, 1), ErrorCode::InvalidPartitions),
            (topic("n", 1, 0), ErrorCode::InvalidReplicationFactor),
            (topic("n", 1, 99), ErrorCode::InvalidReplicationFactor),
            (topic("n", 10_001, 1), ErrorCode::PolicyViolation),
            (with_config("no.such", Some("1")), ErrorCode::InvalidConfig),
            (with_config("retention.ms", Some("soon")), ErrorCode::InvalidConfig),
            (with_config("segment.bytes", Some("1")), ErrorCode::InvalidConfig),
            (with_config("retention.ms", None), ErrorCode::InvalidConfig),
            (assigned(&[(0, &[12345])]), ErrorCode::InvalidReplicaAssignment),
            (assigned(&[(1, &[0])]), ErrorCode::InvalidReplicaAssignment),
            (assigned(&[(0, &[0, 0])]), ErrorCode::InvalidReplicaAssignment),
            (assigned(&[(0, &[])]), ErrorCode::InvalidReplicaAssignment),
            (assigned(&[(0, &[0]), (0, &[0])]), ErrorCode::InvalidReplicaAssignment),
            (both, ErrorCode::InvalidRequest),
        ] {
            let response = ask(&plane, vec![topic.clone()], false).await;
            let result = &response.topics[0];
            assert_eq!(result.error_code, expected.code(), "{topic:?}: {:?}", result.error_message);
            assert_eq!((result.num_partitions, result.replication_factor), (-1, -1));
            assert_eq!(result.configs.as_deref(), Some(&[][..]));
        }
        assert_eq!(plane.image().topic_count(), 2);
    }

    #[tokio::test]
    async fn defaults_are_the_brokers() {
        let plane = Plane::new(&[("num.partitions", "3"), ("log.retention.hours", "2")]);
        let response = ask(&plane, vec![topic("t", -1, -1)], false).await;
        let result = &response.topics[0];
        assert_eq!((result.error_code, result.num_partitions, result.replication_factor), (0, 3, 1));
        let configs = result.configs.as_ref().expect("told since version 5");
        assert_eq!(configs.len(), 37);
        let retention = configs.iter().find(|it| it.name.as_str() == "retention.ms").expect("told");
        assert_eq!((retention.value.as_deref(), retention.config_source), (Some("7200000"), 4));
    }

    #[tokio::test]
    async fn one_bad_topic_does_not_spoil_the_others_and_duplicates_are_answered_once() {
        let plane = Plane::new(&[]);
        let topics = vec![topic("good", 1, 1), topic("bad name", 1, 1), topic("twice", 1, 1), topic("twice", 2, 1)];
        let codes: Vec<_> = ask(&plane, topics, false).await.topics.into_iter().map(|it| it.error_code).collect();
        assert_eq!(codes, [0, ErrorCode::InvalidTopicException.code(), ErrorCode::InvalidRequest.code()]);
        assert!(plane.image().topic("good").is_some() && plane.image().topic("twice").is_none());
    }

    #[tokio::test]
    async fn validate_only_creates_nothing() {
        let plane = Plane::new(&[]);
        let response = ask(&plane, vec![topic("t", 2, 1)], true).await;
        assert_eq!((response.topics[0].error_code, response.topics[0].num_partitions), (0, 2));
        assert_eq!(plane.image().topic_count(), 0);
    }

    #[tokio::test]
    async fn a_request_without_time_times_out() {
        let plane = Plane::new(&[]);
        let request = message!(CreateTopicsRequest { topics: vec![topic("t", 1, 1)], timeout_ms: 0 });
        let response = answer(plane.admin(), &request, 7, Deadline::of_request(0)).await;
        assert_eq!(response.topics[0].error_code, ErrorCode::RequestTimedOut.code());
        assert_eq!(plane.image().topic_count(), 0);
    }

    #[tokio::test]
    async fn every_version_can_be_encoded() {
        let plane = Plane::new(&[]);
        for version in 2..=7 {
            let topics = vec![topic(&format!("t{version}"), 1, 1), topic("", 1, 1)];
            let request = message!(CreateTopicsRequest { topics, timeout_ms: 5000 });
            let response = answer(plane.admin(), &request, version, Ok(Deadline::after(Duration::from_secs(5)))).await;
            response.encode(version).unwrap_or_else(|error| panic!("v{version}: {error}"));
        }
    }
}
