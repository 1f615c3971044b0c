//! More nodes, fewer nodes, pools that go.

use super::fixture::*;
use crate::crd::DeletionPolicy;
use crate::lifecycle::{Pool, Registered, Step, decide};

#[test]
fn scaling_up_needs_nobody() {
    let mut situation = settled(3);
    situation.pools[0].wanted = 5;
    assert_eq!(sizes(&situation)["main"], 5);
    assert_eq!(step(&situation), None);
    situation.brokers = None;
    assert_eq!(sizes(&situation)["main"], 5);
}

#[test]
fn scaling_down_drains_the_highest_first_and_shrinks_when_they_are_empty() {
    let mut situation = settled(5);
    situation.pools[0].wanted = 3;
    let decision = decide(&situation);
    assert_eq!(decision.step, Some(Step::Drain(4)));
    assert_eq!((decision.replicas["main"], decision.surplus_from["main"]), (5, 3));
    situation.known(4).draining = true;
    assert_eq!(step(&situation), Some(Step::Drain(3)), "all are told at once, so that nothing moves twice");
    situation.known(3).draining = true;
    assert_eq!(step(&situation), None);
    situation.known(3).replicas = 0;
    assert_eq!(sizes(&situation)["main"], 5, "node 4 holds something still");
    situation.known(4).replicas = 0;
    assert_eq!(sizes(&situation)["main"], 3);
}

#[test]
fn with_raft_out_of_reach_nothing_shrinks() {
    let mut situation = settled(5);
    situation.pools[0].wanted = 3;
    situation.brokers = None;
    assert_eq!(sizes(&situation)["main"], 5);
    situation.pools[0].current = None;
    assert_eq!(sizes(&situation)["main"], 5, "its StatefulSet is gone, its pods are not");
}

#[test]
fn a_voter_keeps_its_pod_until_another_one_votes_in_its_place() {
    let mut situation = settled(4);
    // 1, 2 and 3 vote.
    *situation.known(0) = registered(false);
    *situation.known(3) = registered(true);
    situation.raft().leader = 1;
    situation.pools[0].wanted = 3;
    situation.known(3).draining = true;
    situation.known(3).replicas = 0;
    assert_eq!(sizes(&situation)["main"], 4);
    assert_eq!(step(&situation), Some(Step::Promote(0)), "first another one votes");
    *situation.known(0) = registered(true);
    assert_eq!(step(&situation), Some(Step::Demote(3)));
    situation.known(3).wants_vote = false;
    assert_eq!(sizes(&situation)["main"], 4, "it votes until that is done");
    situation.known(3).votes = false;
    assert_eq!(sizes(&situation)["main"], 3);
}

#[test]
fn a_node_whose_pod_is_gone_is_removed_once_that_is_noticed() {
    let mut situation = settled(4);
    situation.pools[0].wanted = 3;
    situation.pools[0].current = Some(3);
    situation.pools[0].surplus_from = Some(3);
    situation.nodes.get_mut(&3).expect("node 3").pod = None;
    *situation.known(3) = Registered { draining: true, replicas: 0, ..registered(false) };
    assert_eq!(step(&situation), None, "it counts as alive still");
    situation.known(3).fenced = true;
    assert_eq!(step(&situation), Some(Step::Remove(3)));
    situation.raft().nodes.remove(&3);
    let decision = decide(&situation);
    assert_eq!((decision.step, decision.operation), (None, None));
    assert!(decision.surplus_from.is_empty());
    situation.deletion_policy = DeletionPolicy::Delete;
    assert!(matches!(step(&situation), Some(Step::DeleteClaim(claim)) if claim.name == "data-c-main-3"));
}

#[test]
fn it_is_not_over_before_pods_and_volumes_are_gone() {
    let mut situation = settled(4);
    situation.deletion_policy = DeletionPolicy::Delete;
    situation.pools[0].wanted = 3;
    situation.pools[0].current = Some(3);
    situation.pod(3).terminating = true;
    *situation.known(3) = Registered { draining: true, replicas: 0, ..registered(false) };
    let decision = decide(&situation);
    assert_eq!((decision.step.as_ref(), words(&decision)), (None, "removes the last pods of pool main"));
    situation.raft().nodes.remove(&3);
    assert_eq!(words(&decide(&situation)), "removes the last pods of pool main", "the pod is there still");
    situation.nodes.get_mut(&3).expect("node 3").pod = None;
    assert!(matches!(step(&situation), Some(Step::DeleteClaim(_))));
    situation.claim(3).terminating = true;
    let decision = decide(&situation);
    assert_eq!((decision.step.as_ref(), words(&decision)), (None, "waits until the volume of node 3 is gone"));
    situation.nodes.remove(&3);
    assert_eq!(decide(&situation).operation, None);
}

#[test]
fn scaling_back_up_cancels_the_drains_that_were_begun_and_no_others() {
    let mut situation = settled(5);
    situation.known(1).draining = true;
    situation.known(4).draining = true;
    situation.voters = 2;
    situation.known(1).votes = false;
    situation.known(1).wants_vote = false;
    assert_eq!(step(&situation), None, "somebody drains them, and has reasons");
    situation.pools[0].surplus_from = Some(3);
    let decision = decide(&situation);
    assert_eq!(decision.step, Some(Step::CancelDrain(4)));
    assert_eq!(decision.surplus_from["main"], 3, "noted until no drain of it is left");
    situation.known(4).draining = false;
    let decision = decide(&situation);
    assert_eq!(decision.step, None);
    assert!(decision.surplus_from.is_empty());
}

#[test]
fn a_pool_that_was_removed_drains_to_nothing() {
    let mut situation = settled(3);
    let old =
        Pool { name: "old".to_owned(), wanted: 0, first_node_id: 100, current: Some(1), ..situation.pools[0].clone() };
    situation.pools.push(old);
    situation.nodes.insert(100, node("old", 0, 100));
    situation.raft().nodes.insert(100, registered(false));
    assert_eq!(step(&situation), Some(Step::Drain(100)));
    assert_eq!(sizes(&situation)["old"], 1);
    *situation.known(100) = Registered { draining: true, replicas: 0, ..registered(false) };
    assert_eq!(sizes(&situation)["old"], 0);
}

#[test]
fn a_node_that_never_joined_is_simply_dropped() {
    let mut situation = settled(4);
    situation.pools[0].wanted = 3;
    situation.raft().nodes.remove(&3);
    situation.pod(3).running = false;
    situation.pod(3).ready = false;
    assert_eq!(sizes(&situation)["main"], 3);
}

#[test]
fn a_roll_comes_before_a_drain() {
    let mut situation = settled(4).outdated_all();
    situation.pools[0].wanted = 3;
    assert_eq!(step(&situation), Some(Step::PrepareStop(3)));
}
