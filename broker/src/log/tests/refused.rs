//! What a leader refuses, each with Kafka's kind of error; and what it changes in what it takes.

use super::*;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::log::batch::HEADER_BYTES;
use crate::log::validate::{Rules, validate};
use crate::log::{TimestampType, TopicCompression};

fn check(records: &[u8], config: &LogConfig, origin: Origin) -> Result<Vec<Vec<u8>>, AppendError> {
    let rules = Rules { config, origin, now_ms: START_MS, name: "topic-0" };
    let valid = validate(Bytes::copy_from_slice(records), rules)?;
    Ok(valid.batches.iter().map(|batch| batch.bytes.to_vec()).collect())
}

fn refusal(records: &[u8], config: &LogConfig) -> &'static str {
    match check(records, config, Origin::Client).expect_err("refused") {
        AppendError::Corrupt(_) => "corrupt",
        AppendError::InvalidRecord { .. } => "invalid record",
        AppendError::InvalidTimestamp { .. } => "invalid timestamp",
        AppendError::TooLarge { .. } => "too large",
        AppendError::LargerThanSegment { .. } => "larger than segment",
        other => panic!("{other}"),
    }
}

/// A good batch with a header field changed and the CRC right again.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut changed = batch(&["a", "b"]).to_vec();
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    recrc(&mut changed);
    changed
}

fn recrc(batch: &mut [u8]) {
    let crc = crc_fast::crc32_iscsi(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn a_bad_batch_is_refused_with_kafkas_kind_of_error() {
    let good = batch(&["a", "b"]).to_vec();
    let mut flipped = good.clone();
    flipped[70] ^= 1;
    let mut old = good.clone();
    old[16] = 1;
    let mut unknown = good.clone();
    unknown[16] = 9;
    let mut tiny = good.clone();
    tiny[8..12].copy_from_slice(&3i32.to_be_bytes());
    let zipped = |payload: &[u8]| {
        let mut batch = [&good[..HEADER_BYTES], payload].concat();
        let length = (batch.len() - 12) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[22] |= 1;
        recrc(&mut batch);
        batch
    };
    let cases: [(&str, Vec<u8>, &str); 14] = [
        ("nothing", Vec::new(), "invalid record"),
        ("a cut batch", good[..good.len() - 5].to_vec(), "invalid record"),
        ("a wrong crc", flipped, "corrupt"),
        ("magic 1", old, "invalid record"),
        ("magic 9", unknown, "corrupt"),
        ("an impossible length", tiny, "corrupt"),
        ("two batches", [good.clone(), good.clone()].concat(), "invalid record"),
        ("a base offset", with(0, &5i64.to_be_bytes()), "invalid record"),
        ("more records declared", with(57, &9i32.to_be_bytes()), "invalid record"),
        (
            "fewer records declared, consistently",
            {
                let mut fewer = with(57, &1i32.to_be_bytes());
                fewer[23..27].copy_from_slice(&0i32.to_be_bytes());
                recrc(&mut fewer);
                fewer
            },
            "invalid record",
        ),
        ("no records", with(57, &0i32.to_be_bytes()), "invalid record"),
        ("a control batch", with(21, &0x20i16.to_be_bytes()), "invalid record"),
        ("an unknown codec", with(21, &7i16.to_be_bytes()), "invalid record"),
        ("no gzip at all", zipped(b"this is not gzip"), "invalid record"),
    ];
    for (what, records, expected) in cases {
        assert_eq!(refusal(&records, &small()), expected, "{what}");
    }
}

#[test]
fn a_producer_without_sequence_is_refused() {
    let mut records = batch(&["a"]).to_vec();
    records[43..51].copy_from_slice(&7i64.to_be_bytes());
    records[51..53].copy_from_slice(&0i16.to_be_bytes());
    recrc(&mut records);
    assert_eq!(refusal(&records, &small()), "invalid record");
}

#[test]
fn sizes_are_bounded() {
    let big = batch(&[&"x".repeat(1500)]);
    assert_eq!(refusal(&big, &LogConfig { max_message_bytes: 1000, ..small() }), "too large");
    assert_eq!(refusal(&big, &LogConfig { segment_bytes: 1000, ..small() }), "larger than segment");
}

#[test]
fn a_bomb_is_refused() {
    let config = LogConfig { max_message_bytes: 1 << 20, ..LogConfig::default() };
    let bomb = BatchBuilder::new(Compression::Zstd).record(START_MS, None, Some(&vec![0; 70 << 20])).build();
    assert!(bomb.len() < 100_000);
    assert_eq!(refusal(&bomb, &config), "invalid record");
}

#[test]
fn records_without_key_are_named_in_a_compacted_topic() {
    let records = BatchBuilder::new(Compression::None)
        .record(START_MS, Some(b"k"), None)
        .record(START_MS, None, Some(b"v"))
        .build();
    let Err(AppendError::InvalidRecord { message, records }) = check(&records, &compacted(), Origin::Client) else {
        panic!("refused");
    };
    assert!(message.starts_with("One or more records have been rejected due to 1 record errors in total"), "{message}");
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].index, 1);
    assert_eq!(records[0].message, "Compacted topic cannot accept message without key in topic partition topic-0");
}

#[test]
fn timestamps_out_of_range_are_named() {
    let config = LogConfig { timestamp_before_max_ms: 100, timestamp_after_max_ms: 50, ..small() };
    let one = |timestamp| BatchBuilder::new(Compression::None).record(timestamp, None, None).build();
    for good in [START_MS - 100, START_MS, START_MS + 50, -1] {
        assert!(check(&one(good), &config, Origin::Client).is_ok(), "{good}");
    }
    for bad in [START_MS - 101, START_MS + 51, i64::MIN, i64::MAX] {
        assert_eq!(refusal(&one(bad), &config), "invalid timestamp", "{bad}");
    }
    let Err(AppendError::InvalidTimestamp { message, records }) = check(&one(1), &config, Origin::Client) else {
        panic!("refused");
    };
    assert_eq!(message, "One or more records have been rejected due to invalid timestamp");
    assert_eq!(
        records[0].message,
        "Timestamp 1 of message with offset 0 is out of range. The timestamp should be within [999900, 1000050]"
    );
}

#[test]
fn append_time_is_put_on_and_not_taken_from_producers() {
    let config = LogConfig { timestamp_type: TimestampType::LogAppendTime, ..small() };
    let stored = check(&batch(&["a"]), &config, Origin::Client).expect("taken");
    let header = BatchHeader::read(&stored[0]).expect("whole");
    assert_eq!((header.timestamp_type(), header.max_timestamp), (TimestampType::LogAppendTime, START_MS));
    assert!(header.check_crc(&stored[0]).is_ok());
    let claimed = with(21, &0x08i16.to_be_bytes());
    assert_eq!(refusal(&claimed, &config), "invalid timestamp");
}

#[test]
fn a_wrong_largest_timestamp_is_set_right() {
    let stored = check(&with(35, &5i64.to_be_bytes()), &small(), Origin::Client).expect("taken");
    let header = BatchHeader::read(&stored[0]).expect("whole");
    assert_eq!(header.max_timestamp, START_MS);
    assert!(header.check_crc(&stored[0]).is_ok());
}

#[test]
fn a_topics_own_codec_is_applied_and_the_producers_fields_stay() {
    let (id, epoch) = (ProducerId::new(3), ProducerEpoch::new(2));
    for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let config = LogConfig { compression: TopicCompression::Always(codec), ..small() };
        let headers = [(&b"h"[..], None)];
        let records = BatchBuilder::new(Compression::Lz4)
            .idempotent(id, epoch, 9)
            .record_with_headers(START_MS + 4, Some(b"k"), Some(b"v"), headers.iter().copied())
            .build();
        let stored = check(&records, &config, Origin::Client).expect("taken");
        let header = BatchHeader::read(&stored[0]).expect("whole");
        assert_eq!((header.compression(), header.count, header.base_sequence), (codec, 1, 9));
        assert_eq!((header.producer(), header.max_timestamp), (Some(id), START_MS + 4));
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_refused_or_taken_without_panic(
        mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        repair in proptest::bool::ANY,
    ) {
        if repair && bytes.len() > HEADER_BYTES {
            let length = (bytes.len() - 12) as i32;
            bytes[0..8].fill(0);
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[16] = 2;
            recrc(&mut bytes);
        }
        let _ = check(&bytes, &LogConfig::default(), Origin::Client);
        let _ = check(&bytes, &compacted(), Origin::Coordinator);
    }
}
