//! AlterPartitionReassignments (KIP-455, KIP-860): other replicas for partitions, or back to those before.

use kafka_wire::alter_partition_reassignments_request::ReassignablePartition;
use kafka_wire::alter_partition_reassignments_response::{ReassignablePartitionResponse, ReassignableTopicResponse};
use kafka_wire::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};

use crate::ids::{PartitionIndex, TopicPartition};
use crate::kafka::RequestContext;
use crate::kafka::admin::{Admin, Deadline, Refusal, code_and_text};
use crate::kafka::topics::registered_replicas;
use crate::kafka::wire::ErrorCode;
use crate::message;
use crate::metadata::{Command, Image, Move};

/// Begins and cancels reassignments; the controller completes them.
pub async fn handle(
    context: &RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    answer(Admin::of(&context.broker), &request).await
}

/// What one partition of a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Begin(Move),
    Cancel(TopicPartition),
}

async fn answer(admin: Admin<'_>, request: &AlterPartitionReassignmentsRequest) -> AlterPartitionReassignmentsResponse {
    if request.topics.is_empty() {
        return message!(AlterPartitionReassignmentsResponse { error_message: None });
    }
    let image = admin.metadata.image();
    let partitions = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |it| (topic, it)));
    let changes: Vec<Result<Change, Refusal>> = partitions
        .map(|(topic, partition)| plan(&image, &topic.name, partition, request.allow_replication_factor_change))
        .collect();
    let (outcomes, failure) = match carry_out(admin, changes, request.timeout_ms).await {
        Ok(outcomes) => (outcomes, Ok(())),
        Err(refusal) => (vec![], Err(refusal)),
    };
    let mut outcomes = outcomes.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let outcome = outcomes.next().unwrap_or_else(|| failure.clone());
            let (error_code, error_message) = code_and_text(&outcome);
            let partition_index = partition.partition_index;
            message!(ReassignablePartitionResponse { partition_index, error_code, error_message })
        });
        message!(ReassignableTopicResponse { name: topic.name.clone(), partitions: partitions.collect::<Vec<_>>() })
    });
    let responses = topics.collect();
    let (error_code, error_message) = code_and_text(&failure);
    let mut response = message!(AlterPartitionReassignmentsResponse { error_code, error_message, responses });
    if failure.is_ok() {
        response.allow_replication_factor_change = request.allow_replication_factor_change;
    }
    response
}

/// Checks one partition, in Kafka's order.
fn plan(
    image: &Image,
    topic: &str,
    wanted: &ReassignablePartition,
    may_change_replication_factor: bool,
) -> Result<Change, Refusal> {
    let unknown = |message: String| Refusal::new(ErrorCode::UnknownTopicOrPartition, message);
    let index = wanted.partition_index;
    let found = image.topic(topic).ok_or_else(|| unknown(format!("Unable to find a topic named {topic}.")))?;
    let registration = usize::try_from(index).ok().and_then(|index| found.partitions.get(index));
    let registration = registration.ok_or_else(|| unknown(format!("Unable to find partition {topic}:{index}.")))?;
    let partition = TopicPartition { topic: found.id, partition: PartitionIndex::new(index) };
    let Some(replicas) = &wanted.replicas else {
        return match registration.reassignment {
            Some(_) => Ok(Change::Cancel(partition)),
            // Kafka sends this code without a text.
            None => Err(Refusal::bare(ErrorCode::NoReassignmentInProgress)),
        };
    };
    let target = registered_replicas(image, replicas)?;
    let current = registration.target().len();
    if !may_change_replication_factor && target.len() != current {
        let message = format!("The replication factor is changed from {current} to {}", target.len());
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
    }
    // The later of two reassignments holds, as in Kafka: which registration was seen does not matter.
    Ok(Change::Begin(Move { partition, target, partition_epoch: None }))
}

/// Proposes what was planned; an error concerns the whole request.
async fn carry_out(
    admin: Admin<'_>,
    changes: Vec<Result<Change, Refusal>>,
    timeout_ms: i32,
) -> Result<Vec<Result<(), Refusal>>, Refusal> {
    let deadline = Deadline::of_request(timeout_ms)?;
    let (mut moves, mut cancelled) = (vec![], vec![]);
    for change in changes.iter().flatten() {
        match change {
            Change::Begin(one) => moves.push(one.clone()),
            Change::Cancel(partition) => cancelled.push(*partition),
        }
    }
    let mut begun = admin.propose_each(Command::BeginReassignment(moves), deadline).await?.into_iter();
    let mut reverted = admin.propose_each(Command::CancelReassignment(cancelled), deadline).await?.into_iter();
    let outcome = |change: Result<Change, Refusal>| {
        let answered = match change? {
            Change::Begin(_) => begun.next(),
            Change::Cancel(_) => reverted.next(),
        };
        answered.expect("there is an outcome for each partition of a command, because `propose_each` checks it")
    };
    Ok(changes.into_iter().map(outcome).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::testing::Plane;
    use crate::kafka::wire::EncodeResponse;
    use kafka_wire::alter_partition_reassignments_request::ReassignableTopic;

    fn to(name: &str, partition_index: i32, replicas: Option<&[i32]>) -> ReassignableTopic {
        let replicas = replicas.map(<[i32]>::to_vec);
        let partition = message!(ReassignablePartition { partition_index, replicas });
        message!(ReassignableTopic { name: name.into(), partitions: vec![partition] })
    }

    async fn ask(plane: &Plane, topics: Vec<ReassignableTopic>, allow: bool) -> AlterPartitionReassignmentsResponse {
        let mut request = message!(AlterPartitionReassignmentsRequest { timeout_ms: 5000, topics });
        request.allow_replication_factor_change = allow;
        let response = answer(plane.admin(), &request).await;
        if allow {
            response.clone().encode(0).expect("version 0 carries it");
        }
        response.clone().encode(1).expect("version 1 carries it");
        response
    }

    fn codes(response: &AlterPartitionReassignmentsResponse) -> Vec<i16> {
        response.responses.iter().flat_map(|topic| &topic.partitions).map(|it| it.error_code).collect()
    }

    /// Each way in which Kafka refuses, with its code.
    #[tokio::test]
    async fn error_paths() {
        let plane = Plane::of_nodes(3).await;
        plane.create_with("t", 1, 2).await;
        for (topic, allow, expected) in [
            (to("none", 0, Some(&[0])), true, ErrorCode::UnknownTopicOrPartition),
            (to("t", 1, Some(&[0, 1])), true, ErrorCode::UnknownTopicOrPartition),
            (to("t", -1, None), true, ErrorCode::UnknownTopicOrPartition),
            (to("t", 0, None), true, ErrorCode::NoReassignmentInProgress),
            (to("t", 0, Some(&[])), true, ErrorCode::InvalidReplicaAssignment),
            (to("t", 0, Some(&[0, 12345])), true, ErrorCode::InvalidReplicaAssignment),
            (to("t", 0, Some(&[1, 1])), true, ErrorCode::InvalidReplicaAssignment),
            (to("t", 0, Some(&[-1, 1])), true, ErrorCode::InvalidReplicaAssignment),
            (to("t", 0, Some(&[0])), false, ErrorCode::InvalidReplicationFactor),
        ] {
            let response = ask(&plane, vec![topic.clone()], allow).await;
            assert_eq!(codes(&response), [expected.code()], "{topic:?}");
            let text = &response.responses[0].partitions[0].error_message;
            assert_eq!(text.is_none(), expected == ErrorCode::NoReassignmentInProgress, "{topic:?}");
            assert_eq!(response.error_code, 0);
            assert_eq!(response.allow_replication_factor_change, allow);
        }
    }

    #[tokio::test]
    async fn a_move_begins_is_replaced_and_is_cancelled_beside_others_that_fail() {
        let plane = Plane::of_nodes(3).await;
        plane.create_with("t", 1, 2).await;
        let replicas = plane.replicas("t", 0);
        let other: Vec<i32> = (0..3).filter(|node| !replicas.contains(node)).collect();
        let target = [other[0], replicas[0]];
        let response = ask(&plane, vec![to("none", 0, None), to("t", 0, Some(&target))], true).await;
        assert_eq!(codes(&response), [ErrorCode::UnknownTopicOrPartition.code(), 0]);
        let registration = plane.registration("t", 0);
        assert_eq!(registration.adding().map(crate::ids::NodeId::get).collect::<Vec<_>>(), other);
        // While it runs, the replication factor is that of its target.
        let response = ask(&plane, vec![to("t", 0, Some(&[0, 1, 2]))], false).await;
        assert_eq!(codes(&response), [ErrorCode::InvalidReplicationFactor.code()]);
        assert_eq!(codes(&ask(&plane, vec![to("t", 0, None)], true).await), [0]);
        assert_eq!(plane.registration("t", 0).reassignment, None);
        assert_eq!(plane.replicas("t", 0), replicas);
    }

    #[tokio::test]
    async fn without_time_nothing_is_tried() {
        let plane = Plane::of_nodes(2).await;
        plane.create_with("t", 1, 1).await;
        let topics = vec![to("t", 0, Some(&[1])), to("none", 0, None)];
        let response =
            answer(plane.admin(), &message!(AlterPartitionReassignmentsRequest { topics, timeout_ms: 0 })).await;
        assert_eq!(response.error_code, ErrorCode::RequestTimedOut.code());
        assert_eq!(codes(&response), [ErrorCode::RequestTimedOut.code(); 2]);
        assert_eq!(plane.registration("t", 0).reassignment, None);
        let nothing = answer(plane.admin(), &AlterPartitionReassignmentsRequest::default()).await;
        assert_eq!((nothing.error_code, nothing.responses.len()), (0, 0));
    }
}
