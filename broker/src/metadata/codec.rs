//! Commands as bytes and back: `proto/metadata.proto`.
//!
//! Decoding checks everything: what it returns is a valid command, whatever the bytes.

use bytes::Bytes;
use prost::Message as _;
use uuid::Uuid;

use super::command::{AlterPartition, Command, NewTopic};
use super::proto;
use super::topology::{ConfigResource, Node};
use crate::ids::{
    BrokerEpoch, InvalidId, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicId, TopicPartition,
};

/// Why bytes are no command, or no snapshot, that this version understands.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// They are not protobuf of the expected shape.
    #[error("malformed metadata: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A kind that this version does not know: it was written by a newer one.
    #[error("metadata of a kind that this version does not know; it was written by a newer version")]
    UnknownKind,
    /// A message that must be there is not.
    #[error("metadata without its {0}")]
    Missing(&'static str),
    /// A number or an id outside its range.
    #[error("invalid metadata: {0}")]
    Invalid(String),
}

impl From<InvalidId> for DecodeError {
    fn from(error: InvalidId) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// A command as an entry of the metadata log holds it.
pub fn encode(command: &Command) -> Vec<u8> {
    proto::Command { kind: Some(kind_of(command)) }.encode_to_vec()
}

/// The command of a metadata log entry.
pub fn decode(bytes: Bytes) -> Result<Command, DecodeError> {
    let kind = proto::Command::decode(bytes)?.kind.ok_or(DecodeError::UnknownKind)?;
    Ok(match kind {
        proto::command::Kind::RegisterNode(message) => Command::RegisterNode {
            node: node_from(message.node.ok_or(DecodeError::Missing("node"))?)?,
            acked_may_be_lost: message.acked_may_be_lost,
        },
        proto::command::Kind::FenceNode(message) => {
            Command::FenceNode { node: message.node.try_into()?, epoch: message.epoch.try_into()? }
        }
        proto::command::Kind::CreateTopic(message) => Command::CreateTopic(NewTopic {
            name: message.name,
            id: topic_id_from(&message.id)?,
            assignment: assignment_from(message.assignment)?,
            configs: settings_from(message.configs)?,
        }),
        proto::command::Kind::DeleteTopic(message) => Command::DeleteTopic(topic_id_from(&message.id)?),
        proto::command::Kind::CreatePartitions(message) => Command::CreatePartitions {
            topic: topic_id_from(&message.topic)?,
            existing: message.existing.try_into()?,
            assignment: assignment_from(message.assignment)?,
        },
        proto::command::Kind::AlterPartition(message) => Command::AlterPartition(alter_partition_from(&message)?),
        proto::command::Kind::SetConfigs(message) => Command::SetConfigs {
            resource: resource_from(message.resource.ok_or(DecodeError::Missing("resource"))?)?,
            changes: message.changes.into_iter().map(|change| (change.name, change.value)).collect(),
        },
        proto::command::Kind::AllocateProducerIds(message) => {
            Command::AllocateProducerIds { node: message.node.try_into()?, epoch: message.epoch.try_into()? }
        }
    })
}

fn kind_of(command: &Command) -> proto::command::Kind {
    match command {
        Command::RegisterNode { node, acked_may_be_lost } => proto::command::Kind::RegisterNode(proto::RegisterNode {
            node: Some(node_to(node)),
            acked_may_be_lost: *acked_may_be_lost,
        }),
        Command::FenceNode { node, epoch } => {
            proto::command::Kind::FenceNode(proto::FenceNode { node: node.get(), epoch: epoch.get() })
        }
        Command::CreateTopic(topic) => proto::command::Kind::CreateTopic(proto::CreateTopic {
            name: topic.name.clone(),
            id: topic_id_to(topic.id),
            assignment: assignment_to(&topic.assignment),
            configs: topic.configs.iter().map(|(name, value)| setting_to(name, Some(value))).collect(),
        }),
        Command::DeleteTopic(id) => proto::command::Kind::DeleteTopic(proto::DeleteTopic { id: topic_id_to(*id) }),
        Command::CreatePartitions { topic, existing, assignment } => {
            proto::command::Kind::CreatePartitions(proto::CreatePartitions {
                topic: topic_id_to(*topic),
                existing: existing.get(),
                assignment: assignment_to(assignment),
            })
        }
        Command::AlterPartition(change) => proto::command::Kind::AlterPartition(alter_partition_to(change)),
        Command::SetConfigs { resource, changes } => proto::command::Kind::SetConfigs(proto::SetConfigs {
            resource: Some(resource_to(resource)),
            changes: changes.iter().map(|(name, value)| setting_to(name, value.as_ref())).collect(),
        }),
        Command::AllocateProducerIds { node, epoch } => {
            proto::command::Kind::AllocateProducerIds(proto::AllocateProducerIds {
                node: node.get(),
                epoch: epoch.get(),
            })
        }
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

pub(super) fn node_to(node: &Node) -> proto::Node {
    proto::Node {
        id: node.id.get(),
        directory: Bytes::copy_from_slice(node.directory.as_bytes()),
        epoch: node.epoch.get(),
        fenced: node.fenced,
        host: node.host.clone(),
        port: u32::from(node.port),
        rack: node.rack.clone(),
        version: node.version.clone(),
    }
}

pub(super) fn node_from(message: proto::Node) -> Result<Node, DecodeError> {
    Ok(Node {
        id: message.id.try_into()?,
        directory: Uuid::from_slice(&message.directory).map_err(|e| DecodeError::Invalid(e.to_string()))?,
        epoch: message.epoch.try_into()?,
        fenced: message.fenced,
        host: message.host,
        port: u16::try_from(message.port).map_err(|e| DecodeError::Invalid(format!("port: {e}")))?,
        rack: message.rack,
        version: message.version,
    })
}

pub(super) fn topic_id_to(id: TopicId) -> Bytes {
    Bytes::copy_from_slice(&id.to_bytes())
}

pub(super) fn topic_id_from(bytes: &[u8]) -> Result<TopicId, DecodeError> {
    let id = bytes.try_into().ok().and_then(TopicId::from_bytes);
    id.ok_or_else(|| DecodeError::Invalid("a topic id is 16 bytes, not all zero".to_owned()))
}

pub(super) fn replicas_to(replicas: &[NodeId]) -> Vec<i32> {
    replicas.iter().map(|node| node.get()).collect()
}

pub(super) fn replicas_from(nodes: &[i32]) -> Result<Vec<NodeId>, DecodeError> {
    Ok(nodes.iter().map(|&node| NodeId::try_from(node)).collect::<Result<_, _>>()?)
}

fn assignment_to(assignment: &[Vec<NodeId>]) -> Vec<proto::Replicas> {
    assignment.iter().map(|replicas| proto::Replicas { nodes: replicas_to(replicas) }).collect()
}

fn assignment_from(assignment: Vec<proto::Replicas>) -> Result<Vec<Vec<NodeId>>, DecodeError> {
    assignment.iter().map(|replicas| replicas_from(&replicas.nodes)).collect()
}

pub(super) fn setting_to(name: &str, value: Option<&String>) -> proto::Setting {
    proto::Setting { name: name.to_owned(), value: value.cloned() }
}

/// Settings that all have a value.
pub(super) fn settings_from<C: FromIterator<(String, String)>>(
    settings: Vec<proto::Setting>,
) -> Result<C, DecodeError> {
    let pair = |setting: proto::Setting| Ok((setting.name, setting.value.ok_or(DecodeError::Missing("value"))?));
    settings.into_iter().map(pair).collect()
}

pub(super) fn resource_to(resource: &ConfigResource) -> proto::ConfigResource {
    use proto::config_resource::Kind;
    let kind = match resource {
        ConfigResource::Topic(name) => Kind::Topic(name.to_string()),
        ConfigResource::Broker(node) => Kind::Broker(node.get()),
        ConfigResource::BrokerDefault => Kind::BrokerDefault(proto::BrokerDefault {}),
        ConfigResource::Group(name) => Kind::Group(name.to_string()),
        ConfigResource::ClientMetrics(name) => Kind::ClientMetrics(name.to_string()),
    };
    proto::ConfigResource { kind: Some(kind) }
}

pub(super) fn resource_from(message: proto::ConfigResource) -> Result<ConfigResource, DecodeError> {
    use proto::config_resource::Kind;
    Ok(match message.kind.ok_or(DecodeError::UnknownKind)? {
        Kind::Topic(name) => ConfigResource::Topic(name.into()),
        Kind::Broker(node) => ConfigResource::Broker(node.try_into()?),
        Kind::BrokerDefault(proto::BrokerDefault {}) => ConfigResource::BrokerDefault,
        Kind::Group(name) => ConfigResource::Group(name.into()),
        Kind::ClientMetrics(name) => ConfigResource::ClientMetrics(name.into()),
    })
}
