//! Volumes grow; lost ones are replaced when a person says so.

use super::fixture::*;
use crate::lifecycle::{Step, decide};

#[test]
fn volumes_grow_first_whatever_the_health_and_the_template_follows() {
    let mut situation = settled(3).outdated_all();
    situation.brokers = None;
    situation.pools[0].size = "2Gi".to_owned();
    let Some(Step::GrowClaims { claims, size }) = step(&situation) else { panic!("they grow") };
    assert_eq!((claims.len(), size.as_str()), (3, "2Gi"));
    for id in 0..3 {
        situation.claim(id).size = "2048Mi".to_owned();
    }
    assert_eq!(step(&situation), Some(Step::RecreateStatefulSet { pool: "main".to_owned() }));
    situation.pools[0].template_size = Some("2Gi".to_owned());
    assert_eq!(step(&situation), None);
}

#[test]
fn a_storage_class_that_cannot_grow_is_a_problem_and_holds_nothing_else_up() {
    let mut situation = settled(3).outdated_all();
    situation.pools[0].size = "2Gi".to_owned();
    situation.pools[0].expandable = Some(false);
    let decision = decide(&situation);
    assert_eq!(decision.problems[0].reason, "VolumeCannotGrow");
    assert_eq!(decision.step, Some(Step::PrepareStop(2)));
}

#[test]
fn a_lost_volume_of_a_dead_node_is_given_up_only_on_demand() {
    let mut situation = settled(3);
    situation.pod(1).running = false;
    situation.pod(1).ready = false;
    situation.known(1).fenced = true;
    assert_eq!(step(&situation), None);
    situation.pod(1).replace_volume = true;
    assert!(matches!(step(&situation), Some(Step::DeleteClaim(claim)) if claim.name == "data-c-main-1"));
    situation.claim(1).terminating = true;
    assert_eq!(evicted(step(&situation)), ["c-main-1"]);
    situation.nodes.get_mut(&1).expect("node 1").pod = None;
    assert_eq!(step(&situation), None);
}

#[test]
fn a_lost_volume_of_a_node_that_serves_is_given_up_after_a_granted_stop() {
    let mut situation = settled(3);
    situation.claim(1).replace_volume = true;
    assert_eq!(step(&situation), Some(Step::PrepareStop(1)));
    let mut situation = situation.granted(1, 0);
    assert!(matches!(step(&situation), Some(Step::DeleteClaim(_))));
    situation.claim(1).terminating = true;
    assert_eq!(evicted(step(&situation)), ["c-main-1"]);
}

#[test]
fn a_volume_is_kept_while_others_are_down() {
    let mut situation = settled(3);
    situation.pod(1).running = false;
    situation.pod(1).replace_volume = true;
    situation.known(2).fenced = true;
    let decision = decide(&situation);
    assert_eq!(decision.step, None);
    assert_eq!(decision.problems[0].reason, "VolumeNeeded");
}
