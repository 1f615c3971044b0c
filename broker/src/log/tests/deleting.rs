//! Deletion while others work on the log, and on a full disk.

use std::sync::mpsc;

use super::*;
use crate::io::disk::Disk;

#[test]
fn a_log_deleted_during_a_checkpoint_is_left_out_of_it() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    append_flushed(&node, &log, numbered(0));
    let capture = log.capture().expect("something to write down");
    node.store.delete(&id(1, 0)).expect("deleted");
    let next = node.store.open_or_create("topic", id(2, 0), Arc::new(small())).expect("made in the same folder");
    append_flushed(&node, &next, batch(&["new"]));
    let before = node.disk.list(folder()).expect("listed");
    assert!(!log.settle(capture, true).expect("no failure"), "nothing is written down");
    assert_eq!(node.disk.list(folder()).expect("listed"), before, "nor into another log's folder");
    log.truncate_to(offset(0)).expect("nothing to cut");
    assert_eq!(values(&next), ["new"]);
}

fn write_until_closed(node: &Node, log: &Log, written: &mpsc::Sender<()>) {
    for sequence in 0.. {
        match append(log, numbered(sequence), 0) {
            Ok(_) => node.wal.sync_all().expect("the WAL goes on"),
            Err(error) => return assert_eq!(error, AppendError::Closed),
        }
        // Nobody listens after the first.
        let _ = written.send(());
    }
}

#[test]
fn logs_are_deleted_while_they_are_written_and_maintained() {
    let node = Node::start(SimDisk::new());
    std::thread::scope(|scope| {
        for partition in 0..3 {
            let node = &node;
            scope.spawn(move || {
                for topic in 1..=40 {
                    let id = id(topic, partition);
                    let log = node.store.open_or_create("topic", id, Arc::new(small())).expect("made");
                    let (written, reached) = mpsc::channel();
                    let writer = scope.spawn(move || write_until_closed(node, &log, &written));
                    reached.recv().expect("the writer writes");
                    node.store.delete(&id).expect("deleted");
                    writer.join().expect("refused in the end");
                }
            });
        }
        for _ in 0..40 {
            node.clock.advance(5_000);
            node.store.maintain().expect("maintained");
        }
    });
    node.store.close().expect("closed");
    assert!(Node::start(node.disk.crash(1)).store.logs().is_empty());
}

#[test]
fn on_a_full_disk_a_deleted_log_gives_its_room_back_at_once_and_the_others_go_on() {
    let disk = SimDisk::new();
    let options = WalOptions { reserve_bytes: 50_000, ..wal_options() };
    let node = Node::start_with(disk, false, options).expect("starts");
    let config = Arc::new(LogConfig { segment_bytes: 20_000, ..LogConfig::default() });
    let large = node.store.open_or_create("large", id(1, 0), Arc::clone(&config)).expect("made");
    let small = node.store.open_or_create("small", id(2, 0), Arc::clone(&config)).expect("made");
    append_flushed(&node, &small, batch(&["before"]));
    node.disk.set_capacity(Some(node.disk.used() + 500_000));

    let value = "x".repeat(5_000);
    while append(&large, batch(&[&value]), 0).is_ok() {
        node.wal.sync_all().expect("a full disk is not the end");
    }
    let fresh = node.store.open_or_create("fresh", id(3, 0), config).expect("made, though its file finds no room");
    for log in [&small, &fresh] {
        assert_eq!(append(log, batch(&["refused"]), 0).err(), Some(AppendError::DiskFull));
    }
    node.store.maintain().expect("a full disk is not the end");
    assert!(node.wal.is_full());

    node.store.delete(&id(1, 0)).expect("deleted");
    node.store.maintain().expect("maintained");
    assert!(!node.wal.is_full(), "though file.delete.delay.ms has not passed");
    append_flushed(&node, &small, batch(&["after"]));
    append_flushed(&node, &fresh, batch(&["first"]));
    let node = node.crash(1);
    assert_eq!(values(&node.store.get(&id(2, 0)).expect("there")), ["before", "after"]);
    assert_eq!(values(&node.store.get(&id(3, 0)).expect("there")), ["first"]);
}
