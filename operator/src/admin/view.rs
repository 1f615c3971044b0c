//! Answers as the lifecycle sees them.

use std::collections::BTreeMap;

use super::proto::{DescribeClusterResponse, DescribeNodeResponse, RaftRole};
use crate::lifecycle::{Brokers, Grant, Registered, Report};

/// What a process says it is.
pub fn report(answer: &DescribeNodeResponse) -> Report {
    Report {
        node_id: answer.id,
        cluster_id: answer.cluster_id.clone(),
        supported_version: answer.supported_cluster_version,
    }
}

/// What the cluster says of itself; `None` without a Raft leader.
pub fn brokers(answer: &DescribeClusterResponse) -> Option<Brokers> {
    let raft = answer.raft.as_ref()?;
    let leader = raft.leader?;
    let nowhere = Registered {
        registered: false,
        fenced: false,
        draining: false,
        replicas: 0,
        adding: 0,
        wants_vote: false,
        votes: false,
    };
    let mut nodes: BTreeMap<i32, Registered> = BTreeMap::new();
    for member in &raft.members {
        let votes = matches!(member.role(), RaftRole::Leader | RaftRole::Voter);
        nodes.insert(member.node, Registered { wants_vote: member.wants_vote, votes, ..nowhere });
    }
    for node in &answer.nodes {
        let known = nodes.entry(node.id).or_insert(nowhere);
        known.registered = true;
        known.fenced = node.fenced;
        known.draining = node.draining;
        known.replicas = node.replicas;
        known.adding = node.adding;
    }
    let counts = answer.partitions.unwrap_or_default();
    Some(Brokers {
        leader,
        cluster_version: answer.cluster_version,
        nodes,
        grant: answer.stop.map(|grant| Grant { node: grant.node, leaders_left: grant.leaders_left }),
        under_replicated: counts.under_replicated,
        offline: counts.offline,
    })
}
