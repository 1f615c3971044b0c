//! Who votes.

use super::fixture::*;
use crate::lifecycle::Step;

#[test]
fn voters_are_added_one_at_a_time() {
    let mut situation = settled(5);
    situation.voters = 5;
    assert_eq!(step(&situation), Some(Step::Promote(3)));
    situation.known(3).wants_vote = true;
    assert_eq!(step(&situation), None, "the change before is under way");
    situation.known(3).votes = true;
    assert_eq!(step(&situation), Some(Step::Promote(4)));
}

#[test]
fn surplus_voters_lose_their_votes_the_leader_last() {
    let mut situation = settled(5);
    for id in 0..5 {
        *situation.known(id) = registered(true);
    }
    situation.voters = 3;
    situation.raft().leader = 4;
    assert_eq!(step(&situation), Some(Step::Demote(3)));
}

#[test]
fn nothing_changes_while_a_node_is_down_or_stopping() {
    let mut situation = settled(5);
    situation.voters = 5;
    situation.known(1).fenced = true;
    assert_eq!(step(&situation), None);
    let mut situation = settled(5).granted(1, 0);
    situation.voters = 5;
    assert_eq!(step(&situation), None);
}

#[test]
fn the_last_voter_keeps_its_vote() {
    let mut situation = settled(1);
    situation.known(0).draining = true;
    assert_eq!(step(&situation), None);
}
