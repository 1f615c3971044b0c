//! Appends that the journal holds and their file does not yet.

use super::*;
use crate::io::disk::ReadAt;
use crate::io::disk::sim::Operation;

const BALLAST: &str = "/data/wal/__commit/ballast";
const DEFERRED: u64 = 64 << 10;

/// A WAL whose ballast is there, and whose file holds `before`.
fn fixture(before: &[u8]) -> Fixture {
    let options = WalOptions { deferred_bytes: DEFERRED, journal_file_bytes: 128 << 10, open_files: 64, ..options() };
    let mut f = Fixture::open(&SimDisk::new(), options);
    // So much that the node counts as busy.
    let other = f.wal.file(PathBuf::from("/data/wal/topic/1/0.log"), Weak::<Probe>::new());
    for token in 0..10 {
        append(&f.wal, &other, token * 8000, &[9; 8000], token);
        f.stepper.run().expect("committed");
    }
    assert_eq!(contents(&f.disk, Path::new(BALLAST)).map(|bytes| bytes.len() as u64), Some(DEFERRED));
    f.append(0, before, 1);
    f.stepper.sync_all().expect("synced");
    f
}

fn on_disk(f: &Fixture) -> Vec<u8> {
    contents(&f.disk, f.file.path()).expect("there")
}

#[test]
fn small_appends_are_flushed_and_read_before_their_file_has_them() {
    let mut f = fixture(b"first ");
    f.append(6, b"second ", 2);
    f.append(13, b"third", 3);
    f.stepper.commit().expect("committed");
    assert_eq!(f.probe.told().flushed, [1, 3]);
    assert_eq!(on_disk(&f), b"first ");
    let whole = b"first second third";
    assert_eq!(f.file.len().expect("a length"), whole.len() as u64);
    for from in 0..=whole.len() {
        for to in from..=whole.len() {
            let mut read = vec![0; to - from];
            f.file.read_exact_at(&mut read, from as u64).expect("read");
            assert_eq!(read, whole[from..to], "{from}..{to}");
        }
    }
    assert_eq!(f.file.read_at(&mut [0; 9], whole.len() as u64).expect("the end"), 0);

    f.stepper.sync_all().expect("synced");
    assert_eq!(on_disk(&f), whole);
}

#[test]
fn what_was_put_off_is_there_after_any_power_loss() {
    for seed in 0..50 {
        let mut f = fixture(&[1; 700]);
        f.append(700, &[2; 700], 2);
        f.stepper.commit().expect("committed");
        assert_eq!(on_disk(&f).len(), 700);
        let after = f.disk.crash(seed);
        Fixture::open(&after, options());
        assert_eq!(contents(&after, f.file.path()).expect("there"), [[1; 700], [2; 700]].concat());
    }
}

#[test]
fn what_was_put_off_is_written_with_what_is_too_large_to_be() {
    let mut f = fixture(b"first ");
    f.append(6, b"second ", 2);
    f.stepper.commit().expect("committed");
    let large = [b'x'; 15 << 10];
    let mut position = 13;
    for token in 3..8 {
        f.append(position, &large, token);
        f.stepper.commit().expect("committed");
        position += large.len() as u64;
    }
    let written = on_disk(&f);
    assert!(written.len() as u64 > position - (64 << 10), "{} of {position} bytes are written", written.len());
    assert!(written.starts_with(b"first second xxx"));
}

#[test]
fn retiring_writes_what_was_put_off() {
    let mut f = fixture(b"first ");
    f.append(6, b"second ", 2);
    f.stepper.commit().expect("committed");
    f.stepper.retire(&f.file.clone()).expect("retired");
    assert_eq!(on_disk(&f), b"first second ");
}

#[test]
fn on_a_full_disk_the_ballast_makes_room_for_what_was_acknowledged() {
    let mut f = fixture(b"first ");
    let other = f.wal.file(PathBuf::from("/data/wal/topic/2/0.log"), Weak::<Probe>::new());
    append(&f.wal, &other, 0, b"one ", 1);
    f.stepper.commit().expect("committed");
    append(&f.wal, &other, 4, b"two ", 2);
    f.append(6, b"second ", 2);
    f.stepper.commit().expect("committed");
    // Somebody else takes all that was free.
    f.disk.set_capacity(Some(f.disk.used()));
    f.append(13, &vec![3; 64 << 10], 3);
    f.stepper.commit().expect("a full disk is not the end");
    assert_eq!(f.probe.told(), Told { flushed: vec![1, 2], refused: vec![3] });
    // One file takes the room of all that is put off, not only its own: others would take the rest.
    f.stepper.retire(&other).expect("the ballast makes room");
    assert_eq!(on_disk(&f), b"first second ");
    assert!(contents(&f.disk, Path::new(BALLAST)).is_none());

    // Without it nothing is put off; with room it comes back.
    f.disk.set_capacity(None);
    f.wal.resume(&f.file);
    f.append(13, b"third ", 4);
    f.stepper.commit().expect("committed");
    assert_eq!(on_disk(&f), b"first second third ");
    let mut position = 19;
    for token in 5..60 {
        f.append(position, &[5; 5000], token);
        f.stepper.run().expect("committed");
        position += 5000;
    }
    assert_eq!(contents(&f.disk, Path::new(BALLAST)).map(|bytes| bytes.len() as u64), Some(DEFERRED));
}

#[test]
fn no_more_is_put_off_than_the_ballast_has_room_for() {
    let mut f = fixture(b"first ");
    let files: Vec<_> = (2..30)
        .map(|n| f.wal.file(PathBuf::from(format!("/data/wal/topic/{n}/0.log")), Weak::<Probe>::new()))
        .collect();
    for position in [0, 1] {
        for file in &files {
            append(&f.wal, file, position, b"x", position);
        }
        f.stepper.commit().expect("committed");
    }
    let put_off = files.iter().filter(|file| contents(&f.disk, file.path()).expect("there").len() == 1).count();
    // One byte may need a block of its own, and counts as two.
    assert_eq!(put_off as u64, DEFERRED / (2 * 4096));
}

#[test]
fn a_ballast_that_was_cut_short_is_made_again() {
    let f = fixture(b"first ");
    let after = f.disk.kill();
    let half = after.open(Path::new(BALLAST), OpenMode::Write).expect("there");
    half.set_len(DEFERRED / 2).expect("cut");
    let options = WalOptions { deferred_bytes: DEFERRED, ..options() };
    Fixture::open(&after, options);
    assert!(contents(&after, Path::new(BALLAST)).is_none());
}

#[test]
fn a_failed_write_of_what_was_put_off_is_final() {
    const EIO: i32 = 5;
    let mut f = fixture(b"first ");
    f.append(6, b"second ", 2);
    f.stepper.commit().expect("committed");
    f.disk.fail(Operation::Write, "topic/0/0.log", 1, EIO);
    let error = f.stepper.sync_all().expect_err("the write failed");
    assert!(error.to_string().contains("0.log"), "{error} names the file");
}
