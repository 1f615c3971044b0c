//! A follower's log: what it takes from its leader, what it fills, and where it begins again.

use bytes::BytesMut;

use super::*;
use crate::log::batch;

/// A batch as a leader stored it.
fn placed(batch: &[u8], base: i64, epoch: i32) -> Bytes {
    let mut bytes = BytesMut::from(batch);
    batch::place(&mut bytes, offset(base), LeaderEpoch::new(epoch));
    bytes.freeze()
}

fn follow(log: &Log, previous: i64, batch: Bytes) -> Result<Offset, AppendError> {
    log.append_as_follower(offset(previous), batch, Admission::unbounded())
}

fn flush(node: &Node) {
    node.wal.sync_all().expect("synced");
}

fn epochs(log: &Log) -> Vec<(i32, i64)> {
    let epochs = log.epochs_below(log.offsets().log_end);
    epochs.entries().iter().map(|entry| (entry.epoch.get(), entry.start.get())).collect()
}

/// A leader's log of two epochs, and its batches.
fn leaders_log() -> (Node, Vec<Bytes>) {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    for (number, epoch) in [0, 0, 1, 1, 3].into_iter().enumerate() {
        append(&log, batch(&[&format!("value {number}"), "more"]), epoch).expect("appended");
    }
    flush(&node);
    let mut batches = Vec::new();
    let mut from = offset(0);
    while from < log.offsets().log_end {
        let read = log.read(from, log.offsets().log_end, 1, true, false).expect("readable");
        from = read.end.expect("there is more");
        batches.extend(read.data);
    }
    (node, batches)
}

#[test]
fn a_follower_stores_what_its_leader_stored() {
    let (leader, batches) = leaders_log();
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    let mut end = 0;
    for batch in batches {
        end = follow(&log, end, batch).expect("it continues").get();
    }
    flush(&node);
    let leaders = leader.log(small());
    assert_eq!(read_all(&log), read_all(&leaders));
    assert_eq!(epochs(&log), epochs(&leaders));
    let node = node.crash(3);
    assert_eq!(read_all(&node.log(small())), read_all(&leaders), "what was flushed survives");
}

#[test]
fn rule_4_a_gap_an_overlap_damage_and_a_falling_epoch_are_refused() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    let value = batch(&["a", "b"]);
    follow(&log, 0, placed(&value, 0, 5)).expect("it continues");
    let mut damaged = BytesMut::from(&placed(&value, 2, 5)[..]);
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    for (what, previous, bytes) in [
        ("a gap", 3, placed(&value, 3, 5)),
        ("an overlap", 0, placed(&value, 0, 5)),
        ("before its previous", 2, placed(&value, 1, 5)),
        ("an older epoch", 2, placed(&value, 2, 4)),
        ("damage", 2, damaged.freeze()),
        ("half a batch", 2, placed(&value, 2, 5).slice(..40)),
        ("two batches", 2, [placed(&value, 2, 5), placed(&value, 4, 5)].concat().into()),
        ("no offset", 2, value.clone()),
    ] {
        assert!(follow(&log, previous, bytes).is_err(), "{what}");
        assert_eq!(log.offsets().log_end, offset(2), "{what}");
    }
    follow(&log, 2, placed(&value, 2, 5)).expect("nothing was harmed");
}

#[test]
fn a_hole_that_compaction_left_is_filled_and_survives_a_crash() {
    for hole in [1, 10, i64::from(i32::MAX), 3 * i64::from(i32::MAX) + 7] {
        let node = Node::start(SimDisk::new());
        let log = node.log(small());
        follow(&log, 0, placed(&batch(&["a", "b"]), 0, 1)).expect("it continues");
        let base = 2 + hole;
        follow(&log, 2, placed(&batch(&["c"]), base, 4)).expect("there was compacted");
        follow(&log, base + 1, placed(&batch(&["d"]), base + 1, 4)).expect("it continues");
        flush(&node);
        assert_eq!(epochs(&log), [(1, 0), (4, 2)], "nothing of the older epoch is left behind its last batch");
        let seen = |log: &Log| -> Vec<_> { read_all(log).into_iter().map(|seen| (seen.offset, seen.value)).collect() };
        let value = |value: &str| Some(value.to_owned());
        let expected = [(0, value("a")), (1, value("b")), (base, value("c")), (base + 1, value("d"))];
        assert_eq!(seen(&log), expected, "a hole of {hole}");
        let node = node.crash(1);
        assert_eq!(seen(&node.log(small())), expected, "a hole of {hole}, after a crash");
    }
}

#[test]
fn a_follower_knows_the_producers_of_its_batches() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    for sequence in 0..7 {
        follow(&log, i64::from(sequence), placed(&numbered(sequence), i64::from(sequence), 0)).expect("it continues");
    }
    flush(&node);
    log.truncate_to(offset(6)).expect("cut");
    log.begin_epoch(LeaderEpoch::new(1)).expect("begun");
    assert!(append(&log, numbered(5), 1).expect("known").duplicate, "a retry after the failover is no second record");
    assert!(!append(&log, numbered(6), 1).expect("new").duplicate, "what was cut off was not");
}

/// A leader that began behind a batch, deleted meanwhile, has taken its retry as new: those who know both tell the place of
/// the one that may be there still.
#[test]
fn a_retry_gets_the_newest_of_its_places() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    for (at, sequence) in [0, 1, 1].into_iter().enumerate() {
        follow(&log, at as i64, placed(&numbered(sequence), at as i64, 0)).expect("it continues");
    }
    log.begin_epoch(LeaderEpoch::new(1)).expect("begun");
    let again = append(&log, numbered(1), 1).expect("known");
    assert_eq!((again.base_offset, again.duplicate), (offset(2), true));
}

#[test]
fn rule_2_a_follower_forgets_epochs_that_have_no_records() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    append_flushed(&node, &log, batch(&["a"]));
    log.begin_epoch(LeaderEpoch::new(5)).expect("begun");
    log.truncate_to(offset(1)).expect("nothing to cut");
    follow(&log, 1, placed(&batch(&["b"]), 1, 3)).expect("epoch 5 never was");
    assert_eq!(epochs(&log), [(0, 0), (3, 1)]);
}

#[test]
fn a_cut_within_a_hole_is_filled_up() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    follow(&log, 0, placed(&batch(&["a"]), 0, 1)).expect("it continues");
    follow(&log, 1, placed(&batch(&["b"]), 9, 1)).expect("there was compacted");
    flush(&node);
    log.truncate_to(offset(5)).expect("cut");
    assert_eq!(log.offsets().log_end, offset(1));
    log.fill_to(offset(5), LeaderEpoch::new(2)).expect("filled");
    follow(&log, 5, placed(&batch(&["c"]), 5, 2)).expect("it continues");
    flush(&node);
    let node = node.crash(2);
    let seen: Vec<_> = read_all(&node.log(small())).into_iter().map(|seen| (seen.offset, seen.epoch)).collect();
    assert_eq!(seen, [(0, 1), (5, 2)]);
}

#[test]
fn rule_4_a_log_that_begins_again_elsewhere_stays_there_after_a_crash() {
    for (kept, start) in [(20, 100), (20, 3), (0, 100)] {
        for seed in 0..4 {
            let node = Node::start(SimDisk::new());
            let log = node.log(small());
            for number in 0..kept {
                append_flushed(&node, &log, batch(&[&format!("value {number} {}", "x".repeat(200))]));
            }
            node.store.checkpoint(false).expect("checkpointed");
            log.delete_records(offset(kept.min(5))).expect("deleted");
            log.restart_at(offset(start)).expect("begun again");
            let offsets = log.offsets();
            assert_eq!([offsets.log_start, offsets.high_watermark, offsets.log_end], [offset(start); 3]);
            assert_eq!(read_all(&log), []);

            let node = node.crash(seed);
            let log = node.log(small());
            assert_eq!([log.offsets().log_start, log.offsets().log_end], [offset(start); 2], "seed {seed}");
            follow(&log, start, placed(&batch(&["new"]), start, 7)).expect("it continues");
            flush(&node);
            let node = node.crash(seed);
            let log = node.log(small());
            assert_eq!((values(&log), epochs(&log)), (vec!["new".to_owned()], vec![(7, start)]));
        }
    }
}

#[test]
fn a_log_start_follows_the_leaders_as_far_as_is_committed() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    follow(&log, 0, placed(&batch(&["a", "b", "c"]), 0, 0)).expect("it continues");
    flush(&node);
    log.advance_high_watermark(offset(2));
    log.follow_start(offset(3));
    assert_eq!(log.offsets().log_start, offset(2));
    log.follow_start(offset(1));
    assert_eq!(log.offsets().log_start, offset(2), "it never goes back");
}
