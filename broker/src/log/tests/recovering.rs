//! What an opening believes, what it cuts, and where it stops instead.

use std::io::IoSlice;

use super::*;
use crate::io::disk::sim::Operation;
use crate::io::disk::{Disk, OpenMode};
use crate::log::batch;
use crate::log::files::{self, IDENTITY_FILE};

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
        assert!(node.store.logs().is_empty(), "a folder that is nobody's never held an acknowledged record");
        assert!(!node.disk.exists(folder()).expect("looked"));
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
fn a_newest_segment_of_another_length_than_an_orderly_stop_left_is_read_or_refused() {
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

    let shorter = started.disk.kill();
    shorter.open(&segment(0), OpenMode::Write).and_then(|file| file.set_len(whole - 1)).expect("cut");
    assert!(refusal(shorter, true).contains("the checkpoint knows"));
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

#[test]
fn a_lost_producer_snapshot_is_made_again_from_an_older_one() {
    let producer = crate::ids::ProducerId::new(7);
    let numbered = |sequence: i32| {
        BatchBuilder::new(Compression::None)
            .idempotent(producer, crate::ids::ProducerEpoch::FIRST, sequence)
            .record(START_MS, None, Some(&[b'x'; 300]))
            .build()
    };
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
