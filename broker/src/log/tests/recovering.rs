//! What an opening believes, what it cuts, and where it stops instead.

use std::io::IoSlice;

use super::*;
use crate::io::disk::sim::Operation;
use crate::io::disk::{Disk, OpenMode, remove_if_there};
use crate::log::files::{self, IDENTITY_FILE};
use crate::log::{LogError, LogOffsets, ReadError, batch};

const EIO: i32 = 5;

fn segment(base: i64) -> PathBuf {
    files::segment_path(folder(), offset(base))
}

fn write(disk: &SimDisk, path: &Path, bytes: &[u8], at: u64) {
    let file = disk.open(path, OpenMode::Create).expect("opened");
    file.write_all_at(&[IoSlice::new(bytes)], at).expect("written");
    file.sync_all().expect("synced");
}

fn length(disk: &SimDisk, path: &Path) -> u64 {
    disk.open(path, OpenMode::Read).and_then(|file| file.len()).expect("there")
}

fn refusal(disk: SimDisk, clean: bool) -> String {
    Node::try_start(disk, clean).err().expect("refused")
}

/// The folders that were moved aside.
fn strays(disk: &SimDisk) -> Vec<String> {
    let names = disk.list(Path::new("data/stray/topic")).expect("there").into_iter().map(|entry| entry.name);
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn cut(disk: &SimDisk, path: &Path, by: u64) {
    let file = disk.open(path, OpenMode::Write).expect("there");
    file.set_len(file.len().expect("known") - by).expect("cut");
    file.sync_all().expect("synced");
}

/// A node that was stopped in order with these values.
fn stopped_with(values: &[&str]) -> SimDisk {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    for value in values {
        append_flushed(&node, &log, batch(&[value]));
    }
    node.store.close().expect("closed");
    node.wal.shutdown().expect("shut down");
    node.disk.kill()
}

/// A node that died with these values flushed and a checkpoint of the first `checkpointed`.
fn died_with(values: &[&str], checkpointed: usize) -> SimDisk {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    for (at, value) in values.iter().enumerate() {
        if at == checkpointed {
            node.store.checkpoint(false).expect("checkpointed");
        }
        append_flushed(&node, &log, batch(&[value]));
    }
    node.disk.kill()
}

#[test]
fn a_read_error_stops_the_start_and_cuts_nothing() {
    let disk = died_with(&["a", "b", "c"], 1);
    let before = length(&disk, &segment(0));
    disk.fail(Operation::Read, ".log", 1, EIO);
    assert!(refusal(disk.clone(), false).contains("00000000000000000000.log"));
    assert_eq!(length(&disk, &segment(0)), before);
    assert_eq!(values(&Node::start(disk.kill()).log(small())), ["a", "b", "c"]);
}

#[test]
fn a_folder_whose_identity_is_damaged_stops_the_start_and_is_not_removed() {
    let identity = folder().join(IDENTITY_FILE);
    for damage in [&b"{\"version\":9,\"topic_id\":\"01010101-0101-0101-0101-010101010101\"}"[..], b"garbage!"] {
        let disk = died_with(&["a"], 0).crash(1);
        disk.remove_file(&identity).expect("removed");
        write(&disk, &identity, damage, 0);
        assert!(refusal(disk.clone(), false).contains(IDENTITY_FILE));
        assert!(length(&disk, &segment(0)) > 0);
    }
    for torn in [&b""[..], &[0; 60], b"{\"version\":1,\"to"] {
        let disk = died_with(&["a"], 0);
        let disk = Node::start(disk).disk.kill();
        disk.remove_file(&identity).expect("removed");
        write(&disk, &identity, torn, 0);
        let node = Node::start(disk);
        assert!(node.store.logs().is_empty(), "nobody knows whose it is");
        assert!(!node.disk.exists(folder()).expect("looked"));
        assert_eq!(strays(&node.disk), ["0.unknown"]);
    }
}

#[test]
fn a_tail_of_an_older_epoch_than_the_checkpoint_knows_is_cut() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    append(&log, batch(&["kept"]), 4).expect("appended");
    node.wal.sync_all().expect("synced");
    node.store.checkpoint(false).expect("checkpointed");
    let disk = Node::start(node.disk.kill()).disk.kill();
    let mut revived = bytes::BytesMut::from(&batch(&["revived"])[..]);
    batch::place(&mut revived, offset(1), LeaderEpoch::new(3));
    let end = length(&disk, &segment(0));
    write(&disk, &segment(0), &revived, end);
    assert_eq!(values(&Node::start(disk).log(small())), ["kept"]);
}

#[test]
fn a_newest_segment_that_is_longer_than_an_orderly_stop_left_is_read() {
    let node = Node::start(SimDisk::new());
    append_flushed(&node, &node.log(small()), batch(&["a"]));
    let node = node.restart();
    node.store.close().expect("closed");
    node.wal.shutdown().expect("shut down");
    let whole = length(&node.disk, &segment(0));

    let longer = node.disk.kill();
    let mut more = bytes::BytesMut::from(&batch(&["b"])[..]);
    batch::place(&mut more, offset(1), LeaderEpoch::FIRST);
    write(&longer, &segment(0), &more, whole);
    let started = Node::try_start(longer, true).expect("starts");
    assert_eq!(values(&started.log(small())), ["a", "b"]);
}

#[test]
fn damage_in_a_compacted_segment_never_removes_those_behind_it() {
    let node = Node::start(SimDisk::new());
    let log = node.log(LogConfig { segment_bytes: 600, min_cleanable_dirty_ratio: 0.0, ..compacted() });
    let only = BatchBuilder::new(Compression::None).record(START_MS, Some(b"only"), Some(b"kept")).build();
    append_flushed(&node, &log, only);
    for number in 0..40 {
        append_flushed(&node, &log, batch(&[&format!("value {number}")]));
    }
    node.store.checkpoint(false).expect("checkpointed");
    node.store.compact(START_MS).expect("compacted");
    let disk = node.disk.kill();
    let segments = |disk: &SimDisk| {
        let names = disk.list(folder()).expect("listed").into_iter().map(|entry| entry.name);
        names.filter(|name| files::offset_of(name, ".log").is_some()).count()
    };
    let before = segments(&disk);
    assert!(before > 1);
    let first = length(&disk, &segment(0));
    assert!(first > 0);
    write(&disk, &segment(0), b"\xff\xff\xff", first - 3);
    assert!(refusal(disk.clone(), false).contains("whole at the last checkpoint"));
    assert_eq!(segments(&disk), before);
}

/// A record of a producer that numbers its records.
fn numbered(sequence: i32) -> Bytes {
    BatchBuilder::new(Compression::None)
        .idempotent(crate::ids::ProducerId::new(7), crate::ids::ProducerEpoch::FIRST, sequence)
        .record(START_MS, None, Some(&[b'x'; 300]))
        .build()
}

#[test]
fn a_producer_snapshot_from_before_what_was_deleted_is_worse_than_none() {
    let node = Node::start(SimDisk::new());
    let log = node.log(LogConfig { retention_ms: Some(1000), ..small() });
    for sequence in 0..20 {
        append_flushed(&node, &log, numbered(sequence));
    }
    node.store.checkpoint(false).expect("checkpointed");
    let old = files::snapshot_path(folder(), offset(20));
    let bytes = files::read_small(&node.disk, &old, 1 << 20).expect("read").expect("there");
    for sequence in 20..30 {
        append_flushed(&node, &log, numbered(sequence));
    }
    node.clock.advance(5000);
    node.maintain();
    assert_eq!(log.offsets().log_start, offset(30));
    // A power loss brings back a snapshot that was removed, and takes the one that is needed.
    let disk = node.disk.kill();
    disk.remove_file(&files::snapshot_path(folder(), offset(30))).expect("there");
    write(&disk, &old, &bytes, 0);
    let log = Node::start(disk).log(small());
    assert_eq!(log.offsets().log_start, offset(30));
    assert!(!append(&log, numbered(30), 0).expect("nobody knows the producer").duplicate);
}

#[test]
fn a_lost_producer_snapshot_is_made_again_from_an_older_one() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    for sequence in 0..30 {
        append_flushed(&node, &log, numbered(sequence));
        if sequence % 10 == 9 {
            node.store.checkpoint(false).expect("checkpointed");
        }
    }
    let disk = node.disk.kill();
    let newest = files::snapshot_path(folder(), offset(30));
    disk.remove_file(&newest).expect("there");
    // What lies before the older snapshot is not needed: damage there shows whether it is read.
    write(&disk, &segment(0), b"\xff", 100);
    let log = Node::start(disk).log(small());
    for sequence in 26..30 {
        assert!(append(&log, numbered(sequence), 0).expect("known").duplicate, "sequence {sequence}");
    }
    assert!(!append(&log, numbered(30), 0).expect("new").duplicate);
}

#[test]
fn a_start_after_a_crash_syncs_the_file_system_once_and_no_file_for_itself() {
    let disk = died_with(&["a", "b"], 1);
    // The WAL's replay syncs the only file that it wrote.
    disk.fail(Operation::Sync, ".log", 2, EIO);
    let node = Node::start(disk);
    assert_eq!(values(&node.log(small())), ["a", "b"]);
    assert_eq!(values(&node.crash(1).log(small())), ["a", "b"], "a power loss takes nothing back that was served");
}

fn snapshots(disk: &SimDisk) -> Vec<Offset> {
    let names = disk.list(folder()).expect("listed").into_iter().map(|entry| entry.name);
    names.filter_map(|name| files::offset_of(&name, ".snapshot")).collect()
}

#[test]
fn a_start_after_a_crash_leaves_snapshots_to_the_first_round_of_background_work() {
    let producer = crate::ids::ProducerId::new(7);
    let builder = || BatchBuilder::new(Compression::None).idempotent(producer, crate::ids::ProducerEpoch::FIRST, 0);
    let numbered = || builder().record(START_MS, None, Some(b"x")).build();
    let node = Node::start(SimDisk::new());
    node.store.close().expect("closed");
    append_flushed(&node, &node.log(small()), numbered());
    let node = Node::start(node.disk.kill());
    assert_eq!(snapshots(&node.disk), []);
    node.maintain();
    assert_eq!(snapshots(&node.disk), [offset(1)]);
    assert!(append(&node.crash(1).log(small()), numbered(), 0).expect("known").duplicate);
}

#[test]
fn a_log_that_lost_its_end_is_written_down_before_anything_is_appended_to_it() {
    let disk = died_with(&["a", "b", "c"], 3);
    let node = Node::start(disk);
    node.store.checkpoint(false).expect("checkpointed");
    let disk = node.disk.kill();
    cut(&disk, &segment(0), 1);
    let node = Node::start(disk);
    let log = node.log(small());
    assert_eq!(values(&log), ["a", "b"]);
    for value in ["a value as long as it takes to be behind where the checkpoint was", "d"] {
        append_flushed(&node, &log, batch(&[value]));
    }
    let expected = values(&log);
    drop(log);
    assert_eq!(values(&Node::start(node.disk.kill()).log(small())), expected);
}

#[test]
fn a_folder_with_records_and_no_identity_is_moved_aside_over_nothing_that_is_there() {
    let disk = stopped_with(&["a", "b"]);
    let bytes = length(&disk, &segment(0));
    disk.remove_file(&folder().join(IDENTITY_FILE)).expect("removed");
    let node = Node::try_start(disk, true).expect("starts");
    assert!(node.store.logs().is_empty());
    append_flushed(&node, &node.log(small()), batch(&["new"]));
    let disk = node.disk.crash(1);
    disk.remove_file(&folder().join(IDENTITY_FILE)).expect("removed");
    disk.sync_dir(folder()).expect("synced");
    let disk = Node::start(disk).disk.crash(2);
    let all = strays(&disk);
    assert!(all[0] == "0.unknown" && all.len() <= 2, "{all:?}");
    let moved = Path::new("data/stray/topic/0.unknown").join(segment(0).file_name().expect("named"));
    assert_eq!(length(&disk, &moved), bytes);
}

#[test]
fn an_empty_folder_without_an_identity_is_removed() {
    let disk = SimDisk::new();
    disk.create_dir_all(folder()).expect("made");
    write(&disk, &segment(0), b"", 0);
    let node = Node::start(disk);
    assert!(!node.disk.exists(folder()).expect("looked"));
    assert!(!node.disk.exists(Path::new("data/stray")).expect("looked"));
}

#[test]
fn a_log_that_nobody_knows_is_moved_aside_with_its_topic_id() {
    let node = Node::try_start(stopped_with(&["a"]), true).expect("starts");
    node.store.set_aside(&id(1, 0), "for the test").expect("moved");
    assert!(node.store.logs().is_empty());
    let disk = node.disk.crash(1);
    assert_eq!(strays(&disk), [format!("0.{}", id(1, 0).topic.uuid())]);
    assert!(!disk.exists(folder()).expect("looked"));
    assert!(Node::start(disk).store.logs().is_empty());
}

#[test]
fn a_newest_segment_that_lost_its_end_ends_with_its_last_whole_batch() {
    for clean in [true, false] {
        for lost in [1, 10, 60] {
            let disk = stopped_with(&["a", "b", "c"]);
            cut(&disk, &segment(0), lost);
            let node = Node::try_start(disk, clean).expect("starts");
            let log = node.log(small());
            assert_eq!(values(&log), ["a", "b"]);
            assert_eq!(log.offsets().log_end, offset(2));
            append_flushed(&node, &log, batch(&["d"]));
            let disk = node.disk.kill();
            let log = Node::start(disk).log(small());
            assert_eq!(values(&log), ["a", "b", "d"], "what is new is never behind a broken tail");
        }
    }
}

#[test]
fn an_older_segment_that_lost_its_end_keeps_its_place_and_a_read_of_what_is_lost_fails() {
    let long = "x".repeat(300);
    let disk = stopped_with(&[long.as_str(); 20]);
    cut(&disk, &segment(0), 10);
    let bases: Vec<i64> = disk
        .list(folder())
        .expect("listed")
        .iter()
        .filter_map(|entry| files::offset_of(&entry.name, ".log"))
        .map(Offset::get)
        .collect();
    let second = bases.iter().copied().filter(|base| *base > 0).min().expect("more than one");
    let mut disk = disk;
    for start in 0..2 {
        let node = Node::try_start(disk, true).expect("starts");
        let log = node.log(small());
        let read = |from: i64| log.read(offset(from), log.offsets().high_watermark, 1 << 20, true, false);
        assert_eq!(log.offsets().log_end, offset(20), "start {start}");
        for from in 0..second - 1 {
            assert!(!read(from).expect("whole").data.is_empty());
        }
        let lost = read(second - 1).expect_err("it is lost");
        assert!(lost.to_string().contains("00000000000000000000.log"), "{lost}");
        assert!(!read(second).expect("whole").data.is_empty());
        node.store.close().expect("closed");
        node.wal.shutdown().expect("shut down");
        disk = node.disk.kill();
    }
}

#[test]
fn a_segment_that_loses_its_end_under_a_running_node_fails_reads_of_it() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    append_flushed(&node, &log, batch(&["a"]));
    append_flushed(&node, &log, batch(&["b"]));
    cut(&node.disk, &segment(0), 10);
    let read = |from: i64| log.read(offset(from), log.offsets().high_watermark, 1 << 20, true, false);
    assert!(!read(0).expect("whole").data.is_empty());
    assert!(matches!(read(1), Err(ReadError::Log(LogError::Corrupt { .. }))));
}

#[test]
fn a_segment_that_lost_its_end_takes_back_what_producers_sent_in_it() {
    let producer = crate::ids::ProducerId::new(7);
    let numbered = |sequence: i32| {
        BatchBuilder::new(Compression::None)
            .idempotent(producer, crate::ids::ProducerEpoch::FIRST, sequence)
            .record(START_MS, None, Some(b"value"))
            .build()
    };
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    for sequence in 0..3 {
        append_flushed(&node, &log, numbered(sequence));
    }
    node.store.close().expect("closed");
    node.wal.shutdown().expect("shut down");
    let disk = node.disk.kill();
    cut(&disk, &segment(0), 1);
    let log = Node::try_start(disk, true).expect("starts").log(small());
    assert!(append(&log, numbered(1), 0).expect("known").duplicate);
    assert!(!append(&log, numbered(2), 0).expect("sent again").duplicate);
}

#[test]
fn a_full_disk_is_read_though_a_lost_index_cannot_be_written() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    for number in 0..60 {
        append(&log, batch(&[&format!("value {number}")]), 0).expect("appended");
    }
    node.wal.sync_all().expect("synced");
    let expected = read_all(&log);
    drop(log);
    let node = node.restart();
    let log = node.log(small());
    let bases: Vec<_> = log.state.lock().slots.iter().map(crate::log::segment::Slot::base).collect();
    assert!(bases.len() > 2, "{bases:?}");
    for base in &bases[..bases.len() - 1] {
        let path = files::index_path(&log.folder, *base);
        remove_if_there(&node.disk, &path).expect("removed");
    }
    node.disk.set_capacity(Some(node.disk.used()));
    assert_eq!(read_all(&log), expected);
    node.disk.set_capacity(None);
    assert_eq!(read_all(&log), expected);
}

#[test]
fn what_follows_a_cut_at_a_new_segment_survives_a_crash() {
    let config = || LogConfig { segment_ms: 1000, ..small() };
    let node = Node::start(SimDisk::new());
    let log = node.log(config());
    append_flushed(&node, &log, batch(&["a"]));
    node.clock.advance(2000);
    node.maintain();
    assert_eq!(log.segment_count(), 2, "a new one was begun, and the checkpoint knows of it");
    append_flushed(&node, &log, batch(&["cut"]));
    log.truncate_to(offset(1)).expect("cut");
    let mut expected = vec!["a".to_owned()];
    for number in 0..40 {
        append_flushed(&node, &log, batch(&[&number.to_string()]));
        expected.push(number.to_string());
    }
    assert!(log.segment_count() > 1);
    let node = node.crash(1);
    assert_eq!(values(&node.log(config())), expected);
}

/// A power loss may keep the names of new segments and lose that of the first: nothing of them was ever acknowledged.
#[test]
fn segments_whose_beginning_was_never_durable_are_removed() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    node.store.checkpoint(false).expect("checkpointed");
    for value in ["a", "b", "c"] {
        append_flushed(&node, &log, batch(&[value]));
        log.roll(&mut log.state.lock());
    }
    let disk = node.disk.kill();
    disk.remove_file(&segment(0)).expect("it is there");
    let journal = Path::new("data/wal/__commit");
    for entry in disk.list(journal).expect("listed") {
        disk.remove_file(&journal.join(entry.name)).expect("removed");
    }
    let node = Node::start(disk);
    let log = node.log(small());
    let LogOffsets { log_start, high_watermark, log_end, .. } = log.offsets();
    assert_eq!((log_start, high_watermark, log_end), (offset(0), offset(0), offset(0)));
    append_flushed(&node, &log, batch(&["again"]));
    assert_eq!(values(&log), ["again"]);
}
