//! Idempotent and transactional producers.

use super::*;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::log::TransactionEnd;

const PRODUCER: ProducerId = ProducerId::new(7);
const EPOCH: ProducerEpoch = ProducerEpoch::new(0);

fn numbered(sequence: i32, epoch: i16, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None).idempotent(PRODUCER, ProducerEpoch::new(epoch), sequence);
    for value in values {
        builder.push(START_MS, None, Some(value.as_bytes()), std::iter::empty());
    }
    builder.build()
}

fn in_transaction(sequence: i32) -> Bytes {
    BatchBuilder::new(Compression::None)
        .transactional(PRODUCER, EPOCH, sequence)
        .record(START_MS, None, Some(b"x"))
        .build()
}

fn end_transaction(log: &Log, end: TransactionEnd, coordinator_epoch: i32) -> Result<Appended, AppendError> {
    let marker = BatchBuilder::transaction_marker(START_MS, PRODUCER, EPOCH, end, coordinator_epoch).build();
    log.append_as_leader(marker, LeaderEpoch::FIRST, Origin::Coordinator, Admission::unbounded())
}

#[test]
fn a_retry_gets_the_original_offsets_also_after_restart_and_crash() {
    let mut node = Node::start(SimDisk::new());
    for round in 0..3i32 {
        let log = node.log(small());
        for at in 0..5 {
            let sequence = (round * 5 + at) * 2;
            let appended = append(&log, numbered(sequence, 0, &["a", "b"]), 0).expect("appended");
            assert_eq!((appended.base_offset, appended.duplicate), (offset(i64::from(sequence)), false));
        }
        node.wal.sync_all().expect("synced");
        for at in 0..5 {
            let sequence = (round * 5 + at) * 2;
            let again = append(&log, numbered(sequence, 0, &["a", "b"]), 0).expect("known");
            assert_eq!((again.base_offset, again.duplicate), (offset(i64::from(sequence)), true));
            assert_eq!(again.end_offset, offset(i64::from(sequence) + 2));
        }
        drop(log);
        node = if round == 1 { node.restart() } else { node.crash(round as u64) };
        let log = node.log(small());
        assert!(append(&log, numbered(round * 10 + 8, 0, &["a", "b"]), 0).expect("known").duplicate, "round {round}");
    }
}

#[test]
fn sequences_have_no_gap_and_epochs_never_fall() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    append(&log, numbered(5, 1, &["a"]), 0).expect("an unknown producer may begin anywhere, as in Kafka");
    let gap = append(&log, numbered(7, 1, &["a"]), 0);
    assert_eq!(gap, Err(AppendError::OutOfOrderSequence { expected: 6, got: 7 }));
    let fenced = append(&log, numbered(6, 0, &["a"]), 0);
    assert_eq!(fenced, Err(AppendError::InvalidProducerEpoch { current: 1, got: 0 }));
    let not_zero = append(&log, numbered(6, 2, &["a"]), 0);
    assert_eq!(not_zero, Err(AppendError::OutOfOrderSequence { expected: 0, got: 6 }));
    append(&log, numbered(0, 2, &["a"]), 0).expect("a new epoch begins at 0");
}

#[test]
fn sequences_wrap() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    append(&log, numbered(i32::MAX - 1, 0, &["a", "b"]), 0).expect("appended");
    append(&log, numbered(0, 0, &["c"]), 0).expect("wrapped");
    assert!(append(&log, numbered(i32::MAX - 1, 0, &["a", "b"]), 0).expect("known").duplicate);
}

#[test]
fn an_open_transaction_holds_the_last_stable_offset() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    append_flushed(&node, &log, batch(&["before"]));
    append_flushed(&node, &log, in_transaction(0));
    append_flushed(&node, &log, batch(&["beside"]));
    assert_eq!((log.offsets().last_stable, log.offsets().high_watermark), (offset(1), offset(3)));
    let plain = append(&log, numbered(1, 0, &["not in the transaction"]), 0);
    assert_eq!(plain, Err(AppendError::InvalidTransactionState(PRODUCER)));
    end_transaction(&log, TransactionEnd::Abort, 3).expect("ended");
    assert_eq!(log.offsets().last_stable, offset(1), "its marker is not committed");
    node.wal.sync_all().expect("synced");
    log.advance_high_watermark(offset(4));
    assert_eq!(log.offsets().last_stable, offset(4));
    let read = log.read(offset(0), offset(4), 10_000, true, true).expect("readable");
    assert_eq!(read.aborted, [(PRODUCER, offset(1))]);
    assert!(matches!(
        end_transaction(&log, TransactionEnd::Commit, 2),
        Err(AppendError::CoordinatorFenced { current: 3, got: 2 })
    ));
    let node = node.restart();
    let read = node.log(small()).read(offset(0), offset(4), 10_000, true, true).expect("readable");
    assert_eq!(read.aborted, [(PRODUCER, offset(1))]);
}

#[test]
fn a_refused_append_leaves_no_trace_in_the_producers_state() {
    let node = Node::start(SimDisk::new());
    let log = node.log(small());
    append(&log, numbered(0, 0, &["kept"]), 0).expect("appended");
    node.wal.sync_all().expect("synced");
    node.disk.set_capacity(Some(node.disk.used() + 20));
    let _ = append(&log, numbered(1, 0, &["refused"]), 0);
    let _ = node.wal.sync_all();
    assert_eq!((log.offsets().log_end, log.producers()[0].last_sequence), (offset(1), 0));
    node.disk.set_capacity(None);
    let again = append(&log, numbered(1, 0, &["retried"]), 0).expect("appended");
    assert_eq!((again.base_offset, again.duplicate), (offset(1), false));
    node.wal.sync_all().expect("synced");
    assert_eq!(values(&log), ["kept", "retried"]);
}
