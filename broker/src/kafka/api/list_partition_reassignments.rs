//! ListPartitionReassignments (KIP-455): the partitions whose replicas are being moved.

use kafka_wire::list_partition_reassignments_response::{OngoingPartitionReassignment, OngoingTopicReassignment};
use kafka_wire::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use crate::ids::NodeId;
use crate::kafka::RequestContext;
use crate::message;
use crate::metadata::{Image, PartitionRegistration, Topic};

/// Answers from this node's image.
pub async fn handle(
    context: &RequestContext,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    answer(&context.broker.metadata.image(), &request)
}

fn answer(image: &Image, request: &ListPartitionReassignmentsRequest) -> ListPartitionReassignmentsResponse {
    let topics: Vec<_> = match &request.topics {
        None => image.topics().filter_map(|topic| ongoing(topic, 0..topic.partitions.len() as i32)).collect(),
        // What does not exist is not being moved: no error.
        Some(asked) => asked
            .iter()
            .filter_map(|asked| ongoing(image.topic(&asked.name)?, asked.partition_indexes.iter().copied()))
            .collect(),
    };
    message!(ListPartitionReassignmentsResponse { error_message: None, topics })
}

/// Those of a topic's partitions that are being moved; `None` for none.
fn ongoing(topic: &Topic, partitions: impl Iterator<Item = i32>) -> Option<OngoingTopicReassignment> {
    let partitions: Vec<_> = partitions
        .filter_map(|index| {
            let registration = topic.partitions.get(usize::try_from(index).ok()?)?;
            registration.reassignment.is_some().then(|| moving(index, registration))
        })
        .collect();
    (!partitions.is_empty())
        .then(|| message!(OngoingTopicReassignment { name: topic.name.as_ref().into(), partitions }))
}

fn moving(partition_index: i32, registration: &PartitionRegistration) -> OngoingPartitionReassignment {
    message!(OngoingPartitionReassignment {
        partition_index,
        replicas: registration.replicas.iter().copied().map(NodeId::get).collect::<Vec<_>>(),
        adding_replicas: registration.adding().map(NodeId::get).collect::<Vec<_>>(),
        removing_replicas: registration.removing().map(NodeId::get).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::testing::Plane;
    use crate::kafka::wire::EncodeResponse;
    use kafka_wire::list_partition_reassignments_request::ListPartitionReassignmentsTopics;

    fn ask(image: &Image, topics: Option<&[(&str, &[i32])]>) -> Vec<(String, Vec<i32>)> {
        let asked = |(name, partitions): &(&str, &[i32])| {
            message!(ListPartitionReassignmentsTopics { name: (*name).into(), partition_indexes: partitions.to_vec() })
        };
        let topics = topics.map(|topics| topics.iter().map(asked).collect());
        let response = answer(image, &message!(ListPartitionReassignmentsRequest { topics }));
        response.clone().encode(0).expect("version 0 carries it");
        let listed = |topic: &OngoingTopicReassignment| {
            (topic.name.as_str().to_owned(), topic.partitions.iter().map(|it| it.partition_index).collect())
        };
        response.topics.iter().map(listed).collect()
    }

    #[tokio::test]
    async fn all_or_those_that_are_named_and_no_others() {
        let plane = Plane::of_nodes(3).await;
        plane.create_with("t", 3, 1).await;
        plane.create_with("still", 1, 1).await;
        assert_eq!(ask(&plane.image(), None), []);
        let elsewhere = [0, 1, 2].map(|partition| [(plane.replicas("t", partition)[0] + 1) % 3]);
        plane.reassign("t", 0, &elsewhere[0]).await;
        plane.reassign("t", 2, &elsewhere[2]).await;
        let image = plane.image();
        let t = |partitions: &[i32]| ("t".to_owned(), partitions.to_vec());
        assert_eq!(ask(&image, None), [t(&[0, 2])]);
        assert_eq!(ask(&image, Some(&[])), []);
        assert_eq!(ask(&image, Some(&[("t", &[2, 1, 9, -1]), ("none", &[0]), ("still", &[0])])), [t(&[2])]);
        let all = answer(&image, &message!(ListPartitionReassignmentsRequest { topics: None }));
        let moving = &all.topics[0].partitions[0];
        assert_eq!(moving.adding_replicas, elsewhere[0]);
        assert_eq!(moving.removing_replicas.len(), 1);
        assert_eq!(moving.replicas.len(), 2, "both, while it runs");
    }
}
