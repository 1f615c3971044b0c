//! Background work beside clients, stops, deletions, damage and a full disk.

use std::io::IoSlice;

use super::*;
use crate::io::disk::{Disk, OpenMode};
use crate::log::files;

pub(super) const ENOSPC: i32 = 28;

fn cleanable() -> LogConfig {
    LogConfig { segment_bytes: 600, min_cleanable_dirty_ratio: 0.0, ..compacted() }
}

fn fill(node: &Node, log: &Log) {
    for number in 0..60 {
        append_flushed(node, log, batch(&[&format!("value {number}")]));
    }
}

fn names(node: &Node) -> Vec<String> {
    node.disk.list(folder()).expect("listed").into_iter().map(|entry| entry.name).collect()
}

#[test]
fn a_full_disk_puts_background_work_off_until_there_is_room() {
    let node = Node::start(SimDisk::new());
    let log = node.log(cleanable());
    fill(&node, &log);
    let before = values(&log);
    node.disk.set_capacity(Some(node.disk.used()));
    for _ in 0..3 {
        node.clock.advance(10_000);
        node.maintain();
    }
    assert_eq!(values(&log), before, "nothing was compacted: the checkpoint could not be written before");
    node.disk.set_capacity(None);
    node.clock.advance(10_000);
    node.maintain();
    assert!(values(&log).len() < before.len());
    let expected = values(&log);
    for seed in 0..10 {
        assert_eq!(values(&Node::start(node.disk.crash(seed)).log(cleanable())), expected, "seed {seed}");
    }
}

#[test]
fn what_a_full_disk_kept_out_of_the_checkpoint_is_written_before_files_change() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    for number in 0..50 {
        append_flushed(&node, &log, batch(&[&format!("old {number}")]));
    }
    node.store.checkpoint(false).expect("checkpointed");
    node.disk.set_capacity(Some(node.disk.used()));
    log.truncate_to(offset(12)).expect_err("the checkpoint cannot be told");
    node.disk.set_capacity(None);
    log.truncate_to(offset(12)).expect("cut");
    for seed in 0..20 {
        let node = Node::start(node.disk.crash(seed));
        assert_eq!(read_all(&node.store.get(&id(1, 0)).expect("there")).len(), 12, "seed {seed}");
    }
}

#[test]
fn a_log_that_cannot_be_read_is_left_alone_and_the_others_are_compacted() {
    let node = Node::start(SimDisk::new());
    let damaged = node.log(cleanable());
    fill(&node, &damaged);
    let whole = node.store.open_or_create("topic", id(1, 1), Arc::new(cleanable())).expect("made");
    fill(&node, &whole);
    node.wal.sync_all().expect("synced");
    let path = files::segment_path(folder(), offset(0));
    let file = node.disk.open(&path, OpenMode::Write).expect("there");
    file.write_all_at(&[IoSlice::new(b"\xff\xff")], 65).expect("written");
    let before = whole.size_bytes();
    for _ in 0..2 {
        node.clock.advance(10_000);
        node.maintain();
    }
    assert!(whole.size_bytes() < before);
    assert!(!names(&node).iter().any(|name| name.ends_with(files::CLEANED)), "{:?}", names(&node));
}

#[test]
fn a_stop_ends_a_compaction_and_leaves_nothing_half_done() {
    let node = Node::start(SimDisk::new());
    let log = node.log(cleanable());
    fill(&node, &log);
    node.store.checkpoint(false).expect("checkpointed");
    let before = values(&log);
    node.store.stop_background();
    log.compact(START_MS, 1 << 20, None).expect("ended");
    assert_eq!(values(&log), before);
    assert!(!names(&node).iter().any(|name| name.ends_with(files::CLEANED)), "{:?}", names(&node));
    drop(log);
    assert_eq!(values(&node.restart().log(cleanable())), before);
}

#[test]
fn a_deletion_does_not_wait_for_a_compaction_that_keeps_to_its_budget() {
    let node = Node::start(SimDisk::new());
    let log = node.log(cleanable());
    fill(&node, &log);
    node.store.checkpoint(false).expect("checkpointed");
    let before = log.size_bytes();
    std::thread::scope(|scope| {
        // One byte a second: left to itself it takes an hour.
        scope.spawn(|| log.compact(START_MS, 1 << 20, Some(1)).expect("ended"));
        while log.size_bytes() == before {
            std::thread::yield_now();
        }
        node.store.delete(&id(1, 0)).expect("deleted");
    });
}

#[test]
fn a_checkpoint_taken_before_a_deletion_says_nothing_of_the_log() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    append_flushed(&node, &log, numbered(0));
    let capture = log.capture().expect("new");
    node.store.delete(&id(1, 0)).expect("deleted");
    assert!(!log.settle(capture, false).expect("the folder is not looked for"));
    assert!(node.store.shared.checkpoints.lock().get(&id(1, 0)).is_none());
}

#[test]
fn a_checkpoint_taken_before_a_compaction_is_not_believed_after_it() {
    let node = Node::start(SimDisk::new());
    // A batch a segment.
    let log = node.log(LogConfig { segment_bytes: 100, ..cleanable() });
    let tombstone = BatchBuilder::new(Compression::None).record(START_MS, Some(b"gone"), None).build();
    append_flushed(&node, &log, tombstone);
    append_flushed(&node, &log, batch(&["active"]));
    node.store.checkpoint(false).expect("checkpointed");
    append_flushed(&node, &log, batch(&["one more"]));
    let capture = log.capture().expect("changed");
    let before = log.state.lock().slots[0].size;
    log.compact(START_MS, 1 << 20, None).expect("compacted");
    assert!(log.state.lock().slots[0].size > before, "its time to go is in it now");
    assert!(!log.settle(capture, false).expect("no faults"), "the file is longer than the capture says");
}

#[test]
fn a_refused_identity_is_written_when_its_records_are_sent_again() {
    let node = Node::start(SimDisk::new());
    let refuse = || node.disk.fail(crate::io::disk::sim::Operation::Write, "partition.json", 1, ENOSPC);
    refuse();
    let log = node.log(small());
    node.wal.sync_all().expect("synced");
    // The append has it written again; refused a second time, only the retry is left to do so.
    refuse();
    append(&log, numbered(0), 0).expect("taken");
    node.wal.sync_all().expect("synced");
    assert_eq!(log.offsets().flushed_end, offset(0), "nobody's folder holds nothing durable");
    assert!(append(&log, numbered(0), 0).expect("known").duplicate);
    node.wal.sync_all().expect("synced");
    assert_eq!(log.offsets().flushed_end, offset(1));
}

#[test]
fn retention_passes_over_a_segment_that_compaction_has_emptied() {
    let node = Node::start(SimDisk::new());
    let log = node.log(cleanable());
    fill(&node, &log);
    node.store.checkpoint(false).expect("checkpointed");
    node.store.compact(START_MS).expect("compacted");
    assert_eq!(log.state.lock().slots[0].size, 0, "every record of the first segment was superseded");
    log.set_config(Arc::new(LogConfig {
        cleanup_policy: CleanupPolicy { delete: true, compact: true },
        retention_ms: Some(1000),
        ..cleanable()
    }));
    node.clock.advance(50_000);
    node.store.maintain().expect("maintained");
    assert_eq!(log.offsets().log_start, offset(60));
}

#[test]
fn a_batch_that_was_taken_is_read_whatever_max_message_bytes_says_later() {
    let node = Node::start(SimDisk::new());
    let log = node.log(LogConfig { max_message_bytes: 20 << 20, ..LogConfig::default() });
    let large = BatchBuilder::new(Compression::Zstd).record(START_MS, Some(b"k"), Some(&vec![0; 70 << 20])).build();
    append_flushed(&node, &log, large);
    log.set_config(Arc::new(LogConfig { max_message_bytes: 1000, ..LogConfig::default() }));
    let found = log.offset_for_timestamp(START_MS, offset(1)).expect("readable").expect("there");
    assert_eq!(found.offset, offset(0));
}

#[test]
fn a_crash_before_or_after_any_operation_of_a_roll_loses_nothing() {
    for point in 1.. {
        let node = Node::start(SimDisk::new());
        let log = node.log(small());
        let filler = "x".repeat(1800);
        append_flushed(&node, &log, batch(&[&filler]));
        node.disk.crash_at(point);
        let appended = append(&log, batch(&[&filler]), 0);
        let rolled = appended.is_ok() && log.segment_count() == 2 && node.wal.sync_all().is_ok();
        let flushed = log.offsets().flushed_end;
        drop(log);
        let node = node.crash(point);
        let log = node.log(small());
        let seen = read_all(&log).len() as i64;
        assert!((flushed.get()..=2).contains(&seen), "crash at point {point}: {seen} records, {flushed} were flushed");
        assert_eq!(append(&log, batch(&["next"]), 0).expect("appended").base_offset, offset(seen));
        if rolled {
            assert!(point > 6, "the crash points were passed");
            break;
        }
    }
}

#[test]
fn a_crash_before_or_after_any_operation_of_a_deletion_leaves_the_log_whole_or_gone() {
    for point in 1.. {
        let node = Node::start(SimDisk::new());
        let log = node.log(small());
        for number in 0..30 {
            append_flushed(&node, &log, batch(&[&format!("value {number}")]));
        }
        node.store.checkpoint(false).expect("checkpointed");
        let expected = values(&log);
        drop(log);
        node.disk.crash_at(point);
        let deleted = node.store.delete(&id(1, 0)).is_ok();
        node.clock.advance(10);
        let removed = deleted && node.store.maintain().is_ok();
        for seed in 0..4 {
            let node = Node::start(node.disk.crash(seed));
            match node.store.get(&id(1, 0)) {
                Some(log) => {
                    assert!(!deleted, "crash at point {point}: a deleted log came back");
                    assert_eq!(values(&log), expected, "crash at point {point}");
                }
                None => assert_eq!(node.log(small()).offsets().log_end, offset(0)),
            }
        }
        if removed {
            break;
        }
    }
}
