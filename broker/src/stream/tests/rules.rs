//! The rules of the replication design that take several nodes to see, one by one.

use std::time::Duration;

use super::{Cluster, LAG_MAX};
use crate::ids::Offset;
use crate::stream::{Acks, PartitionError};

fn led_by_0(min_insync: usize) -> Cluster {
    let mut cluster = Cluster::new(3, min_insync);
    cluster.settle();
    assert_eq!(cluster.leader(), Some(0));
    cluster
}

/// Moves links and flushes of these nodes only.
fn run_without(cluster: &mut Cluster, absent: usize) {
    cluster.cut(0, absent);
    for _ in 0..20 {
        for which in 0..cluster.links() {
            cluster.step_link(which);
        }
        (0..3).filter(|member| *member != absent).for_each(|member| cluster.flush(member));
    }
}

#[test]
fn acks_all_stands_for_the_flush_of_every_in_sync_replica() {
    let mut cluster = led_by_0(2);
    let value = cluster.produce(0, Acks::All).expect("taken");
    run_without(&mut cluster, 2);
    assert!(!cluster.acked(value), "node 2 is in the ISR and has nothing of it");
    cluster.settle();
    assert!(cluster.acked(value));
    cluster.check_converged();
}

#[test]
fn rule_1_a_leader_of_an_older_image_appends_but_acknowledges_nothing() {
    let mut cluster = led_by_0(2);
    cluster.fence(0);
    for member in 1..3 {
        cluster.deliver_image(member, 10);
    }
    assert_eq!(cluster.leader(), Some(1));
    let value = cluster.produce(0, Acks::All).expect("it does not know yet");
    for _ in 0..20 {
        (0..cluster.links()).for_each(|which| cluster.step_link(which));
        (0..3).for_each(|member| cluster.flush(member));
    }
    assert!(!cluster.acked(value), "the followers know better");
    cluster.deliver_images();
    assert_eq!(cluster.failure(value), Some(PartitionError::NotLeader.to_string()));
    cluster.settle();
}

#[test]
fn rule_3_what_only_a_fallen_leader_had_is_cut_off() {
    let mut cluster = led_by_0(2);
    let kept = cluster.produce(0, Acks::All).expect("taken");
    cluster.settle();
    let lost = cluster.produce(0, Acks::All).expect("taken");
    cluster.flush(0);
    cluster.crash(0, None);
    cluster.fence(0);
    cluster.deliver_images();
    let next = cluster.produce(1, Acks::All).expect("node 1 leads");
    cluster.settle();
    cluster.restart(0, false);
    cluster.settle();
    assert!(cluster.acked(kept) && cluster.acked(next) && !cluster.acked(lost));
    cluster.check_converged();
    assert_eq!(cluster.replica(0).expect("it runs").offsets().log_end.get(), 2);
}

#[test]
fn rule_7_one_that_stops_leaves_after_its_time_and_joins_when_it_has_caught_up() {
    let mut cluster = led_by_0(2);
    cluster.crash(2, Some(1));
    let waiting = cluster.produce(0, Acks::All).expect("taken");
    run_without(&mut cluster, 2);
    assert!(!cluster.tick());
    cluster.now += LAG_MAX + Duration::from_millis(1);
    assert!(cluster.tick(), "its time is over");
    assert!(!cluster.acked(waiting), "a proposed removal still counts");
    cluster.commit_proposals();
    assert_eq!(cluster.isr(), [0, 1]);
    assert!(cluster.acked(waiting));
    cluster.restart(2, false);
    cluster.settle();
    assert_eq!(cluster.isr(), [0, 1, 2]);
    cluster.check_converged();
}

#[test]
fn rule_6_a_refusal_ends_a_proposal_only_once_the_image_has_reached_it() {
    let mut cluster = led_by_0(1);
    cluster.crash(2, None);
    cluster.crash(1, None);
    cluster.fence(1);
    cluster.produce(0, Acks::Leader);
    cluster.flush(0);
    cluster.tick();
    cluster.now += LAG_MAX + Duration::from_millis(1);
    assert!(cluster.tick(), "it asks for an ISR without both, from before the fence");
    cluster.commit_proposal(0, false);
    assert_eq!(cluster.isr(), [0, 2], "the registration had changed: refused");
    assert!(!cluster.tick(), "no other proposal before the image shows why");
    cluster.deliver_image(0, 1);
    cluster.deliver_image(0, 10);
    assert!(cluster.tick(), "now it asks anew");
    cluster.commit_proposals();
    assert_eq!(cluster.isr(), [0]);
}

#[test]
fn rule_9_too_small_an_isr_refuses_and_fails_who_waits() {
    let mut cluster = led_by_0(2);
    let waiting = cluster.produce(0, Acks::All).expect("taken");
    for member in [1, 2] {
        cluster.crash(member, None);
        cluster.fence(member);
    }
    cluster.deliver_images();
    let too_few = PartitionError::NotEnoughReplicasAfterAppend.to_string();
    assert_eq!(cluster.failure(waiting), Some(too_few));
    assert_eq!(cluster.produce(0, Acks::All), None);
}

#[test]
fn rule_9_a_shrink_is_held_to_the_minimum_of_its_own_image() {
    let mut cluster = led_by_0(1);
    let waiting = cluster.produce(0, Acks::All).expect("taken");
    cluster.flush(0);
    cluster.set_min_insync(2);
    cluster.fence(1);
    cluster.fence(2);
    cluster.deliver_image(0, usize::MAX >> 1);
    assert!(!cluster.acked(waiting), "whoever is eligible outside the ISR has nothing of it");
    let too_few = PartitionError::NotEnoughReplicasAfterAppend.to_string();
    assert_eq!(cluster.failure(waiting), Some(too_few));
    assert_eq!(cluster.replica(0).expect("it runs").offsets().high_watermark.get(), 0);
}

#[test]
fn rule_9_a_new_leader_is_held_to_the_minimum_of_its_own_image() {
    let mut cluster = led_by_0(1);
    let value = cluster.produce(0, Acks::All).expect("taken");
    for _ in 0..12 {
        (0..cluster.links()).for_each(|which| cluster.step_link(which));
        cluster.flush(0);
        cluster.flush(1);
    }
    assert!(!cluster.acked(value), "node 2 has not flushed it");
    cluster.set_min_insync(2);
    cluster.fence(2);
    cluster.fence(0);
    cluster.deliver_image(1, usize::MAX >> 1);
    assert_eq!(cluster.leader(), Some(1));
    assert_eq!(cluster.isr(), [1]);
    assert_eq!(cluster.replica(1).expect("it runs").offsets().high_watermark.get(), 0, "nothing is committed by one");
}

#[test]
fn rule_12_a_new_leader_tells_no_latest_offset_before_its_epoch_is_committed() {
    let mut cluster = led_by_0(1);
    cluster.produce(0, Acks::All).expect("taken");
    for _ in 0..12 {
        (0..cluster.links()).for_each(|which| cluster.step_link(which));
        (0..3).for_each(|member| cluster.flush(member));
    }
    let end = cluster.replica(1).expect("it runs").offsets();
    assert_eq!(end.log_end.get(), 1);
    cluster.crash(0, None);
    cluster.fence(0);
    cluster.deliver_images();
    let replica = cluster.replica(1).expect("it runs");
    if replica.offsets().high_watermark.get() < 1 {
        assert!(matches!(replica.latest_offsets(), Err(PartitionError::OffsetNotAvailable)));
    }
    cluster.settle();
    assert_eq!(replica.latest_offsets().expect("committed by now").high_watermark.get(), 1);
}

#[test]
fn rule_13_followers_show_what_is_committed() {
    let mut cluster = led_by_0(2);
    cluster.produce(0, Acks::All).expect("taken");
    cluster.settle();
    for member in 0..3 {
        let replica = cluster.replica(member).expect("it runs");
        let read = replica.read(0, 1 << 20, true, false).expect("readable");
        assert_eq!(read.end.map(crate::ids::Offset::get), Some(1), "node {member}");
    }
}

#[test]
fn rule_14_a_leader_that_restarts_leads_in_a_new_epoch_only() {
    let mut cluster = led_by_0(2);
    let before = cluster.replica(0).expect("it runs").leading().expect("it leads");
    cluster.crash(0, Some(3));
    cluster.restart(0, false);
    cluster.deliver_images();
    let leader = cluster.leader().expect("somebody leads");
    assert!(cluster.replica(leader).expect("it runs").leading().expect("it leads") > before);
}

#[test]
fn rule_16_one_without_disk_space_leaves_at_once_and_comes_back() {
    let mut cluster = led_by_0(2);
    cluster.members[2].set_full(true);
    let value = cluster.produce(0, Acks::All).expect("taken");
    cluster.settle();
    assert!(cluster.acked(value), "it does not hold acknowledgements up");
    assert_eq!(cluster.isr(), [0, 1]);
    cluster.members[2].set_full(false);
    cluster.settle();
    assert_eq!(cluster.isr(), [0, 1, 2]);
    cluster.check_converged();
}

#[test]
fn rule_4_one_whose_log_ends_before_its_leaders_begins_starts_there() {
    let mut cluster = led_by_0(2);
    for _ in 0..3 {
        cluster.produce(0, Acks::All).expect("taken");
    }
    cluster.settle();
    cluster.crash(2, None);
    cluster.fence(2);
    cluster.deliver_images();
    for _ in 0..5 {
        cluster.produce(0, Acks::All).expect("taken");
    }
    cluster.settle();
    let leader = cluster.replica(0).expect("it runs");
    leader.log().delete_records(crate::ids::Offset::new(6)).expect("they are committed");
    cluster.restart(2, false);
    cluster.settle();
    assert_eq!(cluster.replica(2).expect("it runs").offsets().log_start.get(), 6);
    cluster.check_converged();
    assert_eq!(cluster.replica(1).expect("it runs").offsets().log_start.get(), 6, "and the others follow");
}

/// Steps everything until node 2 follows node 1. Its log never ends before `end`.
fn followed_by_2(cluster: &mut Cluster, end: i64) {
    for _ in 0..40 {
        cluster.connect();
        for which in 0..cluster.links() {
            cluster.step_link(which);
            let offsets = cluster.replica(2).expect("it runs").offsets();
            assert!(offsets.log_end.get() >= end && offsets.high_watermark.get() >= end, "{offsets:?}");
        }
        (0..3).for_each(|member| cluster.flush(member));
    }
}

#[test]
fn rule_3_a_member_of_the_isr_whose_records_are_all_deleted_keeps_its_end() {
    for restarts in [false, true] {
        let mut cluster = led_by_0(2);
        for _ in 0..5 {
            cluster.produce(0, Acks::All).expect("taken");
        }
        cluster.settle();
        // Its retention ran before that of the others.
        let deleted = cluster.replica(2).expect("it runs");
        deleted.log().delete_records(crate::ids::Offset::new(5)).expect("they are committed");
        assert_eq!(deleted.offsets().log_start.get(), 5);
        cluster.crash(0, None);
        cluster.fence(0);
        cluster.deliver_images();
        assert_eq!((cluster.leader(), cluster.isr()), (Some(1), vec![1, 2]));
        if restarts {
            cluster.members[2].maintain();
            cluster.crash(2, Some(1));
            cluster.restart(2, false);
            assert_eq!(cluster.isr(), [1, 2], "its folder is the same");
        }
        followed_by_2(&mut cluster, 5);
        cluster.crash(1, None);
        cluster.fence(1);
        cluster.deliver_images();
        assert_eq!(cluster.leader(), Some(2));
        cluster.produce(2, Acks::Leader).expect("taken");
        cluster.settle();
        let end = cluster.replica(2).expect("it runs").offsets().log_end.get();
        assert_eq!(end, 6, "no offset is given twice");
        cluster.restart(0, false);
        cluster.restart(1, false);
        cluster.settle();
        cluster.check_converged();
    }
}

#[test]
fn records_are_deleted_once_every_replica_that_is_alive_has_deleted_them() {
    let mut cluster = led_by_0(2);
    (0..5).for_each(|_| assert!(cluster.produce(0, Acks::All).is_some()));
    cluster.settle();
    let leader = cluster.replica(0).expect("it runs");
    let low = |alive: [i32; 2]| leader.low_watermark(|node| alive.contains(&node.get())).expect("it leads").get();
    assert_eq!(leader.delete_records(Offset::new(3)).expect("they are committed").get(), 3);
    run_without(&mut cluster, 2);
    assert_eq!((low([0, 1]), low([1, 2])), (3, 0), "node 2 heard nothing of it");
    cluster.settle();
    assert_eq!(low([1, 2]), 3);
    for member in 0..3 {
        assert_eq!(cluster.replica(member).expect("it runs").offsets().log_start.get(), 3, "node {member}");
    }
    let follower = cluster.replica(1).expect("it runs");
    assert!(matches!(follower.low_watermark(|_| true), Err(PartitionError::NotLeader)));
    assert!(matches!(follower.delete_records(Offset::new(4)), Err(PartitionError::NotLeader)));
}

#[test]
fn a_wiped_node_begins_anew_and_is_in_sync_only_then() {
    let mut cluster = led_by_0(2);
    let values: Vec<_> = (0..5).filter_map(|_| cluster.produce(0, Acks::All)).collect();
    cluster.settle();
    cluster.crash(1, None);
    cluster.restart(1, true);
    assert_eq!(cluster.isr(), [0, 2]);
    cluster.settle();
    assert!(values.iter().all(|value| cluster.acked(*value)));
    cluster.check_converged();
}

#[test]
fn rule_4_a_replica_begins_anew_where_its_leaders_log_starts_within_a_batch() {
    for kept in 1..=2 {
        let mut cluster = led_by_0(2);
        cluster.produce(0, Acks::All).expect("taken");
        cluster.produce_batch(0, Acks::All, 3).expect("taken");
        cluster.settle();
        cluster.expire(0, kept);
        cluster.crash(2, None);
        cluster.restart(2, true);
        let value = cluster.produce_batch(0, Acks::All, 2).expect("taken");
        cluster.settle();
        assert!(cluster.acked(value));
        cluster.check_converged();
        assert_eq!(cluster.replica(2).expect("it runs").offsets().log_start.get(), 4 - kept);
    }
}
