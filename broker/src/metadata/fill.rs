//! Gives nodes that are new, or empty, their share of what there is: who moves where, and nothing else moves. Pure.
//!
//! A replica goes from the node that has most to the named node that has fewest, as long as that makes them more even;
//! so each move is needed, and a second plan on top of the first one is empty.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{NodeId, PartitionEpoch, TopicId, TopicPartition};
use crate::metadata::command::Move;
use crate::metadata::image::Image;

/// Why a node can't be filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotFillable {
    /// No such node is registered.
    #[error("there is no node {0}")]
    Unknown(NodeId),
    /// It is being emptied, or is kept empty.
    #[error("node {0} is being drained")]
    Draining(NodeId),
    /// It is taken for dead.
    #[error("node {0} is fenced: it is not running, or is not heard")]
    Fenced(NodeId),
    /// It is about to stop.
    #[error("node {0} is about to stop")]
    Stopping(NodeId),
}

/// The moves that even out what `nodes` hold with what the others hold: replicas, of each topic as far as that goes, and
/// preferred leaders. Partitions that are being moved, or have no leader to copy from, stay as they are; no partition
/// gets into fewer racks than it is in. Drained nodes neither give nor count: their drains move what they hold.
pub fn fill_moves(image: &Image, nodes: &BTreeSet<NodeId>) -> Result<Vec<Move>, NotFillable> {
    for &id in nodes {
        let node = image.node(id).ok_or(NotFillable::Unknown(id))?;
        if image.drain(id).is_some() {
            return Err(NotFillable::Draining(id));
        }
        if node.fenced {
            return Err(NotFillable::Fenced(id));
        }
        if node.stopping {
            return Err(NotFillable::Stopping(id));
        }
    }
    let mut plan = Plan::of(image, nodes);
    while plan.move_one() {}
    while plan.swap_leaders() {}
    Ok(plan.moves())
}

/// A partition that may be moved.
struct Movable {
    id: TopicPartition,
    epoch: PartitionEpoch,
    before: Vec<NodeId>,
    target: Vec<NodeId>,
}

/// The cluster as it is going to be.
struct Plan<'a> {
    nodes: &'a BTreeSet<NodeId>,
    partitions: Vec<Movable>,
    /// Of each node that counts: how many replicas it has, and how many partitions it should lead.
    loads: BTreeMap<NodeId, usize>,
    leads: BTreeMap<NodeId, usize>,
    /// How many replicas a node has of a topic.
    of_topic: BTreeMap<(NodeId, TopicId), usize>,
    /// What may be moved away from a node, as indexes into `partitions`, by topic.
    gives: BTreeMap<NodeId, BTreeMap<TopicId, Vec<usize>>>,
    /// Each node's rack, by a number; those without one share one.
    racks: BTreeMap<NodeId, usize>,
    /// From which node to which one nothing may be moved: not looked for again.
    barren: BTreeSet<(NodeId, NodeId)>,
}

impl<'a> Plan<'a> {
    fn of(image: &Image, nodes: &'a BTreeSet<NodeId>) -> Self {
        let zero = || image.nodes_for_replicas().map(|node| (node.id, 0)).collect();
        let (loads, leads) = (zero(), zero());
        let (of_topic, gives) = (BTreeMap::new(), BTreeMap::new());
        let names: BTreeSet<Option<&str>> = image.nodes().map(|node| node.rack.as_deref()).collect();
        let number = |rack: Option<&str>| names.iter().position(|name| *name == rack).expect("it is a node's");
        let racks = image.nodes().map(|node| (node.id, number(node.rack.as_deref()))).collect();
        let (partitions, barren) = (Vec::new(), BTreeSet::new());
        let mut plan = Self { nodes, partitions, loads, leads, of_topic, gives, racks, barren };
        for (id, partition) in image.partitions() {
            let target = partition.target();
            for &node in target {
                plan.count(node, id.topic, 1);
            }
            if let Some(leads) = target.first().and_then(|head| plan.leads.get_mut(head)) {
                *leads += 1;
            }
            if partition.reassignment.is_some() || partition.leader.is_none() {
                continue;
            }
            let index = plan.partitions.len();
            for node in target.iter().filter(|node| !nodes.contains(node) && plan.loads.contains_key(node)) {
                plan.gives.entry(*node).or_default().entry(id.topic).or_default().push(index);
            }
            let (before, target, epoch) = (target.to_vec(), target.to_vec(), partition.partition_epoch);
            plan.partitions.push(Movable { id, epoch, before, target });
        }
        plan
    }

    fn count(&mut self, node: NodeId, topic: TopicId, change: isize) {
        let add = |count: &mut usize| *count = count.checked_add_signed(change).expect("only what was counted goes");
        if let Some(load) = self.loads.get_mut(&node) {
            add(load);
            add(self.of_topic.entry((node, topic)).or_insert(0));
        }
    }

    fn topic_load(&self, node: NodeId, topic: TopicId) -> usize {
        self.of_topic.get(&(node, topic)).copied().unwrap_or(0)
    }

    /// Gives one replica to the emptiest named node that can have one; `false` when all is even.
    fn move_one(&mut self) -> bool {
        let mut takers: Vec<(usize, NodeId)> = self.nodes.iter().map(|node| (self.loads[node], *node)).collect();
        takers.sort_unstable();
        let given = self.gives.keys().map(|node| (Reverse(self.loads[node]), *node));
        let mut givers: Vec<(Reverse<usize>, NodeId)> = given.collect();
        givers.sort_unstable();
        for &(few, to) in &takers {
            for &(_, from) in givers.iter().take_while(|(Reverse(many), _)| *many >= few + 2) {
                if self.barren.contains(&(from, to)) {
                    continue;
                }
                let Some(index) = self.best(from, to) else {
                    self.barren.insert((from, to));
                    continue;
                };
                self.replace(index, from, to);
                return true;
            }
        }
        false
    }

    /// Which partition goes best from one node to the other: of the topic that they share least evenly; rather one that
    /// has not been moved yet.
    fn best(&self, from: NodeId, to: NodeId) -> Option<usize> {
        let topics = self.gives.get(&from)?;
        let uneven = |topic: &TopicId| {
            let more = |node| isize::try_from(self.topic_load(node, *topic)).unwrap_or(isize::MAX);
            more(to) - more(from)
        };
        let mut ranked: Vec<(isize, &TopicId)> = topics.keys().map(|topic| (uneven(topic), topic)).collect();
        ranked.sort_unstable();
        let may = |index: &usize| self.may_replace(&self.partitions[*index].target, from, to);
        let unmoved = |index: &usize| self.partitions[*index].target == self.partitions[*index].before;
        ranked.iter().find_map(|(_, topic)| {
            let given = || topics[*topic].iter().copied();
            given().filter(unmoved).find(may).or_else(|| given().find(may))
        })
    }

    fn may_replace(&self, replicas: &[NodeId], from: NodeId, to: NodeId) -> bool {
        if replicas.contains(&to) {
            return false;
        }
        // Only these two racks change.
        let (left, entered) = (self.racks[&from], self.racks[&to]);
        let others = || replicas.iter().filter(|node| **node != from).map(|node| self.racks.get(node));
        left == entered || others().any(|rack| rack == Some(&left)) || others().all(|rack| rack != Some(&entered))
    }

    fn replace(&mut self, index: usize, from: NodeId, to: NodeId) {
        let partition = &mut self.partitions[index];
        let topic = partition.id.topic;
        let place = partition.target.iter().position(|node| *node == from).expect("it gives only what it holds");
        partition.target[place] = to;
        if place == 0 {
            self.lead(from, to);
        }
        self.count(from, topic, -1);
        self.count(to, topic, 1);
        if let Some(given) = self.gives.get_mut(&from).and_then(|topics| topics.get_mut(&topic)) {
            given.retain(|other| *other != index);
        }
        self.may_give_again(index);
    }

    /// A partition that has changed may go where it might not before.
    fn may_give_again(&mut self, index: usize) {
        let Movable { id, target, .. } = &self.partitions[index];
        let gives =
            |from| self.gives.get(&from).and_then(|topics| topics.get(&id.topic)?.contains(&index).then_some(()));
        let givers = target.iter().copied().filter(|from| gives(*from).is_some());
        let pairs = givers.flat_map(|from| self.nodes.iter().map(move |to| (from, *to)));
        let able: Vec<_> = pairs.filter(|(from, to)| self.may_replace(target, *from, *to)).collect();
        for pair in able {
            self.barren.remove(&pair);
        }
    }

    fn lead(&mut self, before: NodeId, after: NodeId) {
        if let Some(leads) = self.leads.get_mut(&before) {
            *leads -= 1;
        }
        if let Some(leads) = self.leads.get_mut(&after) {
            *leads += 1;
        }
    }

    /// Lets another replica be preferred where that makes leaders more even, in the partitions that named nodes hold;
    /// `false` when there is no such partition. Each swap makes the sum of squares smaller, so it ends.
    fn swap_leaders(&mut self) -> bool {
        let mut swapped = false;
        for index in 0..self.partitions.len() {
            let target = &self.partitions[index].target;
            if !target.iter().any(|node| self.nodes.contains(node)) {
                continue;
            }
            let leads = |place: &usize| self.leads.get(&target[*place]).copied();
            let Some(most) = leads(&0) else { continue };
            let others = (1..target.len()).filter_map(|place| Some((leads(&place)?, place)));
            if let Some((_, place)) = others.min().filter(|(few, _)| most >= few + 2) {
                let (before, after) = (target[0], target[place]);
                self.partitions[index].target.swap(0, place);
                self.lead(before, after);
                swapped = true;
            }
        }
        swapped
    }

    fn moves(self) -> Vec<Move> {
        let changed = self.partitions.into_iter().filter(|partition| partition.target != partition.before);
        let wanted = |Movable { id, epoch, target, .. }| Move { partition: id, target, partition_epoch: Some(epoch) };
        changed.map(wanted).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metadata::command::{Command, NewTopic};
    use crate::metadata::outcome::Outcome;
    use crate::metadata::placement::place;
    use crate::metadata::testing::{Cluster, ids, node};
    use crate::metadata::topology::Node;

    fn named(nodes: &[i32]) -> BTreeSet<NodeId> {
        ids(nodes).into_iter().collect()
    }

    /// Nodes with these racks, the last `added` of them after the topics were made; topics of partitions and RF.
    fn grown(racks: &[Option<&str>], added: usize, topics: &[(usize, usize)], start: usize) -> Cluster {
        let with_rack = |(id, rack): (usize, Option<&str>)| Node { rack: rack.map(str::to_owned), ..node(id as i32) };
        let nodes: Vec<Node> = racks.iter().copied().enumerate().map(with_rack).collect();
        let (before, after) = nodes.split_at(nodes.len() - added);
        let mut cluster = Cluster::of(0);
        for node in before {
            cluster.register(node.clone(), false);
        }
        for (number, &(partitions, replication_factor)) in topics.iter().enumerate() {
            let start = start.wrapping_add(number);
            let assignment = place(before.iter(), partitions, replication_factor, start).expect("enough nodes");
            let id = Cluster::topic_id(number as u128 + 1);
            cluster.done(Command::CreateTopic(NewTopic {
                name: format!("t{number}"),
                id,
                assignment,
                configs: vec![],
            }));
        }
        for node in after {
            cluster.register(node.clone(), false);
        }
        cluster
    }

    /// Replicas and preferred leaders by node, as they will be.
    fn loads(image: &Image) -> (Vec<usize>, Vec<usize>) {
        let count = |holds: &dyn Fn(&[NodeId], NodeId) -> bool| {
            let of = |node: &Node| image.partitions().filter(|(_, held)| holds(held.target(), node.id)).count();
            image.nodes().map(of).collect()
        };
        (count(&|target, node| target.contains(&node)), count(&|target, node| target.first() == Some(&node)))
    }

    /// Begins the moves and tells how many replicas they add.
    fn fill(cluster: &mut Cluster, nodes: &[i32]) -> usize {
        let moves = fill_moves(&cluster.image(), &named(nodes)).expect("all can be filled");
        let count = moves.len();
        let outcome = cluster.apply(Command::BeginReassignment(moves));
        assert_eq!(outcome, Outcome::Partitions(vec![Ok(()); count]));
        cluster.image().partitions().map(|(_, partition)| partition.adding().count()).sum()
    }

    #[test]
    fn new_nodes_get_their_share_and_nothing_else_moves() {
        for (nodes, added, topics, replicas, moved) in [
            (5, 2, &[(10, 3)][..], vec![6, 6, 6, 6, 6], 12),
            (4, 1, &[(4, 3)][..], vec![3, 3, 3, 3], 3),
            (2, 1, &[(9, 1)][..], vec![5, 4], 4),
            (4, 2, &[(10, 2)][..], vec![5, 5, 5, 5], 10),
            (5, 2, &[(10, 3), (10, 3)][..], vec![12; 5], 24),
        ] {
            let mut cluster = grown(&vec![None; nodes], added, topics, 0);
            let new: Vec<i32> = (0..nodes as i32).skip(nodes - added).collect();
            assert_eq!(fill(&mut cluster, &new), moved, "{nodes} nodes, {topics:?}");
            let (held, leads) = loads(&cluster.image());
            assert_eq!(held, replicas, "{nodes} nodes, {topics:?}");
            let (least, most) = (leads.iter().min(), leads.iter().max());
            assert!(most <= least.map(|least| least + 1).as_ref(), "{leads:?}");
        }
    }

    #[test]
    fn of_each_topic_a_new_node_gets_its_share() {
        let mut cluster = grown(&[None; 5], 2, &[(10, 3), (10, 3), (10, 3)], 0);
        fill(&mut cluster, &[3, 4]);
        for topic in cluster.image().topics() {
            let of = |node| topic.partitions.iter().filter(|held| held.target().contains(&NodeId::new(node))).count();
            let held: Vec<usize> = (0..5).map(of).collect();
            assert!(held.iter().all(|held| (5..=7).contains(held)), "{held:?}");
        }
    }

    #[test]
    fn only_named_nodes_are_filled() {
        let mut cluster = grown(&[None; 5], 2, &[(10, 3)], 0);
        fill(&mut cluster, &[3]);
        assert_eq!(loads(&cluster.image()).0[4], 0);
    }

    #[test]
    fn racks_keep_their_replicas() {
        let racks = [Some("a"), Some("b"), Some("c"), Some("a")];
        let mut cluster = grown(&racks, 1, &[(10, 3)], 0);
        fill(&mut cluster, &[3]);
        assert_eq!(loads(&cluster.image()).0, [5, 10, 10, 5], "only its rack's other node gives");
    }

    /// A call of the admin service lasts 40 s, and this is a debug build.
    #[test]
    fn ten_thousand_partitions_of_which_racks_hold_most_back_are_planned_in_time() {
        let racks = ["a", "b", "c", "a", "b", "c", "a", "a"].map(Some);
        let cluster = grown(&racks, 2, &[(1_000, 3); 10], 0);
        let begun = std::time::Instant::now();
        let moves = fill_moves(&cluster.image(), &named(&[6, 7])).expect("both can be filled");
        let took = begun.elapsed();
        assert!(moves.len() > 4_000, "half of what the rack's other nodes have: {}", moves.len());
        assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    }

    #[test]
    fn what_is_moving_or_leaderless_stays() {
        let mut cluster = Cluster::of(3);
        cluster.create("moving", 1, &[&[0]], 1);
        cluster.create("dead", 2, &[&[1]], 1);
        cluster.create("other", 3, &[&[0], &[0]], 1);
        cluster.reassign("moving", &[1]);
        cluster.fence(1);
        let moves = fill_moves(&cluster.image(), &named(&[2])).expect("it can be filled");
        let other = cluster.first_of("other").topic;
        assert!(moves.len() == 1 && moves[0].partition.topic == other, "{moves:?}");
    }

    #[test]
    fn a_node_that_can_take_nothing_is_refused() {
        let mut cluster = Cluster::of(4);
        cluster.fence(1);
        cluster.done(Command::BeginDrain(NodeId::new(2)));
        cluster.begin_stop(3);
        for (node, why) in [
            (1, "node 1 is fenced: it is not running, or is not heard"),
            (2, "node 2 is being drained"),
            (3, "node 3 is about to stop"),
            (9, "there is no node 9"),
        ] {
            let refused = fill_moves(&cluster.image(), &named(&[0, node])).expect_err(why);
            assert_eq!(refused.to_string(), why);
        }
    }

    /// How many racks each partition is in.
    fn racks(image: &Image) -> Vec<usize> {
        let rack = |id: &NodeId| image.node(*id).expect("registered").rack.clone();
        let of = |target: &[NodeId]| target.iter().map(rack).collect::<BTreeSet<_>>().len();
        image.partitions().map(|(_, partition)| of(partition.target())).collect()
    }

    proptest! {
        #[test]
        fn filling_evens_out_with_no_more_moves_than_needed(
            before in 1_usize..6, added in 1_usize..5, partitions in 1_usize..40, more in 0_usize..20, start: usize,
        ) {
            let topics = [(partitions, 1 + start % before), (more, 1 + more % before)];
            let topics: Vec<_> = topics.into_iter().filter(|(partitions, _)| *partitions > 0).collect();
            let nodes = before + added;
            let mut cluster = grown(&vec![None; nodes], added, &topics, start);
            let (held, leads) = loads(&cluster.image());
            let widths: Vec<usize> =
                cluster.image().partitions().map(|(_, partition)| partition.target().len()).collect();
            let new: Vec<i32> = (before as i32..nodes as i32).collect();
            let moved = fill(&mut cluster, &new);
            let image = cluster.image();
            let (after, led) = loads(&image);
            let kept: Vec<usize> = image.partitions().map(|(_, partition)| partition.target().len()).collect();
            prop_assert_eq!(kept, widths);
            let even = |counts: &[usize]| counts.iter().max().zip(counts.iter().min()).map(|(most, least)| most - least);
            let level = even(&held[..before]) <= Some(1);
            if level {
                prop_assert!(even(&after) <= Some(1), "{:?}", after);
            }
            let share = held.iter().sum::<usize>() / nodes;
            prop_assert!(after[before..].iter().all(|&held| held >= share), "{:?}", after);
            prop_assert!(even(&led) <= even(&leads), "{:?} {:?}", leads, led);
            // A move takes one replica from where there were more: nobody takes and gives.
            prop_assert_eq!(moved, after[before..].iter().sum::<usize>());
            let given: usize = held[..before].iter().zip(&after).map(|(before, after)| before - after).sum();
            prop_assert_eq!(moved, given);
            if level {
                let total = held.iter().sum::<usize>();
                // The remainder stays with those that have it.
                let fewest = (total / nodes) * added + (total % nodes).saturating_sub(before);
                prop_assert_eq!(moved, fewest);
            }
            let again = fill_moves(&image, &named(&new)).expect("all can be filled");
            prop_assert_eq!(again, vec![]);
        }

        #[test]
        fn no_partition_gets_into_fewer_racks(
            kinds in prop::collection::vec(0_usize..4, 3..9), partitions in 1_usize..30, start: usize,
        ) {
            let names = [None, Some("a"), Some("b"), Some("c")];
            let of: Vec<Option<&str>> = kinds.iter().map(|kind| names[*kind]).collect();
            let mut cluster = grown(&of, 1 + start % 2, &[(partitions, 1 + start % (of.len() - 2))], start);
            let before = racks(&cluster.image());
            let new: Vec<i32> = (0..of.len() as i32).skip(of.len() - 1 - start % 2).collect();
            fill(&mut cluster, &new);
            let after = racks(&cluster.image());
            prop_assert!(before.iter().zip(&after).all(|(before, after)| before <= after));
            let again = fill_moves(&cluster.image(), &named(&new)).expect("all can be filled");
            prop_assert_eq!(again, vec![]);
        }
    }
}
