//! What each command does, and the rules of the replication design that apply keeps.

use super::image::DELETED_TOPICS;
use super::testing::{Cluster, ids, node};
use super::*;
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, ProducerId, TopicId};

fn topic_id(number: u128) -> TopicId {
    Cluster::topic_id(number)
}

/// A cluster of three nodes, and one topic of one partition on them.
fn orders(min_insync_replicas: u32) -> Cluster {
    let mut cluster = Cluster::of(3);
    cluster.create("orders", 1, &[&[0, 1, 2]], min_insync_replicas);
    cluster
}

#[test]
fn a_created_topic_is_led_by_its_first_replica_in_epoch_0() {
    let cluster = orders(1);
    let partition = cluster.partition("orders");
    assert_eq!(partition.leader, Some(NodeId::new(0)));
    assert_eq!(partition.leader_epoch, LeaderEpoch::FIRST);
    assert_eq!(partition.partition_epoch, PartitionEpoch::FIRST);
    assert_eq!(partition.isr, ids(&[0, 1, 2]));
    let image = cluster.0.image();
    let configs: Vec<_> = image.configs(&ConfigResource::Topic("orders".into())).collect();
    assert_eq!(configs, [("min.insync.replicas", "1")]);
}

#[test]
fn a_taken_name_or_a_bad_assignment_is_refused() {
    let mut cluster = orders(1);
    let new = |name: &str, id, assignment| {
        Command::CreateTopic(NewTopic { name: name.to_owned(), id: topic_id(id), assignment, configs: Vec::new() })
    };
    let cases = [
        (new("orders", 2, vec![ids(&[0])]), Refused::TopicExists),
        (new("others", 1, vec![ids(&[0])]), Refused::TopicExists),
        (new("others", 2, vec![]), Refused::InvalidAssignment),
        (new("others", 2, vec![ids(&[])]), Refused::InvalidAssignment),
        (new("others", 2, vec![ids(&[0, 0])]), Refused::InvalidAssignment),
        (new("others", 2, vec![ids(&[0]), ids(&[3])]), Refused::InvalidAssignment),
    ];
    for (command, refused) in cases {
        assert_eq!(cluster.apply(command.clone()).refused(), Some(refused), "{command:?}");
    }
    cluster.fence(2);
    assert_eq!(cluster.apply(new("others", 2, vec![ids(&[2])])).refused(), Some(Refused::InvalidAssignment));
}

#[test]
fn partitions_are_added_only_to_the_number_that_the_proposer_saw() {
    let mut cluster = orders(1);
    let add = |existing| Command::CreatePartitions {
        topic: topic_id(1),
        existing: PartitionIndex::new(existing),
        assignment: vec![ids(&[1])],
    };
    assert_eq!(cluster.apply(add(2)).refused(), Some(Refused::PartitionCountChanged));
    assert_eq!(cluster.apply(add(1)), Outcome::Done);
    assert_eq!(cluster.apply(add(1)).refused(), Some(Refused::PartitionCountChanged));
    assert_eq!(cluster.0.image().topic("orders").expect("created").partitions.len(), 2);
}

#[test]
fn a_deleted_topic_takes_its_settings_with_it() {
    let mut cluster = orders(1);
    assert_eq!(cluster.apply(Command::DeleteTopic(topic_id(1))), Outcome::Done);
    let image = cluster.0.image();
    assert!(image.topic("orders").is_none() && image.topic_by_id(topic_id(1)).is_none());
    assert_eq!(image.config_resources().count(), 0);
    assert_eq!(cluster.apply(Command::DeleteTopic(topic_id(1))).refused(), Some(Refused::UnknownTopic));
}

#[test]
fn the_newest_deletions_are_remembered_in_their_order() {
    let mut cluster = Cluster::of(1);
    let more = DELETED_TOPICS as u128 + 2;
    for number in 1..=more {
        cluster.create("t", number, &[&[0]], 1);
        assert_eq!(cluster.apply(Command::DeleteTopic(topic_id(number))), Outcome::Done);
    }
    let image = cluster.0.image();
    assert!(image.deleted_topics().eq((3..=more).map(topic_id)));
    let decoded = snapshot::decode(snapshot::encode(&image).into()).expect("what was encoded");
    assert!(decoded.deleted_topics().eq(image.deleted_topics()));
}

#[test]
fn producer_ids_come_in_blocks_that_never_overlap_and_only_for_the_current_registration() {
    let mut cluster = orders(1);
    let node = NodeId::new(1);
    let epoch = cluster.epoch(1);
    for first in [0, 1000, 2000] {
        let outcome = cluster.apply(Command::AllocateProducerIds { node, epoch });
        assert_eq!(outcome, Outcome::ProducerIds { first: ProducerId::new(first), count: 1000 });
    }
    cluster.register(testing::node(1), false);
    let outcome = cluster.apply(Command::AllocateProducerIds { node, epoch });
    assert_eq!(outcome.refused(), Some(Refused::StaleBrokerEpoch));
    let outcome = cluster.apply(Command::AllocateProducerIds { node: NodeId::new(9), epoch });
    assert_eq!(outcome.refused(), Some(Refused::UnknownNode));
}

#[test]
fn settings_of_an_unknown_topic_are_refused_and_removed_ones_are_gone() {
    let mut cluster = orders(1);
    let set = |resource, value: Option<&str>| Command::SetConfigs {
        resource,
        changes: vec![("retention.ms".to_owned(), value.map(str::to_owned))],
    };
    let unknown = ConfigResource::Topic("nothing".into());
    assert_eq!(cluster.apply(set(unknown, Some("1"))).refused(), Some(Refused::UnknownTopic));
    assert_eq!(cluster.apply(set(ConfigResource::BrokerDefault, Some("1"))), Outcome::Done);
    assert_eq!(cluster.0.image().config(&ConfigResource::BrokerDefault, "retention.ms"), Some("1"));
    assert_eq!(cluster.apply(set(ConfigResource::BrokerDefault, None)), Outcome::Done);
    assert!(!cluster.0.image().config_resources().any(|resource| *resource == ConfigResource::BrokerDefault));
}

#[test]
fn rule_8_a_lost_race_for_the_isr_is_refused() {
    let mut cluster = orders(1);
    let proposal = cluster.proposal("orders", &[0, 1]);
    assert_eq!(cluster.apply(Command::AlterPartition(proposal.clone())), Outcome::Done);
    assert_eq!(cluster.partition("orders").partition_epoch, PartitionEpoch::new(1));
    assert_eq!(cluster.partition("orders").leader_epoch, LeaderEpoch::FIRST, "an ISR change is no election");
    let stale = |change: AlterPartition, refused| (change, refused);
    let now = cluster.proposal("orders", &[0, 1, 2]);
    let cases = [
        stale(proposal, Refused::PartitionEpochChanged),
        stale(AlterPartition { leader_epoch: LeaderEpoch::new(1), ..now.clone() }, Refused::FencedLeaderEpoch),
        stale(AlterPartition { leader_broker_epoch: BrokerEpoch::FIRST, ..now.clone() }, Refused::StaleBrokerEpoch),
        stale(
            AlterPartition { leader: NodeId::new(1), leader_broker_epoch: cluster.epoch(1), ..now.clone() },
            Refused::FencedLeaderEpoch,
        ),
        stale(AlterPartition { isr: vec![], ..now.clone() }, Refused::InvalidIsr),
        stale(AlterPartition { isr: [now.isr[0]; 2].to_vec(), ..now.clone() }, Refused::InvalidIsr),
    ];
    for (change, outcome) in cases {
        assert_eq!(cluster.apply(Command::AlterPartition(change.clone())).refused(), Some(outcome), "{change:?}");
    }
}

#[test]
fn a_leader_that_asks_for_an_isr_without_itself_gives_the_partition_up_to_a_member() {
    let mut cluster = orders(2);
    let proposal = cluster.proposal("orders", &[1, 2]);
    assert_eq!(cluster.apply(Command::AlterPartition(proposal.clone())), Outcome::Done);
    let partition = cluster.partition("orders");
    assert_eq!((partition.leader, &partition.isr, &partition.elr), (Some(NodeId::new(1)), &ids(&[1, 2]), &ids(&[])));
    assert_eq!(partition.leader_broker_epoch, Some(cluster.epoch(1)));
    assert_eq!(partition.leader_epoch, LeaderEpoch::new(1));
    assert_eq!(cluster.apply(Command::AlterPartition(proposal)).refused(), Some(Refused::FencedLeaderEpoch), "once");

    cluster.begin_stop(1);
    assert_eq!(cluster.partition("orders").leader, Some(NodeId::new(2)));
    cluster.set_isr("orders", &[1]);
    let partition = cluster.partition("orders");
    assert_eq!(partition.leader, Some(NodeId::new(1)), "one that stops is better than none");
    assert_eq!((&partition.isr, &partition.elr), (&ids(&[1]), &ids(&[2])), "below the minimum it may lead again");
}

#[test]
fn rule_7_a_replica_joins_the_isr_only_in_its_current_registration() {
    let mut cluster = orders(1);
    cluster.set_isr("orders", &[0]);
    let proposal = cluster.proposal("orders", &[0, 1]);
    cluster.register(node(1), false);
    let outcome = cluster.apply(Command::AlterPartition(proposal));
    assert_eq!(outcome.refused(), Some(Refused::IneligibleReplica));
    cluster.fence(1);
    let outcome = cluster.apply(Command::AlterPartition(cluster.proposal("orders", &[0, 1])));
    assert_eq!(outcome.refused(), Some(Refused::IneligibleReplica));
}

#[test]
fn rule_10_lowering_the_minimum_empties_the_eligible_leaders_in_the_same_command() {
    let mut cluster = orders(2);
    cluster.set_isr("orders", &[0]);
    assert_eq!(cluster.partition("orders").elr, ids(&[1, 2]));
    let before = cluster.partition("orders").partition_epoch;
    cluster.apply(Command::SetConfigs {
        resource: ConfigResource::Topic("orders".into()),
        changes: vec![("min.insync.replicas".to_owned(), None)],
    });
    assert_eq!(cluster.partition("orders").elr, ids(&[]));
    assert_eq!(cluster.partition("orders").partition_epoch, before.next());
}

#[test]
fn rule_10_a_wiped_node_leaves_the_isr_and_the_eligible_leaders_before_it_is_alive() {
    let mut cluster = orders(2);
    cluster.set_isr("orders", &[0]);
    for id in [0, 1] {
        cluster.fence(id);
    }
    assert_eq!(cluster.partition("orders").leader, Some(NodeId::new(2)), "an eligible leader");
    cluster.fence(2);
    assert_eq!(cluster.partition("orders").leader, None);
    let wiped = Node { directory: uuid::Uuid::from_u128(99), ..node(2) };
    cluster.register(wiped, false);
    assert_eq!(cluster.partition("orders").leader, None, "its data is gone");
    assert!(!cluster.partition("orders").elr.contains(&NodeId::new(2)));
    cluster.register(node(0), false);
    assert_eq!(cluster.partition("orders").leader, Some(NodeId::new(0)));
    assert_eq!(cluster.partition("orders").isr, ids(&[0]));
}

#[test]
fn rule_10_after_an_unclean_stop_without_flushes_only_the_last_leader_may_lead_an_empty_isr() {
    let mut cluster = orders(1);
    cluster.set_isr("orders", &[0]);
    cluster.fence(0);
    assert_eq!((cluster.partition("orders").leader, cluster.partition("orders").elr), (None, ids(&[0])));
    cluster.register(node(1), true);
    assert_eq!(cluster.partition("orders").leader, None);
    cluster.register(node(0), true);
    assert_eq!(cluster.partition("orders").leader, Some(NodeId::new(0)), "the last leader with its old directory");
}

#[test]
fn rule_10_an_unclean_stop_without_flushes_gives_leadership_to_an_in_sync_replica() {
    let mut cluster = orders(1);
    cluster.register(node(0), true);
    assert_eq!(cluster.partition("orders").leader, Some(NodeId::new(1)));
    assert_eq!(cluster.partition("orders").isr, ids(&[1, 2]));
}

#[test]
fn rule_10_another_data_folder_waits_until_the_old_session_is_fenced() {
    let mut cluster = orders(1);
    let other = Node { directory: uuid::Uuid::from_u128(99), ..node(2) };
    assert_eq!(cluster.register(other.clone(), false).refused(), Some(Refused::NodeIdInUse));
    cluster.fence(2);
    assert!(matches!(cluster.register(other, false), Outcome::Registered(_)));
}

#[test]
fn rule_14_a_restarted_broker_never_resumes_a_leader_epoch() {
    let mut cluster = orders(1);
    let before = cluster.partition("orders");
    let Outcome::Registered(epoch) = cluster.register(node(0), false) else { panic!("the same data folder") };
    let after = cluster.partition("orders");
    assert_eq!(after.leader, before.leader);
    assert_eq!(after.leader_broker_epoch, Some(epoch));
    assert_eq!(after.leader_epoch, before.leader_epoch.next());
    assert_eq!(after.partition_epoch, before.partition_epoch.next());
    cluster.register(node(1), false);
    assert_eq!(cluster.partition("orders"), after, "node 1 leads nothing");
}

#[test]
fn a_fenced_leader_is_replaced_and_a_stale_fence_is_refused() {
    let mut cluster = orders(1);
    let stale = cluster.epoch(0);
    cluster.register(node(0), false);
    let outcome = cluster.apply(Command::FenceNode { node: NodeId::new(0), epoch: stale });
    assert_eq!(outcome.refused(), Some(Refused::StaleBrokerEpoch));
    cluster.fence(0);
    let partition = cluster.partition("orders");
    assert_eq!((partition.leader, partition.isr), (Some(NodeId::new(1)), ids(&[1, 2])));
}
