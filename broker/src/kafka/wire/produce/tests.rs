//! The hand-written codec against the generated one, at every version.

use bytes::BytesMut;
use kafka_wire::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_wire::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint as GeneratedEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use kafka_wire_core::{ApiVersion, KafkaEncode, Uuid};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::message;

const VERSIONS: std::ops::RangeInclusive<i16> = 3..=13;

/// Seven bytes on the wire take a hundred in memory: the bound of one array must not be passed by many.
#[test]
fn partitions_are_bounded_over_all_topics() {
    let partitions = vec![message!(PartitionProduceData { index: 0, records: None }); 100_000];
    let topic = message!(TopicProduceData { name: "t".into(), partition_data: partitions });
    for (topics, fits) in [(2, true), (3, false)] {
        let request = message!(kafka_wire::ProduceRequest { topic_data: vec![topic.clone(); topics] });
        assert_eq!(ProduceRequest::decode(encoded(&request, 9), 9).is_ok(), fits, "{topics} topics");
    }
}

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

fn requests() -> impl Strategy<Value = kafka_wire::ProduceRequest> {
    let partition = (any::<i32>(), option::of(vec(any::<u8>(), 0..100)))
        .prop_map(|(index, records)| message!(PartitionProduceData { index, records: records.map(Bytes::from) }));
    let topic = (topic_refs(), vec(partition, 0..4))
        .prop_map(|((name, topic_id), partition_data)| message!(TopicProduceData { name, topic_id, partition_data }));
    (option::of("[a-z]{0,9}"), any::<i16>(), any::<i32>(), vec(topic, 0..4)).prop_map(
        |(transactional_id, acks, timeout_ms, topic_data)| {
            let transactional_id = transactional_id.map(StrBytes::from);
            message!(kafka_wire::ProduceRequest { transactional_id, acks, timeout_ms, topic_data })
        },
    )
}

fn responses() -> impl Strategy<Value = PartitionResponse> {
    let error = (any::<i32>(), "[a-zé ]{0,20}").prop_map(|(index, message)| RecordError { index, message });
    let leader =
        (any::<i32>(), any::<i32>()).prop_map(|(leader_id, leader_epoch)| CurrentLeader { leader_id, leader_epoch });
    let error_code =
        prop_oneof![Just(ErrorCode::None), Just(ErrorCode::NotLeaderOrFollower), Just(ErrorCode::InvalidRecord)];
    let offsets = (any::<i64>(), any::<i64>(), any::<i64>());
    (any::<i32>(), error_code, offsets, vec(error, 0..3), option::of("[a-zé ]{0,20}"), option::of(leader)).prop_map(
        |(
            index,
            error,
            (base_offset, log_append_time_ms, log_start_offset),
            record_errors,
            error_message,
            current_leader,
        )| {
            PartitionResponse {
                index,
                error,
                base_offset,
                log_append_time_ms,
                log_start_offset,
                record_errors,
                error_message,
                current_leader,
            }
        },
    )
}

fn endpoints() -> impl Strategy<Value = Vec<NodeEndpoint>> {
    let endpoint = (any::<i32>(), "[a-z.]{0,200}", any::<u16>(), option::of("[a-z]{0,9}"))
        .prop_map(|(node_id, host, port, rack)| NodeEndpoint { node_id, host, port, rack });
    vec(endpoint, 0..3)
}

/// What the generated codec would be given, with the fields only that the version has.
fn generated(
    version: i16,
    topics: &[(TopicRef, usize)],
    partitions: &[PartitionResponse],
    endpoints: &[NodeEndpoint],
) -> kafka_wire::ProduceResponse {
    let mut rest = partitions.iter();
    let partition = |partition: &PartitionResponse| {
        let mut response = message!(PartitionProduceResponse {
            index: partition.index,
            error_code: partition.error.code(),
            base_offset: partition.base_offset,
            log_append_time_ms: partition.log_append_time_ms,
        });
        if version >= LOG_START {
            response.log_start_offset = partition.log_start_offset;
        }
        if version >= RECORD_ERRORS {
            response.error_message = partition.error_message.as_deref().map(StrBytes::from);
            let errors = partition.record_errors.iter().map(|error| {
                message!(BatchIndexAndErrorMessage {
                    batch_index: error.index,
                    batch_index_error_message: Some(StrBytes::from(error.message.as_str())),
                })
            });
            response.record_errors = errors.collect();
        }
        if let Some(leader) = partition.current_leader.filter(|_| version >= CURRENT_LEADER) {
            response.current_leader =
                message!(LeaderIdAndEpoch { leader_id: leader.leader_id, leader_epoch: leader.leader_epoch });
        }
        response
    };
    let responses = topics.iter().map(|(topic, count)| {
        let partition_responses = rest.by_ref().take(*count).map(partition).collect();
        match topic {
            TopicRef::Name(name) => message!(TopicProduceResponse { name: name.clone(), partition_responses }),
            TopicRef::Id(id) => message!(TopicProduceResponse { topic_id: *id, partition_responses }),
        }
    });
    let mut response = message!(kafka_wire::ProduceResponse { responses: responses.collect() });
    if version >= CURRENT_LEADER {
        let endpoints = endpoints.iter().map(|endpoint| {
            message!(GeneratedEndpoint {
                node_id: endpoint.node_id,
                host: StrBytes::from(endpoint.host.as_str()),
                port: i32::from(endpoint.port),
                rack: endpoint.rack.as_deref().map(StrBytes::from),
            })
        });
        response.node_endpoints = endpoints.collect();
    }
    response
}

proptest! {
    #[test]
    fn requests_decode_as_the_generated_codec_encodes_them(request in requests(), version in VERSIONS) {
        let bytes = encoded(&request, version);
        let decoded = ProduceRequest::decode(bytes, version).expect("it decodes");
        prop_assert_eq!(&decoded.transactional_id, &request.transactional_id);
        prop_assert_eq!(decoded.acks, request.acks);
        prop_assert_eq!(decoded.timeout_ms, request.timeout_ms);
        let mut rest = &decoded.partitions[..];
        prop_assert_eq!(decoded.topics.len(), request.topic_data.len());
        for ((topic, count), expected) in decoded.topics.iter().zip(&request.topic_data) {
            prop_assert_eq!(topic, &named(version, &(expected.name.clone(), expected.topic_id)));
            let (partitions, others) = rest.split_at(*count);
            rest = others;
            let found: Vec<_> = partitions.iter().map(|one| (one.index, one.records.clone())).collect();
            let wanted: Vec<_> = expected.partition_data.iter().map(|one| (one.index, one.records.clone())).collect();
            prop_assert_eq!(found, wanted);
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn responses_are_the_bytes_of_the_generated_codec(
        topics in vec((topic_refs(), vec(responses(), 0..4)), 0..4),
        endpoints in endpoints(),
        version in VERSIONS,
    ) {
        let counts: Vec<_> = topics.iter().map(|(topic, partitions)| (named(version, topic), partitions.len())).collect();
        let partitions: Vec<_> = topics.into_iter().flat_map(|(_, partitions)| partitions).collect();
        let by_hand = encode_response(version, &counts, &partitions, &endpoints).to_bytes();
        prop_assert_eq!(by_hand, encoded(&generated(version, &counts, &partitions, &endpoints), version));
    }

    #[test]
    fn what_follows_the_last_field_is_ignored(request in requests(), more in vec(any::<u8>(), 1..9), version in VERSIONS) {
        let bytes = encoded(&request, version);
        let longer = [&bytes[..], &more[..]].concat();
        let decoded = ProduceRequest::decode(bytes, version).expect("it decodes");
        prop_assert_eq!(ProduceRequest::decode(Bytes::from(longer), version).expect("it decodes"), decoded);
    }

    #[test]
    fn any_bytes_decode_to_a_request_or_an_error(bytes in vec(any::<u8>(), 0..300), version in VERSIONS) {
        let _ = ProduceRequest::decode(Bytes::from(bytes), version);
    }

    #[test]
    fn damaged_requests_decode_to_a_request_or_an_error(
        request in requests(),
        version in VERSIONS,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&request, version).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = ProduceRequest::decode(Bytes::from(bytes), version);
    }
}

#[test]
fn an_array_count_of_two_billion_is_refused_without_memory_for_it() {
    let mut body = BytesMut::new();
    body.put_i16(-1); // no transactional id
    body.put_i16(1);
    body.put_i32(1000);
    body.put_i32(2_000_000_000);
    assert!(ProduceRequest::decode(body.freeze(), 3).is_err());
}

#[test]
fn records_are_slices_of_the_body() {
    let request = message!(kafka_wire::ProduceRequest {
        topic_data: vec![message!(TopicProduceData {
            name: StrBytes::from("t"),
            partition_data: vec![message!(PartitionProduceData { records: Some(Bytes::from(vec![7; 1000])) })],
        })],
    });
    for version in 3..=13 {
        let body = encoded(&request, version);
        let range = body.as_ptr_range();
        let decoded = ProduceRequest::decode(body.clone(), version).expect("it decodes");
        let records = decoded.partitions[0].records.as_ref().expect("there are records");
        assert!(range.contains(&records.as_ptr()), "version {version}");
        assert!(!decoded.partitions.spilled() && !decoded.topics.spilled(), "nothing is allocated for one partition");
    }
}
