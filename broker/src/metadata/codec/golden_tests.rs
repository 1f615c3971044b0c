//! The bytes of each command: nodes of different versions read each other's logs, so they never change.

use std::fmt::Write as _;

use uuid::Uuid;

use super::{decode, encode};
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicPartition};
use crate::metadata::testing::{Cluster, ids, node};
use crate::metadata::{
    AlterPartition, ClusterVersion, Command, ConfigResource, ElectionKind, Endpoint, Move, NewTopic, Node,
};

fn partition() -> TopicPartition {
    TopicPartition { topic: Cluster::topic_id(0xab), partition: PartitionIndex::new(7) }
}

fn of_nodes() -> Vec<Command> {
    let (id, epoch) = (NodeId::new(3), BrokerEpoch::new(300));
    let endpoint = |port| Some(Endpoint { host: "n3".to_owned(), port });
    let node = Node { wal: endpoint(9291), grpc: endpoint(9391), rack: Some("a".to_owned()), ..node(3) };
    let directory = Uuid::from_u128(0xd);
    vec![
        Command::RegisterNode { node, acked_may_be_lost: true },
        Command::FenceNode { node: id, epoch },
        Command::UnfenceNode { node: id, epoch },
        Command::UnregisterNode { node: id, only_if_empty: true },
        Command::BeginStop { node: id, epoch },
        Command::PrepareStop { node: id, epoch },
        Command::EndStop { node: id, epoch },
        Command::BeginDrain(id),
        Command::CancelDrain(id),
        Command::AllocateProducerIds { node: id, epoch },
        Command::AdmitMember { node: id, directory, address: "n3:9391".to_owned(), vote: true },
        Command::SetMemberVote { node: id, directory, vote: true },
        Command::RemoveMember { node: id, directory },
    ]
}

fn of_partitions() -> Vec<Command> {
    let topic = partition().topic;
    let partition_epoch = PartitionEpoch::new(5);
    vec![
        Command::CreateTopic(NewTopic {
            name: "t".to_owned(),
            id: topic,
            assignment: vec![ids(&[1, 2]), ids(&[2, 1])],
            configs: vec![("retention.ms".to_owned(), "1".to_owned())],
        }),
        Command::DeleteTopic(topic),
        Command::CreatePartitions { topic, existing: PartitionIndex::new(2), assignment: vec![ids(&[1])] },
        Command::AlterPartition(AlterPartition {
            partition: partition(),
            leader: NodeId::new(1),
            leader_broker_epoch: BrokerEpoch::new(100),
            leader_epoch: LeaderEpoch::new(4),
            partition_epoch,
            isr: vec![(NodeId::new(1), BrokerEpoch::new(100)), (NodeId::new(2), BrokerEpoch::new(200))],
        }),
        Command::ElectLeaders { kind: ElectionKind::Preferred, partitions: vec![partition()] },
        Command::ElectLeaders { kind: ElectionKind::Unclean, partitions: vec![partition()] },
        Command::BeginReassignment(vec![Move {
            partition: partition(),
            target: ids(&[3, 1]),
            partition_epoch: Some(partition_epoch),
        }]),
        Command::CompleteReassignment { partition: partition(), partition_epoch },
        Command::CancelReassignment(vec![partition()]),
    ]
}

fn of_the_cluster() -> Vec<Command> {
    vec![
        Command::SetConfigs {
            resource: ConfigResource::Broker(NodeId::new(3)),
            changes: vec![("a".to_owned(), Some("1".to_owned())), ("b".to_owned(), None)],
        },
        Command::AcquireOperatorLease { holder: "operator".to_owned() },
        Command::SetClusterVersion(ClusterVersion::FIRST),
        Command::SetThrottle(Some(1_000_000)),
        Command::SetThrottle(None),
        Command::UnderLease { epoch: 9, command: Box::new(Command::BeginDrain(NodeId::new(3))) },
    ]
}

#[test]
fn each_command_has_its_golden_bytes() {
    let mut shown = String::new();
    for command in of_nodes().into_iter().chain(of_partitions()).chain(of_the_cluster()) {
        let bytes = encode(&command);
        let debug = format!("{command:?}");
        let kind: String = debug.chars().take_while(char::is_ascii_alphabetic).collect();
        write!(shown, "{kind}: ").expect("a string takes all");
        for byte in &bytes {
            write!(shown, "{byte:02x}").expect("a string takes all");
        }
        shown.push('\n');
        assert_eq!(decode(bytes.into()).expect("what was encoded"), command);
    }
    insta::assert_snapshot!(shown);
}
