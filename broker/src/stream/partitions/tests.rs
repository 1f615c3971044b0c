//! How replicas follow images.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;

use super::*;
use crate::ids::{Offset, PartitionIndex};
use crate::io::disk::Disk as _;
use crate::log::Origin;
use crate::metadata::testing::InstantPlane;
use crate::metadata::{AlterPartition, Command, MetadataPlane, Move, NewTopic, Outcome};
use crate::stream::replication::{Extent, Followers, Marks, Reject, Session};
use crate::stream::testing::{NODE, Node, batch, broker_epoch};
use crate::stream::{Acks, PartitionError};

/// Notes the leaderships that it is told of.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl LeadershipListener for Heard {
    fn elected(&self, partition: &Arc<Partition>, epoch: LeaderEpoch) {
        self.0.lock().push(format!("elected {}-{} {epoch}", partition.topic(), partition.index()));
    }

    fn resigned(&self, topic: &str, partition: PartitionIndex) {
        self.0.lock().push(format!("resigned {topic}-{partition}"));
    }
}

#[test]
fn a_topics_partitions_are_found_by_name_and_by_id() {
    let node = Node::running();
    let id = node.create("t", 2);
    for index in 0..2 {
        let partition = node.partitions.by_name("t", index).expect("it was created");
        assert_eq!(partition.leading(), Some(LeaderEpoch::FIRST));
        let id = TopicPartition { topic: id, partition: PartitionIndex::new(index) };
        assert!(Arc::ptr_eq(&partition, &node.partitions.get(&id).expect("it was created")));
    }
    assert!(node.partitions.by_name("t", 2).is_none());
    assert!(node.partitions.by_name("t", -1).is_none());
    assert!(node.partitions.by_name("u", 0).is_none());
    assert_eq!(node.partitions.all().len(), 2);
}

#[test]
fn added_partitions_join_those_there_are() {
    let node = Node::running();
    let topic = node.create("t", 1);
    let before = node.partitions.by_name("t", 0).expect("it was created");
    let assignment = vec![vec![NODE]; 2];
    node.command(Command::CreatePartitions { topic, existing: PartitionIndex::new(1), assignment });
    assert_eq!(node.partitions.all().len(), 3);
    assert!(Arc::ptr_eq(&before, &node.partitions.by_name("t", 0).expect("it is still there")));
}

#[test]
fn a_deleted_topic_goes_with_its_logs_and_its_name_is_free() {
    let node = Node::running();
    let first = node.create("t", 1);
    let old = node.partitions.by_name("t", 0).expect("it was created");
    node.command(Command::DeleteTopic(first));
    assert!(node.partitions.by_name("t", 0).is_none());
    assert!(node.logs.logs().is_empty());
    let admission = crate::wal::Admission::unbounded();
    let late = old.append(batch(1), Acks::Leader, Origin::Client, admission);
    assert!(matches!(late, Err(PartitionError::NotLeader)));
    node.create("t", 1);
    let new = node.partitions.by_name("t", 0).expect("it was created again");
    assert_ne!(new.id().topic, first);
    assert_eq!(new.offsets().log_end.get(), 0);
}

#[test]
fn a_topic_deleted_and_made_again_between_two_images_is_a_new_one() {
    let node = Node::running();
    let first = node.create("t", 1);
    let id = TopicId::from_uuid(uuid::Uuid::from_u128(7)).expect("it is not nil");
    let again = crate::metadata::NewTopic { name: "t".to_owned(), id, assignment: vec![vec![NODE]], configs: vec![] };
    for command in [Command::DeleteTopic(first), Command::CreateTopic(again)] {
        node.plane.propose(command).now_or_never().expect("this plane applies at once").expect("it is there");
    }
    node.partitions.apply(&node.plane.image()).expect("it can be applied");
    assert_eq!(node.partitions.by_name("t", 0).expect("it was created again").id().topic, id);
    assert_eq!(node.logs.logs().len(), 1);
}

#[test]
fn an_image_from_before_this_process_registered_changes_nothing() {
    let node = Node::running();
    node.create("t", 1);
    let stale = node.plane.image();
    let registered = crate::metadata::testing::node(0);
    let again = Command::RegisterNode { node: registered, acked_may_be_lost: false };
    node.plane.propose(again).now_or_never().expect("this plane applies at once").expect("it is there");
    let epoch = broker_epoch(&node.plane);
    let (logs, wal) = (Arc::clone(&node.logs), Arc::clone(&node.wal));
    let restarted = Partitions::new(NODE, epoch, logs, wal, node.settings.clone());
    let empty = InstantPlane::new().image();
    for image in [&stale, &empty] {
        restarted.apply(image).expect("it is passed over");
        assert!(restarted.all().is_empty(), "it leads nothing");
        assert_eq!(node.logs.logs().len(), 1, "and deletes nothing");
    }
    restarted.apply(&node.plane.image()).expect("it can be applied");
    let partition = restarted.by_name("t", 0).expect("it is there");
    assert_eq!(partition.leading(), Some(LeaderEpoch::new(1)), "elected anew for the new registration");
}

#[test]
fn a_leadership_given_to_a_later_registration_is_not_taken() {
    let node = Node::running();
    let partition = node.partition("t");
    let registered = crate::metadata::testing::node(0);
    node.command(Command::RegisterNode { node: registered, acked_may_be_lost: false });
    assert_eq!(partition.leading(), None);
}

/// The replicas of the node after a restart, by a cluster's image of that moment.
fn restarted(node: &Node, plane: &InstantPlane) -> Arc<Partitions> {
    let (logs, wal) = (Arc::clone(&node.logs), Arc::clone(&node.wal));
    let restarted = Partitions::new(NODE, broker_epoch(plane), logs, wal, node.settings.clone());
    restarted.apply(&plane.image()).expect("it can be applied");
    restarted
}

/// The folders of a topic below `place`.
fn folders(node: &Node, place: &str, topic: &str) -> Vec<String> {
    let path = std::path::Path::new("data").join(place).join(topic);
    if !node.disk.exists(&path).expect("looked") {
        return vec![];
    }
    node.disk.list(&path).expect("there").into_iter().map(|entry| entry.name).collect()
}

#[test]
fn the_first_image_moves_logs_aside_that_it_does_not_know() {
    let node = Node::running();
    node.create("gone", 2);
    // The metadata of another cluster, or of this one from before.
    let partitions = restarted(&node, &InstantPlane::new());
    assert!(partitions.all().is_empty() && node.logs.logs().is_empty());
    assert_eq!(folders(&node, "stray", "gone").len(), 2, "what was not seen deleted is kept");
}

#[test]
fn what_was_taken_from_a_node_that_was_down_is_deleted_when_it_comes_back() {
    let node = Node::running();
    node.create("kept", 1);
    let (gone, moved) = (node.create("gone", 2), node.create("moved", 2));
    let propose = |command| {
        let outcome = node.plane.propose(command).now_or_never().expect("at once").expect("it is there");
        assert!(outcome.refused().is_none(), "{outcome:?}");
    };
    propose(Command::DeleteTopic(gone));
    let other = crate::metadata::testing::node(1);
    propose(Command::RegisterNode { node: other, acked_may_be_lost: false });
    let partition = TopicPartition { topic: moved, partition: PartitionIndex::FIRST };
    let to = NodeId::new(1);
    propose(Command::BeginReassignment(vec![Move { partition, target: vec![to], partition_epoch: None }]));
    let image = node.plane.image();
    let registration = image.partition(&partition).expect("it was created");
    let epoch = |node| image.node(node).expect("registered").epoch;
    propose(Command::AlterPartition(AlterPartition {
        partition,
        leader: NODE,
        leader_broker_epoch: epoch(NODE),
        leader_epoch: registration.leader_epoch,
        partition_epoch: registration.partition_epoch,
        isr: [NODE, to].map(|node| (node, epoch(node))).to_vec(),
    }));
    let partition_epoch = node.plane.image().partition(&partition).expect("it is there").partition_epoch;
    propose(Command::CompleteReassignment { partition, partition_epoch });
    let partitions = restarted(&node, &node.plane);
    assert!(partitions.by_name("kept", 0).is_some() && partitions.by_name("moved", 1).is_some());
    assert_eq!(node.logs.logs().len(), 2);
    for topic in ["gone", "moved"] {
        assert_eq!(folders(&node, "stray", topic), Vec::<String>::new(), "{topic}");
    }
    assert!(folders(&node, "wal", "gone").iter().all(|name| name.ends_with(".deleted")));
}

/// A node on whose disk a log of an unknown topic lies where topic `later` is to be.
fn in_the_way() -> Node {
    let node = Node::running();
    let topic = TopicId::from_uuid(uuid::Uuid::from_u128(7)).expect("it is not nil");
    let id = TopicPartition { topic, partition: PartitionIndex::FIRST };
    let log = node.logs.open_or_create("later", id, Arc::default()).expect("there is room");
    let admission = crate::wal::Admission::unbounded();
    log.append_as_leader(batch(1), LeaderEpoch::FIRST, Origin::Client, admission).expect("there is room");
    node.wal.sync_all().expect("it is written");
    assert_eq!(folders(&node, "wal", "later"), ["0"]);
    node
}

/// The disk has no room for the next folder below `stray`.
fn refuse_stray(node: &Node) {
    const ENOSPC: i32 = 28;
    node.disk.fail(crate::io::disk::sim::Operation::Create, "stray", 1, ENOSPC);
}

#[test]
fn a_replica_that_finds_no_room_is_offline_until_there_is_some_and_the_others_go_on() {
    let node = in_the_way();
    let heard = Arc::new(Heard::default());
    node.partitions.listen("later", Arc::clone(&heard) as _);
    let partitions = &node.partitions;
    // The first image has no room to move what lies there either.
    refuse_stray(&node);
    let before = node.partition("before");
    assert_eq!(folders(&node, "wal", "later"), ["0"]);
    refuse_stray(&node);
    let topic = node.create("later", 2);
    let id = TopicPartition { topic, partition: PartitionIndex::FIRST };
    assert!(partitions.get(&id).is_none() && partitions.is_offline(&id));
    assert!(before.leading().is_some() && partitions.by_name("later", 1).is_some());
    refuse_stray(&node);
    partitions.apply(&node.plane.image()).expect("it is tried again, in vain");
    assert!(partitions.has_offline());
    assert_eq!(folders(&node, "stray", "later"), Vec::<String>::new());
    assert_eq!(heard.take(), ["elected later-1 0"]);

    partitions.apply(&node.plane.image()).expect("it is tried again");
    assert!(!partitions.has_offline());
    assert_eq!(heard.take(), ["elected later-0 0"]);
    assert_eq!(folders(&node, "stray", "later").len(), 1, "what lay there is kept");
    let partition = partitions.get(&id).expect("there is room");
    assert_eq!(partition.offsets().log_end.get(), 0, "nothing of it is in the new one");
    let admission = crate::wal::Admission::unbounded();
    partition.append(batch(1), Acks::Leader, Origin::Client, admission).expect("it takes records");
}

/// Node 1, which is alive, replicates what this test makes.
const OTHER: NodeId = NodeId::new(1);

/// Makes a topic of one partition that this node leads and node 1 has, too.
fn shared(node: &Node, name: &str) -> TopicPartition {
    let other = crate::metadata::testing::node(OTHER.get());
    node.command(Command::RegisterNode { node: other, acked_may_be_lost: false });
    let topic = TopicId::from_uuid(uuid::Uuid::new_v4()).expect("a drawn id is not nil");
    let assignment = vec![vec![NODE, OTHER]];
    node.command(Command::CreateTopic(NewTopic { name: name.to_owned(), id: topic, assignment, configs: vec![] }));
    TopicPartition { topic, partition: PartitionIndex::FIRST }
}

fn leader(node: &Node, id: &TopicPartition) -> Option<NodeId> {
    node.plane.image().partition(id).expect("it was created").leader
}

#[tokio::test]
async fn what_is_offline_here_is_led_by_another_and_comes_back_when_there_is_room() {
    let node = in_the_way();
    refuse_stray(&node);
    node.partition("before");
    refuse_stray(&node);
    let id = shared(&node, "later");
    assert!(node.partitions.is_offline(&id));
    assert_eq!(leader(&node, &id), Some(NODE));
    let mut images = node.plane.subscribe();
    let led_elsewhere = images.wait_for(|image| image.partition(&id).is_some_and(|it| it.leader == Some(OTHER)));
    tokio::select! {
        () = crate::stream::give_up_offline(Arc::clone(&node.partitions), node.plane.clone()) => unreachable!("it goes on"),
        seen = led_elsewhere => drop(seen.expect("the plane is there")),
    }
    let registration = node.plane.image().partition(&id).cloned().expect("it is there");
    assert_eq!((&registration.isr, registration.leader_epoch), (&vec![OTHER], LeaderEpoch::new(1)));
    node.partitions.apply(&node.plane.image()).expect("it is tried again");
    let replica = node.partitions.get(&id).expect("there is room now");
    assert_eq!(replica.leading(), None, "it follows");
}

#[test]
fn an_offline_replica_that_nobody_else_has_stays_whose_it_is_and_an_offline_follower_holds_nobody_up() {
    let node = in_the_way();
    refuse_stray(&node);
    node.partition("before");
    refuse_stray(&node);
    let topic = node.create("later", 1);
    let id = TopicPartition { topic, partition: PartitionIndex::FIRST };
    assert!(node.partitions.is_offline(&id));
    let given_up = crate::stream::give_up_offline(Arc::clone(&node.partitions), node.plane.clone());
    assert!(given_up.now_or_never().is_none(), "it goes on looking");
    assert_eq!(leader(&node, &id), Some(NODE));
    let session = Session { epoch: LeaderEpoch::new(1), number: 1 };
    let appended = Followers::progress(
        &*node.partitions,
        id,
        session,
        Marks { high_watermark: Offset::FIRST, log_start: Offset::FIRST },
    );
    assert_eq!(appended, Err(Reject::DiskFull));
}

#[test]
fn a_leader_whose_disk_is_full_gives_the_partition_to_a_follower_that_has_all_of_it() {
    const FOR_EVER: Duration = Duration::from_hours(1);
    let node = Node::stepped();
    let id = shared(&node, "t");
    let partition = node.partitions.get(&id).expect("it was created");
    let append = || partition.append(batch(2), Acks::All, Origin::Client, crate::wal::Admission::unbounded());
    let wanted = || node.partitions.wanted_isr(&partition, Duration::ZERO, FOR_EVER);
    append().expect("there is room");
    node.flush();
    node.disk.set_capacity(Some(node.disk.used()));
    append().expect("it is taken");
    node.flush();
    assert_eq!(wanted(), None, "the follower has not got what is on the disk");
    let epoch = node.plane.image().node(OTHER).expect("registered").epoch;
    partition.acked(LeaderEpoch::FIRST, OTHER, epoch, Extent::upto(partition.offsets().flushed_end));
    let wanted = wanted().expect("the follower has all of it");
    assert_eq!(wanted.isr, [(OTHER, epoch)]);
    node.command(Command::AlterPartition(wanted));
    assert_eq!((leader(&node, &id), partition.leading()), (Some(OTHER), None));
}

#[test]
fn an_image_tries_an_offline_replica_once_though_it_changes_its_topic() {
    let node = in_the_way();
    refuse_stray(&node);
    node.partition("before");
    refuse_stray(&node);
    let topic = node.create("later", 1);
    assert!(node.partitions.has_offline());
    refuse_stray(&node);
    let assignment = vec![vec![NODE]];
    node.command(Command::CreatePartitions { topic, existing: PartitionIndex::new(1), assignment });
    assert!(node.partitions.has_offline(), "a second attempt would have found room");
    assert!(node.partitions.by_name("later", 1).is_some());
}

#[test]
fn a_topic_that_found_no_room_may_be_deleted() {
    let node = in_the_way();
    refuse_stray(&node);
    node.partition("before");
    refuse_stray(&node);
    let topic = node.create("later", 1);
    assert!(node.partitions.has_offline());
    node.command(Command::DeleteTopic(topic));
    assert!(!node.partitions.has_offline());
}

#[test]
fn listeners_are_told_what_there_is_and_then_each_change_in_order() {
    let node = Node::running();
    let heard = Arc::new(Heard::default());
    let topic = node.create("t", 2);
    node.partitions.listen("t", Arc::clone(&heard) as _);
    assert_eq!(heard.take(), ["elected t-0 0", "elected t-1 0"]);
    node.create("other", 1);
    assert_eq!(heard.take(), Vec::<String>::new());
    node.command(Command::DeleteTopic(topic));
    assert_eq!(heard.take(), ["resigned t-0", "resigned t-1"]);
    node.create("t", 1);
    assert_eq!(heard.take(), ["elected t-0 0"]);
    node.command(Command::FenceNode { node: NODE, epoch: broker_epoch(&node.plane) });
    assert_eq!(heard.take(), ["resigned t-0"]);
}

#[test]
fn changed_settings_reach_the_logs_of_their_topic() {
    let node = Node::running();
    let partition = node.partition("t");
    let other = node.partition("other");
    let config = Arc::new(LogConfig { max_message_bytes: 77, ..LogConfig::default() });
    *node.settings.log.lock() = config;
    node.settings.min_insync.store(1, Ordering::Relaxed);
    let changes = vec![("max.message.bytes".to_owned(), Some("77".to_owned()))];
    node.command(Command::SetConfigs { resource: ConfigResource::Topic("t".into()), changes: changes.clone() });
    assert_eq!(partition.log().config().max_message_bytes, 77);
    assert_ne!(other.log().config().max_message_bytes, 77);
    node.command(Command::SetConfigs { resource: ConfigResource::BrokerDefault, changes });
    assert_eq!(other.log().config().max_message_bytes, 77);
}

#[tokio::test]
async fn whoever_waits_for_an_image_sees_what_it_brought() {
    let node = Node::running();
    node.create("t", 1);
    let index = node.plane.image().index();
    node.partitions.applied(index).await;
    assert!(node.partitions.applied(index + 1).now_or_never().is_none());
}

#[test]
fn a_changed_minimum_is_that_of_the_reassignment_under_way() {
    let node = Node::stepped();
    let other = crate::metadata::testing::node(1);
    node.plane
        .propose(Command::RegisterNode { node: other, acked_may_be_lost: false })
        .now_or_never()
        .expect("this plane applies at once")
        .expect("it is there");
    let partition = node.partition("t");
    let target = crate::metadata::testing::ids(&[0, 1]);
    let moving = Command::BeginReassignment(vec![Move { partition: partition.id(), target, partition_epoch: None }]);
    node.plane.propose(moving).now_or_never().expect("this plane applies at once").expect("it is there");
    let changes = vec![("min.insync.replicas".to_owned(), Some("2".to_owned()))];
    node.command(Command::SetConfigs { resource: ConfigResource::Topic("t".into()), changes });
    let append = || partition.append(batch(1), Acks::All, Origin::Client, crate::wal::Admission::unbounded());
    append().expect("one replica was enough before, and is until the other is filled");
    let changes = vec![("min.insync.replicas".to_owned(), Some("3".to_owned()))];
    node.command(Command::SetConfigs { resource: ConfigResource::Topic("t".into()), changes });
    append().expect("it still is");
}

/// Two partitions of one topic, led here, with a follower on node 1 that is out of sync. Returns their identities.
fn two_partitions_with_a_follower(node: &Node) -> [TopicPartition; 2] {
    let propose = |command: Command| {
        node.plane.propose(command).now_or_never().expect("this plane applies at once").expect("it is there")
    };
    let other = crate::metadata::testing::node(1);
    let Outcome::Registered(epoch) = propose(Command::RegisterNode { node: other, acked_may_be_lost: false }) else {
        unreachable!("a new node registers")
    };
    let topic = TopicId::from_uuid(uuid::Uuid::from_u128(7)).expect("it is not nil");
    let assignment = vec![vec![NODE, NodeId::new(1)]; 2];
    propose(Command::CreateTopic(NewTopic { name: "t".to_owned(), id: topic, assignment, configs: vec![] }));
    propose(Command::FenceNode { node: NodeId::new(1), epoch });
    node.command(Command::UnfenceNode { node: NodeId::new(1), epoch });
    [0, 1].map(|index| TopicPartition { topic, partition: PartitionIndex::new(index) })
}

/// The follower has everything: the leader asks for it to join the ISR.
fn proposed_to_join(node: &Node, partition: &Partition) -> AlterPartition {
    let led = partition.led_for(NodeId::new(1)).expect("node 1 replicates it");
    let epoch = node.plane.image().node(NodeId::new(1)).expect("it is registered").epoch;
    partition.acked(led.epoch, NodeId::new(1), epoch, Extent::upto(partition.offsets().flushed_end));
    node.partitions.wanted_isr(partition, Duration::ZERO, Duration::MAX).expect("it is caught up")
}

#[test]
fn rule_6_a_snapshot_in_which_a_partition_has_not_changed_ends_no_proposal_of_it() {
    let node = Node::stepped();
    let [changed, proposed] = two_partitions_with_a_follower(&node);
    let partition = node.partitions.get(&proposed).expect("it was created");
    let proposal = proposed_to_join(&node, &partition);
    let other = proposed_to_join(&node, &node.partitions.get(&changed).expect("it was created"));
    node.plane.propose(Command::AlterPartition(other)).now_or_never().expect("at once").expect("it is there");
    let snapshot = crate::metadata::snapshot::encode(&node.plane.image());
    let image = Arc::new(crate::metadata::snapshot::decode(snapshot.into()).expect("just encoded"));
    node.partitions.apply(&image).expect("it can be applied");
    assert!(partition.is_open(&proposal), "Raft may have committed it behind the snapshot");
    let unbounded = crate::wal::Admission::unbounded();
    partition.append(batch(1), Acks::All, Origin::Client, unbounded).expect("it is taken");
    node.flush();
    assert_eq!(partition.offsets().high_watermark.get(), 0, "the follower counts, and has nothing of it");
}

/// Ten thousand partitions: the image that brings them, and one that changes a topic among them. Measured, not bounded:
/// `cargo test --lib ten_thousand -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn ten_thousand_partitions_are_brought_up() {
    let node = Node::running();
    let start = std::time::Instant::now();
    for topic in 0..100 {
        let id = TopicId::from_uuid(uuid::Uuid::from_u128(topic + 1)).expect("it is not nil");
        let new = crate::metadata::NewTopic {
            name: format!("t{topic}"),
            id,
            assignment: vec![vec![NODE]; 100],
            configs: vec![],
        };
        node.plane.propose(Command::CreateTopic(new)).now_or_never().expect("at once").expect("it is there");
    }
    println!("10,000 partitions proposed: {:?}", start.elapsed());
    for round in ["made", "opened again"] {
        let (logs, wal) = (Arc::clone(&node.logs), Arc::clone(&node.wal));
        let partitions = Partitions::new(NODE, broker_epoch(&node.plane), logs, wal, node.settings.clone());
        let start = std::time::Instant::now();
        partitions.apply(&node.plane.image()).expect("it can be applied");
        println!("10,000 partitions {round}: {:?}", start.elapsed());
        assert_eq!(partitions.all().len(), 10_000);
    }
    node.partitions.apply(&node.plane.image()).expect("it can be applied");
    let start = std::time::Instant::now();
    node.create("one-more", 1);
    println!("one more topic: {:?}", start.elapsed());
}
