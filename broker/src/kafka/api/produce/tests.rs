//! Produce over a real log and WAL, whose flushes happen when the test says so.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use kafka_wire::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_wire::produce_response::PartitionProduceResponse;
use kafka_wire::{ProduceRequest as Request, ProduceResponse as Response};

use super::*;
use crate::ids::{ProducerEpoch, ProducerId, TopicId};
use crate::kafka::service::Answer;
use crate::kafka::testing::{TestBroker, decoded, encoded, wire_id};
use crate::kafka::wire::StrBytes;
use crate::log::{BatchBuilder, CleanupPolicy, Compression, LogConfig, TopicCompression};
use crate::message;
use crate::metadata::MetadataPlane;
use crate::stream::testing::{batch, lead, registration};

/// A request for partitions of topic `t`.
fn request(acks: i16, partitions: Vec<(i32, Bytes)>) -> Request {
    request_for("t", acks, partitions)
}

fn request_for(topic: &str, acks: i16, partitions: Vec<(i32, Bytes)>) -> Request {
    let partition_data = partitions
        .into_iter()
        .map(|(index, records)| message!(PartitionProduceData { index, records: Some(records) }))
        .collect();
    let topic = message!(TopicProduceData { name: StrBytes::from(topic), partition_data });
    message!(Request { acks, timeout_ms: 5000, topic_data: vec![topic] })
}

fn start(broker: &TestBroker, version: i16, request: &Request) -> Call<Pending> {
    begin(broker.context::<Request>(version), encoded(request, version)).expect("it can be decoded")
}

/// Starts a request that has room in the WAL.
fn pipelined(broker: &TestBroker, version: i16, request: &Request) -> Pending {
    match start(broker, version, request) {
        Call::Pipelined(pending) => pending,
        Call::Deferred(_) | Call::Serial(_) | Call::Cancellable(_) => panic!("there is room"),
    }
}

/// Sends a request, flushes, and takes the answer.
fn answer(broker: &TestBroker, version: i16, request: &Request) -> Answer {
    let pending = pipelined(broker, version, request);
    broker.node.flush();
    pending.now_or_never().expect("everything is flushed")
}

fn partitions(broker: &TestBroker, version: i16, request: &Request) -> Vec<PartitionProduceResponse> {
    let Answer::Body(body) = answer(broker, version, request) else { panic!("there is a response") };
    let response: Response = decoded(&body, version);
    response.responses.into_iter().flat_map(|topic| topic.partition_responses).collect()
}

fn errors(broker: &TestBroker, version: i16, request: &Request) -> Vec<i16> {
    partitions(broker, version, request).iter().map(|partition| partition.error_code).collect()
}

/// `KAFKA_STORAGE_ERROR`, as Kafka numbers it: clients ask for the leader anew, and try again.
const STORAGE: i16 = 56;

#[tokio::test]
async fn a_replica_whose_log_found_no_room_answers_with_a_storage_error() {
    let broker = TestBroker::start();
    broker.node.no_room_for("t");
    broker.node.create("t", 2);
    for acks in [1, -1] {
        assert_eq!(errors(&broker, 9, &request(acks, vec![(0, batch(1)), (1, batch(1))])), [STORAGE, 0]);
    }
    broker.node.partitions.apply(&broker.node.plane.image()).expect("it is tried again");
    assert_eq!(errors(&broker, 9, &request(-1, vec![(0, batch(1))])), [0]);
}

#[tokio::test]
async fn a_full_disk_answers_with_a_storage_error_until_there_is_room() {
    let broker = TestBroker::start();
    broker.node.create("t", 1);
    let request = request(-1, vec![(0, batch(1))]);
    assert_eq!(errors(&broker, 9, &request), [0]);
    broker.node.disk.set_capacity(Some(broker.node.disk.used()));
    assert_eq!(errors(&broker, 9, &request), [STORAGE], "it was taken, and found no room");
    assert_eq!(errors(&broker, 9, &request), [STORAGE], "it is not taken");
    broker.node.disk.set_capacity(None);
    assert_eq!(errors(&broker, 9, &request), [0]);
}

#[tokio::test]
async fn every_version_answers_with_the_offsets_after_the_flush() {
    let broker = TestBroker::start();
    let id = broker.node.create("t", 1);
    for (round, version) in (3..=13).enumerate() {
        let mut request = request(if version % 2 == 0 { 1 } else { -1 }, vec![(0, batch(3))]);
        request.topic_data[0].topic_id = wire_id(id);
        let mut pending = pipelined(&broker, version, &request);
        assert!((&mut pending).now_or_never().is_none(), "nothing is flushed");
        broker.node.flush();
        let Some(Answer::Body(body)) = pending.now_or_never() else { panic!("everything is flushed") };
        let response: Response = decoded(&body, version);
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, 3 * round as i64), "version {version}");
        assert_eq!(partition.log_append_time_ms, -1);
        assert_eq!(partition.log_start_offset, if version >= 5 { 0 } else { -1 });
    }
}

#[tokio::test]
async fn acks_0_is_silent_and_an_error_closes_the_connection() {
    let broker = TestBroker::start();
    broker.node.create("t", 1);
    let pending = pipelined(&broker, 9, &request(0, vec![(0, batch(1))]));
    assert!(matches!(pending.now_or_never(), Some(Answer::Silence)), "it does not wait");
    let pending = pipelined(&broker, 9, &request(0, vec![(0, batch(1)), (7, batch(1))]));
    assert!(matches!(pending.now_or_never(), Some(Answer::Close)));
    broker.node.flush();
    let partition = broker.node.partitions.by_name("t", 0).expect("it was created");
    assert_eq!(partition.offsets().high_watermark.get(), 2);
}

#[tokio::test]
async fn other_acks_than_those_of_the_protocol_are_refused() {
    let broker = TestBroker::start();
    broker.node.create("t", 1);
    for acks in [2, -2, i16::MAX] {
        let refused = partitions(&broker, 9, &request(acks, vec![(0, batch(1))]));
        let refused = &refused[0];
        assert_eq!(refused.error_code, ErrorCode::InvalidRequiredAcks.code());
        assert_eq!((refused.base_offset, refused.log_append_time_ms, refused.log_start_offset), (-1, -1, -1));
    }
}

#[tokio::test]
async fn a_request_without_partitions_is_answered_at_once() {
    let broker = TestBroker::start();
    let pending = pipelined(&broker, 9, &message!(Request { acks: 1, timeout_ms: 1000 }));
    assert!(matches!(pending.now_or_never(), Some(Answer::Body(_))));
}

#[tokio::test]
async fn each_partition_has_its_own_outcome_in_the_order_of_the_request() {
    let broker = TestBroker::start();
    broker.node.create("t", 2);
    let request = request(1, vec![(5, batch(1)), (0, batch(1)), (-1, batch(1)), (1, Bytes::new()), (1, batch(2))]);
    let found: Vec<_> = partitions(&broker, 9, &request).iter().map(|one| (one.index, one.error_code)).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(found, [(5, unknown), (0, 0), (-1, unknown), (1, ErrorCode::InvalidRecord.code()), (1, 0)]);
}

#[tokio::test]
async fn topics_by_id_are_found_or_unknown() {
    let broker = TestBroker::start();
    let id = broker.node.create("t", 1);
    let mut by_id = request(1, vec![(0, batch(1)), (4, batch(1))]);
    by_id.topic_data[0].topic_id = wire_id(id);
    assert_eq!(errors(&broker, 13, &by_id), [0, ErrorCode::UnknownTopicOrPartition.code()]);
    let other = TopicId::from_uuid(uuid::Uuid::from_u128(5)).expect("it is not nil");
    by_id.topic_data[0].topic_id = wire_id(other);
    assert_eq!(errors(&broker, 13, &by_id), [ErrorCode::UnknownTopicId.code(); 2]);
    by_id.topic_data[0].topic_id = crate::kafka::wire::Uuid::ZERO;
    assert_eq!(errors(&broker, 13, &by_id), [ErrorCode::UnknownTopicId.code(); 2]);
}

/// As Kafka's delayed produce: what is not satisfied when the time is up, however short, is answered REQUEST_TIMED_OUT.
#[tokio::test]
async fn replicas_that_take_too_long_time_the_request_out() {
    let broker = TestBroker::start();
    let partition = broker.node.partition("t");
    lead(&partition, &registration(3, &[0, 1], &[0, 1]));
    for timeout_ms in [0, 1] {
        let mut impatient = request(-1, vec![(0, batch(1))]);
        impatient.timeout_ms = timeout_ms;
        let Answer::Body(body) = pipelined(&broker, 9, &impatient).await else { panic!("there is a response") };
        let response: Response = decoded(&body, 9);
        assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::RequestTimedOut.code());
        broker.node.flush();
    }
}

/// Kafka satisfies acks=all at once when the leader is alone in the ISR: a time-out of 0 does not matter to it.
#[tokio::test]
async fn a_leader_that_is_alone_in_sync_never_times_out() {
    let broker = TestBroker::start();
    broker.node.create("t", 1);
    for timeout_ms in [0, -1, 1] {
        let mut impatient = request(-1, vec![(0, batch(1))]);
        impatient.timeout_ms = timeout_ms;
        let mut pending = pipelined(&broker, 9, &impatient);
        assert!((&mut pending).now_or_never().is_none(), "nothing is flushed");
        broker.node.flush();
        let Some(Answer::Body(body)) = pending.now_or_never() else { panic!("everything is flushed") };
        let response: Response = decoded(&body, 9);
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }
}

#[tokio::test]
async fn a_transaction_that_nobody_began_is_refused() {
    let broker = TestBroker::start();
    broker.node.create("t", 1);
    let empty = BatchBuilder::new(Compression::None).record(1000, None, Some(b"value"));
    let records = empty.transactional(ProducerId::new(9), ProducerEpoch::new(0), 0).build();
    let mut transactional = request(-1, vec![(0, records), (0, batch(1))]);
    transactional.transactional_id = Some(StrBytes::from("x"));
    let refused = partitions(&broker, 9, &transactional);
    assert_eq!(refused[0].error_code, ErrorCode::InvalidProducerIdMapping.code());
    assert_eq!((refused[0].base_offset, refused[0].log_start_offset), (-1, -1));
    assert_eq!(refused[1].error_code, 0, "a plain batch needs no transaction");
    transactional.transactional_id = None;
    assert_eq!(errors(&broker, 9, &transactional), [ErrorCode::TransactionalIdAuthorizationFailed.code(); 2]);
}

#[tokio::test]
async fn clients_do_not_write_to_internal_topics() {
    let broker = TestBroker::start();
    broker.node.create("__consumer_offsets", 1);
    let request = request_for("__consumer_offsets", 1, vec![(0, batch(1))]);
    assert_eq!(errors(&broker, 9, &request), [ErrorCode::InvalidTopicException.code()]);
}

#[tokio::test]
async fn a_bad_record_is_named_with_the_log_start_and_words() {
    let broker = TestBroker::start();
    let cleanup_policy = CleanupPolicy { delete: false, compact: true };
    *broker.node.settings.log.lock() = Arc::new(LogConfig { cleanup_policy, ..LogConfig::default() });
    broker.node.create("t", 1);
    let refused = partitions(&broker, 9, &request(1, vec![(0, batch(2))]));
    let refused = &refused[0];
    assert_eq!(refused.error_code, ErrorCode::InvalidRecord.code());
    assert_eq!((refused.base_offset, refused.log_start_offset), (-1, 0));
    assert_eq!(refused.record_errors.iter().map(|error| error.batch_index).collect::<Vec<_>>(), [0, 1]);
    assert!(refused.error_message.is_some());
}

#[tokio::test]
async fn a_batch_that_is_wrong_as_a_whole_is_refused_with_the_log_start_and_without_words() {
    let broker = TestBroker::start();
    broker.node.create("t", 1);
    let mut miscounted = batch(2).to_vec();
    miscounted[57..61].copy_from_slice(&3_i32.to_be_bytes());
    let crc = crc_fast::crc32_iscsi(&miscounted[21..]);
    miscounted[17..21].copy_from_slice(&crc.to_be_bytes());
    let refused = partitions(&broker, 9, &request(1, vec![(0, Bytes::from(miscounted))]));
    let refused = &refused[0];
    assert_eq!(refused.error_code, ErrorCode::InvalidRecord.code());
    assert_eq!((refused.log_start_offset, &refused.error_message), (0, &None));
    assert_eq!(refused.record_errors, []);
}

#[tokio::test]
async fn a_corrupt_batch_is_refused_without_words() {
    let broker = TestBroker::start();
    broker.node.create("t", 1);
    let mut corrupt = batch(1).to_vec();
    *corrupt.last_mut().expect("it is not empty") ^= 1;
    let refused = partitions(&broker, 9, &request(1, vec![(0, Bytes::from(corrupt))]));
    let refused = &refused[0];
    assert_eq!(refused.error_code, ErrorCode::CorruptMessage.code());
    assert_eq!((refused.log_start_offset, &refused.error_message), (-1, &None));
}

#[tokio::test]
async fn those_who_ask_a_node_that_does_not_lead_are_told_what_is_known() {
    let broker = TestBroker::start();
    broker.node.create("t", 1);
    let epoch = crate::stream::testing::broker_epoch(&broker.node.plane);
    broker.node.command(crate::metadata::Command::FenceNode { node: crate::stream::testing::NODE, epoch });
    let refused = partitions(&broker, 10, &request(1, vec![(0, batch(1))]));
    let refused = &refused[0];
    assert_eq!(refused.error_code, ErrorCode::NotLeaderOrFollower.code());
    assert_eq!((refused.current_leader.leader_id, refused.current_leader.leader_epoch), (-1, 1));
}

#[tokio::test]
async fn without_room_in_the_wal_the_request_waits_and_its_connection_with_it() {
    let broker = TestBroker::start();
    broker.node.create("t", 2);
    let held = broker.node.wal.admit(8 << 20).await;
    let Call::Deferred(mut rest) = start(&broker, 9, &request(1, vec![(0, batch(1)), (1, batch(1))])) else {
        panic!("there is no room")
    };
    assert!((&mut rest).now_or_never().is_none());
    drop(held);
    let mut pending = rest.now_or_never().expect("appended");
    assert!((&mut pending).now_or_never().is_none(), "not flushed");
    broker.node.flush();
    let Some(Answer::Body(body)) = pending.now_or_never() else { panic!("everything is flushed") };
    let response: Response = decoded(&body, 9);
    assert!(response.responses[0].partition_responses.iter().all(|partition| partition.error_code == 0));
}

/// A batch of one record with so many zeros.
fn packed(codec: Compression, zeros: usize) -> Bytes {
    BatchBuilder::new(codec).record(1000, None, Some(&vec![0; zeros])).build()
}

#[tokio::test]
async fn what_takes_long_to_unpack_is_unpacked_beside_the_reactor_in_its_order() {
    let broker = TestBroker::start();
    broker.node.create("t", 2);
    // Small on the wire, large when unpacked.
    let long = request(1, vec![(0, batch(1)), (1, packed(Compression::Gzip, 900_000)), (0, batch(1))]);
    let Call::Deferred(rest) = start(&broker, 9, &long) else { panic!("it takes long") };
    let offsets = |index| broker.node.partitions.by_name("t", index).expect("it was created").offsets().log_end.get();
    assert_eq!((offsets(0), offsets(1)), (1, 0), "what comes before is appended at once");
    let pending = rest.await;
    assert_eq!((offsets(0), offsets(1)), (2, 1));
    broker.node.flush();
    let Some(Answer::Body(body)) = pending.now_or_never() else { panic!("everything is flushed") };
    let response: Response = decoded(&body, 9);
    let partitions = &response.responses[0].partition_responses;
    let outcomes: Vec<_> = partitions.iter().map(|it| (it.error_code, it.base_offset)).collect();
    assert_eq!(outcomes, [(0, 0), (0, 0), (0, 1)]);
}

#[tokio::test]
async fn only_what_takes_long_leaves_the_reactor() {
    let broker = TestBroker::start();
    broker.node.create("t", 1);
    let deferred = |records| matches!(start(&broker, 9, &request(1, vec![(0, records)])), Call::Deferred(_));
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        assert!(!deferred(packed(codec, 100_000)), "{codec:?}");
        assert!(deferred(packed(codec, 600_000)), "{codec:?}");
    }
    assert!(!deferred(packed(Compression::None, 900_000)));
    // The topic's own codec: packing is slow.
    let zstd = LogConfig { compression: TopicCompression::Always(Compression::Zstd), ..LogConfig::default() };
    broker.node.partitions.by_name("t", 0).expect("it was created").log().set_config(Arc::new(zstd));
    assert!(!deferred(packed(Compression::None, 10_000)));
    assert!(deferred(packed(Compression::None, 20_000)));
    assert!(deferred(packed(Compression::Gzip, 20_000)));
    assert!(!deferred(packed(Compression::Zstd, 100_000)));
}

#[tokio::test]
async fn a_commit_round_wakes_a_request_once() {
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    let broker = TestBroker::start();
    broker.node.create("t", 5);
    let request = request(1, (0..5).map(|index| (index, batch(1))).collect());
    let mut pending = pin!(pipelined(&broker, 9, &request));
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    assert!(pending.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    broker.node.flush();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn pipelined_requests_reach_the_log_in_their_order() {
    let broker = TestBroker::start();
    broker.node.create("t", 1);
    let idempotent = |sequence| {
        let batch = BatchBuilder::new(Compression::None).record(1000, None, Some(b"value"));
        batch.idempotent(ProducerId::new(9), ProducerEpoch::new(0), sequence).build()
    };
    let pending: Vec<_> =
        (0..5).map(|sequence| pipelined(&broker, 9, &request(-1, vec![(0, idempotent(sequence))]))).collect();
    broker.node.flush();
    for (offset, pending) in pending.into_iter().enumerate() {
        let Some(Answer::Body(body)) = pending.now_or_never() else { panic!("everything is flushed") };
        let response: Response = decoded(&body, 9);
        assert_eq!(response.responses[0].partition_responses[0].base_offset, offset as i64);
    }
}
