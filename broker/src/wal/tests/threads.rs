//! The WAL with its threads, on the machine's disk.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use super::*;
use crate::io::disk::real::RealDisk;
use crate::io::disk::sim::Operation;
use crate::wal::{Drive, WalError};

/// Sends each token on.
struct Forward(mpsc::Sender<u64>);

impl FlushListener for Forward {
    fn flushed(&self, token: u64) {
        self.0.send(token).expect("the test waits");
    }

    fn refused(&self, token: u64, why: &Refusal) {
        panic!("{token} was refused: {why}");
    }
}

fn big_options() -> WalOptions {
    WalOptions { journal_file_bytes: 1 << 20, direct_sync_bytes: 256 << 10, ..options() }
}

#[test]
fn appends_of_many_threads_are_flushed_in_order_and_found_again() {
    const FILES: usize = 8;
    const APPENDS: u64 = 400;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().join("wal/__commit");
    let path = |n: usize| folder.path().join(format!("wal/topic/{n}/0.log"));
    {
        let wal = GroupCommitWal::open(Arc::new(RealDisk), dir.clone(), big_options()).expect("opened");
        std::thread::scope(|scope| {
            for n in 0..FILES {
                let wal = &wal;
                scope.spawn(move || {
                    let (sender, flushed) = mpsc::channel();
                    let listener: Arc<dyn FlushListener> = Arc::new(Forward(sender));
                    let file = wal.file(path(n), Arc::downgrade(&listener));
                    let mut position = 0;
                    for token in 1..=APPENDS {
                        let data = vec![token as u8; (token as usize * 7) % 900 + 1];
                        append(wal, &file, position, &data, token);
                        position += data.len() as u64;
                    }
                    let mut last = 0;
                    while last < APPENDS {
                        let token = flushed.recv().expect("told");
                        assert!(token > last);
                        last = token;
                    }
                    if n == 0 {
                        wal.retire(&file).expect("retired");
                        file.handle().expect("open").set_len(10).expect("cut");
                    }
                });
            }
        });
        assert!(wal.stats().rounds < FILES as u64 * APPENDS, "commits are shared");
        // Dropped without a shutdown, as a kill would.
    }
    let wal = GroupCommitWal::open(Arc::new(RealDisk), dir, big_options()).expect("opened");
    for n in 0..FILES {
        let expected: Vec<u8> =
            (1..=APPENDS).flat_map(|token| vec![token as u8; (token as usize * 7) % 900 + 1]).collect();
        let expected = if n == 0 { &expected[..10] } else { &expected[..] };
        assert_eq!(contents(&RealDisk, &path(n)).expect("there"), expected);
    }
    wal.sync_all().expect("synced");
    wal.shutdown().expect("closed");
    assert!(matches!(wal.sync_all(), Err(WalError::Ended)));
}

#[test]
fn a_data_folder_may_be_moved_after_a_crash() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    let (sender, flushed) = mpsc::channel();
    let listener: Arc<dyn FlushListener> = Arc::new(Forward(sender));
    {
        let wal = GroupCommitWal::open(Arc::new(RealDisk), before.join("wal/__commit"), big_options()).expect("opened");
        let file = wal.file(before.join("wal/topic/0/0.log"), Arc::downgrade(&listener));
        append(&wal, &file, 0, b"acknowledged", 1);
        assert_eq!(flushed.recv(), Ok(1));
        // Dropped without a shutdown, as a kill would.
    }
    // A power loss took what was in the page cache only.
    std::fs::write(before.join("wal/topic/0/0.log"), b"").expect("written");
    std::fs::rename(&before, &after).expect("moved");
    let wal = GroupCommitWal::open(Arc::new(RealDisk), after.join("wal/__commit"), big_options()).expect("opened");
    assert_eq!(contents(&RealDisk, &after.join("wal/topic/0/0.log")).expect("there"), b"acknowledged");
    assert!(!before.exists(), "the old place is left alone");
    wal.shutdown().expect("closed");
}

#[test]
fn a_failed_fsync_ends_everything_through_on_fatal() {
    let disk = SimDisk::new();
    let called = Arc::new(AtomicU64::new(0));
    let count = called.clone();
    let on_fatal = Box::new(move |_: &WalError| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let wal =
        GroupCommitWal::open_with(Arc::new(disk.clone()), PathBuf::from(DIR), options(), Drive::Threads, on_fatal)
            .expect("open");
    let probe = Arc::new(Probe::default());
    let listener: Weak<dyn FlushListener> = Arc::downgrade(&(probe.clone() as Arc<dyn FlushListener>));
    let file = wal.file(PathBuf::from(FILE), listener);
    disk.fail(Operation::Sync, ".journal", 1, 5);
    append(&wal, &file, 0, b"x", 1);
    assert!(matches!(wal.sync_all(), Err(WalError::Ended)), "whoever waits is told");
    assert_eq!(called.load(Ordering::SeqCst), 1, "after the cause was");
    append(&wal, &file, 1, b"y", 2);
    assert!(matches!(wal.shutdown(), Err(WalError::Ended)));
    assert_eq!(called.load(Ordering::SeqCst), 1);
    assert_eq!(probe.told(), Told::default());
}

#[test]
fn whoever_waits_for_a_failed_background_sync_hears_of_it_after_the_cause() {
    for _ in 0..50 {
        let disk = SimDisk::new();
        let told = Arc::new(AtomicBool::new(false));
        let telling = told.clone();
        let on_fatal = Box::new(move |error: &WalError| {
            std::thread::yield_now();
            assert!(matches!(error, WalError::Io { .. }), "{error}");
            telling.store(true, Ordering::SeqCst);
        });
        let wal =
            GroupCommitWal::open_with(Arc::new(disk.clone()), PathBuf::from(DIR), options(), Drive::Threads, on_fatal);
        let wal = wal.expect("opened");
        let file = wal.file(PathBuf::from(FILE), Weak::<Probe>::new());
        append(&wal, &file, 0, b"x", 1);
        disk.fail(Operation::Sync, ".log", 1, 5);
        assert!(matches!(wal.sync_all(), Err(WalError::Ended)));
        assert!(told.load(Ordering::SeqCst));
    }
}

/// Writes files and deletes them with their folders, as fast as it can, under a background that never stops syncing.
#[test]
fn deletions_under_a_busy_background_end_nothing() {
    for durability in [Durability::Fsync, Durability::Os] {
        // Handles are evicted all the time, synced or not as the durability allows.
        let options = WalOptions { durability, open_files: 2, ..options() };
        let disk = SimDisk::new();
        let fail = Box::new(|error: &WalError| panic!("{error}"));
        let wal = GroupCommitWal::open_with(Arc::new(disk.clone()), PathBuf::from(DIR), options, Drive::Threads, fail)
            .expect("opened");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|n| {
                    let (wal, disk) = (&wal, &disk);
                    scope.spawn(move || write_and_delete(wal, disk, Path::new(&format!("/data/wal/topic/{n}"))))
                })
                .collect();
            let syncer = scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    wal.sync_all().expect("synced");
                }
            });
            let written = writers.into_iter().all(|writer| writer.join().is_ok());
            done.store(true, Ordering::SeqCst);
            assert!(written && syncer.join().is_ok(), "nothing has ended the WAL");
        });
        wal.shutdown().expect("closed");
    }
}

fn write_and_delete(wal: &GroupCommitWal, disk: &SimDisk, folder: &Path) {
    for _ in 0..150 {
        let files = ["partition.json", "0.log"].map(|name| wal.file(folder.join(name), Weak::<Probe>::new()));
        for token in 1..=3 {
            for file in &files {
                append(wal, file, token * 4 - 4, b"data", token);
            }
        }
        for file in &files {
            wal.retire(file).expect("retired");
        }
        let gone = folder.with_extension("deleted");
        disk.rename(folder, &gone).expect("made with the first append");
        disk.remove_dir_all(&gone).expect("removed");
    }
}

#[tokio::test]
async fn admission_bounds_the_bytes_that_wait() {
    let disk = SimDisk::new();
    let (wal, _stepper) =
        GroupCommitWal::open_stepped(Arc::new(disk), PathBuf::from(DIR), WalOptions { queue_bytes: 1000, ..options() })
            .expect("opened");
    let first = wal.admit(700).await;
    assert_eq!(wal.stats().queue_bytes, 700);
    let admitted = AtomicBool::new(false);
    let second = async {
        let admission = wal.admit(400).await;
        admitted.store(true, Ordering::SeqCst);
        admission
    };
    let (second, ()) = tokio::join!(second, async {
        tokio::task::yield_now().await;
        assert!(!admitted.load(Ordering::SeqCst), "no room yet");
        drop(first);
    });
    assert_eq!(wal.stats().queue_bytes, 400);
    drop(second);
    drop(wal.admit(5000).await);
    assert_eq!(wal.stats().queue_bytes, 0, "what is larger than the queue passes alone");
}
