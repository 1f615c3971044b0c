//! The hand-written codec against the generated one, at every version.

use kafka_wire::fetch_request::{FetchPartition as GeneratedPartition, FetchTopic, ForgottenTopic, ReplicaState};
use kafka_wire::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint as GeneratedEndpoint,
    PartitionData as GeneratedData,
};
use kafka_wire_core::{ApiVersion, KafkaEncode, Uuid};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::message;

const VERSIONS: std::ops::RangeInclusive<i16> = 4..=18;

fn encoded(message: &impl KafkaEncode, version: i16) -> Bytes {
    let mut bytes = BytesMut::new();
    message.encode_into(&mut bytes, ApiVersion::new(version)).expect("the message fits the version");
    bytes.freeze()
}

fn topic_refs() -> impl Strategy<Value = (StrBytes, Uuid)> {
    ("[a-zäß.]{0,20}", any::<[u8; 16]>()).prop_map(|(name, id)| (StrBytes::from(name), Uuid::from_bytes(id)))
}

fn named(version: i16, (name, id): &(StrBytes, Uuid)) -> TopicRef {
    if version >= TOPIC_IDS { TopicRef::Id(*id) } else { TopicRef::Name(name.clone()) }
}

fn partitions() -> impl Strategy<Value = GeneratedPartition> {
    (any::<i32>(), any::<i32>(), any::<i64>(), any::<i32>(), any::<i64>(), any::<i32>()).prop_map(
        |(partition, current_leader_epoch, fetch_offset, last_fetched_epoch, log_start_offset, partition_max_bytes)| {
            message!(GeneratedPartition {
                partition,
                current_leader_epoch,
                fetch_offset,
                last_fetched_epoch,
                log_start_offset,
                partition_max_bytes,
            })
        },
    )
}

fn requests() -> impl Strategy<Value = kafka_wire::FetchRequest> {
    let topic = (topic_refs(), vec(partitions(), 0..4))
        .prop_map(|((topic, topic_id), partitions)| message!(FetchTopic { topic, topic_id, partitions }));
    let forgotten = (topic_refs(), vec(any::<i32>(), 0..4))
        .prop_map(|((topic, topic_id), partitions)| message!(ForgottenTopic { topic, topic_id, partitions }));
    let numbers = (any::<i32>(), any::<i32>(), any::<i32>(), any::<i32>(), any::<i32>(), any::<i32>(), any::<i64>());
    (numbers, any::<bool>(), vec(topic, 0..4), vec(forgotten, 0..4), "[a-z]{0,9}", option::of("[a-z]{0,9}")).prop_map(
        |(numbers, committed, topics, forgotten_topics_data, rack, cluster)| {
            let (replica_id, max_wait_ms, min_bytes, max_bytes, session_id, session_epoch, replica_epoch) = numbers;
            message!(kafka_wire::FetchRequest {
                cluster_id: cluster.map(StrBytes::from),
                replica_id,
                replica_state: message!(ReplicaState { replica_id, replica_epoch }),
                max_wait_ms,
                min_bytes,
                max_bytes,
                isolation_level: i8::from(committed),
                session_id,
                session_epoch,
                topics,
                forgotten_topics_data,
                rack_id: StrBytes::from(rack),
            })
        },
    )
}

/// Leaves out what the version does not have: the generated codec refuses such a request.
fn fit(mut request: kafka_wire::FetchRequest, version: i16) -> kafka_wire::FetchRequest {
    let plain = kafka_wire::FetchRequest::default();
    if version < FLEXIBLE {
        request.cluster_id = None;
    }
    if version < REPLICA_STATE {
        request.replica_state = plain.replica_state.clone();
    } else {
        request.replica_id = plain.replica_id;
    }
    if version < SESSIONS {
        request.session_id = plain.session_id;
        request.session_epoch = plain.session_epoch;
        request.forgotten_topics_data.clear();
    }
    if version < RACKS {
        request.rack_id = plain.rack_id.clone();
    }
    for partition in request.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if version < LEADER_EPOCHS {
            partition.current_leader_epoch = -1;
        }
        if version < LOG_START {
            partition.log_start_offset = -1;
        }
        if version < FLEXIBLE {
            partition.last_fetched_epoch = -1;
        }
    }
    request
}

fn data() -> impl Strategy<Value = PartitionData> {
    let error = prop_oneof![Just(ErrorCode::None), Just(ErrorCode::OffsetOutOfRange)];
    let leader =
        (any::<i32>(), any::<i32>()).prop_map(|(leader_id, leader_epoch)| CurrentLeader { leader_id, leader_epoch });
    let aborted =
        (0..i64::MAX, 0..i64::MAX).prop_map(|(producer, first)| (ProducerId::new(producer), Offset::new(first)));
    let records = vec(prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 500..700)].prop_map(Bytes::from), 0..3);
    let offsets = (any::<i32>(), any::<i64>(), any::<i64>(), any::<i64>());
    (
        offsets,
        error,
        option::of((any::<i32>(), any::<i64>())),
        (option::of(leader), option::of((0..i32::MAX).prop_map(NodeId::new))),
        option::of(vec(aborted, 0..3)),
        records,
    )
        .prop_map(
            |(offsets, error, diverging_epoch, (current_leader, preferred_read_replica), aborted, records)| {
                let (index, high_watermark, last_stable_offset, log_start_offset) = offsets;
                PartitionData {
                    index,
                    error,
                    high_watermark,
                    last_stable_offset,
                    log_start_offset,
                    diverging_epoch,
                    current_leader,
                    preferred_read_replica,
                    aborted,
                    records,
                }
            },
        )
}

/// What the generated codec would be given, with the fields only that the version has.
fn generated_data(version: i16, data: &PartitionData) -> GeneratedData {
    let mut generated = message!(GeneratedData {
        partition_index: data.index,
        error_code: data.error.code(),
        high_watermark: data.high_watermark,
        last_stable_offset: data.last_stable_offset,
        aborted_transactions: data.aborted.as_ref().map(|aborted| {
            let aborted = aborted.iter().map(|(producer, first)| {
                message!(AbortedTransaction { producer_id: producer.get(), first_offset: first.get() })
            });
            aborted.collect()
        }),
        records: Some(Bytes::from(data.records.concat())),
    });
    if version >= LOG_START {
        generated.log_start_offset = data.log_start_offset;
    }
    if let Some(node) = data.preferred_read_replica.filter(|_| version >= RACKS) {
        generated.preferred_read_replica = node.get();
    }
    if let Some((epoch, end_offset)) = data.diverging_epoch.filter(|_| version >= FLEXIBLE) {
        generated.diverging_epoch = message!(EpochEndOffset { epoch, end_offset });
    }
    if let Some(leader) = data.current_leader.filter(|_| version >= CURRENT_LEADER) {
        generated.current_leader =
            message!(LeaderIdAndEpoch { leader_id: leader.leader_id, leader_epoch: leader.leader_epoch });
    }
    generated
}

proptest! {
    #[test]
    fn requests_decode_as_the_generated_codec_encodes_them(request in requests(), version in VERSIONS) {
        let request = fit(request, version);
        let decoded = FetchRequest::decode(encoded(&request, version), version).expect("it decodes");
        let replica_id = if version >= REPLICA_STATE { request.replica_state.replica_id } else { request.replica_id };
        prop_assert_eq!(decoded.replica_id, replica_id);
        prop_assert_eq!(decoded.max_wait_ms, request.max_wait_ms);
        prop_assert_eq!(decoded.min_bytes, request.min_bytes);
        prop_assert_eq!(decoded.max_bytes, request.max_bytes);
        prop_assert_eq!(decoded.read_committed, request.isolation_level == 1);
        prop_assert_eq!((decoded.session_id, decoded.session_epoch), (request.session_id, request.session_epoch));
        prop_assert_eq!(decoded.rack_id, request.rack_id);
        let partitions: Vec<_> = request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| FetchPartition {
                topic: named(version, &(topic.topic.clone(), topic.topic_id)),
                index: partition.partition,
                current_leader_epoch: partition.current_leader_epoch,
                fetch_offset: partition.fetch_offset,
                last_fetched_epoch: partition.last_fetched_epoch,
                max_bytes: partition.partition_max_bytes,
            })
        }).collect();
        prop_assert_eq!(decoded.partitions, partitions);
        let forgotten: Vec<_> = request.forgotten_topics_data.iter().flat_map(|topic| {
            let topic_ref = named(version, &(topic.topic.clone(), topic.topic_id));
            topic.partitions.iter().map(move |index| (topic_ref.clone(), *index))
        }).collect();
        prop_assert_eq!(decoded.forgotten, forgotten);
    }

    #[test]
    fn responses_are_the_bytes_of_the_generated_codec(
        topics in vec((topic_refs(), vec(data(), 1..4)), 0..4),
        session_id in any::<i32>(),
        error in prop_oneof![Just(None), Just(Some(ErrorCode::InvalidFetchSessionEpoch))],
        endpoint in option::of((any::<i32>(), "[a-z.]{0,200}", any::<u16>(), option::of("[a-z]{0,9}"))),
        version in VERSIONS,
    ) {
        let mut generated = kafka_wire::FetchResponse::default();
        let mut response = FetchResponse { error, session_id, ..FetchResponse::default() };
        if version >= SESSIONS {
            generated.session_id = session_id;
            generated.error_code = error.map_or(0, ErrorCode::code);
        }
        for (topic, partitions) in topics {
            let topic = named(version, &topic);
            let data: Vec<_> = partitions.iter().map(|data| generated_data(version, data)).collect();
            // Neighbours of one topic are one topic on the wire.
            let together = response.partitions.last().is_some_and(|(last, _)| *last == topic);
            match (together, &topic) {
                (true, _) => generated.responses.last_mut().expect("there is one").partitions.extend(data),
                (_, TopicRef::Name(name)) => generated.responses.push(message!(FetchableTopicResponse { topic: name.clone(), partitions: data })),
                (_, TopicRef::Id(id)) => generated.responses.push(message!(FetchableTopicResponse { topic_id: *id, partitions: data })),
            }
            response.partitions.extend(partitions.into_iter().map(|data| (topic.clone(), data)));
        }
        if let Some((node_id, host, port, rack)) = endpoint.filter(|_| version >= CURRENT_LEADER) {
            generated.node_endpoints.push(message!(GeneratedEndpoint {
                node_id,
                host: StrBytes::from(host.as_str()),
                port: i32::from(port),
                rack: rack.as_deref().map(StrBytes::from),
            }));
            response.endpoints.push(NodeEndpoint { node_id, host, port, rack });
        }
        let by_hand = response.encode(version).expect("it encodes").to_bytes();
        prop_assert_eq!(by_hand, encoded(&generated, version));
    }

    #[test]
    fn what_follows_the_last_field_is_ignored(request in requests(), more in vec(any::<u8>(), 1..9), version in VERSIONS) {
        let bytes = encoded(&fit(request, version), version);
        let longer = [&bytes[..], &more[..]].concat();
        let decoded = FetchRequest::decode(bytes, version).expect("it decodes");
        prop_assert_eq!(FetchRequest::decode(Bytes::from(longer), version).expect("it decodes"), decoded);
    }

    #[test]
    fn any_bytes_decode_to_a_request_or_an_error(bytes in vec(any::<u8>(), 0..300), version in VERSIONS) {
        let _ = FetchRequest::decode(Bytes::from(bytes), version);
    }

    #[test]
    fn damaged_requests_decode_to_a_request_or_an_error(
        request in requests(),
        version in VERSIONS,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&fit(request, version), version).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = FetchRequest::decode(Bytes::from(bytes), version);
    }
}

#[test]
fn records_leave_as_they_were_read() {
    let records = Bytes::from(vec![7; 4096]);
    let data = PartitionData { records: vec![records.clone()], ..PartitionData::failed(0, ErrorCode::None) };
    let topic = TopicRef::Name(StrBytes::from("t"));
    let response = FetchResponse { partitions: vec![(topic, data)], ..FetchResponse::default() };
    let (chunks, ..) = response.encode(12).expect("it encodes").into_parts();
    assert!(chunks.iter().any(|chunk| chunk.as_ptr() == records.as_ptr()));
}
