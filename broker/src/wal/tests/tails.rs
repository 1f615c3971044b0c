//! Appends that are acknowledged before their file has them.

use super::*;
use crate::io::disk::sim::Operation;
use crate::wal::WalError;

const ENOSPC: i32 = 28;

fn tailed() -> WalOptions {
    WalOptions { tail_bytes: 1000, tails_bytes: 3000, ..options() }
}

fn on_disk(f: &Fixture) -> usize {
    contents(&f.disk, f.file.path()).map_or(0, |bytes| bytes.len())
}

fn read(f: &Fixture) -> Vec<u8> {
    let handle = f.file.handle().expect("open");
    let mut bytes = vec![0; handle.len().expect("a length") as usize];
    handle.read_exact_at(&mut bytes, 0).expect("read");
    bytes
}

/// A file with one written append and one that is put off.
fn with_tail() -> Fixture {
    let mut f = Fixture::open(&SimDisk::new(), tailed());
    f.append(0, &[1; 100], 1);
    f.stepper.commit().expect("committed");
    assert_eq!(on_disk(&f), 100, "the first append makes the file");
    f.append(100, &[2; 100], 2);
    f.stepper.commit().expect("committed");
    assert_eq!((f.probe.told().flushed.as_slice(), on_disk(&f)), ([1, 2].as_slice(), 100));
    f
}

fn both() -> Vec<u8> {
    [[1; 100], [2; 100]].concat()
}

#[test]
fn what_is_not_written_yet_is_read_and_survives_a_kill_and_a_power_loss() {
    let f = with_tail();
    assert_eq!(read(&f), both());
    for after in (0..50).map(|seed| f.disk.crash(seed)).chain([f.disk.kill()]) {
        let f = Fixture::open(&after, tailed());
        assert_eq!(contents(&after, f.file.path()).expect("there"), both());
    }
}

#[test]
fn a_long_tail_is_written_with_one_call() {
    let mut f = with_tail();
    f.append(200, &[3; 899], 3);
    f.stepper.commit().expect("committed");
    assert_eq!(on_disk(&f), 100, "999 bytes wait");
    f.append(1099, &[4; 1], 4);
    f.stepper.commit().expect("committed");
    assert_eq!(contents(&f.disk, f.file.path()).expect("there"), read(&f));
    assert_eq!(on_disk(&f), 1100);
}

#[test]
fn an_append_that_is_not_put_off_follows_the_tail() {
    let mut f = with_tail();
    f.append(200, &[3; 5000], 3);
    f.stepper.commit().expect("committed");
    assert_eq!(contents(&f.disk, f.file.path()).expect("there"), [both(), vec![3; 5000]].concat());
}

#[test]
fn all_tails_together_are_bounded() {
    // Nothing is synced meanwhile.
    let options = WalOptions { journal_file_bytes: 1 << 20, open_files: 1000, ..tailed() };
    let mut f = Fixture::open(&SimDisk::new(), options);
    let path = |n: usize| PathBuf::from(format!("/data/wal/topic/{n}/0.log"));
    let files: Vec<_> = (0..10).map(|n| f.wal.file(path(n), Weak::<Probe>::new())).collect();
    for round in 0..5 {
        for file in &files {
            append(&f.wal, file, round * 150, &[round as u8; 150], round + 1);
            assert!(f.stepper.commit().expect("committed"));
        }
    }
    let written: usize = (0..10).map(|n| contents(&f.disk, &path(n)).expect("there").len()).sum();
    assert!((7500 - 3000..7500).contains(&written), "{written} of 7500 bytes are written");
}

#[test]
fn retiring_syncing_and_closing_write_what_was_put_off() {
    let mut f = with_tail();
    f.stepper.retire(&f.file.clone()).expect("retired");
    assert_eq!(on_disk(&f), 200);
    let mut f = with_tail();
    f.stepper.sync_all().expect("synced");
    assert_eq!(on_disk(&f), 200);
    let mut f = with_tail();
    f.stepper.shutdown().expect("closed");
    assert_eq!(contents(&f.disk.crash(1), f.file.path()).expect("there"), both());
}

#[test]
fn a_write_that_fails_later_is_final() {
    let mut f = with_tail();
    f.disk.fail(Operation::Write, ".log", 1, 5);
    let error = f.stepper.sync_all().expect_err("nothing vouches for the file");
    assert!(error.to_string().contains(".log"), "{error} names the file");
}

#[test]
fn with_no_room_for_a_tail_it_stays_readable_new_appends_are_refused_and_who_needs_it_written_waits() {
    let mut f = with_tail();
    f.disk.set_capacity(Some(f.disk.used()));
    assert!(matches!(f.stepper.sync_all(), Err(WalError::Ended)), "not answered");
    assert!(matches!(f.stepper.retire(&f.file.clone()), Err(WalError::Ended)), "not answered");
    f.append(200, &[3; 10], 3);
    f.stepper.commit().expect("a full disk is not the end");
    assert_eq!(f.probe.told(), Told { flushed: vec![1, 2], refused: vec![3] });
    assert_eq!(read(&f), both());

    f.disk.set_capacity(None);
    f.wal.resume(&f.file);
    f.stepper.sync_all().expect("synced");
    f.append(200, &[4; 10], 4);
    f.stepper.run().expect("committed");
    assert_eq!(read(&f), [both(), vec![4; 10]].concat());
    assert_eq!(f.probe.told().flushed, [1, 2, 4]);
}

#[test]
fn what_waits_for_room_is_done_by_the_threads_once_there_is_some() {
    let disk = SimDisk::new();
    let fail = Box::new(|error: &WalError| panic!("{error}"));
    let wal = GroupCommitWal::open_with(Arc::new(disk.clone()), PathBuf::from(DIR), tailed(), fail).expect("opened");
    let file = wal.file(PathBuf::from(FILE), Weak::<Probe>::new());
    append(&wal, &file, 0, &[1; 100], 1);
    wal.sync_all().expect("synced");
    disk.fail(Operation::Write, ".log", 1, ENOSPC);
    append(&wal, &file, 100, &[2; 100], 2);
    wal.sync_all().expect("tried again");
    assert_eq!(contents(&disk, file.path()).expect("there"), both());
    append(&wal, &file, 200, &[3; 100], 3);
    disk.fail(Operation::Write, ".log", 1, ENOSPC);
    wal.retire(&file).expect("tried again, too");
    wal.shutdown().expect("closed");
}

#[test]
fn at_the_reserve_everything_is_written_while_there_is_room() {
    let disk = SimDisk::new();
    let mut f = Fixture::open(&disk, WalOptions { reserve_bytes: 100_000, ..tailed() });
    f.append(0, &[1; 100], 1);
    f.stepper.commit().expect("committed");
    f.append(100, &[2; 100], 2);
    f.stepper.commit().expect("committed");
    assert_eq!(on_disk(&f), 100);
    disk.set_capacity(Some(disk.used() + 50_000));
    assert!(!f.wal.is_full(), "nobody has looked");
    f.append(200, &vec![3; 20_000], 3);
    f.stepper.commit().expect("committed: nothing was known yet");
    f.append(20_200, &[4; 10], 4);
    f.stepper.commit().expect("refused");
    assert_eq!((f.probe.told().refused.as_slice(), on_disk(&f)), ([4].as_slice(), 20_200));
}
