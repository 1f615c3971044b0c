//! How Raft's configuration follows the roster: the next change, one at a time, decided by the leader.
//!
//! Who leaves is unseated first; who is new learns; who has caught up is promoted. No change is made that the members
//! heard of lately could not carry on after, so that removing one voter while another is down can't cost the quorum.

use std::collections::BTreeMap;

use crate::ids::NodeId;
use crate::metadata::{Member, Seat, Target};

/// A step towards the roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Seat it as a learner: one that is new, or a voter that is to vote no more.
    Learner(NodeId),
    /// Let it vote.
    Voter(NodeId),
    /// Unseat it.
    Remove(NodeId),
    /// Hand the leadership to this voter, because the leader itself is to lose its vote.
    HandOver(NodeId),
}

/// What the leader knows of a seated node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Whether it was heard of lately.
    pub active: bool,
    /// Whether it has nearly all of the leader's log.
    pub caught_up: bool,
    /// Up to where its log equals the leader's.
    pub matched: u64,
}

/// The next change, if one is due and can be made. `progress` has an entry for each node in `seats`.
pub fn next_change(
    leader: NodeId,
    roster: &[&Member],
    seats: &BTreeMap<NodeId, Seat>,
    progress: &BTreeMap<NodeId, Progress>,
) -> Option<Change> {
    let active = |node: &NodeId| progress.get(node).is_some_and(|progress| progress.active);
    let voters = || seats.iter().filter(|(_, seat)| **seat == Seat::Voter).map(|(node, _)| *node);
    let keeps_quorum = |without: NodeId| {
        let rest = || voters().filter(move |&voter| voter != without);
        rest().filter(active).count() * 2 > rest().count()
    };
    let next_leader = || {
        let others = voters().filter(|voter| *voter != leader).filter(active);
        let stays = |voter: &NodeId| roster.iter().any(|it| it.node == *voter && it.target == Target::Voter);
        others.filter(stays).max_by_key(|voter| progress.get(voter).map(|progress| progress.matched))
    };
    let step = |member: &Member| {
        let node = member.node;
        match (seats.get(&node), member.target) {
            (Some(Seat::Voter), Target::Gone | Target::Learner) if node == leader => {
                next_leader().map(Change::HandOver)
            }
            (Some(Seat::Voter), Target::Gone) => keeps_quorum(node).then_some(Change::Remove(node)),
            (Some(Seat::Voter), Target::Learner) => keeps_quorum(node).then_some(Change::Learner(node)),
            (Some(Seat::Learner), Target::Gone) => Some(Change::Remove(node)),
            (Some(Seat::Learner), Target::Voter) => {
                let ready = progress.get(&node).is_some_and(|progress| progress.active && progress.caught_up);
                let active_voters = voters().filter(active).count() + 1;
                (ready && active_voters * 2 > voters().count() + 1).then_some(Change::Voter(node))
            }
            (None, Target::Learner | Target::Voter) => Some(Change::Learner(node)),
            (Some(Seat::Learner), Target::Learner) | (Some(Seat::Voter), Target::Voter) | (None, Target::Gone) => None,
        }
    };
    // Who leaves comes first: a wiped voter counts in the quorum until it is unseated.
    let leaving = roster.iter().filter(|member| member.target == Target::Gone).find_map(|member| step(member));
    leaving.or_else(|| roster.iter().find_map(|member| step(member)))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const LEADER: NodeId = NodeId::new(0);

    fn member(node: i32, target: Target) -> Member {
        Member { node: NodeId::new(node), directory: Uuid::from_u128(node as u128), address: String::new(), target }
    }

    /// (node, target, seat, heard of and caught up)
    type Row = (i32, Target, Option<Seat>, bool);

    fn next(rows: &[Row]) -> Option<Change> {
        let roster: Vec<Member> = rows.iter().map(|&(node, target, ..)| member(node, target)).collect();
        let seats = rows.iter().filter_map(|&(node, _, seat, _)| Some((NodeId::new(node), seat?))).collect();
        let progress = rows
            .iter()
            .map(|&(node, _, _, up)| {
                (NodeId::new(node), Progress { active: up, caught_up: up, matched: u64::from(up) * node as u64 })
            })
            .collect();
        next_change(LEADER, &roster.iter().collect::<Vec<_>>(), &seats, &progress)
    }

    const VOTER: Option<Seat> = Some(Seat::Voter);
    const LEARNER: Option<Seat> = Some(Seat::Learner);

    #[test]
    fn a_new_member_learns_first_and_votes_once_it_has_caught_up() {
        let founder = (0, Target::Voter, VOTER, true);
        assert_eq!(next(&[founder]), None);
        assert_eq!(next(&[founder, (1, Target::Voter, None, false)]), Some(Change::Learner(NodeId::new(1))));
        assert_eq!(next(&[founder, (1, Target::Voter, LEARNER, false)]), None, "it has not caught up");
        assert_eq!(next(&[founder, (1, Target::Voter, LEARNER, true)]), Some(Change::Voter(NodeId::new(1))));
        assert_eq!(next(&[founder, (1, Target::Learner, LEARNER, true)]), None, "it is not to vote");
        assert_eq!(next(&[founder, (1, Target::Voter, VOTER, true)]), None);
    }

    #[test]
    fn who_leaves_is_unseated_before_anybody_is_seated() {
        let rows = [
            (0, Target::Voter, VOTER, true),
            (1, Target::Voter, VOTER, true),
            (2, Target::Gone, VOTER, false),
            (3, Target::Voter, None, false),
        ];
        assert_eq!(next(&rows), Some(Change::Remove(NodeId::new(2))));
        let learner = [(0, Target::Voter, VOTER, true), (1, Target::Gone, LEARNER, false)];
        assert_eq!(next(&learner), Some(Change::Remove(NodeId::new(1))));
    }

    #[test]
    fn a_voter_stays_while_the_rest_would_have_no_majority() {
        let rows =
            |target, up| [(0, Target::Voter, VOTER, true), (1, target, VOTER, true), (2, Target::Voter, VOTER, up)];
        for target in [Target::Gone, Target::Learner] {
            assert_eq!(next(&rows(target, false)), None, "node 2 is down");
        }
        assert_eq!(next(&rows(Target::Gone, true)), Some(Change::Remove(NodeId::new(1))));
        assert_eq!(next(&rows(Target::Learner, true)), Some(Change::Learner(NodeId::new(1))));
    }

    #[test]
    fn a_promotion_waits_while_it_would_cost_the_majority() {
        let rows = [
            (0, Target::Voter, VOTER, true),
            (1, Target::Voter, VOTER, true),
            (2, Target::Voter, VOTER, false),
            (3, Target::Voter, VOTER, false),
            (4, Target::Voter, LEARNER, true),
        ];
        assert_eq!(next(&rows), Some(Change::Voter(NodeId::new(4))), "it gives the majority back");
        let rows = [
            (0, Target::Voter, VOTER, true),
            (1, Target::Voter, VOTER, false),
            (2, Target::Voter, VOTER, false),
            (3, Target::Voter, LEARNER, true),
        ];
        assert_eq!(next(&rows), None);
    }

    #[test]
    fn a_leader_that_is_to_go_hands_over_to_the_voter_that_has_most() {
        let rows = [
            (0, Target::Gone, VOTER, true),
            (1, Target::Voter, VOTER, true),
            (2, Target::Voter, VOTER, true),
            (3, Target::Learner, VOTER, true),
        ];
        assert_eq!(next(&rows), Some(Change::HandOver(NodeId::new(2))));
        assert_eq!(next(&[(0, Target::Gone, VOTER, true), (1, Target::Voter, VOTER, false)]), None);
    }
}
