//! CreatePartitions (KIP-195): more partitions for topics.

use std::collections::HashMap;

use kafka_wire::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::create_partitions_response::CreatePartitionsTopicResult;
use kafka_wire::{CreatePartitionsRequest, CreatePartitionsResponse};

use crate::ids::{NodeId, PartitionIndex};
use crate::kafka::RequestContext;
use crate::kafka::admin::{Admin, Deadline, Refusal, code_and_text};
use crate::kafka::topics::{MAX_NEW_PARTITIONS, checked_replicas};
use crate::kafka::wire::ErrorCode;
use crate::message;
use crate::metadata::placement::place;
use crate::metadata::{Command, Image, Topic};

/// Adds partitions; answers when this node's replicas of them exist.
pub async fn handle(context: &RequestContext, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let deadline = Deadline::of_request(request.timeout_ms);
    let response = answer(Admin::of(&context.broker), &request, deadline.clone()).await;
    if let (Ok(deadline), false) = (deadline, request.validate_only) {
        deadline.applied(&context.broker).await;
    }
    response
}

async fn answer(
    admin: Admin<'_>,
    request: &CreatePartitionsRequest,
    deadline: Result<Deadline, Refusal>,
) -> CreatePartitionsResponse {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name.as_str()).or_default() += 1;
    }
    let mut results = Vec::new();
    for topic in &request.topics {
        let outcome = match counts.remove(topic.name.as_str()) {
            None => continue, // A duplicate: answered once.
            Some(2..) => Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.")),
            Some(_) => create(admin, topic, request.validate_only, &deadline).await,
        };
        let (error_code, error_message) = code_and_text(&outcome);
        results.push(message!(CreatePartitionsTopicResult { name: topic.name.clone(), error_code, error_message }));
    }
    message!(CreatePartitionsResponse { results })
}

async fn create(
    admin: Admin<'_>,
    wanted: &CreatePartitionsTopic,
    validate_only: bool,
    deadline: &Result<Deadline, Refusal>,
) -> Result<(), Refusal> {
    let command = plan(&admin.metadata.image(), wanted)?;
    let deadline = deadline.clone()?;
    if validate_only {
        return Ok(());
    }
    admin.propose(command, deadline).await
}

/// Checks everything, in Kafka's order, and decides where the replicas go.
fn plan(image: &Image, wanted: &CreatePartitionsTopic) -> Result<Command, Refusal> {
    let topic = image.topic(&wanted.name).ok_or(Refusal::bare(ErrorCode::UnknownTopicOrPartition))?;
    let existing = topic.partitions.len() as i32;
    let invalid = |message: String| Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    if wanted.count == existing {
        return invalid(format!("Topic already has {existing} partition(s)."));
    }
    if wanted.count < existing {
        return invalid(format!(
            "The topic {} currently has {existing} partition(s); {} would not be an increase.",
            topic.name, wanted.count
        ));
    }
    let additional = i64::from(wanted.count) - i64::from(existing);
    if additional > MAX_NEW_PARTITIONS {
        let message = "Excessively large number of additional partitions per request.";
        return Err(Refusal::new(ErrorCode::PolicyViolation, message));
    }
    Ok(Command::CreatePartitions {
        topic: topic.id,
        existing: PartitionIndex::new(existing),
        assignment: assignment(image, topic, wanted, additional as usize)?,
    })
}

fn assignment(
    image: &Image,
    topic: &Topic,
    wanted: &CreatePartitionsTopic,
    additional: usize,
) -> Result<Vec<Vec<NodeId>>, Refusal> {
    let replicas = topic.partitions.first().map_or(1, |partition| partition.replicas.len());
    let Some(assignments) = &wanted.assignments else {
        return place(image.nodes_for_replicas(), additional, replicas, rand::random::<u32>() as usize)
            .map_err(|error| Refusal::new(ErrorCode::InvalidReplicationFactor, error.to_string()));
    };
    if assignments.len() != additional {
        let message = format!(
            "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
            assignments.len()
        );
        return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    assignments.iter().map(|one| checked_replicas(image, &one.broker_ids, Some(replicas))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::testing::Plane;
    use crate::kafka::wire::EncodeResponse;
    use kafka_wire::create_partitions_request::CreatePartitionsAssignment;

    fn to(name: &str, count: i32) -> CreatePartitionsTopic {
        message!(CreatePartitionsTopic { name: name.into(), count, assignments: None })
    }

    fn at(name: &str, count: i32, replicas: &[&[i32]]) -> CreatePartitionsTopic {
        let assignment = |ids: &&[i32]| message!(CreatePartitionsAssignment { broker_ids: ids.to_vec() });
        let mut topic = to(name, count);
        topic.assignments = Some(replicas.iter().map(assignment).collect());
        topic
    }

    async fn ask(plane: &Plane, topics: Vec<CreatePartitionsTopic>, validate_only: bool) -> CreatePartitionsResponse {
        let request = message!(CreatePartitionsRequest { topics, timeout_ms: 5000, validate_only });
        answer(plane.admin(), &request, Deadline::of_request(5000)).await
    }

    /// Each way in which Kafka refuses, with its code.
    #[tokio::test]
    async fn error_paths() {
        let plane = Plane::new(&[]);
        plane.create("t", 2).await;
        for (topic, expected) in [
            (to("none", 4), ErrorCode::UnknownTopicOrPartition),
            (to("", 4), ErrorCode::UnknownTopicOrPartition),
            (to("t", 2), ErrorCode::InvalidPartitions),
            (to("t", 1), ErrorCode::InvalidPartitions),
            (to("t", -1), ErrorCode::InvalidPartitions),
            (to("t", 10_003), ErrorCode::PolicyViolation),
            (to("t", i32::MAX), ErrorCode::PolicyViolation),
            (at("t", 3, &[&[0], &[0]]), ErrorCode::InvalidReplicaAssignment),
            (at("t", 3, &[&[12345]]), ErrorCode::InvalidReplicaAssignment),
            (at("t", 3, &[&[]]), ErrorCode::InvalidReplicaAssignment),
            (at("t", 3, &[&[0, 0]]), ErrorCode::InvalidReplicaAssignment),
        ] {
            let response = ask(&plane, vec![topic.clone()], false).await;
            assert_eq!(response.results[0].error_code, expected.code(), "{topic:?}");
        }
    }

    #[tokio::test]
    async fn partitions_are_added_unless_only_validated() {
        let plane = Plane::new(&[]);
        plane.create("t", 2).await;
        assert_eq!(ask(&plane, vec![to("t", 8)], true).await.results[0].error_code, 0);
        assert_eq!(plane.image().topic("t").map(|topic| topic.partitions.len()), Some(2));
        let response = ask(&plane, vec![to("t", 5), to("x", 1), to("x", 2)], false).await;
        let codes: Vec<_> = response.results.iter().map(|it| it.error_code).collect();
        assert_eq!(codes, [0, ErrorCode::InvalidRequest.code()]);
        assert_eq!(plane.image().topic("t").map(|topic| topic.partitions.len()), Some(5));
        for version in 0..=3 {
            response.clone().encode(version).unwrap_or_else(|error| panic!("v{version}: {error}"));
        }
    }
}
