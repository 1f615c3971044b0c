//! The in-sync replicas of a partition that this node leads, and the high watermark that follows from them.
//!
//! Pure arithmetic for one leadership: what the followers acknowledged and what the controller committed come in, the
//! high watermark comes out (KIP-966 for the minimum).

use smallvec::SmallVec;

use crate::ids::{NodeId, Offset};

/// What the leader knows of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Replica {
    node: NodeId,
    /// One past the last record that it has on disk; `None` before its first acknowledgement in this epoch.
    flushed_end: Option<Offset>,
    /// Its first offset; `None` before its first acknowledgement in this epoch.
    log_start: Option<Offset>,
    /// Whether it is in the ISR that Raft committed.
    committed: bool,
    /// Whether the leader has asked for it to join the ISR, with an outcome that is not known yet.
    joining: bool,
}

/// The replicas of one leadership. A new leader epoch starts with a new one: acknowledgements never outlive their epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isr {
    replicas: SmallVec<[Replica; 3]>,
    /// The smallest ISR that acknowledges (`PartitionRegistration::minimum_isr`).
    minimum: usize,
}

impl Isr {
    /// The replicas as the controller registered them, none of which has acknowledged anything yet.
    pub fn new(replicas: &[NodeId], isr: &[NodeId], minimum: usize) -> Self {
        let mut new = Self { replicas: SmallVec::new(), minimum };
        new.commit(replicas, isr);
        new
    }

    /// Takes a newer registration of the same leader epoch. It is the outcome of any proposal: none is under way after it.
    pub fn commit(&mut self, replicas: &[NodeId], isr: &[NodeId]) {
        debug_assert!(isr.iter().all(|node| replicas.contains(node)), "the ISR is a part of the replicas");
        let known = std::mem::take(&mut self.replicas);
        self.replicas = replicas
            .iter()
            .map(|&node| {
                let known = known.iter().find(|replica| replica.node == node);
                Replica {
                    node,
                    flushed_end: known.and_then(|replica| replica.flushed_end),
                    log_start: known.and_then(|replica| replica.log_start),
                    committed: isr.contains(&node),
                    joining: false,
                }
            })
            .collect();
    }

    /// Notes that the controller is asked for this ISR. Those that would join count at once; those that would leave
    /// count until `commit` brings the outcome, because a lost reply may hide either.
    pub fn propose(&mut self, isr: &[NodeId]) {
        for replica in &mut self.replicas {
            replica.joining = !replica.committed && isr.contains(&replica.node);
        }
    }

    /// Takes another minimum.
    pub fn set_minimum(&mut self, minimum: usize) {
        self.minimum = minimum;
    }

    /// Notes how far a replica (the leader itself too) has flushed. Goes forward only; a node that is no replica has no say.
    pub fn flushed(&mut self, node: NodeId, end: Offset) {
        if let Some(replica) = self.replicas.iter_mut().find(|replica| replica.node == node) {
            replica.flushed_end = replica.flushed_end.max(Some(end));
        }
    }

    /// Notes where a follower's log begins. Goes forward only. Returns whether it did.
    pub fn starts(&mut self, node: NodeId, log_start: Offset) -> bool {
        let Some(replica) = self.replicas.iter_mut().find(|replica| replica.node == node) else { return false };
        let moves = replica.log_start < Some(log_start);
        replica.log_start = replica.log_start.max(Some(log_start));
        moves
    }

    /// The lowest offset that a replica which is alive may still have, where the leader's own log begins at `log_start`:
    /// the low watermark of KIP-107. One that has not said anything in this epoch may have all.
    pub fn low_watermark(&self, leader: NodeId, log_start: Offset, is_alive: impl Fn(NodeId) -> bool) -> Offset {
        let followers = self.replicas.iter().filter(|replica| replica.node != leader && is_alive(replica.node));
        followers.map(|replica| replica.log_start.unwrap_or(Offset::FIRST)).fold(log_start, Offset::min)
    }

    /// Forgets what a replica has: it begins to acknowledge anew.
    pub fn forget(&mut self, node: NodeId) {
        if let Some(replica) = self.replicas.iter_mut().find(|replica| replica.node == node) {
            replica.flushed_end = None;
            replica.log_start = None;
        }
    }

    /// How far a replica has flushed, as it acknowledged in this epoch.
    pub fn flushed_end(&self, node: NodeId) -> Option<Offset> {
        self.replicas.iter().find(|replica| replica.node == node)?.flushed_end
    }

    /// The replicas, in their order.
    pub fn replicas(&self) -> impl Iterator<Item = NodeId> {
        self.replicas.iter().map(|replica| replica.node)
    }

    /// Whether a node is a replica.
    pub fn has(&self, node: NodeId) -> bool {
        self.replicas.iter().any(|replica| replica.node == node)
    }

    /// Whether a node is in the ISR that Raft committed.
    pub fn is_member(&self, node: NodeId) -> bool {
        self.replicas.iter().any(|replica| replica.node == node && replica.committed)
    }

    /// Whether the committed ISR is large enough to acknowledge acks=all.
    pub fn has_minimum(&self) -> bool {
        self.replicas.iter().filter(|replica| replica.committed).count() >= self.minimum
    }

    /// Whether no other replica counts for the high watermark.
    pub fn is_one(&self) -> bool {
        self.replicas.iter().filter(|replica| replica.committed || replica.joining).count() == 1
    }

    /// How far the maximal ISR (committed, or proposed to join) has flushed. `None` while the committed ISR is below the
    /// minimum, or a member has not acknowledged anything in this epoch. The caller never lets its high watermark go back.
    pub fn high_watermark(&self) -> Option<Offset> {
        if !self.has_minimum() {
            return None;
        }
        let mut lowest = None;
        let counts = |replica: &&Replica| replica.committed || replica.joining;
        #[cfg(test)]
        let counts = |replica: &&Replica| {
            counts(replica) && (replica.committed || !crate::sim::planted(crate::sim::Plant::CommittedIsrOnly))
        };
        for replica in self.replicas.iter().filter(counts) {
            let end = replica.flushed_end?;
            lowest = Some(lowest.map_or(end, |lowest: Offset| lowest.min(end)));
        }
        lowest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn nodes(ids: &[i32]) -> Vec<NodeId> {
        ids.iter().map(|&id| NodeId::new(id)).collect()
    }

    fn at(offset: i64) -> Offset {
        Offset::new(offset)
    }

    #[test]
    fn a_cluster_of_one_commits_what_it_flushed() {
        let mut isr = Isr::new(&nodes(&[0]), &nodes(&[0]), 1);
        assert_eq!(isr.high_watermark(), None, "nothing is flushed in this epoch");
        isr.flushed(NodeId::new(0), at(7));
        assert_eq!(isr.high_watermark(), Some(at(7)));
    }

    #[test]
    fn a_replica_that_is_proposed_to_join_counts_at_once() {
        let mut isr = Isr::new(&nodes(&[0, 1]), &nodes(&[0]), 1);
        isr.flushed(NodeId::new(0), at(9));
        isr.flushed(NodeId::new(1), at(4));
        assert_eq!(isr.high_watermark(), Some(at(9)));
        isr.propose(&nodes(&[0, 1]));
        assert_eq!(isr.high_watermark(), Some(at(4)));
    }

    #[test]
    fn a_proposed_removal_counts_until_raft_commits_it() {
        let mut isr = Isr::new(&nodes(&[0, 1]), &nodes(&[0, 1]), 1);
        isr.flushed(NodeId::new(0), at(9));
        isr.flushed(NodeId::new(1), at(4));
        isr.propose(&nodes(&[0]));
        assert_eq!(isr.high_watermark(), Some(at(4)));
        isr.commit(&nodes(&[0, 1]), &nodes(&[0]));
        assert_eq!(isr.high_watermark(), Some(at(9)));
    }

    #[test]
    fn nothing_is_committed_while_the_committed_isr_is_below_the_minimum() {
        let mut isr = Isr::new(&nodes(&[0, 1, 2]), &nodes(&[0]), 2);
        isr.flushed(NodeId::new(0), at(9));
        isr.flushed(NodeId::new(1), at(9));
        isr.propose(&nodes(&[0, 1]));
        assert_eq!(isr.high_watermark(), None, "a proposal is not a commitment");
        isr.set_minimum(1);
        assert_eq!(isr.high_watermark(), Some(at(9)));
    }

    #[test]
    fn acknowledgements_go_forward_only_and_only_replicas_have_a_say() {
        let mut isr = Isr::new(&nodes(&[0]), &nodes(&[0]), 1);
        isr.flushed(NodeId::new(0), at(9));
        isr.flushed(NodeId::new(0), at(3));
        isr.flushed(NodeId::new(5), at(1));
        assert_eq!(isr.high_watermark(), Some(at(9)));
    }

    #[test]
    fn the_low_watermark_is_the_lowest_log_start_of_replicas_that_are_alive() {
        let mut isr = Isr::new(&nodes(&[0, 1, 2]), &nodes(&[0, 1]), 1);
        let low =
            |isr: &Isr, dead: i32| isr.low_watermark(NodeId::new(0), at(9), |node| node != NodeId::new(dead)).get();
        assert!(isr.starts(NodeId::new(1), at(7)));
        assert_eq!(low(&isr, 5), 0, "node 2 has said nothing yet");
        assert_eq!(low(&isr, 2), 7);
        assert!(isr.starts(NodeId::new(2), at(12)));
        assert!(!isr.starts(NodeId::new(1), at(3)), "it goes forward only");
        assert_eq!(low(&isr, 5), 7);
        assert_eq!(low(&isr, 1), 9, "the leader's own counts too");
        isr.commit(&nodes(&[0, 1]), &nodes(&[0, 1]));
        assert_eq!(low(&isr, 5), 7, "a newer registration keeps what is known");
        isr.forget(NodeId::new(1));
        assert_eq!(low(&isr, 5), 0, "it may be another log by now");
    }

    /// The rule as the design words it, on plain sets.
    #[derive(Default)]
    struct Reference {
        replicas: BTreeSet<NodeId>,
        committed: BTreeSet<NodeId>,
        joining: BTreeSet<NodeId>,
        flushed: BTreeMap<NodeId, Offset>,
        minimum: usize,
    }

    impl Reference {
        fn high_watermark(&self) -> Option<Offset> {
            if self.committed.len() < self.minimum {
                return None;
            }
            let maximal: Vec<_> = self.committed.union(&self.joining).collect();
            let ends: Option<Vec<_>> = maximal.iter().map(|node| self.flushed.get(*node).copied()).collect();
            ends?.into_iter().min()
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Commit(BTreeSet<i32>, BTreeSet<i32>),
        Propose(BTreeSet<i32>),
        Flushed(i32, i64),
        Minimum(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let set = || proptest::collection::btree_set(0..5, 0..=5);
        let step = prop_oneof![
            (set(), set()).prop_map(|(replicas, isr)| {
                let isr = isr.intersection(&replicas).copied().collect();
                Step::Commit(replicas, isr)
            }),
            set().prop_map(Step::Propose),
            (0..6, 0..50_i64).prop_map(|(node, end)| Step::Flushed(node, end)),
            (1..4_usize).prop_map(Step::Minimum),
        ];
        proptest::collection::vec(step, 0..60)
    }

    fn set(ids: &BTreeSet<i32>) -> BTreeSet<NodeId> {
        ids.iter().map(|&id| NodeId::new(id)).collect()
    }

    fn list(ids: &BTreeSet<i32>) -> Vec<NodeId> {
        set(ids).into_iter().collect()
    }

    proptest! {
        #[test]
        fn the_high_watermark_is_that_of_the_plain_reference(steps in steps()) {
            let mut isr = Isr::new(&nodes(&[0, 1, 2]), &nodes(&[0]), 1);
            let mut reference = Reference {
                replicas: nodes(&[0, 1, 2]).into_iter().collect(),
                committed: nodes(&[0]).into_iter().collect(),
                minimum: 1,
                ..Reference::default()
            };
            for step in steps {
                match step {
                    Step::Commit(replicas, committed) => {
                        isr.commit(&list(&replicas), &list(&committed));
                        reference.replicas = set(&replicas);
                        reference.committed = set(&committed);
                        reference.joining.clear();
                        reference.flushed.retain(|node, _| replicas.contains(&node.get()));
                    }
                    Step::Propose(asked) => {
                        isr.propose(&list(&asked));
                        let asked: BTreeSet<_> = set(&asked).intersection(&reference.replicas).copied().collect();
                        reference.joining = asked.difference(&reference.committed).copied().collect();
                    }
                    Step::Flushed(node, end) => {
                        let node = NodeId::new(node);
                        isr.flushed(node, at(end));
                        if reference.replicas.contains(&node) {
                            let known = reference.flushed.entry(node).or_insert(at(end));
                            *known = (*known).max(at(end));
                        }
                    }
                    Step::Minimum(minimum) => {
                        isr.set_minimum(minimum);
                        reference.minimum = minimum;
                    }
                }
                prop_assert_eq!(isr.high_watermark(), reference.high_watermark());
            }
        }
    }
}
