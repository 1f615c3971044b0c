//! DescribeQuorum (KIP-595, KIP-836, KIP-853): the Raft group of the metadata, as its leader sees it.
//!
//! Kafka speaks of offsets, each the one after the last record; Raft's indexes are those of the last entries. Kafka's
//! replica keys are node and directory ids, as Chronik's are.

use std::time::Duration;

use kafka_wire::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use kafka_wire::{DescribeQuorumRequest, DescribeQuorumResponse};
use kafka_wire_core::Uuid;

use crate::ids::NodeId;
use crate::kafka::RequestContext;
use crate::kafka::wire::ErrorCode;
use crate::message;
use crate::metadata::{Image, PeerStatus, RaftStatus, Seat};

/// What Kafka calls the log of the metadata.
const TOPIC: &str = "__cluster_metadata";
/// Its one partition.
const PARTITION: i32 = 0;
/// What Kafka calls the listener of its Raft group.
const LISTENER: &str = "CONTROLLER";
/// A time that is not known.
const NEVER: i64 = -1;

/// Answers as the leader of the group sees it, whichever node is asked.
pub async fn handle(context: &RequestContext, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    if !is_of_the_metadata(&request) {
        return other_partitions(&request);
    }
    let broker = &context.broker;
    let status = broker.quorum.describe().await;
    answer(&broker.metadata.image(), &status, broker.clock.wall_ms(), context.version)
}

/// Exactly the metadata's partition may be asked for.
fn is_of_the_metadata(request: &DescribeQuorumRequest) -> bool {
    let [topic] = &request.topics[..] else { return false };
    let [partition] = &topic.partitions[..] else { return false };
    topic.topic_name.as_str() == TOPIC && partition.partition_index == PARTITION
}

fn other_partitions(request: &DescribeQuorumRequest) -> DescribeQuorumResponse {
    let error = ErrorCode::UnknownTopicOrPartition;
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            message!(PartitionData {
                partition_index: partition.partition_index,
                error_code: error.code(),
                error_message: Some("This server does not host this topic-partition.".into()),
            })
        });
        message!(TopicData { topic_name: topic.topic_name.clone(), partitions: partitions.collect() })
    });
    message!(DescribeQuorumResponse { error_message: Some("".into()), topics: topics.collect() })
}

/// `now`: milliseconds since 1970. Without a leader that tells how far the members are there is no answer: clients try again.
fn answer(image: &Image, status: &RaftStatus, now: i64, version: i16) -> DescribeQuorumResponse {
    let Some(leader) = status.leader.filter(|_| !status.peers.is_empty()) else {
        return message!(DescribeQuorumResponse {
            error_code: ErrorCode::NotLeaderOrFollower.code(),
            error_message: Some("The Raft group of the metadata has no leader that answers.".into()),
        });
    };
    let members = |seat| {
        let seated = status.peers.iter().filter(move |peer| image.seat_of(peer.node) == Some(seat));
        seated.map(|peer| replica(image, peer, now, version)).collect::<Vec<_>>()
    };
    let partition = message!(PartitionData {
        partition_index: PARTITION,
        error_message: Some("".into()),
        leader_id: leader.get(),
        leader_epoch: i32::try_from(status.term).unwrap_or(i32::MAX),
        high_watermark: end(status.committed),
        current_voters: members(Seat::Voter),
        observers: members(Seat::Learner),
    });
    let topic = message!(TopicData { topic_name: TOPIC.into(), partitions: vec![partition] });
    let mut response = message!(DescribeQuorumResponse { error_message: Some("".into()), topics: vec![topic] });
    if version >= 2 {
        response.nodes = voters(image).filter_map(|node| node_of(image, node)).collect();
    }
    response
}

fn replica(image: &Image, peer: &PeerStatus, now: i64, version: i16) -> ReplicaState {
    let mut state = message!(ReplicaState { replica_id: peer.node.get(), log_end_offset: end(peer.matched) });
    if version >= 1 {
        let ago = |since: Option<Duration>| {
            since.map_or(NEVER, |since| now.saturating_sub(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
        };
        state.last_fetch_timestamp = ago(peer.since_contact);
        state.last_caught_up_timestamp = ago(peer.since_caught_up);
    }
    if version >= 2
        && let Some(member) = image.member(peer.node)
    {
        state.replica_directory_id = Uuid::from_bytes(member.directory.into_bytes());
    }
    state
}

fn voters(image: &Image) -> impl Iterator<Item = NodeId> {
    image.seats().filter(|(_, seat)| *seat == Seat::Voter).map(|(node, _)| node)
}

fn node_of(image: &Image, node: NodeId) -> Option<Node> {
    let address: crate::config::HostPort = image.member(node)?.address.parse().ok()?;
    let listener = message!(Listener { name: LISTENER.into(), host: address.host.as_str().into(), port: address.port });
    Some(message!(Node { node_id: node.get(), listeners: vec![listener] }))
}

/// The offset after the entry at a Raft index.
fn end(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use kafka_wire::describe_quorum_request;

    use super::*;
    use crate::kafka::testing::TestBroker;
    use crate::kafka::wire::EncodeResponse;
    use crate::metadata::testing::Cluster;
    use crate::metadata::{Command, MetadataPlane, RaftRole};

    fn asking(topics: &[(&str, &[i32])]) -> DescribeQuorumRequest {
        let partition = |index: &i32| message!(describe_quorum_request::PartitionData { partition_index: *index });
        let topic = |(name, partitions): &(&str, &[i32])| {
            message!(describe_quorum_request::TopicData {
                topic_name: (*name).into(),
                partitions: partitions.iter().map(partition).collect(),
            })
        };
        message!(DescribeQuorumRequest { topics: topics.iter().map(topic).collect() })
    }

    /// Three members; the third only learns, and is silent.
    fn group() -> (Cluster, RaftStatus) {
        let mut cluster = Cluster::of(3);
        for id in 0..3 {
            let node = crate::metadata::testing::node(id);
            let address = format!("node{id}:9391");
            cluster.done(Command::AdmitMember { node: node.id, directory: node.directory, address, vote: id < 2 });
        }
        cluster.0.seat([0, 1, 2].map(|id| {
            let seat = if id < 2 { Seat::Voter } else { Seat::Learner };
            (NodeId::new(id), seat)
        }));
        let peer = |id: i32, matched, since: Option<u64>| PeerStatus {
            node: NodeId::new(id),
            matched,
            receives_snapshot: false,
            since_contact: since.map(Duration::from_millis),
            since_caught_up: since.map(|since| Duration::from_millis(since * 2)),
        };
        let status = RaftStatus {
            role: RaftRole::Follower,
            term: 7,
            leader: Some(NodeId::new(1)),
            committed: 40,
            applied: 40,
            last_index: 40,
            peers: vec![peer(0, 40, Some(10)), peer(1, 41, Some(0)), peer(2, 5, None)],
        };
        (cluster, status)
    }

    #[test]
    fn voters_and_learners_are_told_as_far_as_the_version_can() {
        let (cluster, status) = group();
        for version in 0..=2 {
            let response = answer(&cluster.image(), &status, 1000, version);
            let partition = &response.topics[0].partitions[0];
            assert_eq!((partition.leader_id, partition.leader_epoch, partition.high_watermark), (1, 7, 41));
            let of = |replicas: &[ReplicaState]| -> Vec<(i32, i64)> {
                replicas.iter().map(|it| (it.replica_id, it.log_end_offset)).collect()
            };
            assert_eq!(of(&partition.current_voters), [(0, 41), (1, 42)]);
            assert_eq!(of(&partition.observers), [(2, 6)]);
            let first = &partition.current_voters[0];
            let times = (first.last_fetch_timestamp, first.last_caught_up_timestamp);
            assert_eq!(times, if version >= 1 { (990, 980) } else { (-1, -1) });
            assert_eq!(partition.observers[0].last_fetch_timestamp, -1);
            let directory = Uuid::from_bytes(crate::metadata::testing::node(0).directory.into_bytes());
            assert_eq!(first.replica_directory_id, if version >= 2 { directory } else { Uuid::default() });
            let nodes: Vec<_> = response.nodes.iter().map(|node| (node.node_id, node.listeners[0].port)).collect();
            assert_eq!(nodes, if version >= 2 { vec![(0, 9391), (1, 9391)] } else { vec![] });
            response.encode(version).unwrap_or_else(|why| panic!("v{version}: {why}"));
        }
    }

    #[test]
    fn without_a_leader_clients_try_again() {
        let (cluster, status) = group();
        for status in [RaftStatus { leader: None, ..status.clone() }, RaftStatus { peers: vec![], ..status.clone() }] {
            let response = answer(&cluster.image(), &status, 1000, 2);
            assert_eq!(response.error_code, ErrorCode::NotLeaderOrFollower.code());
            response.encode(0).expect("every version carries it");
        }
    }

    #[tokio::test]
    async fn only_the_metadata_partition_has_a_quorum() {
        let broker = TestBroker::start();
        let node = broker.node.plane.image().nodes().next().expect("this one").clone();
        let (address, vote) = ("localhost:9391".to_owned(), true);
        broker.node.command(Command::AdmitMember { node: node.id, directory: node.directory, address, vote });
        for version in 0..=2 {
            let context = broker.context::<DescribeQuorumRequest>(version);
            let found = handle(&context, asking(&[(TOPIC, &[0])])).await;
            assert_eq!(found.error_code, 0);
            assert_eq!(found.topics[0].partitions[0].error_code, 0);
            for other in [&[("t", &[0][..])][..], &[(TOPIC, &[1])], &[(TOPIC, &[0]), ("t", &[0])], &[(TOPIC, &[0, 1])]]
            {
                let refused = handle(&context, asking(other)).await;
                let partitions = refused.topics.iter().flat_map(|topic| &topic.partitions);
                let errors: Vec<i16> = partitions.map(|partition| partition.error_code).collect();
                assert_eq!(errors.len(), other.iter().map(|(_, partitions)| partitions.len()).sum::<usize>());
                assert!(errors.iter().all(|error| *error == ErrorCode::UnknownTopicOrPartition.code()));
                refused.encode(version).expect("it can be encoded");
            }
            assert_eq!(handle(&context, asking(&[])).await.topics.len(), 0);
        }
    }
}
