//! The rules of one replica on a real log and WAL, whose flushes happen when the test says so.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::*;
use crate::ids::{BrokerEpoch, ProducerEpoch, ProducerId};
use crate::log::{AppendError, BatchBuilder, Compression, EpochStart, LogListener, Origin, ReadError};
use crate::metadata::{Command, PartitionRegistration, Reassignment};
use crate::stream::DataWaiter;
use crate::stream::replication::{AckSink, CanonicalRecord, Elected, Extent, Led, Marks, Reject, Session, Tail};
use crate::stream::testing::{NODE, Node, Told, batch, broker_epoch, changed, follow, lead, lead_with, registration};
use crate::wal::Admission;

fn append(partition: &Partition, acks: Acks, records: usize) -> Result<Accepted, PartitionError> {
    partition.append(batch(records), acks, Origin::Client, Admission::unbounded())
}

/// Appends two records and waits for them in this slot.
fn append_and_ask(partition: &Partition, acks: Acks, told: &Arc<Told>, slot: u32) -> Accepted {
    let accepted = append(partition, acks, 2).expect("it is taken");
    partition.when_acked(&accepted, acks, Arc::clone(told) as _, slot);
    accepted
}

fn acknowledged(slots: &[u32]) -> Vec<(u32, String)> {
    slots.iter().map(|slot| (*slot, "acknowledged".to_owned())).collect()
}

fn failed(slot: u32, error: &PartitionError) -> Vec<(u32, String)> {
    vec![(slot, error.to_string())]
}

#[test]
fn acks_1_and_acks_all_both_wait_for_the_flush() {
    let node = Node::stepped();
    let partition = node.partition("t");
    let told = Arc::new(Told::default());
    append_and_ask(&partition, Acks::Leader, &told, 0);
    append_and_ask(&partition, Acks::All, &told, 1);
    assert_eq!(told.settled(), []);
    assert_eq!(partition.offsets().high_watermark.get(), 0);
    node.flush();
    assert_eq!(told.settled(), acknowledged(&[0, 1]));
    assert_eq!(partition.offsets().high_watermark.get(), 4);
}

#[test]
fn what_is_flushed_already_is_acknowledged_at_once() {
    let node = Node::stepped();
    let partition = node.partition("t");
    let told = Arc::new(Told::default());
    let accepted = append(&partition, Acks::All, 2).expect("it is taken");
    node.flush();
    partition.when_acked(&accepted, Acks::All, Arc::clone(&told) as _, 7);
    assert_eq!(told.settled(), acknowledged(&[7]));
}

#[test]
fn acks_all_waits_for_every_member_of_the_isr_and_acks_1_for_none() {
    let node = Node::stepped();
    let partition = node.partition("t");
    lead(&partition, &registration(1, &[0, 1], &[0, 1]));
    let told = Arc::new(Told::default());
    append_and_ask(&partition, Acks::Leader, &told, 0);
    append_and_ask(&partition, Acks::All, &told, 1);
    node.flush();
    assert_eq!(told.settled(), acknowledged(&[0]));
    lead(&partition, &changed(registration(1, &[0, 1], &[0])));
    assert_eq!(told.settled(), acknowledged(&[0, 1]), "the follower has left the ISR, and one is the minimum");
}

#[test]
fn too_small_an_isr_is_refused_before_the_append() {
    let node = Node::stepped();
    let partition = node.partition("t");
    lead(&partition, &registration(1, &[0, 1], &[0]));
    partition.configure(partition.log().config(), 2);
    assert!(matches!(append(&partition, Acks::All, 1), Err(PartitionError::NotEnoughReplicas)));
    assert_eq!(partition.offsets().log_end.get(), 0, "nothing was appended");
    assert!(append(&partition, Acks::Leader, 1).is_ok());
}

#[test]
fn fewer_replicas_than_the_minimum_are_enough() {
    let node = Node::stepped();
    node.settings.min_insync.store(3, Ordering::Relaxed);
    let partition = node.partition("t");
    assert!(append(&partition, Acks::All, 1).is_ok());
}

#[test]
fn rule_9_replicas_that_are_still_being_filled_do_not_raise_the_minimum() {
    let node = Node::stepped();
    let partition = node.partition("t");
    lead_with(&partition, &registration(1, &[0], &[0]), 2);
    let ids = crate::metadata::testing::ids;
    let moving = Reassignment { original: ids(&[0]), target: ids(&[0, 1, 2]) };
    let moved =
        PartitionRegistration { reassignment: Some(Box::new(moving)), ..changed(registration(1, &[0, 1, 2], &[0])) };
    let told = Arc::new(Told::default());
    append_and_ask(&partition, Acks::All, &told, 0);
    lead_with(&partition, &moved, 2);
    append_and_ask(&partition, Acks::All, &told, 1);
    node.flush();
    assert_eq!(told.settled(), acknowledged(&[0, 1]));
    lead_with(&partition, &changed(changed(registration(1, &[0, 1, 2], &[0]))), 2);
    assert!(matches!(append(&partition, Acks::All, 1), Err(PartitionError::NotEnoughReplicas)), "now there are three");
}

#[test]
fn an_isr_that_shrinks_below_the_minimum_fails_those_who_wait() {
    let node = Node::stepped();
    let partition = node.partition("t");
    lead_with(&partition, &registration(1, &[0, 1], &[0, 1]), 2);
    let told = Arc::new(Told::default());
    append_and_ask(&partition, Acks::All, &told, 0);
    node.flush();
    lead_with(&partition, &changed(registration(1, &[0, 1], &[0])), 2);
    assert_eq!(told.settled(), failed(0, &PartitionError::NotEnoughReplicasAfterAppend));
    assert_eq!(partition.offsets().high_watermark.get(), 0, "and nothing is committed");
}

#[test]
fn rule_6_a_registration_that_is_known_already_ends_no_proposal() {
    let node = Node::stepped();
    let partition = node.partition("t");
    let follower = NodeId::new(1);
    let known = registration(1, &[0, 1], &[0]);
    lead(&partition, &known);
    partition.acked(known.leader_epoch, follower, BrokerEpoch::FIRST, Extent::upto(Offset::FIRST));
    let proposed = |partition: &Partition| {
        let mut progress = partition.progress.lock();
        progress.isr.propose(&[NODE, follower]);
        progress.membership.propose(known.partition_epoch);
    };
    proposed(&partition);
    lead(&partition, &known);
    assert!(partition.progress.lock().membership.is_open(known.partition_epoch));
    append(&partition, Acks::All, 1).expect("it is taken");
    node.flush();
    assert_eq!(partition.offsets().high_watermark.get(), 0, "who may have joined counts");
    lead(&partition, &changed(known.clone()));
    assert!(!partition.progress.lock().membership.is_open(known.partition_epoch), "the registration is its outcome");
    assert_eq!(partition.offsets().high_watermark.get(), 1);
}

#[test]
fn the_end_of_an_epoch_fails_its_waiters() {
    let node = Node::stepped();
    let partition = node.partition("t");
    let told = Arc::new(Told::default());
    append_and_ask(&partition, Acks::All, &told, 0);
    node.command(Command::FenceNode { node: NODE, epoch: broker_epoch(&node.plane) });
    assert_eq!(told.settled(), failed(0, &PartitionError::NotLeader));
    assert!(matches!(append(&partition, Acks::Leader, 1), Err(PartitionError::NotLeader)));
    node.flush();
    assert_eq!(told.settled().len(), 1, "a flush after that tells nobody");
}

#[test]
fn an_append_of_an_earlier_epoch_is_never_acknowledged_by_a_later_one() {
    let node = Node::stepped();
    let partition = node.partition("t");
    let told = Arc::new(Told::default());
    let accepted = append(&partition, Acks::Leader, 2).expect("it is taken");
    lead(&partition, &registration(1, &[0], &[0]));
    node.flush();
    partition.when_acked(&accepted, Acks::Leader, Arc::clone(&told) as _, 0);
    assert_eq!(told.settled(), failed(0, &PartitionError::NotLeader));
}

#[test]
fn a_duplicate_waits_for_its_original() {
    let node = Node::stepped();
    let partition = node.partition("t");
    let told = Arc::new(Told::default());
    let batch = || {
        let batch = BatchBuilder::new(Compression::None).record(1000, None, Some(b"value"));
        batch.idempotent(ProducerId::new(9), ProducerEpoch::new(0), 0).build()
    };
    for (slot, duplicate) in [(0, false), (1, true)] {
        let accepted =
            partition.append(batch(), Acks::All, Origin::Client, Admission::unbounded()).expect("it is taken");
        assert_eq!(accepted.appended.duplicate, duplicate);
        partition.when_acked(&accepted, Acks::All, Arc::clone(&told) as _, slot);
    }
    assert_eq!(told.settled(), []);
    node.flush();
    assert_eq!(told.settled(), acknowledged(&[0, 1]));
    assert_eq!(partition.offsets().log_end.get(), 1);
}

#[test]
fn a_full_disk_fails_those_whose_records_it_lost() {
    let node = Node::stepped();
    let partition = node.partition("t");
    let told = Arc::new(Told::default());
    append_and_ask(&partition, Acks::All, &told, 0);
    node.flush();
    node.disk.set_capacity(Some(node.disk.used()));
    append_and_ask(&partition, Acks::All, &told, 1);
    let late = append(&partition, Acks::Leader, 2).expect("it is taken");
    node.flush();
    let full = PartitionError::from(AppendError::DiskFull);
    assert_eq!(told.settled(), [acknowledged(&[0]), failed(1, &full)].concat());
    assert_eq!(partition.offsets().log_end.get(), 2);
    partition.when_acked(&late, Acks::Leader, Arc::clone(&told) as _, 2);
    assert_eq!(told.settled()[2..], failed(2, &full), "one that asks afterwards is not told of others' records");
}

/// Hears of a refusal late: room has come back, and another append was taken by then.
struct LateToHear {
    node: Node,
    partition: Arc<Partition>,
}

impl LogListener for LateToHear {
    fn flushed(&self, end: Offset) {
        self.partition.flushed(end);
    }

    fn refused(&self, from: Offset) {
        self.node.disk.set_capacity(None);
        append(&self.partition, Acks::Leader, 1).expect("there is room again");
        self.partition.refused(from);
    }
}

/// Notes the records that it is told of.
#[derive(Default)]
struct Heard(Mutex<Vec<(i64, i64)>>);

impl Tail for Heard {
    fn appended(&self, _led: Led, record: CanonicalRecord) {
        self.0.lock().push((record.previous.get(), record.end.get()));
    }

    fn moved(&self, _led: Led, _marks: Marks) {}
}

#[test]
fn followers_are_told_of_an_append_that_overtakes_the_word_of_a_refusal() {
    let node = Node::stepped();
    let partition = node.partition("t");
    lead(&partition, &registration(1, &[0, 1], &[0, 1]));
    let follower = NodeId::new(1);
    let tail = Arc::new(Heard::default());
    partition.tail(LeaderEpoch::new(1), follower, Arc::clone(&tail) as _).expect("it replicates it");
    append(&partition, Acks::Leader, 2).expect("it is taken");
    node.flush();
    node.disk.set_capacity(Some(node.disk.used()));
    append(&partition, Acks::Leader, 2).expect("it is taken");
    let late = Arc::new(LateToHear { node, partition: Arc::clone(&partition) });
    let listener: Arc<dyn LogListener> = Arc::clone(&late) as _;
    partition.log().set_listener(Arc::downgrade(&listener));
    late.node.flush();
    late.node.flush();
    assert_eq!(partition.offsets().flushed_end.get(), 3);
    assert_eq!(*tail.0.lock(), [(0, 2), (2, 3)]);
    assert!(partition.led_for(follower).is_some());
}

#[test]
fn readers_are_called_once_when_more_is_committed() {
    let node = Node::stepped();
    let partition = node.partition("t");
    let told = Arc::new(Told::default());
    let waiter: Arc<dyn DataWaiter> = Arc::clone(&told) as _;
    partition.when_readable(Offset::FIRST, false, Arc::downgrade(&waiter));
    append(&partition, Acks::Leader, 2).expect("it is taken");
    assert_eq!(told.changed(), 0, "appended is not committed");
    node.flush();
    assert_eq!(told.changed(), 1);
    append(&partition, Acks::Leader, 2).expect("it is taken");
    node.flush();
    assert_eq!(told.changed(), 1);
    partition.when_readable(Offset::FIRST, false, Arc::downgrade(&waiter));
    assert_eq!(told.changed(), 2, "there is more than it has seen");
}

#[test]
fn a_replica_that_is_added_to_a_leadership_is_sent_what_comes() {
    let node = Node::stepped();
    let partition = node.partition("t");
    let follower = NodeId::new(1);
    append(&partition, Acks::Leader, 2).expect("it is taken");
    let mut grown = changed(registration(0, &[0, 1], &[0]));
    grown.leader_broker_epoch = Some(broker_epoch(&node.plane));
    assert_eq!(partition.led_for(follower), None);
    lead(&partition, &grown);
    assert_eq!(partition.led_for(follower), None, "what there is already is not flushed yet");
    node.flush();
    assert!(partition.led_for(follower).is_some());
}

#[test]
fn readers_of_a_follower_wait_for_its_leader() {
    let node = Node::stepped();
    let partition = node.partition("t");
    let led_by_1 = PartitionRegistration { leader: Some(NodeId::new(1)), ..registration(1, &[0, 1], &[0, 1]) };
    follow(&partition, &led_by_1);
    let told = Arc::new(Told::default());
    let waiter: Arc<dyn DataWaiter> = Arc::clone(&told) as _;
    partition.when_readable(Offset::FIRST, false, Arc::downgrade(&waiter));
    assert_eq!(told.changed(), 0);
    follow(&partition, &PartitionRegistration { leader: None, ..registration(2, &[0, 1], &[0, 1]) });
    assert_eq!(told.changed(), 1);
    partition.when_readable(Offset::FIRST, false, Arc::downgrade(&waiter));
    assert_eq!(told.changed(), 2, "nobody leads: it is told at once");
}

#[test]
fn readers_are_called_when_leadership_ends() {
    let node = Node::stepped();
    let partition = node.partition("t");
    let told = Arc::new(Told::default());
    let waiter: Arc<dyn DataWaiter> = Arc::clone(&told) as _;
    partition.when_readable(Offset::FIRST, false, Arc::downgrade(&waiter));
    partition.resign();
    assert_eq!(told.changed(), 1);
    partition.when_readable(Offset::FIRST, false, Arc::downgrade(&waiter));
    assert_eq!(told.changed(), 2, "nothing will come: it is told at once");
}

#[test]
fn between_the_high_watermark_and_the_end_there_is_nothing_yet_and_beyond_it_an_error() {
    let node = Node::stepped();
    let partition = node.partition("t");
    append(&partition, Acks::Leader, 2).expect("it is taken");
    node.flush();
    append(&partition, Acks::Leader, 2).expect("it is taken");
    let read = |from| partition.read(from, 1 << 20, true, false).map(|read| !read.data.is_empty());
    assert!(matches!(read(0), Ok(true)));
    assert!(matches!(read(2), Ok(false)));
    assert!(matches!(read(4), Ok(false)));
    for from in [5, -1, i64::MIN, i64::MAX] {
        assert!(matches!(read(from), Err(PartitionError::Read(ReadError::OutOfRange { .. }))), "{from}");
    }
}

#[test]
fn clients_are_held_to_the_epoch_they_know() {
    let node = Node::stepped();
    let partition = node.partition("t");
    lead(&partition, &registration(5, &[0], &[0]));
    assert_eq!(partition.check_leader(None).ok(), Some(LeaderEpoch::new(5)));
    assert_eq!(partition.check_leader(Some(-1)).ok(), Some(LeaderEpoch::new(5)));
    assert_eq!(partition.check_leader(Some(5)).ok(), Some(LeaderEpoch::new(5)));
    assert!(matches!(partition.check_leader(Some(4)), Err(PartitionError::FencedLeaderEpoch)));
    assert!(matches!(partition.check_leader(Some(6)), Err(PartitionError::UnknownLeaderEpoch)));
    partition.resign();
    assert!(matches!(partition.check_leader(Some(5)), Err(PartitionError::NotLeader)));
    assert!(
        matches!(partition.check_leader(Some(4)), Err(PartitionError::FencedLeaderEpoch)),
        "the epoch is looked at first"
    );
}

#[test]
fn a_new_leader_tells_no_latest_offset_before_its_epoch_is_committed() {
    let node = Node::stepped();
    let partition = node.partition("t");
    append(&partition, Acks::Leader, 2).expect("it is taken");
    node.flush();
    lead(&partition, &registration(1, &[0, 1], &[0, 1]));
    assert!(partition.latest_offsets().is_ok(), "what it found was committed");
    append(&partition, Acks::Leader, 2).expect("it is taken");
    node.flush();
    lead(&partition, &registration(2, &[0, 1], &[0, 1]));
    assert!(matches!(partition.latest_offsets(), Err(PartitionError::OffsetNotAvailable)));
    lead(&partition, &changed(registration(2, &[0, 1], &[0])));
    assert!(partition.latest_offsets().is_ok());
}

#[tokio::test]
async fn a_coordinator_waits_for_its_append() {
    let node = Node::running();
    let partition = node.partition("t");
    let appended =
        partition.append_and_wait(batch(3), LeaderEpoch::FIRST, Origin::Coordinator).await.expect("it is acknowledged");
    assert_eq!(appended.end_offset.get(), 3);
    assert_eq!(partition.offsets().high_watermark.get(), 3);
}

/// A batch as a leader stored it.
fn placed(records: usize, base: i64, epoch: i32) -> Bytes {
    let mut bytes = batch(records).to_vec();
    crate::log::batch::place(&mut bytes, Offset::new(base), LeaderEpoch::new(epoch));
    bytes.into()
}

fn follow_on(partition: &Partition, previous: i64, batch: Bytes) -> Result<Offset, AppendError> {
    partition.log().append_as_follower(Offset::new(previous), batch, Admission::unbounded())
}

#[test]
fn a_follower_that_ends_within_what_its_leader_filled_goes_on_there() {
    let node = Node::stepped();
    let (leader, follower) = (node.partition("t"), node.partition("other"));
    // Compaction had left less to the leader's leader than to the follower's.
    follow_on(&leader, 0, placed(1, 9, 1)).expect("a hole is filled");
    follow_on(&leader, 10, placed(2, 10, 1)).expect("it continues");
    lead(&leader, &registration(3, &[0, 1], &[0, 1]));
    follow_on(&follower, 0, placed(1, 4, 1)).expect("a hole is filled");
    node.flush();
    for max_bytes in [1, 1 << 20] {
        let records = leader.read_records(LeaderEpoch::new(3), Offset::new(5), max_bytes).expect("it is still led");
        let first = &records[0];
        assert_eq!((first.previous.get(), first.base.get(), first.end.get()), (5, 5, 9));
    }
    let mut end = 5;
    while end < 12 {
        for record in leader.read_records(LeaderEpoch::new(3), Offset::new(end), 1).expect("it is still led") {
            end = follow_on(&follower, record.previous.get(), record.batch).expect("it continues").get();
        }
    }
    node.flush();
    let read = |from: i64| {
        let read = |partition: &Partition| {
            let (from, upto) = (Offset::new(from), Offset::new(12));
            partition.log().read(from, upto, 1 << 20, true, false).expect("readable").data.concat()
        };
        (read(&leader), read(&follower))
    };
    let (leaders, followers) = read(9);
    assert_eq!(leaders, followers);
}

#[test]
fn rule_4_a_cut_within_a_hole_takes_what_follows_in_older_epochs() {
    struct Deaf;

    impl AckSink for Deaf {
        fn flushed(&self, _partition: TopicPartition, _session: Session, _extent: Extent) {}
        fn rejected(&self, _partition: TopicPartition, _session: Session, _why: Reject) {}
    }

    // Where the log is cut there is something before, or nothing.
    for first in [1, 9] {
        let node = Node::running();
        let partition = node.partition("t");
        if first < 9 {
            follow_on(&partition, 0, placed(1, 0, 0)).expect("it continues");
        }
        follow_on(&partition, i64::from(first % 9), placed(1, 9, 1)).expect("a hole is filled");
        let led_by_1 = PartitionRegistration { leader: Some(NodeId::new(1)), ..registration(7, &[0, 1], &[0, 1]) };
        follow(&partition, &led_by_1);
        node.wal.sync_all().expect("synced");
        let session = Session { epoch: LeaderEpoch::new(7), number: 0 };
        let acks: Arc<dyn AckSink> = Arc::new(Deaf);
        partition.greet(NodeId::new(1), session, Arc::downgrade(&acks)).expect("it is the leader");
        let epochs = [(0, 0), (2, 5)]
            .map(|(epoch, start): (i32, i64)| EpochStart { epoch: LeaderEpoch::new(epoch), start: Offset::new(start) });
        let (truncate_to, start_at) = (Offset::new(5), Offset::new(5));
        partition.elected(session, &Elected { epochs: epochs.to_vec(), truncate_to, start_at }).expect("cut");
        let batch = placed(1, 5, 2);
        let record = CanonicalRecord { previous: start_at, base: start_at, end: Offset::new(6), batch };
        partition
            .append_from_leader(session, record, Admission::unbounded())
            .expect("older than the session is no harm");
        let known: Vec<_> = (0..6).map(|at| partition.log().epoch_at(Offset::new(at)).map(LeaderEpoch::get)).collect();
        assert_eq!(known, [0, 0, 0, 0, 0, 2].map(Some), "as the leader has it");
    }
}

/// Another replica compacted its own batches there, and its log ends between two of them.
#[test]
fn a_follower_goes_on_within_a_hole_that_its_leader_has_filled() {
    let node = Node::stepped();
    let partition = node.partition("t");
    for (previous, records, base) in [(0, 2, 0), (2, 1, 7)] {
        follow_on(&partition, previous, placed(records, base, 0)).expect("it continues");
    }
    node.flush();
    lead(&partition, &registration(1, &[0, 1], &[0, 1]));
    let epoch = partition.leading().expect("it leads");
    for from in 2..=7 {
        let mut sent = Vec::new();
        let mut at = Offset::new(from);
        while at < Offset::new(8) {
            let records = partition.read_records(epoch, at, 1 << 20).expect("it is there");
            sent.extend(records.iter().map(|record| (record.previous.get(), record.base.get(), record.end.get())));
            at = records.last().expect("there is more").end;
        }
        let rest = (from < 7).then_some((from, from, 7));
        assert_eq!(sent, rest.into_iter().chain([(7, 7, 8)]).collect::<Vec<_>>(), "from {from}");
    }
    assert!(partition.read_records(epoch, Offset::new(1), 1 << 20).is_err(), "records are not cut in two");
}
