//! Requests about partitions by name, as commands about partitions by id; and their outcomes back by name.

use std::collections::{BTreeMap, BTreeSet};

use tonic::Status;

use super::proto::{self, PartitionResult};
use super::write::node_id;
use crate::ids::{NodeId, PartitionEpoch, PartitionIndex, TopicPartition};
use crate::metadata::fill::{NotFillable, fill_moves};
use crate::metadata::{Command, ElectionKind, Image, Move, Refused};

/// One partition of a request: what is proposed for it, or why nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned<T> {
    topic: String,
    partition: i32,
    plan: Result<T, String>,
}

/// What a target asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Other replicas.
    Begin(Move),
    /// The replicas before.
    Cancel(TopicPartition),
}

/// Checks the targets of a reassignment.
pub fn reassignment(image: &Image, targets: &[proto::Target]) -> Vec<Planned<Change>> {
    let mut named = BTreeMap::new();
    for target in targets {
        *named.entry((&target.topic, target.partition)).or_insert(0) += 1;
    }
    let planned = targets.iter().map(|target| {
        let plan = match named[&(&target.topic, target.partition)] {
            1 => find(image, &target.topic, target.partition).and_then(|partition| change(image, partition, target)),
            // Which of them is meant nobody knows.
            times => Err(format!("it is named {times} times")),
        };
        Planned { topic: target.topic.clone(), partition: target.partition, plan }
    });
    planned.collect()
}

fn change(image: &Image, partition: TopicPartition, target: &proto::Target) -> Result<Change, String> {
    let registration = image.partition(&partition).ok_or("no such partition")?;
    if target.replicas.is_empty() {
        return match registration.reassignment {
            Some(_) => Ok(Change::Cancel(partition)),
            None => Err("it is not being reassigned: there is nothing to cancel".to_owned()),
        };
    }
    let mut seen = BTreeSet::new();
    let mut replicas = Vec::with_capacity(target.replicas.len());
    for &id in &target.replicas {
        let node = NodeId::try_from(id).ok().and_then(|node| image.node(node));
        let node = node.ok_or_else(|| format!("there is no node {id}"))?;
        if image.drain(node.id).is_some() && !registration.replicas.contains(&node.id) {
            return Err(format!("node {id} is being drained"));
        }
        if !seen.insert(id) {
            return Err(format!("node {id} is named twice"));
        }
        replicas.push(node.id);
    }
    let partition_epoch =
        target.partition_epoch.map(PartitionEpoch::try_from).transpose().map_err(|why| why.to_string())?;
    Ok(Change::Begin(Move { partition, target: replicas, partition_epoch }))
}

/// The moves that fill these nodes.
pub fn fill(image: &Image, nodes: &[i32]) -> Result<Vec<Move>, Status> {
    if nodes.is_empty() {
        return Err(Status::invalid_argument("say which nodes are to be filled"));
    }
    let nodes = nodes.iter().map(|&id| node_id(id)).collect::<Result<BTreeSet<_>, Status>>()?;
    fill_moves(image, &nodes).map_err(|why| {
        let text = format!("fill nodes: {why}; see: chronik cluster nodes");
        match why {
            NotFillable::Unknown(_) => Status::not_found(text),
            NotFillable::Draining(_) | NotFillable::Fenced(_) | NotFillable::Stopping(_) => {
                Status::failed_precondition(text)
            }
        }
    })
}

/// What became of those moves, by name.
pub fn filled(image: &Image, moves: &[Move], outcomes: Vec<Result<(), Refused>>) -> Vec<PartitionResult> {
    let result = |(one, outcome): (&Move, Result<(), Refused>)| PartitionResult {
        topic: image.topic_by_id(one.partition.topic).map(|topic| topic.name.to_string()).unwrap_or_default(),
        partition: one.partition.partition.get(),
        error: outcome.err().map(|why| why.to_string()).unwrap_or_default(),
    };
    moves.iter().zip(outcomes).map(result).collect()
}

/// The partitions to elect leaders for: those that are named or, where none is, all that need it.
pub fn election(
    image: &Image,
    request: &proto::ElectLeadersRequest,
    kind: ElectionKind,
) -> Vec<Planned<TopicPartition>> {
    if request.partitions.is_empty() {
        return in_need(image, kind);
    }
    let named = request.partitions.iter().map(|named| Planned {
        topic: named.topic.clone(),
        partition: named.partition,
        plan: find(image, &named.topic, named.partition),
    });
    named.collect()
}

/// The partitions that such an election could change.
fn in_need(image: &Image, kind: ElectionKind) -> Vec<Planned<TopicPartition>> {
    let mut planned = Vec::new();
    for topic in image.topics() {
        for (index, partition) in topic.partitions.iter().enumerate() {
            let needed = match kind {
                ElectionKind::Preferred => {
                    partition.leader.is_none() || partition.leader != partition.replicas.first().copied()
                }
                ElectionKind::Unclean => partition.leader.is_none(),
            };
            if needed {
                let index = PartitionIndex::new(index as i32);
                let id = TopicPartition { topic: topic.id, partition: index };
                planned.push(Planned { topic: topic.name.to_string(), partition: index.get(), plan: Ok(id) });
            }
        }
    }
    planned
}

fn find(image: &Image, topic: &str, partition: i32) -> Result<TopicPartition, String> {
    let found = image.topic(topic).ok_or("no such topic")?;
    let index = PartitionIndex::try_from(partition).map_err(|why| why.to_string())?;
    let id = TopicPartition { topic: found.id, partition: index };
    image.partition(&id).map(|_| id).ok_or_else(|| format!("the topic has {} partitions", found.partitions.len()))
}

/// The commands that carry changes out; none where none is to be carried out.
pub fn commands(planned: &[Planned<Change>]) -> (Option<Command>, Option<Command>) {
    let (mut moves, mut cancelled) = (vec![], vec![]);
    for change in planned.iter().filter_map(|one| one.plan.as_ref().ok()) {
        match change {
            Change::Begin(one) => moves.push(one.clone()),
            Change::Cancel(partition) => cancelled.push(*partition),
        }
    }
    (
        (!moves.is_empty()).then_some(Command::BeginReassignment(moves)),
        (!cancelled.is_empty()).then_some(Command::CancelReassignment(cancelled)),
    )
}

/// The command that elects; `None` where there is nothing to elect.
pub fn elect_command(planned: &[Planned<TopicPartition>], kind: ElectionKind) -> Option<Command> {
    let partitions: Vec<_> = planned.iter().filter_map(|one| one.plan.as_ref().ok().copied()).collect();
    (!partitions.is_empty()).then_some(Command::ElectLeaders { kind, partitions })
}

/// What became of each: `outcome` answers for what was proposed, in order.
pub fn results<T>(
    planned: Vec<Planned<T>>,
    mut outcome: impl FnMut(&T) -> Result<(), Refused>,
) -> Vec<PartitionResult> {
    let result = |one: Planned<T>| {
        let ended = one.plan.and_then(|proposed| outcome(&proposed).map_err(|why| why.to_string()));
        PartitionResult { topic: one.topic, partition: one.partition, error: ended.err().unwrap_or_default() }
    };
    planned.into_iter().map(result).collect()
}
