//! The whole state as bytes and back: what a Raft snapshot carries.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::codec::{
    DecodeError, directory_from, directory_to, node_from, node_to, replicas_from, replicas_to, resource_from,
    resource_to, setting_to, settings_from, topic_id_from, topic_id_to, version_from,
};
use super::image::Image;
use super::membership::{Member, Target};
use super::proto;
use super::topology::{Drain, OperatorLease, PartitionRegistration, Reassignment, StopGrant, Topic};
use crate::ids::{BrokerEpoch, NodeId};

/// The bytes of an image. The same image always gives the same bytes.
pub fn encode(image: &Image) -> Vec<u8> {
    let configs = image.configs.iter().map(|(resource, settings)| proto::ResourceConfigs {
        resource: Some(resource_to(resource)),
        settings: settings.iter().map(|(name, value)| setting_to(name, Some(value))).collect(),
    });
    let snapshot = proto::Snapshot {
        index: image.index,
        cluster_id: image.cluster_id.to_string(),
        nodes: image.nodes().map(node_to).collect(),
        topics: image.topics_by_id.values().map(|topic| topic_to(topic)).collect(),
        deleted_topics: image.deleted_topics().map(topic_id_to).collect(),
        configs: configs.collect(),
        next_producer_id: image.next_producer_id.get(),
        cluster_version: image.cluster_version.get(),
        drains: image.drains().map(|(node, drain)| drain_to(node, drain)).collect(),
        stop: image.stop.map(stop_to),
        operator: image.operator.as_ref().map(lease_to),
        throttle: image.throttle,
        members: image.roster().map(member_to).collect(),
    };
    snapshot.encode_to_vec()
}

/// The image that the bytes hold.
pub fn decode(bytes: Bytes) -> Result<Image, DecodeError> {
    let snapshot = proto::Snapshot::decode(bytes)?;
    let mut image = Image::empty(&snapshot.cluster_id);
    image.index = snapshot.index;
    image.next_producer_id = snapshot.next_producer_id.try_into()?;
    image.cluster_version = version_from(snapshot.cluster_version)?;
    image.stop = snapshot.stop.map(stop_from).transpose()?;
    image.operator = snapshot.operator.map(|lease| OperatorLease { epoch: lease.epoch, holder: lease.holder });
    image.throttle = snapshot.throttle;
    for drain in snapshot.drains {
        image.drains.insert(drain.node.try_into()?, Drain { partitions: drain.partitions });
    }
    for member in snapshot.members {
        let member = member_from(member)?;
        image.members.insert(member.node, Arc::new(member));
    }
    for node in snapshot.nodes {
        let node = node_from(node)?;
        image.nodes.insert(node.id, Arc::new(node));
    }
    for topic in snapshot.topics {
        let topic = Arc::new(topic_from(topic)?);
        image.topics_by_name.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        image.topics_by_id.insert(topic.id, topic);
    }
    if image.topics_by_name.len() != image.topics_by_id.len() {
        return Err(DecodeError::Invalid("two topics of one name".to_owned()));
    }
    let deleted = snapshot.deleted_topics.iter().map(|id| topic_id_from(id));
    image.deleted_topics = deleted.collect::<Result<_, _>>()?;
    for configs in snapshot.configs {
        let resource = resource_from(configs.resource.ok_or(DecodeError::Missing("resource"))?)?;
        image.configs.insert(resource, Arc::new(settings_from(configs.settings)?));
    }
    Ok(image)
}

fn member_to(member: &Member) -> proto::Member {
    let target = match member.target {
        Target::Learner => proto::MemberTarget::Learner,
        Target::Voter => proto::MemberTarget::Voter,
        Target::Gone => proto::MemberTarget::Gone,
    };
    proto::Member {
        node: member.node.get(),
        directory: directory_to(member.directory),
        address: member.address.clone(),
        target: target.into(),
    }
}

fn member_from(message: proto::Member) -> Result<Member, DecodeError> {
    let target = match message.target() {
        proto::MemberTarget::Unspecified => return Err(DecodeError::UnknownKind),
        proto::MemberTarget::Learner => Target::Learner,
        proto::MemberTarget::Voter => Target::Voter,
        proto::MemberTarget::Gone => Target::Gone,
    };
    Ok(Member {
        node: message.node.try_into()?,
        directory: directory_from(&message.directory)?,
        address: message.address,
        target,
    })
}

fn drain_to(node: NodeId, drain: Drain) -> proto::Drain {
    proto::Drain { node: node.get(), partitions: drain.partitions }
}

fn stop_to(grant: StopGrant) -> proto::StopGrant {
    proto::StopGrant { node: grant.node.get(), epoch: grant.epoch.get(), granted_at: grant.granted_at }
}

fn stop_from(message: proto::StopGrant) -> Result<StopGrant, DecodeError> {
    let (node, epoch) = (message.node.try_into()?, message.epoch.try_into()?);
    Ok(StopGrant { node, epoch, granted_at: message.granted_at })
}

fn lease_to(lease: &OperatorLease) -> proto::OperatorLease {
    proto::OperatorLease { epoch: lease.epoch, holder: lease.holder.clone() }
}

fn topic_to(topic: &Topic) -> proto::Topic {
    proto::Topic {
        id: topic_id_to(topic.id),
        name: topic.name.to_string(),
        partitions: topic.partitions.iter().map(|partition| partition_to(partition)).collect(),
    }
}

fn topic_from(message: proto::Topic) -> Result<Topic, DecodeError> {
    Ok(Topic {
        id: topic_id_from(&message.id)?,
        name: message.name.into(),
        partitions: message.partitions.iter().map(|p| partition_from(p).map(Arc::new)).collect::<Result<_, _>>()?,
    })
}

fn partition_to(partition: &PartitionRegistration) -> proto::Partition {
    proto::Partition {
        replicas: replicas_to(&partition.replicas),
        isr: replicas_to(&partition.isr),
        elr: replicas_to(&partition.elr),
        leader: partition.leader.map(NodeId::get),
        leader_broker_epoch: partition.leader_broker_epoch.map(BrokerEpoch::get),
        leader_epoch: partition.leader_epoch.get(),
        partition_epoch: partition.partition_epoch.get(),
        last_leader: partition.last_leader.map(NodeId::get),
        reassignment: partition.reassignment.as_ref().map(|moving| proto::Reassignment {
            original: replicas_to(&moving.original),
            target: replicas_to(&moving.target),
        }),
    }
}

fn partition_from(message: &proto::Partition) -> Result<PartitionRegistration, DecodeError> {
    Ok(PartitionRegistration {
        replicas: replicas_from(&message.replicas)?,
        isr: replicas_from(&message.isr)?,
        elr: replicas_from(&message.elr)?,
        leader: message.leader.map(TryInto::try_into).transpose()?,
        leader_broker_epoch: message.leader_broker_epoch.map(TryInto::try_into).transpose()?,
        leader_epoch: message.leader_epoch.try_into()?,
        partition_epoch: message.partition_epoch.try_into()?,
        last_leader: message.last_leader.map(TryInto::try_into).transpose()?,
        reassignment: message.reassignment.as_ref().map(reassignment_from).transpose()?.map(Box::new),
    })
}

fn reassignment_from(message: &proto::Reassignment) -> Result<Reassignment, DecodeError> {
    Ok(Reassignment { original: replicas_from(&message.original)?, target: replicas_from(&message.target)? })
}
