//! Nodes that were added get their share, once.

use std::collections::BTreeSet;

use super::fixture::*;
use crate::lifecycle::{Fill, Pool, Situation, Step, decide};

/// Three nodes that are to be five, under `OnScale`.
fn growing() -> Situation {
    let mut situation = settled(3);
    situation.rebalances = true;
    situation.pools[0].wanted = 5;
    situation
}

/// The same a moment later: the StatefulSet has its size and its note, and the new nodes have joined.
fn grown() -> Situation {
    let mut situation = settled(5);
    situation.rebalances = true;
    situation.pools[0].fill = Some(Fill { from: 3, begun: false });
    situation
}

fn noted(situation: &Situation) -> Option<Fill> {
    decide(situation).fill.get("main").copied()
}

#[test]
fn what_is_to_be_filled_is_noted_with_the_new_size() {
    let decision = decide(&growing());
    assert_eq!((decision.replicas["main"], decision.fill["main"]), (5, Fill { from: 3, begun: false }));
    let mut manual = growing();
    manual.rebalances = false;
    assert_eq!(noted(&manual), None);
    let mut forming = growing();
    forming.formed = false;
    assert_eq!(noted(&forming), None, "a cluster that is being created has nothing to move");
    let mut alone = growing();
    alone.brokers = None;
    assert_eq!(noted(&alone), Some(Fill { from: 3, begun: false }));
}

#[test]
fn nodes_that_were_there_are_not_taken_for_new_while_the_cluster_can_not_say() {
    for current in [None, Some(1)] {
        let mut situation = settled(3);
        situation.rebalances = true;
        situation.brokers = None;
        situation.pools[0].current = current;
        assert_eq!(noted(&situation), None, "a StatefulSet of {current:?} replicas is made whole again");
        situation.pools[0].wanted = 5;
        assert_eq!(noted(&situation), Some(Fill { from: 3, begun: false }), "{current:?}");
    }
}

#[test]
fn all_nodes_that_were_added_are_filled_at_once_when_the_last_one_serves() {
    let mut situation = grown();
    assert_eq!(step(&situation), Some(Step::Fill(vec![3, 4])));
    situation.pod(4).ready = false;
    assert_eq!(step(&situation), None);
    situation.raft().nodes.remove(&4);
    let decision = decide(&situation);
    assert_eq!((decision.step.as_ref(), words(&decision)), (None, "waits for 1 nodes to join"));
    assert_eq!(decision.fill["main"], Fill { from: 3, begun: false });
}

#[test]
fn it_is_told_until_the_moves_are_done_and_then_forgotten() {
    let mut situation = grown();
    situation.filled = BTreeSet::from([3, 4]);
    situation.known(3).adding = 7;
    let decision = decide(&situation);
    assert_eq!((decision.step.as_ref(), decision.fill["main"]), (None, Fill { from: 3, begun: true }));
    assert_eq!(words(&decision), "moves partitions to nodes 3, 4: 7 are on their way");
    // Another operator finds the note.
    situation.filled.clear();
    situation.pools[0].fill = Some(Fill { from: 3, begun: true });
    assert_eq!(step(&situation), None);
    situation.known(3).adding = 0;
    situation.known(0).adding = 2;
    let decision = decide(&situation);
    assert_eq!((decision.step, decision.operation, decision.fill.is_empty()), (None, None, true));
}

#[test]
fn what_is_left_of_an_upgrade_or_a_removal_does_not_wait_for_it() {
    let mut situation = grown();
    situation.pools[0].fill = Some(Fill { from: 3, begun: true });
    situation.known(3).adding = 7;
    for id in 0..5 {
        situation.pod(id).report.as_mut().expect("it reports").supported_version += 1;
    }
    assert!(matches!(step(&situation), Some(Step::SetClusterVersion(_))), "{:?}", step(&situation));
}

#[test]
fn a_node_was_filled_until_that_is_noted() {
    let mut situation = grown();
    let filled = |situation: &Situation| (0..5).filter(|id| situation.is_to_be_filled(*id)).collect::<Vec<_>>();
    assert_eq!(filled(&situation), [3, 4]);
    situation.pools[0].fill = Some(Fill { from: 3, begun: true });
    assert_eq!(filled(&situation), [0; 0]);
}

#[test]
fn without_a_note_nothing_moves() {
    let mut situation = settled(5);
    situation.rebalances = true;
    situation.known(3).replicas = 0;
    let decision = decide(&situation);
    assert_eq!((decision.step, decision.fill.is_empty()), (None, true));
    situation.pools[0].current = Some(3);
    assert_eq!(noted(&situation), None, "somebody made the StatefulSet smaller: its nodes have joined long ago");
}

#[test]
fn with_another_choice_the_note_goes() {
    let mut situation = grown();
    situation.rebalances = false;
    let decision = decide(&situation);
    assert_eq!((decision.step, decision.fill.is_empty()), (None, true));
}

#[test]
fn a_drain_takes_over_when_it_is_made_smaller_again() {
    let mut situation = grown();
    situation.pools[0].fill = Some(Fill { from: 3, begun: true });
    situation.known(3).adding = 7;
    situation.pools[0].wanted = 3;
    let decision = decide(&situation);
    assert_eq!((decision.step, decision.fill.is_empty()), (Some(Step::Drain(4)), true));
    // One of the two stays: its part goes on.
    situation.pools[0].wanted = 4;
    let decision = decide(&situation);
    assert_eq!((decision.step, decision.fill["main"]), (Some(Step::Drain(4)), Fill { from: 3, begun: true }));
}

#[test]
fn more_nodes_meanwhile_are_filled_with_the_others() {
    let mut situation = grown();
    situation.filled = BTreeSet::from([3, 4]);
    situation.pools[0].fill = Some(Fill { from: 3, begun: true });
    situation.pools[0].wanted = 6;
    assert_eq!(noted(&situation), Some(Fill { from: 3, begun: false }));
    situation.pools[0].current = Some(6);
    situation.pools[0].fill = noted(&situation);
    situation.nodes.insert(5, node("main", 5, 5));
    situation.raft().nodes.insert(5, registered(false));
    situation.pools[0].fill = Some(Fill { from: 3, begun: false });
    assert_eq!(step(&situation), Some(Step::Fill(vec![3, 4, 5])));
}

#[test]
fn nodes_whose_drain_was_cancelled_are_filled_and_those_that_somebody_drains_are_not() {
    let mut situation = grown();
    situation.pools[0].fill = None;
    situation.pools[0].surplus_from = Some(3);
    situation.known(3).draining = true;
    let decision = decide(&situation);
    assert_eq!((decision.step, decision.fill["main"]), (Some(Step::CancelDrain(3)), Fill { from: 3, begun: false }));
    let mut situation = grown();
    situation.known(4).draining = true;
    assert_eq!(step(&situation), Some(Step::Fill(vec![3])));
    situation.known(3).draining = true;
    let decision = decide(&situation);
    assert_eq!((decision.step, decision.fill.is_empty()), (None, true));
}

#[test]
fn a_pool_that_is_added_is_filled() {
    let mut situation = settled(3);
    situation.rebalances = true;
    let new =
        Pool { name: "new".to_owned(), first_node_id: 100, current: None, wanted: 1, ..situation.pools[0].clone() };
    situation.pools.push(new);
    assert_eq!(decide(&situation).fill["new"], Fill { from: 0, begun: false });
    situation.pools[1].current = Some(1);
    situation.pools[1].fill = Some(Fill { from: 0, begun: false });
    situation.nodes.insert(100, node("new", 0, 100));
    situation.raft().nodes.insert(100, registered(false));
    assert_eq!(step(&situation), Some(Step::Fill(vec![100])));
}

#[test]
fn a_stateful_set_with_a_note_is_not_made_anew() {
    let mut situation = grown();
    situation.pools[0].template_size = Some("512Mi".to_owned());
    assert_eq!(step(&situation), Some(Step::Fill(vec![3, 4])));
    situation.pools[0].fill = None;
    assert_eq!(step(&situation), Some(Step::RecreateStatefulSet { pool: "main".to_owned() }));
}
