//! Fetch over a real log and WAL, whose flushes happen when the test says so.

use bytes::Bytes;
use futures::FutureExt;

use super::*;
use crate::kafka::testing::{TestBroker, wire_id};
use crate::kafka::wire::{StrBytes, Uuid};
use crate::log::{BatchBuilder, Compression, Origin};
use crate::stream::Acks;
use crate::stream::testing::{batch, lead, registration};
use crate::wal::Admission;

fn partition(topic: &str, index: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition {
        topic: TopicRef::Name(StrBytes::from(topic)),
        index,
        current_leader_epoch: -1,
        fetch_offset,
        last_fetched_epoch: -1,
        max_bytes: 1 << 20,
    }
}

fn request(max_wait_ms: i32, partitions: Vec<FetchPartition>) -> FetchRequest {
    FetchRequest {
        replica_id: -1,
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        read_committed: false,
        session_id: 0,
        session_epoch: -1,
        partitions,
        forgotten: Vec::new(),
        rack_id: StrBytes::default(),
    }
}

fn append(broker: &TestBroker, topic: &str, index: i32, records: usize) {
    let partition = broker.node.partitions.by_name(topic, index).expect("it was created");
    partition.append(batch(records), Acks::Leader, Origin::Client, Admission::unbounded()).expect("it is taken");
}

async fn fetched(broker: &TestBroker, version: i16, request: FetchRequest) -> Vec<PartitionData> {
    let response = handle(&broker.context::<kafka_wire::FetchRequest>(version), request).await;
    assert_eq!(response.error, None);
    response.partitions.into_iter().map(|(_, data)| data).collect()
}

async fn errors(broker: &TestBroker, version: i16, request: FetchRequest) -> Vec<ErrorCode> {
    fetched(broker, version, request).await.iter().map(|data| data.error).collect()
}

/// Topic `t` of so many partitions, each with two flushed batches of three records.
fn with_data(partitions: usize) -> TestBroker {
    let broker = TestBroker::start();
    broker.node.create("t", partitions);
    for index in 0..partitions as i32 {
        append(&broker, "t", index, 3);
        append(&broker, "t", index, 3);
    }
    broker.node.flush();
    broker
}

#[tokio::test]
async fn a_replica_whose_log_found_no_room_answers_with_a_storage_error() {
    let broker = TestBroker::start();
    broker.node.create("t", 1);
    broker.node.no_room_for("late");
    broker.node.create("late", 1);
    let asked = request(0, vec![partition("late", 0, 0), partition("t", 0, 0)]);
    assert_eq!(errors(&broker, 12, asked).await, [ErrorCode::KafkaStorageError, ErrorCode::None]);
}

/// A read of the disk that waits, on a reactor where everybody else would wait with it.
#[tokio::test]
async fn what_is_not_in_memory_is_read_beside_the_reactor() {
    let broker = with_data(2);
    broker.node.disk.set_cold(true);
    let mut cold = Box::pin(fetched(&broker, 12, request(0, vec![partition("t", 0, 0), partition("t", 1, 3)])));
    assert!(cold.as_mut().now_or_never().is_none(), "the reactor goes on");
    assert_eq!(sizes(&cold.await), [2, 1]);
    broker.node.disk.set_cold(false);
    let warm = fetched(&broker, 12, request(0, vec![partition("t", 0, 0)])).now_or_never();
    assert_eq!(sizes(&warm.expect("what is in memory is read at once")), [2]);
}

fn sizes(data: &[PartitionData]) -> Vec<usize> {
    let one = batch(3).len();
    data.iter().map(|data| data.size() / one).collect()
}

#[tokio::test]
async fn whole_batches_are_read_from_the_one_that_holds_the_offset() {
    let broker = with_data(1);
    for (from, batches) in [(0, 2), (2, 2), (3, 1), (5, 1)] {
        let data = fetched(&broker, 12, request(0, vec![partition("t", 0, from)])).await;
        assert_eq!(sizes(&data), [batches], "from {from}");
        assert_eq!((data[0].high_watermark, data[0].last_stable_offset, data[0].log_start_offset), (6, 6, 0));
        assert_eq!(data[0].aborted, None);
    }
}

#[tokio::test]
async fn read_committed_lists_aborted_transactions_even_when_there_are_none() {
    let broker = with_data(1);
    let committed = FetchRequest { read_committed: true, ..request(0, vec![partition("t", 0, 0)]) };
    let data = fetched(&broker, 12, committed).await;
    assert_eq!((sizes(&data), &data[0].aborted), (vec![2], &Some(vec![])));
}

#[tokio::test]
async fn only_what_is_committed_is_read() {
    let broker = with_data(1);
    append(&broker, "t", 0, 3);
    let data = fetched(&broker, 12, request(0, vec![partition("t", 0, 0)])).await;
    assert_eq!((sizes(&data), data[0].high_watermark), (vec![2], 6));
    let data = fetched(&broker, 12, request(0, vec![partition("t", 0, 8)])).await;
    assert_eq!((sizes(&data), data[0].error), (vec![0], ErrorCode::None), "not yet there, but not out of range");
}

#[tokio::test]
async fn the_first_partition_with_data_gives_a_batch_whatever_the_limits() {
    let broker = with_data(3);
    append(&broker, "t", 1, 3);
    let tiny = |index, from| FetchPartition { max_bytes: 1, ..partition("t", index, from) };
    let all = vec![tiny(0, 6), tiny(1, 0), tiny(2, 0)];
    let data = fetched(&broker, 12, FetchRequest { max_bytes: 1, ..request(0, all) }).await;
    assert_eq!(sizes(&data), [0, 1, 0]);
}

#[tokio::test]
async fn the_requests_limit_is_shared_in_the_order_of_the_partitions() {
    let broker = with_data(3);
    let all = (0..3).map(|index| partition("t", index, 0)).collect();
    let limit = batch(3).len() as i32 * 3;
    let data = fetched(&broker, 12, FetchRequest { max_bytes: limit, ..request(0, all) }).await;
    assert_eq!(sizes(&data), [2, 1, 0]);
}

#[tokio::test]
async fn offsets_outside_the_log_are_errors() {
    let broker = with_data(1);
    let log = Arc::clone(broker.node.partitions.by_name("t", 0).expect("it was created").log());
    log.delete_records(Offset::new(3)).expect("they are committed");
    for from in [0, 2, 7, -5] {
        let data = fetched(&broker, 12, request(1000, vec![partition("t", 0, from)])).await;
        assert_eq!(data[0], PartitionData::failed(0, ErrorCode::OffsetOutOfRange), "from {from}");
    }
}

#[tokio::test]
async fn a_long_poll_ends_with_the_flush_of_new_data() {
    let broker = with_data(1);
    let context = broker.context::<kafka_wire::FetchRequest>(12);
    let mut poll = Box::pin(handle(&context, request(60_000, vec![partition("t", 0, 6)])));
    assert!((&mut poll).now_or_never().is_none(), "there is nothing to read");
    append(&broker, "t", 0, 3);
    assert!((&mut poll).now_or_never().is_none(), "appended is not committed");
    broker.node.flush();
    let response = poll.now_or_never().expect("there is something to read");
    assert_eq!(sizes(&[response.partitions[0].1.clone()]), [1]);
}

#[tokio::test]
async fn a_long_poll_waits_for_as_many_bytes_as_are_wanted() {
    let broker = with_data(1);
    let context = broker.context::<kafka_wire::FetchRequest>(12);
    let wanted = FetchRequest { min_bytes: batch(3).len() as i32 * 2, ..request(60_000, vec![partition("t", 0, 6)]) };
    let mut poll = Box::pin(handle(&context, wanted));
    for done in [false, true] {
        assert!((&mut poll).now_or_never().is_none());
        append(&broker, "t", 0, 3);
        broker.node.flush();
        if done {
            break;
        }
    }
    let response = poll.now_or_never().expect("there is enough to read");
    assert_eq!(sizes(&[response.partitions[0].1.clone()]), [2]);
}

#[tokio::test]
async fn a_long_poll_ends_with_its_time() {
    let broker = with_data(1);
    let data = fetched(&broker, 12, request(20, vec![partition("t", 0, 6)])).await;
    assert_eq!((sizes(&data), data[0].high_watermark), (vec![0], 6));
}

#[tokio::test]
async fn a_long_poll_ends_with_the_leadership() {
    let broker = with_data(1);
    let context = broker.context::<kafka_wire::FetchRequest>(16);
    let mut poll = Box::pin(handle(&context, request(60_000, vec![partition("t", 0, 6)])));
    assert!((&mut poll).now_or_never().is_none());
    let epoch = crate::stream::testing::broker_epoch(&broker.node.plane);
    broker.node.command(crate::metadata::Command::FenceNode { node: crate::stream::testing::NODE, epoch });
    let response = poll.now_or_never().expect("there is something to tell");
    let (_, data) = &response.partitions[0];
    assert_eq!(data.error, ErrorCode::NotLeaderOrFollower);
    assert_eq!(data.current_leader.map(|leader| (leader.leader_id, leader.leader_epoch)), Some((-1, 1)));
}

#[tokio::test]
async fn what_nobody_has_is_answered_last_and_does_not_end_the_wait_for_others() {
    let broker = with_data(1);
    let both = vec![partition("u", 0, 0), partition("t", 0, 6), partition("t", 9, 0)];
    let context = broker.context::<kafka_wire::FetchRequest>(12);
    let mut poll = Box::pin(handle(&context, request(60_000, both)));
    assert!((&mut poll).now_or_never().is_none());
    append(&broker, "t", 0, 3);
    broker.node.flush();
    let response = poll.now_or_never().expect("there is something to read");
    let found: Vec<_> = response.partitions.iter().map(|(_, data)| (data.index, data.error)).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(found, [(0, ErrorCode::None), (0, unknown), (9, unknown)]);
    assert_eq!(response.partitions[1].1.aborted, Some(vec![]));
}

#[tokio::test]
async fn nothing_to_wait_for_is_answered_at_once() {
    let broker = with_data(1);
    let context = broker.context::<kafka_wire::FetchRequest>(12);
    for partitions in [vec![], vec![partition("u", 0, 0)]] {
        let response = handle(&context, request(60_000, partitions)).now_or_never();
        assert_eq!(response.expect("it does not wait").session_id, 0);
    }
}

#[tokio::test]
async fn topics_by_id_are_found_or_unknown() {
    let broker = TestBroker::start();
    let id = broker.node.create("t", 1);
    let by_id = |id: Uuid, index| FetchPartition { topic: TopicRef::Id(id), ..partition("", index, 0) };
    let ask =
        vec![by_id(wire_id(id), 0), by_id(wire_id(id), 4), by_id(Uuid::ZERO, 0), by_id(Uuid::from_bytes([5; 16]), 0)];
    let found = errors(&broker, 13, request(0, ask)).await;
    let unknown = ErrorCode::UnknownTopicId;
    assert_eq!(found, [ErrorCode::None, ErrorCode::UnknownTopicOrPartition, unknown, unknown]);
}

#[tokio::test]
async fn clients_are_held_to_the_epoch_they_know() {
    let broker = with_data(1);
    let replica = broker.node.partitions.by_name("t", 0).expect("it was created");
    lead(&replica, &registration(3, &[0], &[0]));
    for (epoch, error) in [
        (2, ErrorCode::FencedLeaderEpoch),
        (3, ErrorCode::None),
        (4, ErrorCode::UnknownLeaderEpoch),
        (-1, ErrorCode::None),
    ] {
        let asked = FetchPartition { current_leader_epoch: epoch, ..partition("t", 0, 0) };
        assert_eq!(errors(&broker, 12, request(0, vec![asked])).await, [error], "epoch {epoch}");
    }
}

#[tokio::test]
async fn a_client_whose_log_parted_from_the_leaders_is_told_where() {
    let broker = with_data(1);
    let replica = broker.node.partitions.by_name("t", 0).expect("it was created");
    lead(&replica, &registration(3, &[0], &[0]));
    append(&broker, "t", 0, 3);
    broker.node.flush();
    let asked = |last_fetched_epoch, from| FetchPartition { last_fetched_epoch, ..partition("t", 0, from) };
    let data = fetched(&broker, 12, request(60_000, vec![asked(0, 8)])).await;
    assert_eq!(data[0].diverging_epoch, Some((0, 6)), "epoch 0 ended at 6");
    assert_eq!((data[0].size(), data[0].high_watermark), (0, 9));
    let data = fetched(&broker, 12, request(0, vec![asked(0, 6)])).await;
    assert_eq!((data[0].diverging_epoch, data[0].size()), (None, batch(3).len()));
    let data = fetched(&broker, 12, request(0, vec![asked(2, 6)])).await;
    assert_eq!(data[0].diverging_epoch, Some((0, 6)), "epoch 2 never was: 0 is the one before");
}

#[tokio::test]
async fn a_broker_that_fetches_is_no_replica_here() {
    let broker = with_data(1);
    let follower = FetchRequest { replica_id: 1, ..request(60_000, vec![partition("t", 0, 0)]) };
    assert_eq!(errors(&broker, 12, follower).await, [ErrorCode::NotLeaderOrFollower]);
}

#[tokio::test]
async fn a_session_is_opened_continued_and_refused() {
    let broker = with_data(2);
    let context = broker.context::<kafka_wire::FetchRequest>(12);
    let both = vec![partition("t", 0, 6), partition("t", 1, 6)];
    let opened = handle(&context, FetchRequest { session_epoch: 0, ..request(0, both) }).await;
    assert_eq!(opened.partitions.len(), 2);
    let session_id = opened.session_id;
    assert!(session_id > 0);
    let go_on = |session_epoch| FetchRequest { session_id, session_epoch, ..request(0, vec![]) };
    assert_eq!(handle(&context, go_on(1)).await.partitions.len(), 0, "nothing is new");
    append(&broker, "t", 1, 3);
    broker.node.flush();
    let news = handle(&context, go_on(2)).await;
    assert_eq!(news.partitions.iter().map(|(_, data)| data.index).collect::<Vec<_>>(), [1]);
    let refused = handle(&context, go_on(9)).await;
    assert_eq!((refused.error, refused.session_id), (Some(ErrorCode::InvalidFetchSessionEpoch), 0));
}

#[tokio::test]
async fn idle_polls_leave_nothing_behind() {
    let broker = with_data(1);
    let context = broker.context::<kafka_wire::FetchRequest>(12);
    for _ in 0..100 {
        let mut poll = Box::pin(handle(&context, request(60_000, vec![partition("t", 0, 6)])));
        assert!((&mut poll).now_or_never().is_none());
    }
    append(&broker, "t", 0, 3);
    broker.node.flush();
    let data = fetched(&broker, 12, request(0, vec![partition("t", 0, 6)])).await;
    assert_eq!(sizes(&data), [1]);
    assert!(data[0].records.iter().map(Bytes::len).sum::<usize>() > 0);
}

/// Topic `large` with so many flushed batches of one record, each of somewhat less than half a step.
fn with_large_batches(broker: &TestBroker, batches: usize) -> usize {
    broker.node.create("large", 1);
    let partition = broker.node.partitions.by_name("large", 0).expect("it was created");
    let record = vec![7; STEP / 2 - 1000];
    let large = BatchBuilder::new(Compression::None).record(1000, None, Some(&record)).build();
    for _ in 0..batches {
        partition.append(large.clone(), Acks::Leader, Origin::Client, Admission::unbounded()).expect("it is taken");
        broker.node.flush();
    }
    large.len()
}

fn of_any_size(from: i64) -> FetchRequest {
    let all = FetchPartition { max_bytes: i32::MAX, ..partition("large", 0, from) };
    FetchRequest { max_bytes: i32::MAX, ..request(0, vec![all]) }
}

/// The base offsets of the batches in an answer.
fn base_offsets(data: &PartitionData) -> Vec<i64> {
    let mut bytes: &[u8] = &data.records.concat();
    let mut offsets = Vec::new();
    while let Some((head, _)) = bytes.split_first_chunk::<12>() {
        offsets.push(i64::from_be_bytes(head[..8].try_into().expect("eight bytes")));
        let length = i32::from_be_bytes(head[8..].try_into().expect("four bytes"));
        bytes = &bytes[12 + length as usize..];
    }
    offsets
}

#[tokio::test]
async fn what_is_more_than_a_step_is_read_in_steps_without_a_gap() {
    let broker = TestBroker::start();
    let size = with_large_batches(&broker, 7);
    let before = broker.broker.response_memory.available();
    let response = handle(&broker.context::<kafka_wire::FetchRequest>(12), of_any_size(1)).await;
    let data = &response.partitions[0].1;
    assert_eq!(base_offsets(data), (1..7).collect::<Vec<i64>>());
    assert_eq!(broker.broker.response_memory.available(), before - 6 * size, "what was read is reserved, no more");
    drop(response);
    assert_eq!(broker.broker.response_memory.available(), before);
}

/// Many short answers instead of a few long ones: a fetch goes on where the last one ended.
#[tokio::test]
async fn with_little_memory_an_answer_ends_after_fewer_steps_and_the_next_goes_on() {
    let broker = TestBroker::with_response_memory(ResponseMemory::new(2 * STEP));
    with_large_batches(&broker, 7);
    let mut offsets = Vec::new();
    let mut answers = 0;
    while offsets.len() < 7 {
        let data = fetched(&broker, 12, of_any_size(offsets.len() as i64)).await;
        let read = base_offsets(&data[0]);
        assert!(!read.is_empty() && read.len() < 7, "an answer has some, but not all: {read:?}");
        offsets.extend(read);
        answers += 1;
    }
    assert_eq!(offsets, (0..7).collect::<Vec<i64>>());
    assert!(answers > 1);
}

/// The partition, led by node 0 of rack `a`, with a follower in rack `b` that has flushed up to `end`.
fn with_follower(broker: &TestBroker, end: i64) {
    use crate::ids::{BrokerEpoch, NodeId};
    use crate::metadata::Command;
    use crate::metadata::testing::node;
    use crate::stream::replication::{Extent, Leaders, Led};
    let follower = crate::metadata::Node { rack: Some("b".to_owned()), ..node(1) };
    broker.node.command(Command::RegisterNode { node: follower, acked_may_be_lost: false });
    let partition = broker.node.partitions.by_name("t", 0).expect("it was created");
    lead(&partition, &registration(1, &[0, 1], &[0, 1]));
    broker.node.flush();
    let led = Led { partition: partition.id(), epoch: LeaderEpoch::new(1) };
    broker.node.partitions.acked(led, NodeId::new(1), BrokerEpoch::new(5), Extent::upto(Offset::new(end)));
}

#[tokio::test]
async fn a_leader_names_the_follower_in_the_consumers_rack_if_it_has_the_offset() {
    const RACK_AWARE: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    for (selector, rack, version, from, preferred) in [
        (RACK_AWARE, "b", 12, 3, Some(1)),
        (RACK_AWARE, "b", 12, 4, None),
        (RACK_AWARE, "c", 12, 3, None),
        (RACK_AWARE, "", 12, 3, None),
        ("", "b", 12, 3, None),
    ] {
        let broker = TestBroker::with(&[("replica.selector.class", selector)]);
        broker.node.create("t", 1);
        append(&broker, "t", 0, 3);
        append(&broker, "t", 0, 3);
        with_follower(&broker, 3);
        let asked = FetchRequest { rack_id: rack.into(), ..request(0, vec![partition("t", 0, from)]) };
        let data = fetched(&broker, version, asked).await;
        assert_eq!(data[0].error, ErrorCode::None);
        let found = data[0].preferred_read_replica.map(crate::ids::NodeId::get);
        assert_eq!(found, preferred, "{selector:?} {rack:?} from {from}");
    }
}

#[tokio::test]
async fn followers_answer_clients_that_know_of_it() {
    let broker = with_data(1);
    let replica = broker.node.partitions.by_name("t", 0).expect("it was created");
    let led_by_1 = crate::metadata::PartitionRegistration {
        leader: Some(crate::ids::NodeId::new(1)),
        ..registration(1, &[0, 1], &[0, 1])
    };
    crate::stream::testing::follow(&replica, &led_by_1);
    let data = fetched(&broker, 11, request(0, vec![partition("t", 0, 0)])).await;
    assert_eq!((sizes(&data), data[0].high_watermark), (vec![2], 6));
    assert_eq!(errors(&broker, 10, request(0, vec![partition("t", 0, 0)])).await, [ErrorCode::NotLeaderOrFollower]);
    let newer = FetchPartition { current_leader_epoch: 2, ..partition("t", 0, 0) };
    assert_eq!(errors(&broker, 12, request(0, vec![newer])).await, [ErrorCode::UnknownLeaderEpoch]);
}
