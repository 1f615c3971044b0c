//! What requests that name partitions share: which replica one means, and how its refusals read in Kafka's terms.

use std::sync::Arc;

use crate::ids::{NodeId, PartitionIndex, TopicId, TopicPartition};
use crate::kafka::Broker;
use crate::kafka::wire::fields::{CurrentLeader, NodeEndpoint, TopicRef};
use crate::kafka::wire::{ErrorCode, Uuid};
use crate::log::{AppendError, LogError, ReadError};
use crate::metadata::{Image, PartitionRegistration, Topic};
use crate::stream::{Partition, PartitionError};

/// The replica that a request means; otherwise why this node can't serve it.
pub fn find(broker: &Broker, topic: &TopicRef, index: i32) -> Result<Arc<Partition>, ErrorCode> {
    let found = match topic {
        TopicRef::Name(name) => broker.partitions.by_name(name, index),
        TopicRef::Id(id) => identity(id, index).and_then(|id| broker.partitions.get(&id)),
    };
    found.ok_or_else(|| absence(broker, topic, index))
}

/// Like `find`, by name.
pub fn find_by_name(broker: &Broker, topic: &str, index: i32) -> Result<Arc<Partition>, ErrorCode> {
    let found = broker.partitions.by_name(topic, index);
    found.ok_or_else(|| absence_in(broker, broker.metadata.image().topic(topic), index))
}

fn identity(topic: &Uuid, index: i32) -> Option<TopicPartition> {
    Some(TopicPartition {
        topic: TopicId::from_bytes(topic.to_bytes())?,
        partition: PartitionIndex::try_from(index).ok()?,
    })
}

fn topic<'a>(image: &'a Image, topic: &TopicRef) -> Option<&'a Arc<Topic>> {
    match topic {
        TopicRef::Name(name) => image.topic(name),
        TopicRef::Id(id) => image.topic_by_id(TopicId::from_bytes(id.to_bytes())?),
    }
}

/// Why this node has no such replica: the topic is unknown, the partition is, the disk has no room for it, or another
/// node has it.
fn absence(broker: &Broker, named: &TopicRef, index: i32) -> ErrorCode {
    match (topic(&broker.metadata.image(), named), named) {
        (None, TopicRef::Id(_)) => ErrorCode::UnknownTopicId,
        (topic, _) => absence_in(broker, topic, index),
    }
}

fn absence_in(broker: &Broker, topic: Option<&Arc<Topic>>, index: i32) -> ErrorCode {
    let Some(topic) = topic.filter(|topic| registration(topic, index).is_some()) else {
        return ErrorCode::UnknownTopicOrPartition;
    };
    let id = TopicPartition { topic: topic.id, partition: PartitionIndex::new(index) };
    if broker.partitions.is_offline(&id) { ErrorCode::KafkaStorageError } else { ErrorCode::NotLeaderOrFollower }
}

fn registration(topic: &Topic, index: i32) -> Option<&Arc<PartitionRegistration>> {
    topic.partitions.get(usize::try_from(index).ok()?)
}

/// Who leads a partition, as the image knows (KIP-951); adds where that node is to `endpoints`, once.
pub fn current_leader(image: &Image, named: &TopicRef, index: i32, endpoints: &mut Vec<NodeEndpoint>) -> CurrentLeader {
    let Some(registration) = topic(image, named).and_then(|topic| registration(topic, index)) else {
        return CurrentLeader { leader_id: -1, leader_epoch: -1 };
    };
    let leader = registration.leader.and_then(|leader| image.node(leader));
    if let Some(node) = leader.filter(|node| endpoints.iter().all(|known| known.node_id != node.id.get())) {
        endpoints.push(NodeEndpoint {
            node_id: node.id.get(),
            host: node.host.clone(),
            port: node.port,
            rack: node.rack.clone(),
        });
    }
    CurrentLeader {
        leader_id: registration.leader.map_or(-1, NodeId::get),
        leader_epoch: registration.leader_epoch.get(),
    }
}

/// Whether a topic is the broker's own: clients don't write to it.
pub fn is_internal(topic: &str) -> bool {
    matches!(topic, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

impl From<&PartitionError> for ErrorCode {
    fn from(error: &PartitionError) -> Self {
        match error {
            PartitionError::NotLeader => Self::NotLeaderOrFollower,
            PartitionError::FencedLeaderEpoch => Self::FencedLeaderEpoch,
            PartitionError::UnknownLeaderEpoch => Self::UnknownLeaderEpoch,
            PartitionError::NotEnoughReplicas => Self::NotEnoughReplicas,
            PartitionError::NotEnoughReplicasAfterAppend => Self::NotEnoughReplicasAfterAppend,
            PartitionError::OffsetNotAvailable => Self::OffsetNotAvailable,
            PartitionError::Append(error) => error.into(),
            PartitionError::Read(error) => error.into(),
            PartitionError::Log(_) => Self::KafkaStorageError,
        }
    }
}

impl From<&AppendError> for ErrorCode {
    fn from(error: &AppendError) -> Self {
        match error {
            AppendError::Corrupt(_) => Self::CorruptMessage,
            AppendError::InvalidRecord { .. } => Self::InvalidRecord,
            AppendError::InvalidTimestamp { .. } => Self::InvalidTimestamp,
            AppendError::TooLarge { .. } => Self::MessageTooLarge,
            AppendError::LargerThanSegment { .. } => Self::RecordListTooLarge,
            AppendError::OutOfOrderSequence { .. } => Self::OutOfOrderSequenceNumber,
            AppendError::InvalidProducerEpoch { .. } => Self::InvalidProducerEpoch,
            AppendError::InvalidTransactionState(_) => Self::InvalidTxnState,
            AppendError::CoordinatorFenced { .. } => Self::TransactionCoordinatorFenced,
            AppendError::DiskFull => Self::KafkaStorageError,
            AppendError::Closed => Self::NotLeaderOrFollower,
        }
    }
}

impl From<&ReadError> for ErrorCode {
    fn from(error: &ReadError) -> Self {
        match error {
            ReadError::OutOfRange { .. } => Self::OffsetOutOfRange,
            ReadError::Log(LogError::Corrupt { .. }) => Self::CorruptMessage,
            ReadError::Log(_) => Self::KafkaStorageError,
            ReadError::Closed => Self::NotLeaderOrFollower,
        }
    }
}
