//! Where replicas of new partitions go: round robin over the racks, and over the nodes within a rack.
//!
//! Pure: the same nodes and the same start give the same placement. The proposer calls it, apply checks the result.

use std::collections::BTreeMap;

use super::topology::Node;
use crate::ids::NodeId;

/// Why replicas can't be placed. The texts are those that Kafka's clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// More replicas than nodes.
    #[error(
        "The target replication factor of {replication_factor} cannot be reached because only {nodes} broker(s) are \
         registered."
    )]
    TooFewNodes {
        /// How many replicas were asked for.
        replication_factor: usize,
        /// How many nodes there are.
        nodes: usize,
    },
    /// No node is alive.
    #[error("All brokers are currently fenced.")]
    AllFenced,
    /// No replicas were asked for.
    #[error("Invalid replication factor 0: the replication factor must be positive.")]
    NoReplicas,
}

/// Replicas of `partitions` new partitions on these nodes (`Image::nodes_for_replicas`). Leaders go round the nodes that
/// are alive, followers to other racks first; fenced nodes and those that are stopping never lead, and hold replicas
/// only where there are too few others. `start` turns the rings, so that
/// small topics do not all begin at the same node: draw it at random.
pub fn place<'a>(
    nodes: impl Iterator<Item = &'a Node>,
    partitions: usize,
    replication_factor: usize,
    start: usize,
) -> Result<Vec<Vec<NodeId>>, PlacementError> {
    let (reserve, alive): (Vec<&Node>, Vec<&Node>) = nodes.partition(|node| node.fenced || node.stopping);
    // Better a node that is about to stop than none.
    let (alive, fenced): (Vec<&Node>, Vec<&Node>) =
        if alive.is_empty() { reserve.into_iter().partition(|node| !node.fenced) } else { (alive, reserve) };
    let count = fenced.len() + alive.len();
    if replication_factor == 0 {
        return Err(PlacementError::NoReplicas);
    }
    if alive.is_empty() {
        return Err(PlacementError::AllFenced);
    }
    if replication_factor > count {
        return Err(PlacementError::TooFewNodes { replication_factor, nodes: count });
    }
    let (alive, fenced) = (interleave_racks(&alive), interleave_racks(&fenced));
    Ok((0..partitions).map(|partition| replicas_of(start, partition, replication_factor, &alive, &fenced)).collect())
}

/// A ring in which neighbours are of different racks as far as there are any: a node of each rack in turn.
fn interleave_racks<'a>(nodes: &[&'a Node]) -> Vec<&'a Node> {
    let mut racks: BTreeMap<Option<&str>, Vec<&'a Node>> = BTreeMap::new();
    for &node in nodes {
        racks.entry(node.rack.as_deref()).or_default().push(node);
    }
    for members in racks.values_mut() {
        members.sort_by_key(|node| node.id);
    }
    let longest = racks.values().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|turn| racks.values().filter_map(move |members| members.get(turn).copied())).collect()
}

/// The leader is the ring's next node. The followers begin one further with each lap of the ring, so that the
/// partitions of one leader have different followers; racks that hold no replica yet come first.
fn replicas_of(start: usize, partition: usize, count: usize, alive: &[&Node], fenced: &[&Node]) -> Vec<NodeId> {
    let position = (start % alive.len()) + partition;
    let leader = alive[position % alive.len()];
    let lap = position / alive.len();
    let others = alive.len() - 1;
    let followers = (0..others).map(|step| alive[(position + 1 + (lap + step) % others) % alive.len()]);
    let mut candidates: Vec<&Node> = followers.chain(fenced.iter().copied()).collect();
    let mut chosen = vec![leader];
    while chosen.len() < count {
        let new_rack = |candidate: &&Node| {
            !candidate.fenced && !candidate.stopping && chosen.iter().all(|node| node.rack != candidate.rack)
        };
        let next = candidates.iter().position(new_rack).unwrap_or(0);
        chosen.push(candidates.remove(next));
    }
    chosen.iter().map(|node| node.id).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::metadata::testing::node;

    fn ids(placement: &[Vec<NodeId>]) -> Vec<Vec<i32>> {
        placement.iter().map(|replicas| replicas.iter().map(|node| node.get()).collect()).collect()
    }

    fn racked(racks: &[&str]) -> Vec<Node> {
        let with_rack = |(id, rack): (usize, &&str)| Node { rack: Some((*rack).to_owned()), ..node(id as i32) };
        racks.iter().enumerate().map(with_rack).collect()
    }

    #[test]
    fn leaders_go_round_and_followers_shift_with_each_lap() {
        let nodes: Vec<Node> = (0..3).map(node).collect();
        let placement = place(nodes.iter(), 6, 2, 0).expect("enough nodes");
        assert_eq!(ids(&placement), [[0, 1], [1, 2], [2, 0], [0, 2], [1, 0], [2, 1]]);
        let turned = place(nodes.iter(), 2, 1, 2).expect("enough nodes");
        assert_eq!(ids(&turned), [[2], [0]]);
    }

    #[test]
    fn fenced_nodes_hold_replicas_only_when_they_must_and_never_lead() {
        let nodes = [node(0), Node { fenced: true, ..node(1) }];
        assert_eq!(ids(&place(nodes.iter(), 2, 1, 0).expect("one is alive")), [[0], [0]]);
        assert_eq!(ids(&place(nodes.iter(), 2, 2, 1).expect("two are registered")), [[0, 1], [0, 1]]);
    }

    #[test]
    fn a_stopping_node_is_taken_only_when_no_other_is_alive() {
        let stopping = Node { stopping: true, ..node(1) };
        assert_eq!(ids(&place([node(0), stopping.clone()].iter(), 2, 1, 0).expect("one stays")), [[0], [0]]);
        let fenced = Node { fenced: true, ..node(0) };
        assert_eq!(ids(&place([fenced, stopping].iter(), 1, 1, 0).expect("one is alive")), [[1]]);
    }

    #[test]
    fn what_cannot_be_placed_is_an_error_that_says_why() {
        let error = place([node(0)].iter(), 1, 3, 0).expect_err("one node");
        let text = "The target replication factor of 3 cannot be reached because only 1 broker(s) are registered.";
        assert_eq!(error.to_string(), text);
        assert_eq!(place([node(0)].iter(), 1, 0, 0), Err(PlacementError::NoReplicas));
        let fenced = Node { fenced: true, ..node(0) };
        assert_eq!(place([fenced].iter(), 1, 1, 0), Err(PlacementError::AllFenced));
    }

    #[test]
    fn racks_each_hold_one_replica_before_any_holds_two() {
        let nodes = racked(&["a", "a", "a", "b", "c"]);
        for replicas in place(nodes.iter(), 20, 3, 0).expect("enough nodes") {
            let racks: BTreeSet<_> = replicas.iter().map(|id| &nodes[id.get() as usize].rack).collect();
            assert_eq!(racks.len(), 3, "{replicas:?}");
        }
    }

    proptest! {
        #[test]
        fn replicas_are_distinct_and_leaders_even(count in 1_usize..9, partitions in 1_usize..60, start: usize) {
            let nodes: Vec<Node> = (0..count as i32).map(node).collect();
            let replication_factor = 1 + start % count;
            let placement = place(nodes.iter(), partitions, replication_factor, start).expect("enough nodes");
            prop_assert_eq!(placement.len(), partitions);
            let mut leads = vec![0_usize; count];
            for replicas in &placement {
                let distinct: BTreeSet<_> = replicas.iter().collect();
                prop_assert_eq!(distinct.len(), replication_factor);
                leads[replicas[0].get() as usize] += 1;
            }
            let (least, most) = (leads.iter().min().copied(), leads.iter().max().copied());
            prop_assert!(most <= least.map(|least| least + 1));
        }
    }
}
