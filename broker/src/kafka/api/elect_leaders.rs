//! ElectLeaders (KIP-183, KIP-460): the preferred leaders, or, on demand, unclean ones.

use kafka_wire::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_wire::{ElectLeadersRequest, ElectLeadersResponse};

use crate::ids::{PartitionIndex, TopicPartition};
use crate::kafka::RequestContext;
use crate::kafka::admin::{Admin, Deadline, Refusal, code_and_text};
use crate::kafka::wire::{ErrorCode, StrBytes};
use crate::message;
use crate::metadata::{Command, ElectionKind, Image};

/// Elects; answers when this node knows the new leaders.
pub async fn handle(context: &RequestContext, request: ElectLeadersRequest) -> ElectLeadersResponse {
    answer(Admin::of(&context.broker), &request, context.version).await
}

/// One partition of an answer.
struct Asked {
    index: i32,
    /// What is to be elected; the error where it does not exist.
    partition: Result<TopicPartition, Refusal>,
}

async fn answer(admin: Admin<'_>, request: &ElectLeadersRequest, version: i16) -> ElectLeadersResponse {
    if request.topic_partitions.as_ref().is_some_and(Vec::is_empty) {
        return ElectLeadersResponse::default();
    }
    let image = admin.metadata.image();
    let all = request.topic_partitions.is_none();
    let topics = if all { every(&image) } else { named(&image, request) };
    let elected = elect(admin, request, topics.iter().flat_map(|(_, asked)| asked)).await;
    let (outcomes, failure) = match elected {
        Ok(outcomes) => (outcomes, Ok(())),
        Err(refusal) => (vec![], Err(refusal)),
    };
    let mut outcomes = outcomes.into_iter();
    let mut results = Vec::new();
    for (topic, asked) in topics {
        let mut partition_result = Vec::new();
        for one in asked {
            let outcome = outcomes.next().unwrap_or_else(|| failure.clone());
            // Those that have the leader they should are not told of when all were asked for.
            let needless = all && matches!(&outcome, Err(refusal) if refusal.code == ErrorCode::ElectionNotNeeded);
            if !needless {
                let (error_code, error_message) = code_and_text(&outcome);
                partition_result.push(message!(PartitionResult { partition_id: one.index, error_code, error_message }));
            }
        }
        results.push(message!(ReplicaElectionResult { topic, partition_result }));
    }
    let mut response = message!(ElectLeadersResponse { replica_election_results: results });
    if version >= 1 {
        response.error_code = code_and_text(&failure).0;
    }
    response
}

/// All partitions, by topic.
fn every(image: &Image) -> Vec<(StrBytes, Vec<Asked>)> {
    let topics = image.topics().map(|topic| {
        let partitions = (0..topic.partitions.len() as i32).map(|index| Asked {
            index,
            partition: Ok(TopicPartition { topic: topic.id, partition: PartitionIndex::new(index) }),
        });
        (StrBytes::from(&*topic.name), partitions.collect())
    });
    topics.collect()
}

/// The partitions that the request names.
fn named(image: &Image, request: &ElectLeadersRequest) -> Vec<(StrBytes, Vec<Asked>)> {
    let topics = request.topic_partitions.iter().flatten().map(|topic| {
        let partitions =
            topic.partitions.iter().map(|&index| Asked { index, partition: find(image, &topic.topic, index) });
        (topic.topic.clone(), partitions.collect())
    });
    topics.collect()
}

fn find(image: &Image, topic: &str, index: i32) -> Result<TopicPartition, Refusal> {
    let unknown = |message: String| Refusal::new(ErrorCode::UnknownTopicOrPartition, message);
    let found = image.topic(topic).ok_or_else(|| unknown(format!("No such topic as {topic}")))?;
    let known = usize::try_from(index).is_ok_and(|index| index < found.partitions.len());
    if !known {
        return Err(unknown(format!("No such partition as {topic}-{index}")));
    }
    Ok(TopicPartition { topic: found.id, partition: PartitionIndex::new(index) })
}

/// Proposes the election; an error concerns the whole request.
async fn elect(
    admin: Admin<'_>,
    request: &ElectLeadersRequest,
    asked: impl Iterator<Item = &Asked> + Clone,
) -> Result<Vec<Result<(), Refusal>>, Refusal> {
    let kind = kind(request.election_type)?;
    let deadline = Deadline::of_request(request.timeout_ms)?;
    let partitions = asked.clone().filter_map(|one| one.partition.as_ref().ok().copied()).collect();
    let mut outcomes = admin.propose_each(Command::ElectLeaders { kind, partitions }, deadline).await?.into_iter();
    let outcome = |one: &Asked| {
        one.partition.clone()?;
        outcomes.next().expect("there is an outcome for each partition, because `propose_each` checks it")
    };
    Ok(asked.map(outcome).collect())
}

fn kind(election_type: i8) -> Result<ElectionKind, Refusal> {
    match election_type {
        0 => Ok(ElectionKind::Preferred),
        1 => Ok(ElectionKind::Unclean),
        other => Err(Refusal::new(ErrorCode::InvalidRequest, format!("Unknown election type {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::testing::Plane;
    use crate::kafka::wire::EncodeResponse;
    use kafka_wire::elect_leaders_request::TopicPartitions;

    async fn ask(plane: &Plane, topics: Option<&[(&str, &[i32])]>, election_type: i8) -> ElectLeadersResponse {
        let named = |(topic, partitions): &(&str, &[i32])| {
            message!(TopicPartitions { topic: (*topic).into(), partitions: partitions.to_vec() })
        };
        let topic_partitions = topics.map(|topics| topics.iter().map(named).collect());
        let request = message!(ElectLeadersRequest { election_type, topic_partitions, timeout_ms: 5000 });
        for version in 0..=2 {
            let response = answer(plane.admin(), &request, version).await;
            response.encode(version).unwrap_or_else(|error| panic!("v{version}: {error}"));
        }
        answer(plane.admin(), &request, 2).await
    }

    fn codes(response: &ElectLeadersResponse) -> Vec<i16> {
        response
            .replica_election_results
            .iter()
            .flat_map(|topic| &topic.partition_result)
            .map(|it| it.error_code)
            .collect()
    }

    /// Each way in which Kafka refuses, with its code.
    #[tokio::test]
    async fn error_paths() {
        let plane = Plane::new(&[]);
        plane.create("t", 1).await;
        for (kind, topic, index, expected) in [
            (0, "t", 0, ErrorCode::ElectionNotNeeded),
            (1, "t", 0, ErrorCode::ElectionNotNeeded),
            (0, "none", 0, ErrorCode::UnknownTopicOrPartition),
            (1, "none", 0, ErrorCode::UnknownTopicOrPartition),
            (0, "t", 1, ErrorCode::UnknownTopicOrPartition),
            (0, "t", -1, ErrorCode::UnknownTopicOrPartition),
            (7, "t", 0, ErrorCode::InvalidRequest),
        ] {
            let response = ask(&plane, Some(&[(topic, &[index])]), kind).await;
            assert_eq!(codes(&response), [expected.code()], "{kind} {topic}-{index}");
            let whole = if kind == 7 { expected.code() } else { 0 };
            assert_eq!(response.error_code, whole);
        }
    }

    #[tokio::test]
    async fn all_partitions_leave_out_those_with_the_leader_they_should_have() {
        let plane = Plane::new(&[]);
        plane.create("t", 2).await;
        let all = ask(&plane, None, 0).await;
        assert_eq!(codes(&all), [0; 0], "every topic is named, without partitions");
        assert_eq!(all.replica_election_results.len(), 1);
        assert_eq!(ask(&plane, Some(&[]), 0).await.replica_election_results, []);
    }

    #[tokio::test]
    async fn the_preferred_leader_is_elected() {
        let plane = Plane::of_nodes(2).await;
        plane.create_with("t", 1, 2).await;
        plane.restart(plane.replicas("t", 0)[0]).await;
        let displaced = plane.registration("t", 0);
        assert_ne!(displaced.leader, displaced.replicas.first().copied());
        // It is not in sync yet.
        assert_eq!(codes(&ask(&plane, None, 0).await), [ErrorCode::PreferredLeaderNotAvailable.code()]);
        plane.catch_up("t", 0).await;
        assert_eq!(codes(&ask(&plane, None, 0).await), [0; 0]);
        let elected = plane.registration("t", 0);
        assert_eq!(elected.leader, elected.replicas.first().copied());
    }
}
