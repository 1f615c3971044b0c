//! The rules of KIP-227, one by one.

use std::sync::atomic::{AtomicI32, Ordering};

use bytes::Bytes;

use super::*;

const NOW: Duration = Duration::from_secs(1000);
/// A version with sessions and topic names.
const NAMES: i16 = 12;

fn named(topic: &str) -> TopicRef {
    TopicRef::Name(StrBytes::from(topic))
}

fn fetch(topic: &str, index: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition {
        topic: named(topic),
        index,
        current_leader_epoch: -1,
        fetch_offset,
        last_fetched_epoch: -1,
        max_bytes: 1000,
    }
}

fn request(session_id: i32, session_epoch: i32, partitions: Vec<FetchPartition>) -> FetchRequest {
    FetchRequest {
        replica_id: -1,
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 1000,
        read_committed: false,
        session_id,
        session_epoch,
        partitions,
        forgotten: Vec::new(),
        rack_id: StrBytes::default(),
    }
}

/// An answer whose high watermark is the client's position: nothing to read.
fn idle(fetch: &FetchPartition) -> (TopicRef, PartitionData) {
    let data = PartitionData {
        high_watermark: fetch.fetch_offset,
        log_start_offset: 0,
        ..PartitionData::failed(fetch.index, ErrorCode::None)
    };
    (fetch.topic.clone(), data)
}

fn with_records(fetch: &FetchPartition) -> (TopicRef, PartitionData) {
    let (topic, data) = idle(fetch);
    (topic, PartitionData { records: vec![Bytes::from_static(b"batch")], ..data })
}

/// Session ids that are never drawn twice.
fn draw() -> i32 {
    static NEXT: AtomicI32 = AtomicI32::new(100);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Sends a request, answers each partition by `answer`; what the client gets.
fn exchange(
    sessions: &FetchSessions,
    mut request: FetchRequest,
    answer: impl Fn(&FetchPartition) -> (TopicRef, PartitionData),
) -> Result<(i32, Vec<i32>), ErrorCode> {
    let context = sessions.begin(NAMES, &mut request, NOW)?;
    let answers = context.partitions.iter().map(answer).collect();
    let (id, answers) = sessions.finish(NAMES, context, answers, NOW, draw)?;
    Ok((id, answers.iter().map(|(_, data)| data.index).collect()))
}

/// A cache with a session of partitions 0, 1 and 2 of `t`, all idle; its id.
fn opened() -> (FetchSessions, i32) {
    let sessions = FetchSessions::new(2);
    let partitions = (0..3).map(|index| fetch("t", index, 5)).collect();
    let (id, answered) = exchange(&sessions, request(0, 0, partitions), idle).expect("it opens");
    assert_eq!(answered, [0, 1, 2], "the first answer is complete");
    (sessions, id)
}

#[test]
fn a_request_without_a_session_is_answered_in_full_and_remembered_by_nobody() {
    let sessions = FetchSessions::new(2);
    let answer = exchange(&sessions, request(0, -1, vec![fetch("t", 0, 5)]), idle);
    assert_eq!(answer, Ok((0, vec![0])));
    assert!(sessions.is_empty());
}

#[test]
fn incremental_answers_carry_only_what_changed() {
    let (sessions, id) = opened();
    assert_eq!(exchange(&sessions, request(id, 1, vec![]), idle), Ok((id, vec![])));
    let one_moved = |fetch: &FetchPartition| {
        let (topic, mut data) = idle(fetch);
        data.high_watermark += i64::from(fetch.index == 1);
        (topic, data)
    };
    assert_eq!(exchange(&sessions, request(id, 2, vec![]), one_moved), Ok((id, vec![1])));
    assert_eq!(exchange(&sessions, request(id, 3, vec![]), one_moved), Ok((id, vec![])));
    let start_moved = |fetch: &FetchPartition| {
        let (topic, mut data) = one_moved(fetch);
        data.log_start_offset = i64::from(fetch.index == 2);
        (topic, data)
    };
    assert_eq!(exchange(&sessions, request(id, 4, vec![]), start_moved), Ok((id, vec![2])));
}

#[test]
fn a_partition_is_sent_with_its_error_and_again_when_the_error_is_gone() {
    let (sessions, id) = opened();
    let failing = |fetch: &FetchPartition| match fetch.index {
        1 => (fetch.topic.clone(), PartitionData::failed(1, ErrorCode::OffsetOutOfRange)),
        _ => idle(fetch),
    };
    assert_eq!(exchange(&sessions, request(id, 1, vec![]), failing), Ok((id, vec![1])));
    assert_eq!(exchange(&sessions, request(id, 2, vec![]), failing), Ok((id, vec![1])), "errors are always news");
    assert_eq!(exchange(&sessions, request(id, 3, vec![]), idle), Ok((id, vec![1])));
    assert_eq!(exchange(&sessions, request(id, 4, vec![]), idle), Ok((id, vec![])));
}

#[test]
fn partitions_that_had_data_move_to_the_end() {
    let (sessions, id) = opened();
    let first_has_data = |fetch: &FetchPartition| if fetch.index == 0 { with_records(fetch) } else { idle(fetch) };
    assert_eq!(exchange(&sessions, request(id, 1, vec![]), first_has_data), Ok((id, vec![0])));
    let mut next = request(id, 2, vec![]);
    let context = sessions.begin(NAMES, &mut next, NOW).expect("the session goes on");
    let order: Vec<_> = context.partitions.iter().map(|fetch| fetch.index).collect();
    assert_eq!(order, [1, 2, 0]);
}

#[test]
fn requests_change_add_and_forget_partitions() {
    let (sessions, id) = opened();
    let mut change = request(id, 1, vec![fetch("t", 1, 9), fetch("u", 7, 3)]);
    change.forgotten = vec![(named("t"), 0), (named("never"), 4)];
    let context = sessions.begin(NAMES, &mut change, NOW).expect("the session goes on");
    let plan: Vec<_> = context.partitions.iter().map(|fetch| (fetch.index, fetch.fetch_offset)).collect();
    assert_eq!(plan, [(1, 9), (2, 5), (7, 3)]);
}

#[test]
fn a_wrong_epoch_is_refused_and_leaves_the_session_as_it_was() {
    let (sessions, id) = opened();
    assert_eq!(exchange(&sessions, request(id, 9, vec![]), idle), Err(ErrorCode::InvalidFetchSessionEpoch));
    assert_eq!(exchange(&sessions, request(id, 1, vec![]), idle), Ok((id, vec![])));
}

#[test]
fn an_unknown_session_is_refused() {
    let (sessions, id) = opened();
    assert_eq!(exchange(&sessions, request(id + 1, 1, vec![]), idle), Err(ErrorCode::FetchSessionIdNotFound));
}

#[test]
fn a_session_by_name_is_not_one_by_id() {
    let (sessions, id) = opened();
    let refused = sessions.begin(13, &mut request(id, 1, vec![]), NOW);
    assert_eq!(refused.err(), Some(ErrorCode::FetchSessionTopicIdError));
}

#[test]
fn closing_a_session_forgets_it_and_answers_in_full() {
    let (sessions, id) = opened();
    assert_eq!(exchange(&sessions, request(id, -1, vec![fetch("t", 4, 0)]), idle), Ok((0, vec![4])));
    assert!(sessions.is_empty());
}

#[test]
fn opening_a_session_in_place_of_another_forgets_that_one() {
    let (sessions, id) = opened();
    let (new, _) = exchange(&sessions, request(id, 0, vec![fetch("t", 0, 5)]), idle).expect("it opens");
    assert_ne!(new, 0);
    assert_eq!(sessions.len(), 1);
}

#[test]
fn a_session_that_forgets_everything_ends() {
    let (sessions, id) = opened();
    let mut last = request(id, 1, vec![]);
    last.forgotten = (0..3).map(|index| (named("t"), index)).collect();
    assert_eq!(exchange(&sessions, last, idle), Ok((0, vec![])));
    assert!(sessions.is_empty());
}

#[test]
fn an_answer_that_comes_after_the_next_request_is_refused() {
    let (sessions, id) = opened();
    let slow = sessions.begin(NAMES, &mut request(id, 1, vec![]), NOW).expect("the session goes on");
    let answers = slow.partitions.iter().map(idle).collect();
    exchange(&sessions, request(id, 2, vec![]), idle).expect("the session goes on");
    assert_eq!(sessions.finish(NAMES, slow, answers, NOW, || 1).err(), Some(ErrorCode::InvalidFetchSessionEpoch));
}

#[test]
fn epochs_wrap_around_past_those_that_mean_something_else() {
    assert_eq!(next_epoch(0), 1);
    assert_eq!(next_epoch(i32::MAX), 1);
}

/// Opens a session of so many partitions at a time; its id.
fn open(sessions: &FetchSessions, size: i32, now: Duration) -> i32 {
    let mut request = request(0, 0, (0..size).map(|index| fetch("t", index, 0)).collect());
    let context = sessions.begin(NAMES, &mut request, now).expect("it opens");
    let answers = context.partitions.iter().map(idle).collect();
    sessions.finish(NAMES, context, answers, now, draw).expect("it opens").0
}

#[test]
fn young_sessions_in_use_are_not_evicted() {
    let sessions = FetchSessions::new(2);
    open(&sessions, 1, NOW);
    open(&sessions, 1, NOW);
    assert_eq!(open(&sessions, 9, NOW + EVICTION_AGE), 0, "the client goes on without a session");
    assert_eq!(sessions.len(), 2);
}

#[test]
fn a_session_that_nobody_uses_makes_room_for_any_other() {
    let sessions = FetchSessions::new(2);
    let idle = open(&sessions, 5, NOW);
    open(&sessions, 5, NOW + EVICTION_AGE);
    assert_ne!(open(&sessions, 1, NOW + EVICTION_AGE + Duration::from_secs(1)), 0);
    let gone = sessions.begin(NAMES, &mut request(idle, 1, vec![]), NOW);
    assert_eq!(gone.err(), Some(ErrorCode::FetchSessionIdNotFound));
}

#[test]
fn an_old_session_in_use_makes_room_for_a_larger_one_only() {
    let sessions = FetchSessions::new(1);
    let id = open(&sessions, 2, NOW);
    let later = NOW + EVICTION_AGE + Duration::from_secs(1);
    sessions.begin(NAMES, &mut request(id, 1, vec![]), later).expect("it is used");
    assert_eq!(open(&sessions, 2, later), 0);
    assert_ne!(open(&sessions, 3, later), 0);
    assert_eq!(sessions.len(), 1);
}

#[test]
fn what_is_remembered_is_bounded_in_all() {
    let sessions = FetchSessions::new(10);
    let half = MAX_PARTITIONS as i32 / 2;
    assert_ne!(open(&sessions, half, NOW), 0);
    let id = open(&sessions, half, NOW);
    assert_ne!(id, 0);
    assert_eq!(open(&sessions, 1, NOW), 0);
    let more = sessions.begin(NAMES, &mut request(id, 1, vec![fetch("u", 0, 0)]), NOW);
    assert_eq!(more.err(), Some(ErrorCode::FetchSessionIdNotFound));
}

#[test]
fn a_session_does_not_pin_the_buffer_that_its_request_came_in() {
    let buffer = Bytes::from(b"topic".to_vec());
    let name = StrBytes::try_from(buffer.clone()).expect("it is UTF-8");
    let TopicRef::Name(own) = own(&TopicRef::Name(name)) else { panic!("a name stays a name") };
    assert_ne!(own.as_bytes().as_ptr(), buffer.as_ptr());
}
