//! Compaction equals a model: of each key the newest record, tombstones for a while; and a crash anywhere loses nothing.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn keyed(key: u8, value: Option<u16>) -> Bytes {
    let value = value.map(|value| value.to_string());
    BatchBuilder::new(Compression::Lz4)
        .record(START_MS, Some(&[b'a' + key]), value.as_deref().map(str::as_bytes))
        .build()
}

/// The newest value of each key: what a consumer that reads everything ends up with.
fn table(log: &Log) -> BTreeMap<String, String> {
    let mut table = BTreeMap::new();
    for seen in read_all(log) {
        let key = seen.key.expect("every record has a key");
        match seen.value {
            Some(value) => table.insert(key, value),
            None => table.remove(&key),
        };
    }
    table
}

fn fill(node: &Node, log: &Log, records: &[(u8, Option<u16>)]) {
    for (key, value) in records {
        append(log, keyed(*key, *value), 0).expect("appended");
    }
    node.wal.sync_all().expect("synced");
    log.advance_high_watermark(log.offsets().flushed_end);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn readers_see_the_same_table_before_and_after(
        records in prop::collection::vec((0u8..6, prop::option::weighted(0.8, any::<u16>())), 1..120),
        rounds in 1usize..4,
        seed in any::<u64>(),
    ) {
        let node = Node::start(SimDisk::new());
        let log = node.log(LogConfig { segment_bytes: 600, min_cleanable_dirty_ratio: 0.0, ..compacted() });
        for chunk in records.chunks(records.len().div_ceil(rounds)) {
            fill(&node, &log, chunk);
            let (before, end) = (table(&log), log.offsets().log_end);
            node.clock.advance(10_000);
            node.maintain();
            prop_assert_eq!(table(&log), before);
            prop_assert_eq!(log.offsets().log_end, end);
        }
        let (before, end) = (table(&log), log.offsets().log_end);
        drop(log);
        let node = node.crash(seed);
        let log = node.log(compacted());
        prop_assert_eq!(table(&log), before);
        prop_assert_eq!(log.offsets().log_end, end);
    }
}

#[test]
fn superseded_records_go_and_the_rest_is_merged() {
    let node = Node::start(SimDisk::new());
    let log = node.log(LogConfig { segment_bytes: 600, min_cleanable_dirty_ratio: 0.0, ..compacted() });
    let records: Vec<_> = (0..100).map(|number| ((number % 3) as u8, Some(number))).collect();
    fill(&node, &log, &records);
    let segments = log.segment_count();
    for _ in 0..3 {
        node.clock.advance(10_000);
        node.maintain();
        // What is clean already is merged when there is something new to clean.
        fill(&node, &log, &records[..20]);
    }
    assert!(log.segment_count() < segments / 2 + 4, "{} of {segments} segments are left", log.segment_count());
    assert!(read_all(&log).len() < 40, "{} records are left", read_all(&log).len());
}

#[test]
fn a_tombstone_stays_for_delete_retention_ms() {
    let node = Node::start(SimDisk::new());
    let config =
        LogConfig { segment_bytes: 200, min_cleanable_dirty_ratio: 0.0, delete_retention_ms: 1000, ..compacted() };
    let log = node.log(config);
    let tombstones = |log: &Log| read_all(log).iter().filter(|seen| seen.value.is_none()).count();
    fill(&node, &log, &[(0, Some(1)), (0, None), (1, Some(1)), (1, Some(2)), (1, Some(3))]);
    node.maintain();
    assert_eq!(tombstones(&log), 1);
    for round in 0..3u16 {
        node.clock.advance(20_000);
        fill(&node, &log, &[(1, Some(round)), (1, Some(round)), (1, Some(round))]);
        node.maintain();
        node.clock.advance(20_000);
        node.maintain();
    }
    assert_eq!(tombstones(&log), 0);
}

#[test]
fn a_crash_before_or_after_any_operation_of_a_swap_loses_nothing() {
    let records: Vec<_> = (0..60).map(|number| ((number % 4) as u8, Some(number))).collect();
    for point in 1.. {
        let node = Node::start(SimDisk::new());
        let log = node.log(LogConfig { segment_bytes: 900, min_cleanable_dirty_ratio: 0.0, ..compacted() });
        fill(&node, &log, &records);
        node.store.checkpoint(false).expect("checkpointed");
        let (expected, end) = (table(&log), log.offsets().log_end);
        node.disk.crash_at(point);
        let done = node.store.compact(START_MS).is_ok();
        drop(log);
        let node = node.crash(point);
        let log = node.log(compacted());
        assert_eq!((table(&log), log.offsets().log_end), (expected, end), "crash at point {point}");
        if done {
            break;
        }
    }
}

#[test]
fn a_producers_newest_batch_stays_until_a_newer_one_is_committed() {
    let numbered = |sequence: i32| {
        BatchBuilder::new(Compression::None)
            .idempotent(crate::ids::ProducerId::new(7), crate::ids::ProducerEpoch::FIRST, sequence)
            .record(START_MS, Some(b"a"), Some(b"numbered"))
            .build()
    };
    let node = Node::start(SimDisk::new());
    let log = node.log(LogConfig { segment_bytes: 200, min_cleanable_dirty_ratio: 0.0, ..compacted() });
    append_flushed(&node, &log, numbered(0));
    fill(&node, &log, &[(0, Some(1)), (0, Some(2)), (0, Some(3)), (0, Some(4))]);
    let committed = log.offsets().log_end;
    append(&log, numbered(1), 0).expect("appended");
    node.wal.sync_all().expect("synced");
    assert_eq!(log.offsets().high_watermark, committed);
    node.clock.advance(10_000);
    node.maintain();
    assert!(read_all(&log).len() < 6, "it was compacted");
    // Another leader never had the second.
    log.truncate_to(committed).expect("cut");
    assert!(append(&log, numbered(0), 0).expect("known").duplicate);
    assert!(!append(&log, numbered(1), 0).expect("the next").duplicate);
}
