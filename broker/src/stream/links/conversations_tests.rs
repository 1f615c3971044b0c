//! What a leader says, step by step.

use super::*;
use crate::stream::links::testing::{FakeLeaders, Told, about, identity, large_record, led, record};
use crate::stream::replication::{Extent, Tail};

struct Leader {
    leaders: Arc<FakeLeaders>,
    queue: Arc<LiveQueue>,
    talks: Conversations,
    now: Instant,
}

impl Leader {
    fn on(lane: Lane, queue_bytes: usize) -> Self {
        let leaders = Arc::new(FakeLeaders::default());
        let queue = Arc::new(LiveQueue::new(queue_bytes));
        let talks = Conversations::new(lane, identity(2, 7), leaders.clone(), Arc::default(), queue.clone());
        Self { leaders, queue, talks, now: Instant::now() }
    }

    /// A leader of partition 0, whose log holds so many records, with a session that it has begun.
    fn with_records(lane: Lane, records: i64) -> Self {
        let mut leader = Self::on(lane, 1 << 20);
        leader.leaders.lead(0, &[2]);
        for base in 0..records {
            leader.leaders.append(0, record(base, base + 1));
        }
        leader.step(|talks, effects| talks.begin(led(0), effects));
        leader
    }

    fn step(&mut self, step: impl FnOnce(&mut Conversations, &mut Effects)) -> Effects {
        let mut effects = Effects::default();
        step(&mut self.talks, &mut effects);
        self.talks.take_progress(&mut effects);
        effects
    }

    fn hear(&mut self, frame: Frame) -> Effects {
        let now = self.now;
        self.step(|talks, effects| talks.heard(frame, now, effects).expect("the follower says what it may"))
    }

    /// The follower's State and Ready; what was said in answer to Ready.
    fn elect(&mut self, session: u64, end: i64) -> Effects {
        let end = Offset::new(end);
        let state = FollowerState { epochs: vec![], log_start: Offset::FIRST, flushed_end: end };
        let elected = self.hear(Frame::State(about(0, session), state));
        assert!(matches!(&elected.frames[..], [Frame::Elected(_, elected)] if elected.start_at == end));
        self.hear(Frame::Ready(about(0, session)))
    }

    /// Takes what was appended.
    fn tail(&mut self) -> Effects {
        let (taken, now) = (self.queue.take(usize::MAX), self.now);
        self.step(|talks, effects| talks.tailed(taken, now, effects))
    }

    /// Does the read that is due.
    fn read(&mut self) -> Effects {
        let due = self.talks.next_read().expect("a read is due");
        let records = self.leaders.read(due.led, due.from, READ_BYTES);
        let now = self.now;
        self.step(|talks, effects| talks.read(due, records, now, effects))
    }

    fn ack(&mut self, session: u64, end: i64) -> Result<(), LinkError> {
        let ack = Flushed { about: about(0, session), extent: Extent::upto(Offset::new(end)) };
        self.talks.heard(Frame::Ack(vec![ack]), self.now, &mut Effects::default())
    }
}

/// The ends of the batches in these frames.
fn sent(effects: &Effects) -> Vec<i64> {
    let end = |frame: &Frame| if let Frame::Append(_, record) = frame { Some(record.end.get()) } else { None };
    effects.frames.iter().filter_map(end).collect()
}

#[test]
fn a_follower_that_has_everything_is_streamed_to_at_once() {
    let mut leader = Leader::with_records(Lane::Live, 3);
    let effects = leader.elect(1, 3);
    assert!(matches!(&effects.frames[..], [Frame::Progress(_)]), "{effects:?}");
    leader.leaders.append(0, record(3, 5));
    assert_eq!(sent(&leader.tail()), [5]);
    assert_eq!(leader.talks.in_flight(), 2);
    leader.ack(1, 5).unwrap();
    assert_eq!(leader.talks.in_flight(), 0);
    assert_eq!(leader.leaders.told(), [Told::Acked(0, 2, 5)]);
}

#[test]
fn what_lies_before_the_tail_is_read_and_joined_without_gap_or_overlap() {
    let mut leader = Leader::with_records(Lane::Live, 4);
    leader.elect(1, 1);
    leader.leaders.append(0, record(4, 5));
    assert_eq!(sent(&leader.tail()), [] as [i64; 0], "the tail waits for what is read");
    let due = leader.talks.next_read().unwrap();
    let records = leader.leaders.read(due.led, due.from, READ_BYTES);
    leader.leaders.append(0, record(5, 6));
    leader.tail();
    let now = leader.now;
    let effects = leader.step(|talks, effects| talks.read(due, records, now, effects));
    assert_eq!(sent(&effects), [2, 3, 4, 5, 6]);
    leader.leaders.append(0, record(6, 7));
    assert_eq!(sent(&leader.tail()), [7]);
    assert_eq!(leader.queue.bytes(), 0, "all of the queue's room is free again");
}

#[test]
fn a_follower_far_behind_is_sent_to_the_catch_up_lane() {
    let mut leader = Leader::on(Lane::Live, 1 << 20);
    leader.leaders.lead(0, &[2]);
    for base in 0..7 {
        leader.leaders.append(0, large_record(base, READ_BYTES));
    }
    leader.step(|talks, effects| talks.begin(led(0), effects));
    leader.elect(1, 0);
    let reads: Vec<_> = (0..5).map(|_| leader.read().switch).collect();
    assert_eq!(reads.concat(), [led(0)]);
    assert!(!leader.leaders.is_tailed(0));
    assert_eq!(leader.talks.len(), 0);
}

#[test]
fn the_catch_up_lane_reads_until_little_is_left_and_sends_the_partition_back() {
    let mut leader = Leader::on(Lane::CatchUp, 1 << 20);
    leader.leaders.lead(0, &[2]);
    for base in 0..3 {
        leader.leaders.append(0, large_record(base, READ_BYTES));
    }
    leader.step(|talks, effects| talks.begin(led(0), effects));
    leader.elect(1, 0);
    let reads: Vec<_> = (0..4).map(|_| leader.read()).collect();
    assert_eq!(reads.iter().flat_map(sent).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(reads[3].switch, [led(0)]);
    assert!(!leader.leaders.is_tailed(0), "the catch-up lane never tails");
}

#[test]
fn partitions_are_read_in_turns() {
    let mut leader = Leader::on(Lane::CatchUp, 1 << 20);
    for index in 0..3 {
        leader.leaders.lead(index, &[2]);
        for base in 0..2 {
            leader.leaders.append(index, large_record(base, READ_BYTES));
        }
        leader.step(|talks, effects| talks.begin(led(index), effects));
        let state = FollowerState { epochs: vec![], log_start: Offset::FIRST, flushed_end: Offset::FIRST };
        leader.hear(Frame::State(about(index, 1 + index as u64), state));
        leader.hear(Frame::Ready(about(index, 1 + index as u64)));
    }
    let mut turns = Vec::new();
    for _ in 0..5 {
        turns.push(leader.talks.next_read().unwrap().led.partition.partition.get());
    }
    assert_eq!(turns, [0, 1, 2, 0, 1]);
}

#[test]
fn an_overflow_sends_the_partition_to_the_catch_up_lane() {
    let mut leader = Leader::on(Lane::Live, 10);
    leader.leaders.lead(0, &[2]);
    leader.step(|talks, effects| talks.begin(led(0), effects));
    leader.elect(1, 0);
    leader.leaders.append(0, record(0, 1));
    leader.leaders.append(0, record(1, 2));
    let effects = leader.tail();
    assert_eq!((sent(&effects), effects.switch), (vec![1], vec![led(0)]));
    assert!(!leader.leaders.is_tailed(0));
    assert_eq!(leader.queue.bytes(), 0);
    assert_eq!(leader.talks.take_counts().overflows, 1);
}

#[test]
fn rule_5_acks_of_another_session_are_dropped() {
    let mut leader = Leader::with_records(Lane::Live, 3);
    leader.elect(1, 3);
    leader.step(|talks, effects| talks.begin(led(0), effects));
    leader.ack(1, 3).unwrap();
    assert_eq!(leader.leaders.told(), []);
    assert!(leader.hear(Frame::Ready(about(0, 1))).frames.is_empty());
}

#[test]
fn a_follower_that_acknowledges_what_was_never_sent_is_not_listened_to() {
    let mut leader = Leader::with_records(Lane::Live, 3);
    assert!(matches!(leader.ack(1, 0), Err(LinkError::Unexpected("Ack"))), "before it was elected");
    leader.elect(1, 2);
    assert!(matches!(leader.ack(1, 3), Err(LinkError::AckBeyondSent)));
    leader.read();
    leader.ack(1, 3).unwrap();
}

#[test]
fn a_rejected_session_is_told_and_opened_anew_after_a_pause() {
    let mut leader = Leader::with_records(Lane::Live, 3);
    leader.elect(1, 3);
    leader.hear(Frame::Reject(about(0, 1), Reject::DiskFull));
    assert_eq!(leader.leaders.told(), [Told::Lost(0, 2, Some(Reject::DiskFull))]);
    assert!(!leader.leaders.is_tailed(0));
    let wake_at = leader.talks.wake_at().unwrap();
    let first_pause = wake_at - leader.now;
    let now = leader.now;
    assert!(leader.step(|talks, effects| talks.wake(now, effects)).frames.is_empty());
    let effects = leader.step(|talks, effects| talks.wake(wake_at, effects));
    assert_eq!(effects.frames, [Frame::Greet(about(0, 2))]);
    leader.hear(Frame::Reject(about(0, 1), Reject::Stale));
    assert_eq!(leader.leaders.told().len(), 1, "a rejection of the earlier session concerns nobody");
    leader.now = wake_at;
    leader.hear(Frame::Reject(about(0, 2), Reject::NotYetKnown));
    assert!(leader.talks.wake_at().unwrap() - wake_at > first_pause, "longer each time");
}

#[test]
fn the_end_of_a_leadership_ends_the_session_quietly() {
    let mut leader = Leader::with_records(Lane::Live, 3);
    leader.elect(1, 1);
    leader.leaders.resign(0);
    assert_eq!(sent(&leader.read()), [] as [i64; 0]);
    assert!(leader.talks.wake_at().is_some(), "unless it is taken from the lane, it is tried again");
    assert_eq!(leader.talks.end(led(0).partition), Some(led(0)));
    assert_eq!(leader.talks.wake_at(), None);
}

#[test]
fn marks_are_told_once_the_follower_is_ready_and_only_the_newest() {
    let mut leader = Leader::with_records(Lane::Live, 3);
    let marks = |high| Marks { high_watermark: Offset::new(high), log_start: Offset::FIRST };
    leader.queue.moved(led(0), marks(1));
    assert!(leader.tail().frames.is_empty());
    leader.elect(1, 3);
    leader.queue.moved(led(0), marks(2));
    leader.queue.moved(led(0), marks(3));
    let moved = Moved { about: about(0, 1), marks: marks(3) };
    assert_eq!(leader.tail().frames, [Frame::Progress(vec![moved])]);
}

#[test]
fn a_lost_connection_loses_the_follower_to_each_partition() {
    let mut leader = Leader::with_records(Lane::Live, 3);
    leader.elect(1, 3);
    let leaders = leader.leaders.clone();
    drop(leader);
    assert_eq!(leaders.told(), [Told::Lost(0, 2, None)]);
    assert!(!leaders.is_tailed(0));
}

#[test]
fn frames_that_only_leaders_send_are_refused() {
    let mut leader = Leader::with_records(Lane::Live, 0);
    let heard = leader.talks.heard(Frame::Greet(about(0, 1)), leader.now, &mut Effects::default());
    assert!(matches!(heard, Err(LinkError::Unexpected("Greet"))));
}
