//! Commands, as entries of the metadata log hold them.

use bytes::Bytes;
use prost::Message as _;

use super::{
    DecodeError, directory_from, directory_to, node_from, node_to, replicas_from, replicas_to, resource_from,
    resource_to, setting_to, settings_from, topic_id_from, topic_id_to, topic_partition_from, topic_partition_to,
    version_from,
};
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicPartition};
use crate::metadata::command::{AlterPartition, Command, ElectionKind, Move, NewTopic};
use crate::metadata::proto;

/// A command as an entry of the metadata log holds it.
pub fn encode(command: &Command) -> Vec<u8> {
    command_to(command).encode_to_vec()
}

/// The command of a metadata log entry.
pub fn decode(bytes: Bytes) -> Result<Command, DecodeError> {
    command_from(proto::Command::decode(bytes)?)
}

fn command_from(message: proto::Command) -> Result<Command, DecodeError> {
    use proto::command::Kind;
    Ok(match message.kind.ok_or(DecodeError::UnknownKind)? {
        Kind::RegisterNode(message) => Command::RegisterNode {
            node: node_from(message.node.ok_or(DecodeError::Missing("node"))?)?,
            acked_may_be_lost: message.acked_may_be_lost,
        },
        Kind::FenceNode(message) => {
            Command::FenceNode { node: message.node.try_into()?, epoch: message.epoch.try_into()? }
        }
        Kind::CreateTopic(message) => Command::CreateTopic(NewTopic {
            name: message.name,
            id: topic_id_from(&message.id)?,
            assignment: assignment_from(message.assignment)?,
            configs: settings_from(message.configs)?,
        }),
        Kind::DeleteTopic(message) => Command::DeleteTopic(topic_id_from(&message.id)?),
        Kind::CreatePartitions(message) => Command::CreatePartitions {
            topic: topic_id_from(&message.topic)?,
            existing: message.existing.try_into()?,
            assignment: assignment_from(message.assignment)?,
        },
        Kind::AlterPartition(message) => Command::AlterPartition(alter_partition_from(&message)?),
        Kind::SetConfigs(message) => Command::SetConfigs {
            resource: resource_from(message.resource.ok_or(DecodeError::Missing("resource"))?)?,
            changes: message.changes.into_iter().map(|change| (change.name, change.value)).collect(),
        },
        Kind::AllocateProducerIds(message) => {
            Command::AllocateProducerIds { node: message.node.try_into()?, epoch: message.epoch.try_into()? }
        }
        Kind::UnfenceNode(message) => {
            Command::UnfenceNode { node: message.node.try_into()?, epoch: message.epoch.try_into()? }
        }
        Kind::UnregisterNode(message) => {
            Command::UnregisterNode { node: message.node.try_into()?, only_if_empty: message.only_if_empty }
        }
        Kind::BeginStop(message) => {
            Command::BeginStop { node: message.node.try_into()?, epoch: message.epoch.try_into()? }
        }
        Kind::PrepareStop(message) => {
            Command::PrepareStop { node: message.node.try_into()?, epoch: message.epoch.try_into()? }
        }
        Kind::EndStop(message) => Command::EndStop { node: message.node.try_into()?, epoch: message.epoch.try_into()? },
        Kind::ElectLeaders(message) => Command::ElectLeaders {
            kind: election_kind_from(message.kind())?,
            partitions: message.partitions.iter().map(topic_partition_from).collect::<Result<_, _>>()?,
        },
        Kind::BeginReassignment(message) => {
            Command::BeginReassignment(message.moves.iter().map(move_from).collect::<Result<_, _>>()?)
        }
        Kind::CompleteReassignment(message) => Command::CompleteReassignment {
            partition: required_partition(message.partition.as_ref())?,
            partition_epoch: message.partition_epoch.try_into()?,
        },
        Kind::CancelReassignment(message) => {
            Command::CancelReassignment(message.partitions.iter().map(topic_partition_from).collect::<Result<_, _>>()?)
        }
        Kind::BeginDrain(message) => Command::BeginDrain(message.node.try_into()?),
        Kind::CancelDrain(message) => Command::CancelDrain(message.node.try_into()?),
        Kind::AcquireOperatorLease(message) => Command::AcquireOperatorLease { holder: message.holder },
        Kind::SetClusterVersion(message) => Command::SetClusterVersion(version_from(message.version)?),
        Kind::SetThrottle(message) => Command::SetThrottle(message.bytes_per_second),
        Kind::UnderLease(message) => {
            let command = command_from(*message.command.ok_or(DecodeError::Missing("command"))?)?;
            if matches!(command, Command::UnderLease { .. }) {
                return Err(DecodeError::Invalid("a lease within a lease".to_owned()));
            }
            Command::UnderLease { epoch: message.epoch, command: Box::new(command) }
        }
        Kind::AdmitMember(message) => Command::AdmitMember {
            node: message.node.try_into()?,
            directory: directory_from(&message.directory)?,
            address: message.address,
            vote: message.vote,
        },
        Kind::SetMemberVote(message) => Command::SetMemberVote {
            node: message.node.try_into()?,
            directory: directory_from(&message.directory)?,
            vote: message.vote,
        },
        Kind::RemoveMember(message) => {
            Command::RemoveMember { node: message.node.try_into()?, directory: directory_from(&message.directory)? }
        }
    })
}

fn command_to(command: &Command) -> proto::Command {
    proto::Command { kind: Some(kind_of(command)) }
}

fn kind_of(command: &Command) -> proto::command::Kind {
    use proto::command::Kind;
    match command {
        Command::AdmitMember { node, directory, address, vote } => Kind::AdmitMember(proto::AdmitMember {
            node: node.get(),
            directory: directory_to(*directory),
            address: address.clone(),
            vote: *vote,
        }),
        Command::SetMemberVote { node, directory, vote } => Kind::SetMemberVote(proto::SetMemberVote {
            node: node.get(),
            directory: directory_to(*directory),
            vote: *vote,
        }),
        Command::RemoveMember { node, directory } => {
            Kind::RemoveMember(proto::RemoveMember { node: node.get(), directory: directory_to(*directory) })
        }
        Command::RegisterNode { node, acked_may_be_lost } => {
            Kind::RegisterNode(proto::RegisterNode { node: Some(node_to(node)), acked_may_be_lost: *acked_may_be_lost })
        }
        Command::FenceNode { node, epoch } => {
            Kind::FenceNode(proto::FenceNode { node: node.get(), epoch: epoch.get() })
        }
        Command::CreateTopic(topic) => Kind::CreateTopic(proto::CreateTopic {
            name: topic.name.clone(),
            id: topic_id_to(topic.id),
            assignment: assignment_to(&topic.assignment),
            configs: topic.configs.iter().map(|(name, value)| setting_to(name, Some(value))).collect(),
        }),
        Command::DeleteTopic(id) => Kind::DeleteTopic(proto::DeleteTopic { id: topic_id_to(*id) }),
        Command::CreatePartitions { topic, existing, assignment } => Kind::CreatePartitions(proto::CreatePartitions {
            topic: topic_id_to(*topic),
            existing: existing.get(),
            assignment: assignment_to(assignment),
        }),
        Command::AlterPartition(change) => Kind::AlterPartition(alter_partition_to(change)),
        Command::SetConfigs { resource, changes } => Kind::SetConfigs(proto::SetConfigs {
            resource: Some(resource_to(resource)),
            changes: changes.iter().map(|(name, value)| setting_to(name, value.as_ref())).collect(),
        }),
        Command::AllocateProducerIds { node, epoch } => {
            Kind::AllocateProducerIds(proto::AllocateProducerIds { node: node.get(), epoch: epoch.get() })
        }
        Command::UnfenceNode { node, epoch } => {
            Kind::UnfenceNode(proto::UnfenceNode { node: node.get(), epoch: epoch.get() })
        }
        Command::UnregisterNode { node, only_if_empty } => {
            Kind::UnregisterNode(proto::UnregisterNode { node: node.get(), only_if_empty: *only_if_empty })
        }
        Command::BeginStop { node, epoch } => {
            Kind::BeginStop(proto::BeginStop { node: node.get(), epoch: epoch.get() })
        }
        Command::PrepareStop { node, epoch } => {
            Kind::PrepareStop(proto::PrepareStop { node: node.get(), epoch: epoch.get() })
        }
        Command::EndStop { node, epoch } => Kind::EndStop(proto::EndStop { node: node.get(), epoch: epoch.get() }),
        Command::ElectLeaders { kind, partitions } => Kind::ElectLeaders(proto::ElectLeaders {
            kind: election_kind_to(*kind).into(),
            partitions: partitions.iter().copied().map(topic_partition_to).collect(),
        }),
        Command::BeginReassignment(moves) => {
            Kind::BeginReassignment(proto::BeginReassignment { moves: moves.iter().map(move_to).collect() })
        }
        Command::CompleteReassignment { partition, partition_epoch } => {
            Kind::CompleteReassignment(proto::CompleteReassignment {
                partition: Some(topic_partition_to(*partition)),
                partition_epoch: partition_epoch.get(),
            })
        }
        Command::CancelReassignment(partitions) => Kind::CancelReassignment(proto::CancelReassignment {
            partitions: partitions.iter().copied().map(topic_partition_to).collect(),
        }),
        Command::BeginDrain(node) => Kind::BeginDrain(proto::BeginDrain { node: node.get() }),
        Command::CancelDrain(node) => Kind::CancelDrain(proto::CancelDrain { node: node.get() }),
        Command::AcquireOperatorLease { holder } => {
            Kind::AcquireOperatorLease(proto::AcquireOperatorLease { holder: holder.clone() })
        }
        Command::SetClusterVersion(version) => {
            Kind::SetClusterVersion(proto::SetClusterVersion { version: version.get() })
        }
        Command::SetThrottle(bytes_per_second) => {
            Kind::SetThrottle(proto::SetThrottle { bytes_per_second: *bytes_per_second })
        }
        Command::UnderLease { epoch, command } => Kind::UnderLease(Box::new(proto::UnderLease {
            epoch: *epoch,
            command: Some(Box::new(command_to(command))),
        })),
    }
}

fn alter_partition_to(change: &AlterPartition) -> proto::AlterPartition {
    let member = |&(node, epoch): &(NodeId, BrokerEpoch)| proto::InSyncReplica { node: node.get(), epoch: epoch.get() };
    proto::AlterPartition {
        topic: topic_id_to(change.partition.topic),
        partition: change.partition.partition.get(),
        leader: change.leader.get(),
        leader_broker_epoch: change.leader_broker_epoch.get(),
        leader_epoch: change.leader_epoch.get(),
        partition_epoch: change.partition_epoch.get(),
        isr: change.isr.iter().map(member).collect(),
    }
}

fn alter_partition_from(message: &proto::AlterPartition) -> Result<AlterPartition, DecodeError> {
    let member = |member: &proto::InSyncReplica| Ok((member.node.try_into()?, member.epoch.try_into()?));
    Ok(AlterPartition {
        partition: TopicPartition {
            topic: topic_id_from(&message.topic)?,
            partition: PartitionIndex::try_from(message.partition)?,
        },
        leader: message.leader.try_into()?,
        leader_broker_epoch: message.leader_broker_epoch.try_into()?,
        leader_epoch: LeaderEpoch::try_from(message.leader_epoch)?,
        partition_epoch: PartitionEpoch::try_from(message.partition_epoch)?,
        isr: message.isr.iter().map(member).collect::<Result<_, DecodeError>>()?,
    })
}

fn election_kind_to(kind: ElectionKind) -> proto::elect_leaders::Kind {
    match kind {
        ElectionKind::Preferred => proto::elect_leaders::Kind::Preferred,
        ElectionKind::Unclean => proto::elect_leaders::Kind::Unclean,
    }
}

fn election_kind_from(kind: proto::elect_leaders::Kind) -> Result<ElectionKind, DecodeError> {
    match kind {
        proto::elect_leaders::Kind::Preferred => Ok(ElectionKind::Preferred),
        proto::elect_leaders::Kind::Unclean => Ok(ElectionKind::Unclean),
        proto::elect_leaders::Kind::Unspecified => Err(DecodeError::UnknownKind),
    }
}

fn move_to(message: &Move) -> proto::Move {
    proto::Move {
        partition: Some(topic_partition_to(message.partition)),
        target: replicas_to(&message.target),
        partition_epoch: message.partition_epoch.map(PartitionEpoch::get),
    }
}

fn move_from(message: &proto::Move) -> Result<Move, DecodeError> {
    Ok(Move {
        partition: required_partition(message.partition.as_ref())?,
        target: replicas_from(&message.target)?,
        partition_epoch: message.partition_epoch.map(TryInto::try_into).transpose()?,
    })
}

fn required_partition(message: Option<&proto::TopicPartition>) -> Result<TopicPartition, DecodeError> {
    topic_partition_from(message.ok_or(DecodeError::Missing("partition"))?)
}

fn assignment_to(assignment: &[Vec<NodeId>]) -> Vec<proto::Replicas> {
    assignment.iter().map(|replicas| proto::Replicas { nodes: replicas_to(replicas) }).collect()
}

fn assignment_from(assignment: Vec<proto::Replicas>) -> Result<Vec<Vec<NodeId>>, DecodeError> {
    assignment.iter().map(|replicas| replicas_from(&replicas.nodes)).collect()
}
