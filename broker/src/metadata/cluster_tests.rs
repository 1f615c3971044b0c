//! What the commands of a cluster of many nodes do: stops, reassignments, drains, elections, leases, versions.

use super::testing::{Cluster, ids, node};
use super::*;
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, TopicPartition};

/// Five nodes, and a topic of one partition on the first three.
fn orders(min_insync_replicas: u32) -> Cluster {
    let mut cluster = Cluster::of(5);
    cluster.create("orders", 1, &[&[0, 1, 2]], min_insync_replicas);
    cluster
}

fn one(outcome: Result<(), Refused>) -> Outcome {
    Outcome::Partitions(vec![outcome])
}

fn prepare_stop(cluster: &mut Cluster, id: i32) -> Option<Refused> {
    let epoch = cluster.epoch(id);
    cluster.apply(Command::PrepareStop { node: NodeId::new(id), epoch }).refused()
}

fn unregister(cluster: &mut Cluster, id: i32, only_if_empty: bool) -> Option<Refused> {
    cluster.apply(Command::UnregisterNode { node: NodeId::new(id), only_if_empty }).refused()
}

fn cancel(cluster: &mut Cluster) -> Outcome {
    let partition = cluster.first_of("orders");
    cluster.apply(Command::CancelReassignment(vec![partition]))
}

fn elect(cluster: &mut Cluster, kind: ElectionKind) -> Outcome {
    let partitions = vec![cluster.first_of("orders")];
    cluster.apply(Command::ElectLeaders { kind, partitions })
}

#[test]
fn rule_6_a_refusal_names_the_index_that_an_image_must_reach_to_show_its_reason() {
    let mut cluster = orders(1);
    let stale = cluster.proposal("orders", &[0, 1]);
    cluster.set_isr("orders", &[0, 2]);
    let index = cluster.image().index() + 1;
    let outcome = cluster.apply(Command::AlterPartition(stale));
    assert_eq!(outcome, Outcome::Refused { why: Refused::PartitionEpochChanged, index });
}

#[test]
fn a_node_that_was_fenced_and_is_heard_again_keeps_its_registration_and_leads_what_was_offline() {
    let mut cluster = orders(1);
    cluster.set_isr("orders", &[0]);
    let led = cluster.partition("orders");
    cluster.fence(0);
    assert_eq!(cluster.partition("orders").leader, None);
    let epoch = cluster.epoch(0);
    cluster.unfence(0);
    let again = cluster.partition("orders");
    assert_eq!((again.leader, again.leader_broker_epoch), (Some(NodeId::new(0)), Some(epoch)));
    assert!(again.leader_epoch > led.leader_epoch, "what it led in before is over");
    let newer = BrokerEpoch::new(epoch.get() + 1);
    let outcome = cluster.apply(Command::UnfenceNode { node: NodeId::new(0), epoch: newer });
    assert_eq!(outcome.refused(), Some(Refused::StaleBrokerEpoch));
}

#[test]
fn a_node_is_unregistered_only_if_no_partition_needs_it() {
    let mut cluster = orders(1);
    assert_eq!(unregister(&mut cluster, 3, true), Some(Refused::NodeAlive));
    cluster.fence(3);
    assert_eq!(unregister(&mut cluster, 3, true), None);
    assert!(cluster.image().node(NodeId::new(3)).is_none());
    assert_eq!(unregister(&mut cluster, 3, true), Some(Refused::UnknownNode));
    cluster.fence(0);
    assert_eq!(unregister(&mut cluster, 0, true), Some(Refused::NodeNotEmpty));
    assert_eq!(unregister(&mut cluster, 0, false), None, "others have what it had");
    cluster.set_isr("orders", &[1]);
    assert_eq!(unregister(&mut cluster, 1, false), Some(Refused::NodeNotEmpty), "the last copy");
}

#[test]
fn an_unregistered_nodes_data_does_not_count_when_it_comes_back() {
    let mut cluster = orders(2);
    cluster.set_isr("orders", &[0]);
    assert_eq!(cluster.partition("orders").elr, ids(&[1, 2]));
    assert_eq!(unregister(&mut cluster, 1, false), None);
    cluster.register(node(1), false);
    assert_eq!(cluster.partition("orders").elr, ids(&[2]));
}

#[test]
fn one_node_stops_at_a_time_and_its_leaders_stay_away_until_it_registers_again() {
    let mut cluster = orders(2);
    let epoch = cluster.partition("orders").leader_epoch;
    assert_eq!(prepare_stop(&mut cluster, 0), None);
    let moved = cluster.partition("orders");
    assert_eq!((moved.leader, moved.leader_epoch), (Some(NodeId::new(1)), epoch.next()));
    assert_eq!(moved.isr, ids(&[0, 1, 2]), "it holds nothing up while it runs");
    assert_eq!(prepare_stop(&mut cluster, 3), Some(Refused::AnotherStop));
    let not_available = one(Err(Refused::PreferredLeaderNotAvailable));
    assert_eq!(elect(&mut cluster, ElectionKind::Preferred), not_available);
    cluster.fence(0);
    assert_eq!(prepare_stop(&mut cluster, 3), Some(Refused::AnotherStop), "it is not back yet");
    cluster.register(node(0), false);
    assert_eq!(cluster.image().stop_grant(), None);
    assert_eq!(prepare_stop(&mut cluster, 3), None);
}

#[test]
fn a_stop_that_would_take_a_partition_below_its_minimum_is_refused() {
    let mut cluster = orders(2);
    cluster.set_isr("orders", &[0, 1]);
    let before = cluster.partition("orders");
    assert_eq!(prepare_stop(&mut cluster, 0), Some(Refused::UnsafeStop));
    assert_eq!((cluster.partition("orders"), cluster.image().stop_grant()), (before, None));
    cluster.begin_stop(0);
    assert_eq!(cluster.partition("orders").leader, Some(NodeId::new(1)), "a signal is no question");
}

#[test]
fn a_stop_that_did_not_happen_is_taken_back() {
    let mut cluster = orders(2);
    assert_eq!(prepare_stop(&mut cluster, 0), None);
    let (stopping, epoch) = (NodeId::new(0), cluster.epoch(0));
    cluster.done(Command::EndStop { node: stopping, epoch });
    let image = cluster.image();
    assert_eq!((image.stop_grant(), image.node(stopping).map(|node| node.stopping)), (None, Some(false)));
    assert_eq!(elect(&mut cluster, ElectionKind::Preferred), one(Ok(())));
    cluster.register(node(0), false);
    let outcome = cluster.apply(Command::EndStop { node: stopping, epoch });
    assert_eq!(outcome.refused(), Some(Refused::StaleBrokerEpoch));
}

#[test]
fn elections_answer_each_partition_by_itself() {
    let mut cluster = orders(1);
    let nothing = TopicPartition { topic: Cluster::topic_id(9), ..cluster.first_of("orders") };
    let partitions = vec![nothing, cluster.first_of("orders")];
    let outcome = cluster.apply(Command::ElectLeaders { kind: ElectionKind::Preferred, partitions });
    assert_eq!(outcome, Outcome::Partitions(vec![Err(Refused::UnknownTopic), Err(Refused::ElectionNotNeeded)]));
}

#[test]
fn rule_11_an_unclean_election_ends_an_outage_and_starts_over_with_one_replica() {
    let mut cluster = orders(1);
    cluster.set_isr("orders", &[0]);
    assert_eq!(elect(&mut cluster, ElectionKind::Unclean), one(Err(Refused::ElectionNotNeeded)));
    cluster.fence(0);
    assert_eq!(cluster.partition("orders").leader, None);
    assert_eq!(elect(&mut cluster, ElectionKind::Unclean), one(Ok(())));
    let partition = cluster.partition("orders");
    assert_eq!((partition.leader, partition.isr), (Some(NodeId::new(1)), ids(&[1])));
    assert_eq!(partition.elr, ids(&[]), "who was the last in sync is not any more");
}

#[test]
fn rule_15_replicas_are_the_target_and_the_original_while_it_runs() {
    let mut cluster = orders(2);
    assert_eq!(cluster.reassign("orders", &[3, 0]), one(Ok(())));
    let moving = cluster.partition("orders");
    assert_eq!(moving.replicas, ids(&[3, 0, 1, 2]));
    assert_eq!(moving.adding().collect::<Vec<_>>(), ids(&[3]));
    assert_eq!(moving.removing().collect::<Vec<_>>(), ids(&[1, 2]));
    assert_eq!((moving.leader, moving.leader_epoch), (Some(NodeId::new(0)), LeaderEpoch::FIRST), "nobody left yet");
}

#[test]
fn rule_15_completing_needs_the_added_replicas_in_sync_and_the_minimum_of_the_target() {
    let mut cluster = orders(2);
    cluster.reassign("orders", &[3, 4, 0]);
    cluster.set_isr("orders", &[0, 1, 2, 3]);
    assert_eq!(cluster.complete("orders").refused(), Some(Refused::NotEnoughInSync), "node 4 is not in sync");
    cluster.set_isr("orders", &[0, 3, 4]);
    assert_eq!(cluster.complete("orders"), Outcome::Done);
    let done = cluster.partition("orders");
    assert_eq!((&done.replicas, &done.isr, done.reassignment.is_none()), (&ids(&[3, 4, 0]), &ids(&[0, 3, 4]), true));
    assert_eq!((done.leader, done.leader_epoch), (Some(NodeId::new(0)), LeaderEpoch::new(1)));
    assert_eq!(cluster.complete("orders").refused(), Some(Refused::NoReassignment));
}

#[test]
fn rule_10_a_move_to_fewer_replicas_that_lowers_the_minimum_empties_the_elr() {
    let mut cluster = Cluster::of(5);
    cluster.create("pairs", 2, &[&[0, 1]], 2);
    cluster.fence(1);
    assert_eq!((cluster.partition("pairs").isr, cluster.partition("pairs").elr), (ids(&[0]), ids(&[1])));
    assert_eq!(cluster.reassign("pairs", &[0, 2, 3]), one(Ok(())));
    assert_eq!(cluster.partition("pairs").elr, ids(&[1]), "two are still asked for");
    assert_eq!(cluster.reassign("pairs", &[3]), one(Ok(())));
    let moving = cluster.partition("pairs");
    assert_eq!((moving.minimum_isr(2), moving.isr, moving.elr), (1, ids(&[0]), ids(&[])), "0 acknowledges alone");
}

#[test]
fn rule_15_a_leader_that_is_removed_is_replaced_from_the_target() {
    let mut cluster = orders(1);
    cluster.reassign("orders", &[3, 4]);
    cluster.set_isr("orders", &[0, 3, 4]);
    assert_eq!(cluster.complete("orders"), Outcome::Done);
    let done = cluster.partition("orders");
    assert_eq!((done.leader, done.isr), (Some(NodeId::new(3)), ids(&[3, 4])));
    assert_eq!((done.leader_epoch, done.last_leader), (LeaderEpoch::new(1), Some(NodeId::new(3))));
}

#[test]
fn rule_15_cancelling_goes_back_to_the_original_replicas_in_their_order() {
    let mut cluster = orders(2);
    cluster.reassign("orders", &[4, 3, 2]);
    cluster.set_isr("orders", &[0, 1, 3]);
    assert_eq!(cancel(&mut cluster), one(Ok(())));
    let partition = cluster.partition("orders");
    assert_eq!((partition.replicas, partition.isr), (ids(&[0, 1, 2]), ids(&[0, 1])));
    assert_eq!(partition.leader_epoch, LeaderEpoch::new(1), "node 3 may not go on in the old one");
    assert_eq!(cancel(&mut cluster), one(Err(Refused::NoReassignment)));
}

#[test]
fn rule_15_cancelling_is_refused_where_only_the_new_replicas_are_in_sync() {
    let mut cluster = orders(2);
    cluster.reassign("orders", &[3, 4]);
    cluster.set_isr("orders", &[0, 3, 4]);
    let before = cluster.partition("orders");
    assert_eq!(cancel(&mut cluster), one(Err(Refused::NotEnoughInSync)));
    assert_eq!(cluster.partition("orders"), before);
}

#[test]
fn rule_15_a_new_target_keeps_the_replicas_of_the_old_one_until_it_is_done() {
    let mut cluster = orders(1);
    cluster.reassign("orders", &[3]);
    cluster.set_isr("orders", &[0, 3]);
    assert_eq!(cluster.reassign("orders", &[4]), one(Ok(())));
    let moving = cluster.partition("orders");
    assert_eq!(moving.replicas, ids(&[4, 3, 0, 1, 2]));
    assert_eq!(moving.removing().collect::<Vec<_>>(), ids(&[3, 0, 1, 2]));
    assert_eq!(cancel(&mut cluster), one(Ok(())));
    assert_eq!(cluster.partition("orders").replicas, ids(&[0, 1, 2]));
}

#[test]
fn a_target_in_another_order_only_changes_who_is_preferred() {
    let mut cluster = orders(1);
    assert_eq!(cluster.reassign("orders", &[2, 1, 0]), one(Ok(())));
    let partition = cluster.partition("orders");
    assert_eq!((&partition.replicas, partition.reassignment.is_none()), (&ids(&[2, 1, 0]), true));
    assert_eq!((partition.leader, partition.leader_epoch), (Some(NodeId::new(0)), LeaderEpoch::FIRST));
}

#[test]
fn a_target_that_is_empty_doubled_or_unknown_is_refused() {
    let mut cluster = orders(1);
    for target in [&[][..], &[0, 0], &[0, 9]] {
        assert_eq!(cluster.reassign("orders", target), one(Err(Refused::InvalidAssignment)), "{target:?}");
    }
    let stale = Move {
        partition: cluster.first_of("orders"),
        target: ids(&[3]),
        partition_epoch: Some(cluster.partition("orders").partition_epoch.next()),
    };
    let outcome = cluster.apply(Command::BeginReassignment(vec![stale]));
    assert_eq!(outcome, one(Err(Refused::PartitionEpochChanged)));
}

#[test]
fn a_replica_that_is_added_does_not_raise_the_minimum_before_it_is_in_sync() {
    let mut cluster = Cluster::of(2);
    cluster.create("orders", 1, &[&[0]], 2);
    cluster.reassign("orders", &[0, 1]);
    let moving = cluster.partition("orders");
    assert_eq!(moving.minimum_isr(2), 1, "one replica acknowledges as before");
    cluster.set_isr("orders", &[0, 1]);
    assert_eq!(cluster.complete("orders"), Outcome::Done);
    assert_eq!(cluster.partition("orders").minimum_isr(2), 2);
}

#[test]
fn a_drain_needs_nodes_for_every_replica_and_is_noted_once() {
    let mut cluster = orders(1);
    let drain = |cluster: &mut Cluster, id| cluster.apply(Command::BeginDrain(NodeId::new(id))).refused();
    assert_eq!(drain(&mut cluster, 9), Some(Refused::UnknownNode));
    assert_eq!(drain(&mut cluster, 3), None);
    assert_eq!(drain(&mut cluster, 0), None);
    assert_eq!(drain(&mut cluster, 0), None, "it goes on");
    assert_eq!(drain(&mut cluster, 1), Some(Refused::TooFewNodes), "three replicas on two nodes");
    assert_eq!(cluster.image().drain(NodeId::new(0)), Some(Drain { partitions: 1 }));
    let names: Vec<_> = cluster.image().too_wide_without(NodeId::new(1)).map(|topic| topic.name.to_string()).collect();
    assert_eq!(names, ["orders"]);
}

#[test]
fn a_drain_that_is_cancelled_takes_moves_back_where_that_is_possible() {
    let mut cluster = orders(1);
    cluster.create("others", 2, &[&[0]], 1);
    cluster.done(Command::BeginDrain(NodeId::new(0)));
    cluster.reassign("orders", &[3, 1, 2]);
    cluster.reassign("others", &[4]);
    cluster.set_isr("others", &[0, 4]);
    cluster.fence(0);
    cluster.done(Command::CancelDrain(NodeId::new(0)));
    assert_eq!(cluster.partition("orders").replicas, ids(&[0, 1, 2]));
    assert!(cluster.partition("others").reassignment.is_some(), "only node 4 is in sync: it goes on");
    let again = cluster.apply(Command::CancelDrain(NodeId::new(0)));
    assert_eq!(again.refused(), Some(Refused::NotDraining));
}

#[test]
fn what_an_operator_proposes_under_an_older_lease_is_refused() {
    let mut cluster = orders(1);
    let acquire = |cluster: &mut Cluster, holder: &str| {
        let Outcome::Leased(epoch) = cluster.apply(Command::AcquireOperatorLease { holder: holder.to_owned() }) else {
            panic!("nothing refuses a lease")
        };
        epoch
    };
    let under = |epoch| Command::UnderLease { epoch, command: Box::new(Command::BeginDrain(NodeId::new(3))) };
    assert_eq!(cluster.apply(under(0)).refused(), Some(Refused::StaleOperatorLease), "nobody has a lease");
    let old = acquire(&mut cluster, "operator-a");
    let new = acquire(&mut cluster, "operator-b");
    assert!(new > old);
    assert_eq!(cluster.apply(under(old)).refused(), Some(Refused::StaleOperatorLease));
    assert_eq!(cluster.image().drain(NodeId::new(3)), None);
    cluster.done(under(new));
    let outcome =
        cluster.apply(Command::UnderLease { epoch: new, command: Box::new(Command::CancelDrain(NodeId::new(4))) });
    assert_eq!(outcome.refused(), Some(Refused::NotDraining), "the command's own reason");
}

#[test]
fn the_cluster_version_goes_up_only_as_far_as_every_node_understands() {
    let mut cluster = Cluster::of(1);
    let version = |number| ClusterVersion::new(number).expect("not 0");
    let newer = Node { newest_version: version(7), ..node(0) };
    cluster.register(newer.clone(), false);
    cluster.done(Command::SetClusterVersion(version(7)));
    let refused = |cluster: &mut Cluster, number| cluster.apply(Command::SetClusterVersion(version(number))).refused();
    assert_eq!(refused(&mut cluster, 8), Some(Refused::UnsupportedClusterVersion));
    assert_eq!(refused(&mut cluster, 6), Some(Refused::UnsupportedClusterVersion), "it never goes back");
    let older = cluster.register(Node { newest_version: version(6), ..node(1) }, false);
    assert_eq!(older.refused(), Some(Refused::UnsupportedClusterVersion));
    assert_eq!(cluster.image().cluster_version(), version(7));
}

#[test]
fn the_throttle_is_for_the_whole_cluster() {
    let mut cluster = Cluster::of(1);
    cluster.done(Command::SetThrottle(Some(1 << 20)));
    assert_eq!(cluster.image().reassignment_throttle(), Some(1 << 20));
    cluster.done(Command::SetThrottle(None));
    assert_eq!(cluster.image().reassignment_throttle(), None);
}
