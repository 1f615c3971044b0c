//! Rolls, broken images, lost quorums, wrong identities, upgrades.

use super::fixture::*;
use crate::lifecycle::{Decision, Grant, Pod, Settings, Situation, Step, decide};

#[test]
fn what_is_as_it_should_be_is_left_alone() {
    let expected = Decision { replicas: [("main".to_owned(), 3)].into(), max_unavailable: 1, ..Decision::default() };
    assert_eq!(decide(&settled(3)), expected);
}

#[test]
fn a_roll_asks_for_a_stop_of_the_last_node_first_and_of_the_raft_leader_last() {
    let mut situation = settled(3).outdated_all();
    situation.raft().leader = 2;
    assert_eq!(step(&situation), Some(Step::PrepareStop(1)));
    situation.pod(1).hash = Some(NEW.to_owned());
    assert_eq!(step(&situation), Some(Step::PrepareStop(0)));
    situation.pod(0).hash = Some(NEW.to_owned());
    assert_eq!(step(&situation), Some(Step::PrepareStop(2)));
}

#[test]
fn a_granted_stop_evicts_once_no_leaders_are_left() {
    let decision = decide(&settled(3).outdated_all().granted(2, 4));
    assert_eq!(decision.step, None);
    assert!(words(&decision).contains("moves 4 partition leaders"), "{}", words(&decision));
    assert_eq!(evicted(step(&settled(3).outdated_all().granted(2, 0))), ["c-main-2"]);
}

#[test]
fn a_granted_raft_leader_hands_over_first() {
    assert_eq!(step(&settled(3).outdated_all().granted(0, 0)), Some(Step::TransferRaftLeadership));
    let alone = settled(1).outdated_all().granted(0, 0);
    assert_eq!(evicted(step(&alone)), ["c-main-0"], "nobody is there to hand over to");
}

#[test]
fn the_next_node_waits_until_the_one_before_is_back_in_every_isr() {
    type Spoil = fn(&mut Situation);
    let cases: [(&str, Spoil); 6] = [
        ("its pod is gone", |it| it.nodes.get_mut(&2).expect("node 2").pod = None),
        ("its pod is going", |it| it.pod(2).terminating = true),
        ("its pod is not ready", |it| it.pod(2).ready = false),
        ("its broker is taken for dead", |it| it.known(2).fenced = true),
        ("its replicas lag", |it| it.raft().under_replicated = 1),
        ("its grant has not ended", |it| it.raft().grant = Some(Grant { node: 2, leaders_left: 0 })),
    ];
    for (what, spoil) in cases {
        let mut situation = settled(3).outdated_all();
        situation.pod(2).hash = Some(NEW.to_owned());
        assert_eq!(step(&situation), Some(Step::PrepareStop(1)));
        spoil(&mut situation);
        let decision = decide(&situation);
        assert_eq!(decision.step, None, "{what}");
        assert_eq!(decision.operation.as_ref().map(|it| it.kind), Some("Roll"), "{what}");
    }
}

#[test]
fn a_node_that_goes_down_after_the_grant_stops_the_eviction() {
    let mut situation = settled(3).outdated_all().granted(2, 0);
    situation.pod(1).ready = false;
    assert_eq!(step(&situation), None);
}

#[test]
fn a_broken_image_stops_the_roll_at_one_pod_and_the_corrected_spec_heals_it_at_once() {
    let mut situation = settled(3).outdated_all();
    let broken = situation.pod(2);
    *broken = Pod { running: false, ready: false, hash: Some(NEW.to_owned()), ..broken.clone() };
    situation.pod(2).trouble = Some("ErrImagePull".to_owned());
    situation.known(2).fenced = true;
    assert_eq!(decide(&situation).problems[0].reason, "PodCannotStart");
    assert_eq!(step(&situation), None, "the cluster serves without it; nothing else is touched");
    "newer".clone_into(&mut situation.pools[0].hash);
    assert_eq!(evicted(step(&situation)), ["c-main-2"]);
}

#[test]
fn outdated_pods_without_a_broker_are_replaced_together_whatever_else_is_the_matter() {
    let mut situation = settled(3).outdated_all();
    situation.brokers = None;
    situation.formed = false;
    for id in 0..3 {
        situation.pod(id).running = false;
        situation.pod(id).ready = false;
    }
    assert_eq!(evicted(step(&situation)), ["c-main-0", "c-main-1", "c-main-2"]);
    let Some(Step::ReplaceDead(pods)) = step(&situation) else { panic!("they are replaced") };
    assert!(pods.iter().all(|pod| pod.resource_version.is_some()), "only as they were seen: one may run by now");
}

#[test]
fn without_a_leader_unready_outdated_pods_are_replaced_one_by_one() {
    let mut situation = settled(3).outdated_all();
    situation.brokers = None;
    situation.pod(1).ready = false;
    situation.pod(2).ready = false;
    assert_eq!(evicted(step(&situation)), ["c-main-1"]);
    situation.pod(1).terminating = true;
    assert_eq!(step(&situation), None, "the one before is on its way");
    situation.pod(1).terminating = false;
    situation.pod(1).hash = Some(NEW.to_owned());
    assert_eq!(evicted(step(&situation)), ["c-main-2"], "it runs again, though nobody can be ready without a quorum");
    situation.pod(2).hash = Some(NEW.to_owned());
    assert_eq!(step(&situation), None, "a ready pod is not touched without a leader");
}

#[test]
fn an_outdated_pod_that_takes_no_part_needs_no_grant() {
    let mut situation = settled(3);
    situation.pod(2).hash = Some(OLD.to_owned());
    situation.pod(2).ready = false;
    situation.known(2).fenced = true;
    assert_eq!(evicted(step(&situation)), ["c-main-2"]);
    situation.pod(1).ready = false;
    assert_eq!(step(&situation), None, "another one is down: it is waited for");
}

#[test]
fn a_wrong_identity_stops_every_disruption_and_is_shown() {
    for (id, cluster) in [(7, "c"), (1, "other")] {
        let mut situation = settled(3).outdated_all();
        let report = situation.pod(1).report.as_mut().expect("it answers");
        report.node_id = id;
        cluster.clone_into(&mut report.cluster_id);
        situation.pools[0].wanted = 2;
        let decision = decide(&situation);
        assert_eq!(decision.step, None);
        assert_eq!(decision.max_unavailable, 0);
        assert_eq!(decision.problems.len(), 1);
        assert!(decision.problems[0].message.contains("should be node 1 of cluster c"), "{:?}", decision.problems);
    }
}

#[test]
fn the_cluster_version_is_raised_once_every_node_runs_it() {
    let mut situation = settled(3);
    for id in 0..2 {
        situation.pod(id).report.as_mut().expect("it answers").supported_version = 3;
    }
    assert_eq!(step(&situation), None, "node 2 understands 1 only");
    situation.pod(2).report.as_mut().expect("it answers").supported_version = 2;
    assert_eq!(step(&situation), Some(Step::SetClusterVersion(2)));
    situation.pod(2).hash = Some(OLD.to_owned());
    assert_eq!(step(&situation), Some(Step::PrepareStop(2)), "not in the middle of a roll");
    situation.pod(2).hash = Some(NEW.to_owned());
    situation.pod(2).report = None;
    assert_eq!(step(&situation), None, "not while somebody does not answer");
}

#[test]
fn dynamic_settings_change_without_a_restart_and_after_a_roll() {
    let mut situation = settled(3);
    let values: std::collections::BTreeMap<_, _> = [("min.insync.replicas".to_owned(), "2".to_owned())].into();
    situation.settings = Some(Settings { values: values.clone(), ..Settings::default() });
    assert_eq!(step(&situation), Some(Step::SetConfigs { values, reset: [].into() }));
    assert_eq!(
        step(&situation.clone().outdated_all()),
        Some(Step::PrepareStop(2)),
        "the new version may know more of them"
    );
    situation.settings = Some(Settings::default());
    assert_eq!(step(&situation), None);
}

#[test]
fn others_may_take_a_pod_down_only_while_all_data_is_safe() {
    let budget = |spoil: fn(&mut Situation)| {
        let mut situation = settled(3);
        spoil(&mut situation);
        decide(&situation).max_unavailable
    };
    assert_eq!(budget(|_| {}), 1);
    assert_eq!(budget(|it| it.raft().under_replicated = 1), 0);
    assert_eq!(budget(|it| it.raft().offline = 1), 0);
    assert_eq!(budget(|it| it.known(1).fenced = true), 0);
    assert_eq!(budget(|it| it.brokers = None), 0);
}
