//! The cluster as an image and Raft's leader see it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::proto::{self, RaftRole};
use crate::ids::NodeId;
use crate::metadata::{Image, Member, Node, PartitionRegistration, RaftStatus, Seat, Target, Topic};

/// The Raft group: the roster by this node's image, with the progress that `status` has.
pub fn raft_group(image: &Image, status: &RaftStatus) -> proto::RaftGroup {
    let member = |member: &Member| {
        let peer = status.peers.iter().find(|peer| peer.node == member.node);
        proto::RaftMember {
            node: member.node.get(),
            role: raft_role(image, status.leader, member.node).into(),
            directory: member.directory.to_string(),
            grpc_address: member.address.clone(),
            wants_vote: member.target == Target::Voter,
            progress: peer.map(|peer| proto::RaftProgress {
                matched_index: peer.matched,
                receives_snapshot: peer.receives_snapshot,
                last_contact_ms: peer.since_contact.map(milliseconds),
                last_caught_up_ms: peer.since_caught_up.map(milliseconds),
            }),
        }
    };
    proto::RaftGroup {
        leader: status.leader.map(NodeId::get),
        term: status.term,
        committed: status.committed,
        members: image.roster().map(member).collect(),
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What a node is in the Raft group.
pub fn raft_role(image: &Image, leader: Option<NodeId>, node: NodeId) -> RaftRole {
    match image.seat_of(node) {
        Some(Seat::Voter) if leader == Some(node) => RaftRole::Leader,
        Some(Seat::Voter) => RaftRole::Voter,
        Some(Seat::Learner) => RaftRole::Learner,
        None if image.member(node).is_some() => RaftRole::Joining,
        None => RaftRole::Unspecified,
    }
}

/// All nodes by id, with what each leads and holds.
pub fn nodes(image: &Image, leader: Option<NodeId>) -> Vec<proto::Node> {
    let mut loads = Loads::default();
    for partition in partitions(image) {
        loads.count(partition);
    }
    let node = |node: &Node| {
        let load = loads.of(node.id);
        proto::Node {
            id: node.id.get(),
            directory: node.directory.to_string(),
            epoch: node.epoch.get(),
            kafka_address: crate::metadata::Endpoint { host: node.host.clone(), port: node.port }.to_string(),
            wal_address: node.wal.as_ref().map(ToString::to_string).unwrap_or_default(),
            grpc_address: node.grpc.as_ref().map(ToString::to_string).unwrap_or_default(),
            rack: node.rack.clone(),
            version: node.version.clone(),
            fenced: node.fenced,
            draining: image.drain(node.id).is_some(),
            stopping: node.stopping,
            role: raft_role(image, leader, node.id).into(),
            leaders: load.leaders,
            preferred_leaders: load.preferred_leaders,
            replicas: load.replicas,
            out_of_sync: load.out_of_sync,
            adding: load.adding,
        }
    };
    image.nodes().map(node).collect()
}

/// What one node has to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Load {
    leaders: u32,
    preferred_leaders: u32,
    replicas: u32,
    out_of_sync: u32,
    adding: u32,
}

#[derive(Debug, Default)]
struct Loads(BTreeMap<NodeId, Load>);

impl Loads {
    fn count(&mut self, partition: &PartitionRegistration) {
        if let Some(leader) = partition.leader {
            self.0.entry(leader).or_default().leaders += 1;
        }
        if let Some(&first) = partition.replicas.first() {
            self.0.entry(first).or_default().preferred_leaders += 1;
        }
        for replica in &partition.replicas {
            let load = self.0.entry(*replica).or_default();
            load.replicas += 1;
            load.out_of_sync += u32::from(!partition.isr.contains(replica));
        }
        for replica in partition.adding() {
            self.0.entry(replica).or_default().adding += 1;
        }
    }

    fn of(&self, node: NodeId) -> Load {
        self.0.get(&node).copied().unwrap_or_default()
    }
}

/// The topic whose partitions have most replicas.
pub fn widest_topic(image: &Image) -> Option<proto::ReplicatedTopic> {
    let width = |topic: &Topic| topic.partitions.iter().map(|partition| partition.target().len()).max().unwrap_or(0);
    let widest = image.topics().max_by_key(|topic| (width(topic), std::cmp::Reverse(&topic.name)))?;
    Some(proto::ReplicatedTopic { topic: widest.name.to_string(), replication_factor: width(widest) as u32 })
}

/// The stop that is granted, and how much its node leads still.
pub fn stop_grant(image: &Image) -> Option<proto::StopGrant> {
    let grant = image.stop_grant()?;
    let led = partitions(image).filter(|partition| partition.leader == Some(grant.node)).count();
    Some(proto::StopGrant { node: grant.node.get(), leaders_left: led as u32 })
}

fn partitions(image: &Image) -> impl Iterator<Item = &PartitionRegistration> {
    image.topics().flat_map(|topic| topic.partitions.iter().map(AsRef::as_ref))
}
