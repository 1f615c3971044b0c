//! Bytes that Apache Kafka 4.4.0 wrote into its `__consumer_offsets` must read and write the same here.

use proptest::prelude::*;

use super::*;

fn unhex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect()
}

/// Parses Kafka's bytes, and asserts that they are written back identically.
fn kafkas(key: &str, value: Option<&str>) -> StateRecord {
    let record = StateRecord::parse(unhex(key), value.map(unhex)).expect("Kafka wrote it");
    assert_eq!(hex(&record.key()), key);
    assert_eq!(record.value().map(|v| hex(&v)).as_deref(), value);
    record
}

#[test]
fn an_empty_group_as_kafka_writes_it() {
    let record = kafkas("0002000c776436697465336e622d6d34", Some("0003000000000000ffffffff000001a205d8ac0200000000"));
    let StateRecord::Group { group, value: Some(value) } = record else { panic!("{record:?}") };
    assert_eq!(&*group, "wd6ite3nb-m4");
    assert_eq!((&*value.protocol_type, value.generation), ("", 0));
    assert_eq!((value.protocol, value.leader), (None, None));
    assert_eq!(value.state_timestamp_ms, Some(0x01a2_05d8_ac02));
    assert!(value.members.is_empty());
}

#[test]
fn a_stable_group_as_kafka_writes_it() {
    let record = kafkas(
        "0002000c776436697465336e622d6d34",
        Some(concat!(
            "00030008636f6e73756d657200000001000572616e6765002e776972652d646966662d36643962633461332d333330332d346334302d",
            "616238332d633762643765313564343933000001a205d8b7c000000001002e776972652d646966662d36643962633461332d33333033",
            "2d346334302d616238332d633762643765313564343933ffff0009776972652d64696666000a2f3132372e302e302e31000075300000",
            "75300000001b000100000001000b776436697465336e622d74ffffffff000000000000000861737369676e6564"
        )),
    );
    let StateRecord::Group { value: Some(value), .. } = record else { panic!("{record:?}") };
    assert_eq!((&*value.protocol_type, value.generation), ("consumer", 1));
    assert_eq!(value.protocol.as_deref(), Some("range"));
    let member = &value.members[0];
    assert_eq!(value.leader.as_deref(), Some(&*member.member_id));
    assert_eq!((&*member.client_id, &*member.client_host), ("wire-diff", "/127.0.0.1"));
    assert_eq!((member.rebalance_timeout_ms, member.session_timeout_ms), (30000, 30000));
    assert_eq!(&member.assignment[..], b"assigned");
}

#[test]
fn a_committed_offset_as_kafka_writes_it() {
    let key = "0001000c776436697465336e622d6d34000b776436697465336e622d7400000000";
    let record =
        kafkas(key, Some("00040000000000000001ffffffff01000001a205d8b7e0010010a7d2c4a9a1c94a14a82b6e432b321a80"));
    let StateRecord::Offset { group, topic, partition, value: Some(value) } = record else { panic!("{record:?}") };
    assert_eq!((&*group, &*topic, partition), ("wd6ite3nb-m4", "wd6ite3nb-t", 0));
    assert_eq!((value.offset, value.leader_epoch, &*value.metadata), (1, -1, ""));
    assert!(value.topic_id.is_some());
    assert!(matches!(kafkas(key, None), StateRecord::Offset { value: None, .. }));
}

#[test]
fn older_value_versions_are_read() {
    let key = unhex("000000016700017400000002");
    let v0 = unhex("00000000000000000007000131000000000000002a");
    let v2 = unhex("00020000000000000007000131000000000000002a");
    let v3 = unhex("0003000000000000000700000005000131000000000000002a");
    for (value, epoch) in [(v0, -1), (v2, -1), (v3, 5)] {
        let Ok(StateRecord::Offset { value: Some(value), .. }) = StateRecord::parse(key.clone(), Some(value)) else {
            panic!("not read")
        };
        assert_eq!((value.offset, value.leader_epoch, &*value.metadata), (7, epoch, "1"));
        assert_eq!((value.commit_timestamp_ms, value.expire_timestamp_ms), (42, None));
    }
}

#[test]
fn unknown_versions_are_named() {
    let group = unhex("0002000167");
    assert_eq!(StateRecord::parse(unhex("00030000"), None), Err(RecordError::UnknownKey(3)));
    assert_eq!(StateRecord::parse(group.clone(), Some(unhex("0009"))), Err(RecordError::UnknownValue(9)));
    assert_eq!(StateRecord::parse(group, Some(unhex("0003"))), Err(RecordError::Malformed("group's value")));
}

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-zäß-]{0,12}".prop_map(Arc::from)
}

fn blob() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

prop_compose! {
    fn member()(
        member_id in text(), instance_id in prop::option::of(text()), client_id in text(), client_host in text(),
        rebalance_timeout_ms in any::<i32>(), session_timeout_ms in any::<i32>(), subscription in blob(),
        assignment in blob(),
    ) -> MemberRecord {
        MemberRecord {
            member_id, instance_id, client_id, client_host, rebalance_timeout_ms, session_timeout_ms, subscription,
            assignment,
        }
    }
}

fn record() -> impl Strategy<Value = StateRecord> {
    let offset = (text(), text(), any::<i32>(), any::<i64>(), 0..9i32, text(), 0..i64::MAX, prop::option::of(0..9i64))
        .prop_map(|(group, topic, partition, offset, epoch, metadata, commit_timestamp_ms, expire_timestamp_ms)| {
            // A value with its own expiry is written in version 1, which has neither epoch nor topic id.
            let old = expire_timestamp_ms.is_some();
            let value = CommittedOffset {
                offset,
                leader_epoch: if old { -1 } else { epoch },
                metadata,
                commit_timestamp_ms,
                expire_timestamp_ms,
                topic_id: if old { None } else { TopicId::from_bytes([epoch as u8; 16]) },
            };
            StateRecord::Offset { group, topic, partition, value: Some(value) }
        });
    let group = (
        text(),
        text(),
        any::<i32>(),
        prop::option::of(text()),
        prop::option::of(text()),
        prop::collection::vec(member(), 0..3),
    )
        .prop_map(|(group, protocol_type, generation, protocol, leader, members)| {
            let value =
                GroupRecord { protocol_type, generation, protocol, leader, state_timestamp_ms: Some(5), members };
            StateRecord::Group { group, value: Some(value) }
        });
    prop_oneof![offset, group]
}

proptest! {
    #[test]
    fn every_record_reads_back_as_written(record in record()) {
        prop_assert_eq!(StateRecord::parse(record.key(), record.value()), Ok(record));
    }

    #[test]
    fn no_bytes_panic(key in prop::collection::vec(any::<u8>(), 0..40), version in 0..5i16, rest in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut value = version.to_be_bytes().to_vec();
        value.extend(rest);
        for key in [Bytes::from(key), unhex("0002000167"), unhex("000100016700017400000002")] {
            let _ = StateRecord::parse(key, Some(Bytes::from(value.clone())));
        }
    }
}
