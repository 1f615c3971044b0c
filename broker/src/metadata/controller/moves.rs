//! Where the replicas of drained nodes go: to the rack that has none of the partition yet, then to the node with the
//! fewest. Pure.

use std::collections::BTreeMap;

use crate::ids::{NodeId, TopicPartition};
use crate::metadata::command::Move;
use crate::metadata::image::Image;
use crate::metadata::topology::{Node, PartitionRegistration};

/// What keeps a drain from going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Nobody can fill a new replica.
    #[error("a partition has no leader to copy it from")]
    Leaderless(TopicPartition),
    /// No node can take one.
    #[error("no node is left that is alive, is not drained and does not hold the partition yet")]
    NoNode(TopicPartition),
}

/// How far the drain of a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainProgress {
    /// Partitions that the node holds still.
    pub left: usize,
    /// Those of them that are on their way.
    pub moving: usize,
    /// What stands in the way of the others, of each kind the first.
    pub obstacles: Vec<Obstacle>,
}

/// How far the drain of `node` is.
pub fn drain_progress(image: &Image, node: NodeId) -> DrainProgress {
    let mut progress = DrainProgress { left: 0, moving: 0, obstacles: Vec::new() };
    let loads = Loads::of(image);
    for (id, partition) in image.partitions().filter(|(_, partition)| partition.replicas.contains(&node)) {
        progress.left += 1;
        if !partition.target().contains(&node) {
            progress.moving += 1;
        }
        let obstacle = if partition.leader.is_none() {
            Obstacle::Leaderless(id)
        } else if partition.reassignment.is_none() && target_without_drained(image, &loads, partition).is_none() {
            Obstacle::NoNode(id)
        } else {
            continue;
        };
        let kind = std::mem::discriminant(&obstacle);
        if progress.obstacles.iter().all(|known| std::mem::discriminant(known) != kind) {
            progress.obstacles.push(obstacle);
        }
    }
    progress
}

/// The next partitions to move away from drained nodes, so that at most `at_once` are on their way. Those that lack a
/// leader, or a node to go to, wait; so do those that are being moved somewhere else.
pub fn next_moves(image: &Image, at_once: usize) -> Vec<Move> {
    let drained = |node: &NodeId| image.drain(*node).is_some();
    let under_way = image
        .partitions()
        .filter(|(_, partition)| partition.reassignment.is_some() && partition.removing().any(|node| drained(&node)));
    let mut room = at_once.saturating_sub(under_way.count());
    let mut loads = Loads::of(image);
    let mut moves = Vec::new();
    for (id, partition) in image.partitions() {
        if room == 0 {
            break;
        }
        let waits = partition.reassignment.is_some() || partition.leader.is_none();
        if waits || !partition.replicas.iter().any(drained) {
            continue;
        }
        let Some(target) = target_without_drained(image, &loads, partition) else { continue };
        loads.replace(&partition.replicas, &target);
        moves.push(Move { partition: id, target, partition_epoch: Some(partition.partition_epoch) });
        room -= 1;
    }
    moves
}

/// Replicas by node, as they will be when all reassignments are done.
struct Loads(BTreeMap<NodeId, usize>);

impl Loads {
    fn of(image: &Image) -> Self {
        let mut loads = BTreeMap::new();
        for (_, partition) in image.partitions() {
            for &node in partition.target() {
                *loads.entry(node).or_insert(0) += 1;
            }
        }
        Self(loads)
    }

    fn at(&self, node: NodeId) -> usize {
        self.0.get(&node).copied().unwrap_or(0)
    }

    fn replace(&mut self, before: &[NodeId], after: &[NodeId]) {
        for node in before {
            if let Some(load) = self.0.get_mut(node) {
                *load = load.saturating_sub(1);
            }
        }
        for &node in after {
            *self.0.entry(node).or_insert(0) += 1;
        }
    }
}

/// The replicas with each drained node replaced in its place, so that who is preferred is spread as before. `None` when
/// there is no node for one.
fn target_without_drained(image: &Image, loads: &Loads, partition: &PartitionRegistration) -> Option<Vec<NodeId>> {
    let mut target = partition.replicas.clone();
    for place in 0..target.len() {
        if image.drain(target[place]).is_some() {
            target[place] = replacement(image, loads, &target, place)?;
        }
    }
    Some(target)
}

/// The best node for one place among `replicas`.
fn replacement(image: &Image, loads: &Loads, replicas: &[NodeId], place: usize) -> Option<NodeId> {
    let others = || replicas.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, node)| *node);
    let rack_of = |node: NodeId| image.node(node).and_then(|node| node.rack.as_deref());
    let in_rack = |node: &Node| match node.rack.as_deref() {
        Some(rack) => others().filter(|other| rack_of(*other) == Some(rack)).count(),
        None => 0,
    };
    image
        .nodes_for_replicas()
        .filter(|node| !node.fenced && !node.stopping && !replicas.contains(&node.id))
        .min_by_key(|node| (in_rack(node), loads.at(node.id), node.id))
        .map(|node| node.id)
}
