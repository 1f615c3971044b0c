//! Appending, reading, restarting, deleting.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;

use super::background::ENOSPC;
use super::*;
use crate::io::disk::sim::Operation;
use crate::io::disk::{DirEntry, Disk, DiskFile, OpenMode};

#[test]
fn what_is_appended_is_read_back_across_segments() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    let expected: Vec<String> = (0..100).map(|number| format!("value {number}")).collect();
    for value in &expected {
        append_flushed(&node, &log, batch(&[value]));
    }
    assert!(log.segment_count() > 3);
    assert_eq!(values(&log), expected);
    assert_eq!(log.offsets().log_end, offset(100));
}

#[test]
fn nothing_beyond_what_is_durable_is_read() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    append_flushed(&node, &log, batch(&["a"]));
    let end = log.offsets().flushed_end;
    assert!(log.read(end, offset(99), 1000, true, false).expect("readable").data.is_empty());
    assert!(log.read(offset(2), offset(99), 1000, true, false).is_err(), "beyond the log's end");
}

#[test]
fn a_clean_restart_and_a_crash_keep_what_was_flushed() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    let mut expected = Vec::new();
    for number in 0..40 {
        let value = format!("value {number}");
        append_flushed(&node, &log, batch(&[&value]));
        expected.push(value);
        if number == 20 {
            node.store.checkpoint(false).expect("checkpointed");
        }
    }
    let node = node.restart();
    assert_eq!(values(&node.log(small())), expected);
    let log = node.log(small());
    append_flushed(&node, &log, batch(&["last"]));
    expected.push("last".to_owned());
    for seed in 0..20 {
        let node = Node::start(node.disk.crash(seed));
        assert_eq!(values(&node.log(small())), expected, "seed {seed}");
    }
}

#[test]
fn a_recreated_topic_adopts_no_old_file() {
    let node = Node::start(SimDisk::new());
    append_flushed(&node, &node.log(small()), batch(&["old"]));
    let log = node.store.open_or_create("topic", id(2, 0), Arc::new(small())).expect("made");
    assert_eq!(log.offsets().log_end, offset(0));
    assert!(node.store.get(&id(1, 0)).is_none());
    append_flushed(&node, &log, batch(&["new"]));
    for seed in 0..20 {
        let node = Node::start(node.disk.crash(seed));
        assert!(node.store.get(&id(1, 0)).is_none());
        assert_eq!(values(&node.store.get(&id(2, 0)).expect("there")), ["new"]);
    }
}

#[test]
fn a_deleted_log_does_not_come_back() {
    let node = Node::start(SimDisk::new());
    append_flushed(&node, &node.log(small()), batch(&["old"]));
    node.store.delete(&id(1, 0)).expect("deleted");
    node.clock.advance(10);
    node.store.maintain().expect("maintained");
    assert_eq!(node.disk.list(Path::new("data/wal/topic")).expect("listed"), []);
    for seed in 0..10 {
        assert!(Node::start(node.disk.crash(seed)).store.logs().is_empty());
    }
}

#[test]
fn no_topic_name_leaves_the_folder() {
    let node = Node::start(SimDisk::new());
    for name in ["", ".", "..", "../x", "a/b", "__meta", "__commit", "a\0"] {
        assert!(node.store.open_or_create(name, id(1, 0), Arc::new(small())).is_err(), "{name:?}");
    }
}

#[test]
fn an_older_leadership_appends_nothing() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    log.begin_epoch(LeaderEpoch::new(4)).expect("begun");
    assert_eq!(append(&log, batch(&["x"]), 3), Err(AppendError::Closed));
    assert!(append(&log, batch(&["x"]), 4).is_ok());
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch::new(4)));
}

#[test]
fn truncation_is_durable_before_anything_builds_on_it() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    for number in 0..50 {
        append_flushed(&node, &log, batch(&[&format!("old {number}")]));
    }
    node.store.checkpoint(false).expect("checkpointed");
    log.truncate_to(offset(12)).expect("cut");
    assert_eq!(log.offsets().log_end, offset(12));
    append(&log, batch(&["new"]), 1).expect("appended");
    node.wal.sync_all().expect("synced");
    for seed in 0..20 {
        let node = Node::start(node.disk.crash(seed));
        let seen = read_all(&node.store.get(&id(1, 0)).expect("there"));
        assert_eq!(seen.len(), 13, "seed {seed}");
        assert_eq!(seen[12].value.as_deref(), Some("new"));
        assert_eq!(seen[11].value.as_deref(), Some("old 11"));
    }
}

#[test]
fn retention_by_size_removes_the_oldest_segments() {
    let node = Node::start(SimDisk::new());
    let log = node.log(LogConfig { retention_bytes: Some(4000), ..small() });
    for number in 0..200 {
        append_flushed(&node, &log, batch(&[&format!("value {number}")]));
    }
    node.store.maintain().expect("maintained");
    let start = log.offsets().log_start;
    assert!(start > offset(0) && log.size_bytes() < 6500, "{start}, {} bytes", log.size_bytes());
    assert_eq!(read_all(&log).first().expect("some").offset, start.get());
    node.clock.advance(1);
    node.store.maintain().expect("maintained");
    let files = node.disk.list(folder()).expect("listed");
    assert_eq!(
        files.iter().filter(|entry| Path::new(&entry.name).extension().is_some_and(|it| it == "log")).count(),
        log.segment_count()
    );
    for seed in 0..10 {
        let node = Node::start(node.disk.crash(seed));
        assert_eq!(node.log(small()).offsets().log_start, start);
    }
}

#[test]
fn retention_of_everything_keeps_the_end() {
    let node = Node::start(SimDisk::new());
    let log = node.log(LogConfig { retention_ms: Some(1000), ..small() });
    for number in 0..50 {
        append_flushed(&node, &log, batch(&[&format!("value {number}")]));
    }
    node.clock.advance(5000);
    node.store.maintain().expect("maintained");
    assert_eq!((log.offsets().log_start, log.offsets().log_end), (offset(50), offset(50)));
    for seed in 0..10 {
        let node = Node::start(node.disk.crash(seed));
        let log = node.log(small());
        assert_eq!((log.offsets().log_start, log.offsets().log_end), (offset(50), offset(50)));
        assert_eq!(append(&log, batch(&["x"]), 0).expect("appended").base_offset, offset(50));
    }
}

#[test]
fn delete_records_moves_the_start_and_removes_whole_segments() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    for number in 0..60 {
        append_flushed(&node, &log, batch(&[&format!("value {number}")]));
    }
    let segments = log.segment_count();
    assert!(log.delete_records(offset(61)).is_err(), "beyond the high watermark");
    assert_eq!(log.delete_records(offset(45)).expect("deleted"), offset(45));
    node.store.maintain().expect("maintained");
    assert!(log.segment_count() < segments);
    assert!(log.read(offset(44), offset(60), 100, true, false).is_err());
    assert_eq!(values(&log)[0], "value 45");
    assert_eq!(node.restart().log(small()).offsets().log_start, offset(45));
}

#[test]
fn a_full_disk_refuses_and_recovers_by_itself() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    append_flushed(&node, &log, batch(&["kept"]));
    node.disk.set_capacity(Some(node.disk.used() + 150));
    for _ in 0..10 {
        // Refused at once while the WAL knows that the disk is full, taken back later when it finds out.
        let _ = append(&log, batch(&["a value that takes its room on the disk"]), 0);
        let _ = node.wal.sync_all();
    }
    let offsets = log.offsets();
    assert!(offsets.log_end < offset(11) && offsets.log_end == offsets.flushed_end, "{offsets:?}");
    assert!(node.store.counters().appends_refused.load(Ordering::Relaxed) > 0);
    let kept = values(&log);
    node.disk.set_capacity(None);
    node.store.maintain().expect("maintained");
    append_flushed(&node, &log, batch(&["again"]));
    assert_eq!(values(&log), [kept, vec!["again".to_owned()]].concat());
    let expected = values(&log);
    for seed in 0..10 {
        assert_eq!(values(&Node::start(node.disk.crash(seed)).log(small())), expected);
    }
}

#[test]
fn a_log_whose_first_records_were_refused_has_no_folder_and_is_maintained_all_the_same() {
    let node = Node::start(SimDisk::new());
    // Whose it is, and segments.
    (1..=5).for_each(|n| node.disk.fail(Operation::Create, "topic/0", n, ENOSPC));
    let log = node.log(LogConfig { segment_bytes: 100, ..small() });
    node.wal.sync_all().expect("refused");
    for value in ["refused", "too"] {
        append(&log, batch(&[value]), 0).expect("the WAL finds out later");
    }
    node.wal.sync_all().expect("refused");
    assert!(!node.disk.exists(folder()).expect("known"));
    node.store.maintain().expect("there is nothing to be removed");
    append_flushed(&node, &log, batch(&["again"]));
    assert_eq!(values(&log), ["again"]);
}

#[test]
fn time_look_ups_find_the_first_record_at_or_after() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    for number in 0..100i64 {
        let mut builder = BatchBuilder::new(Compression::Gzip);
        builder.push(START_MS + number * 10, None, Some(b"a"), std::iter::empty());
        builder.push(START_MS + number * 10 + 5, None, Some(b"b"), std::iter::empty());
        append_flushed(&node, &log, builder.build());
    }
    let find =
        |ms: i64| log.offset_for_timestamp(START_MS + ms, offset(200)).expect("readable").map(|it| it.offset.get());
    assert_eq!(
        (find(-5), find(0), find(5), find(7), find(995), find(996)),
        (Some(0), Some(0), Some(1), Some(2), Some(199), None)
    );
    let max = |upto: i64| log.offset_of_max_timestamp(offset(upto)).expect("readable").map(|it| it.offset.get());
    assert_eq!((max(200), max(100), max(0)), (Some(199), Some(99), None));
}

/// A disk that takes its time to open a file: until somebody has read and appended, or has waited for long.
struct Slow {
    disk: SimDisk,
    log: Arc<Log>,
    served: AtomicBool,
}

impl Disk for Slow {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let log = self.log.clone();
        let (done, waits) = mpsc::channel();
        std::thread::spawn(move || {
            let read = log.read_cached(offset(0), offset(1), 1000, true, false).expect("readable");
            append(&log, batch(&["meanwhile"]), 0).expect("appended");
            done.send(read.is_some()).expect("it is waited for");
        });
        self.served.store(waits.recv_timeout(Duration::from_secs(10)) == Ok(true), Ordering::Relaxed);
        self.disk.open(path, mode)
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        unreachable!("an index has its folder")
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        unreachable!("an index keeps its name")
    }

    fn remove_file(&self, _: &Path) -> io::Result<()> {
        unreachable!("an index is written over")
    }

    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        unreachable!("an index is written over")
    }

    fn list(&self, _: &Path) -> io::Result<Vec<DirEntry>> {
        unreachable!("an index is known by name")
    }

    fn exists(&self, _: &Path) -> io::Result<bool> {
        unreachable!("an index that is missing is made")
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("an index is not synced")
    }

    fn sync_filesystem(&self, _: &Path) -> io::Result<()> {
        unreachable!("an index is not synced")
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        unreachable!("an index asks for no room")
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Send + Sync>> {
        unreachable!("an index is not locked")
    }
}

/// Reactors read and append: none may wait until background work has written.
#[test]
fn nobody_waits_while_the_index_is_written() {
    let node = Node::start(SimDisk::new());
    let log = node.log(LogConfig { segment_bytes: 1 << 20, ..small() });
    for _ in 0..10 {
        append_flushed(&node, &log, batch(&["value"]));
    }
    let slot = log.state.lock().active().clone();
    let slow = Slow { disk: node.disk.clone(), log: log.clone(), served: AtomicBool::new(false) };
    slot.segment.store_index(&slow, slot.flushed_size, true).expect("stored");
    assert!(slow.served.load(Ordering::Relaxed), "a reader and an appender wait for the disk");
    node.wal.sync_all().expect("synced");
    let node = node.restart();
    assert_eq!(values(&node.log(small())).len(), 11);
}
