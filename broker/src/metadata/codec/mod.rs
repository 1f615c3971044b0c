//! Commands and heartbeats as bytes and back: `proto/metadata.proto`.
//!
//! Decoding checks everything: what it returns is valid, whatever the bytes. This file has what several kinds of messages
//! share.

use bytes::Bytes;
use uuid::Uuid;

use super::proto;
use super::topology::{ClusterVersion, ConfigResource, Endpoint, Node};
use crate::ids::{InvalidId, NodeId, PartitionIndex, TopicId, TopicPartition};

mod command;
#[cfg(test)]
mod golden_tests;
mod heartbeat;

pub use command::{decode, encode};
pub use heartbeat::{decode_heartbeat, decode_reply, encode_heartbeat, encode_reply};

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

pub(super) fn node_to(node: &Node) -> proto::Node {
    proto::Node {
        id: node.id.get(),
        directory: directory_to(node.directory),
        epoch: node.epoch.get(),
        fenced: node.fenced,
        host: node.host.clone(),
        port: u32::from(node.port),
        rack: node.rack.clone(),
        version: node.version.clone(),
        stopping: node.stopping,
        wal: node.wal.as_ref().map(endpoint_to),
        grpc: node.grpc.as_ref().map(endpoint_to),
        newest_version: node.newest_version.get(),
    }
}

pub(super) fn node_from(message: proto::Node) -> Result<Node, DecodeError> {
    Ok(Node {
        id: message.id.try_into()?,
        directory: directory_from(&message.directory)?,
        epoch: message.epoch.try_into()?,
        fenced: message.fenced,
        host: message.host,
        port: port_from(message.port)?,
        rack: message.rack,
        version: message.version,
        stopping: message.stopping,
        wal: message.wal.map(endpoint_from).transpose()?,
        grpc: message.grpc.map(endpoint_from).transpose()?,
        newest_version: version_from(message.newest_version)?,
    })
}

fn endpoint_to(endpoint: &Endpoint) -> proto::Endpoint {
    proto::Endpoint { host: endpoint.host.clone(), port: u32::from(endpoint.port) }
}

fn endpoint_from(message: proto::Endpoint) -> Result<Endpoint, DecodeError> {
    Ok(Endpoint { host: message.host, port: port_from(message.port)? })
}

fn port_from(port: u32) -> Result<u16, DecodeError> {
    u16::try_from(port).map_err(|e| DecodeError::Invalid(format!("port: {e}")))
}

pub(super) fn version_from(number: u32) -> Result<ClusterVersion, DecodeError> {
    ClusterVersion::new(number).ok_or_else(|| DecodeError::Invalid("cluster version 0".to_owned()))
}

pub(super) fn directory_to(directory: Uuid) -> Bytes {
    Bytes::copy_from_slice(directory.as_bytes())
}

pub(super) fn directory_from(bytes: &[u8]) -> Result<Uuid, DecodeError> {
    Uuid::from_slice(bytes).map_err(|e| DecodeError::Invalid(e.to_string()))
}

fn topic_partition_to(id: TopicPartition) -> proto::TopicPartition {
    proto::TopicPartition { topic: topic_id_to(id.topic), partition: id.partition.get() }
}

fn topic_partition_from(message: &proto::TopicPartition) -> Result<TopicPartition, DecodeError> {
    Ok(TopicPartition {
        topic: topic_id_from(&message.topic)?,
        partition: PartitionIndex::try_from(message.partition)?,
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
