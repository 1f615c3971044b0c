//! What fails, and what then must and must not happen.

use super::*;
use crate::io::disk::sim::Operation;
use crate::wal::WalError;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

#[test]
fn flushed_is_told_once_per_file_and_round_with_the_last_token() {
    let mut f = Fixture::open(&SimDisk::new(), options());
    f.append(0, b"one", 1);
    f.append(3, b"two", 2);
    assert_eq!(f.probe.told(), Told::default(), "nothing before the commit");
    f.stepper.run().expect("committed");
    f.append(6, b"three", 3);
    f.stepper.run().expect("committed");
    assert_eq!(f.probe.told().flushed, [2, 3]);
    assert_eq!(contents(&f.disk, f.file.path()).expect("there"), b"onetwothree");
    assert_eq!((f.wal.stats().rounds, f.wal.stats().appends), (2, 3));
}

#[test]
fn what_was_flushed_is_there_after_any_power_loss() {
    for seed in 0..100 {
        let mut f = Fixture::open(&SimDisk::new(), options());
        f.append(0, &[1; 700], 1);
        f.append(700, &[2; 700], 2);
        f.stepper.commit().expect("committed");
        assert_eq!(f.probe.told().flushed, [2]);
        let after = f.disk.crash(seed);
        let f = Fixture::open(&after, options());
        assert_eq!(contents(&after, f.file.path()).expect("there"), [[1; 700], [2; 700]].concat());
    }
}

#[test]
fn a_failed_fsync_of_the_journal_is_final_and_acknowledges_nothing() {
    let mut f = Fixture::open(&SimDisk::new(), options());
    f.disk.fail(Operation::Sync, ".journal", 1, EIO);
    f.append(0, b"lost", 1);
    let error = f.stepper.commit().expect_err("the fsync failed");
    assert!(error.to_string().contains(".journal"), "{error} names the file");
    assert_eq!(f.probe.told(), Told::default());
}

#[test]
fn a_failed_write_other_than_no_space_is_final() {
    for path in [".log", ".journal"] {
        let mut f = Fixture::open(&SimDisk::new(), options());
        f.append(0, b"x", 1);
        f.disk.fail(Operation::Write, path, 1, EIO);
        let error = f.stepper.commit().expect_err("the write failed");
        assert!(error.to_string().contains(path), "{error} names the file");
        assert_eq!(f.probe.told(), Told::default());
    }
}

#[test]
fn a_failed_direct_sync_is_final_and_acknowledges_nothing() {
    let mut f = Fixture::open(&SimDisk::new(), options());
    f.append(0, &vec![1; 20 << 10], 1);
    f.disk.fail(Operation::Sync, ".log", 1, EIO);
    assert!(matches!(f.stepper.commit(), Err(WalError::Io { .. })));
    assert_eq!(f.probe.told(), Told::default());
}

#[test]
fn a_failed_background_sync_is_final() {
    let mut f = Fixture::open(&SimDisk::new(), options());
    f.append(0, b"x", 1);
    f.stepper.run().expect("committed");
    f.disk.fail(Operation::Sync, ".log", 1, EIO);
    assert!(f.stepper.sync_all().is_err());
}

#[test]
fn much_in_one_file_is_synced_itself_and_not_journalled() {
    for seed in 0..50 {
        let mut f = Fixture::open(&SimDisk::new(), options());
        let data: Vec<u8> = (0..20 << 10).map(|n| (n % 251) as u8).collect();
        f.append(0, &data, 1);
        f.stepper.commit().expect("committed");
        assert_eq!(f.probe.told().flushed, [1]);
        let stats = f.wal.stats();
        assert_eq!((stats.directly_synced_bytes, stats.journalled_bytes), (20 << 10, 4096));
        assert_eq!(contents(&f.disk.crash(seed), f.file.path()).expect("even its name is durable"), data);
    }
}

#[test]
fn a_full_disk_cuts_the_partial_append_back_and_refuses_until_resume() {
    let mut f = Fixture::open(&SimDisk::new(), options());
    f.append(0, &[1; 1000], 1);
    f.stepper.run().expect("committed");
    f.disk.set_capacity(Some(f.disk.used() + 300));
    f.append(1000, &[2; 500], 2);
    f.append(1500, &[2; 10], 3);
    f.stepper.run().expect("a full disk is not the end");
    f.append(1510, &[2; 10], 4);
    f.stepper.run().expect("dropped");
    assert_eq!(f.probe.told(), Told { flushed: vec![1], refused: vec![2] });
    assert_eq!(contents(&f.disk, f.file.path()).expect("there"), [1; 1000], "no byte of the refused is left");

    f.wal.resume(&f.file);
    f.append(1000, &[3; 200], 5);
    f.stepper.run().expect("what fits is taken");
    assert_eq!(f.probe.told().flushed, [1, 5]);
    f.disk.set_capacity(None);
    f.append(1200, &[4; 5000], 6);
    f.stepper.run().expect("space has returned");
    assert_eq!(f.probe.told(), Told { flushed: vec![1, 5, 6], refused: vec![2] });
}

#[test]
fn the_reserve_refuses_before_the_disk_is_full_and_recovers_by_itself() {
    let disk = SimDisk::new();
    let mut f = Fixture::open(&disk, WalOptions { reserve_bytes: 100_000, ..options() });
    disk.set_capacity(Some(disk.used() + 105_000));
    assert!(!f.wal.is_full());
    f.append(0, &vec![1; 20_000], 1);
    f.stepper.commit().expect("committed: nothing was known yet");
    f.append(20_000, &[1; 10], 2);
    f.stepper.commit().expect("refused");
    assert_eq!(f.probe.told(), Told { flushed: vec![1], refused: vec![2] });
    assert!(f.wal.is_full());
    disk.set_capacity(None);
    assert!(!f.wal.is_full(), "asking is enough to find out");
    f.wal.resume(&f.file);
    f.append(20_000, &[1; 10], 3);
    f.stepper.run().expect("committed");
    assert_eq!(f.probe.told().flushed, [1, 3]);
}

/// What is logged on this thread meanwhile.
fn logged(work: impl FnOnce()) -> String {
    let lines: Arc<std::sync::Mutex<Vec<u8>>> = Arc::default();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(Written(lines.clone())).finish();
    tracing::subscriber::with_default(log, work);
    String::from_utf8(std::mem::take(&mut *lines.lock().expect("nobody panics with it"))).expect("text")
}

#[derive(Clone)]
struct Written(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics with it").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Written {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[test]
fn a_disk_that_reaches_its_reserve_is_told_once_and_so_is_its_end() {
    let log = logged(|| {
        let disk = SimDisk::new();
        let mut f = Fixture::open(&disk, WalOptions { reserve_bytes: 100_000, ..options() });
        disk.set_capacity(Some(disk.used() + 90_000));
        f.append(0, &vec![1; 20_000], 1);
        f.stepper.commit().expect("committed: nothing was known yet");
        for token in 2..9 {
            f.wal.resume(&f.file);
            f.append(20_000, &[1; 10], token);
            f.stepper.commit().expect("refused");
            assert!(f.wal.is_full());
        }
        disk.set_capacity(None);
        assert!(!f.wal.is_full());
    });
    assert_eq!(log.matches("the disk is full").count(), 1, "{log}");
    assert_eq!(log.matches("the disk has room").count(), 1, "{log}");
    assert!(log.contains("WARN") && log.contains("reserve=100000"), "{log}");
}

/// Appends until the first journal file has been used several times over.
fn fill_the_journal(f: &mut Fixture, tokens: std::ops::Range<u64>) {
    for token in tokens.clone() {
        f.append(token * 1500, &[token as u8; 1500], token);
        f.stepper.run().expect("committed");
    }
    assert_eq!(f.probe.told().flushed.last(), Some(&(tokens.end - 1)));
}

fn journal_files(disk: &SimDisk) -> usize {
    disk.list(Path::new(DIR)).expect("listed").len()
}

#[test]
fn a_full_disk_stops_the_journal_from_growing_not_from_working() {
    let steps = [Operation::Create, Operation::Write, Operation::Sync];
    let folder = [(Operation::SyncDir, "__commit")];
    for (step, path) in steps.map(|step| (step, "00000002.journal")).into_iter().chain(folder) {
        let disk = SimDisk::new();
        let mut f = Fixture::open(&disk, WalOptions { direct_sync_bytes: 1 << 30, journal_files: 2, ..options() });
        disk.fail(step, path, 1, ENOSPC);
        fill_the_journal(&mut f, 0..5);
        assert_eq!(journal_files(&disk), 1, "{step:?}");
        fill_the_journal(&mut f, 5..100);
        assert_eq!(journal_files(&disk), 2, "{step:?}: it grows when there is room again");
    }
}

#[test]
fn the_journal_leaves_the_reserve_alone_and_grows_once_there_is_room() {
    let disk = SimDisk::new();
    let mut f = Fixture::open(&disk, WalOptions { direct_sync_bytes: 1 << 30, reserve_bytes: 500_000, ..options() });
    disk.set_capacity(Some(disk.used() + 500_000 + (60 << 10)));
    fill_the_journal(&mut f, 0..30);
    assert_eq!(journal_files(&disk), 1);
    disk.set_capacity(None);
    fill_the_journal(&mut f, 30..130);
    assert_eq!(journal_files(&disk), 3);
}

#[test]
fn a_retired_file_whose_folder_is_gone_stops_no_sync() {
    let mut f = Fixture::open(&SimDisk::new(), options());
    f.append(0, b"one", 1);
    f.stepper.run().expect("committed, and waiting for the background");
    f.stepper.retire(&f.file).expect("retired");
    f.disk.remove_dir_all(Path::new(FILE).parent().expect("a folder")).expect("deleted, with its topic");
    f.stepper.sync_all().expect("nothing of it is left to sync");
    f.stepper.retire(&f.file).expect("retired again");
}

/// What happens to one of a few folders, each with one file, or to the WAL.
#[derive(Debug, Clone, Copy)]
enum Step {
    Append(usize),
    Delete(usize),
    Sync,
    Commit,
    Job,
}

fn any_step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::prelude::*;
    prop_oneof![
        4 => (0..3usize).prop_map(Step::Append),
        1 => (0..3usize).prop_map(Step::Delete),
        1 => Just(Step::Sync),
        3 => Just(Step::Commit),
        1 => Just(Step::Job),
    ]
}

/// A folder's file, and how many appends of four bytes it has.
type Incarnation = (Arc<WalFile>, u64);

fn run_steps(steps: &[Step], options: WalOptions) {
    let mut f = Fixture::open(&SimDisk::new(), options);
    let mut files: [Option<Incarnation>; 3] = Default::default();
    let path = |n: usize| PathBuf::from(format!("/data/wal/topic/{n}/0.log"));
    let mut waiting = Vec::new();
    for step in steps {
        match *step {
            Step::Append(n) => {
                let (file, count) = files[n].get_or_insert_with(|| (f.wal.file(path(n), Weak::<Probe>::new()), 0));
                append(&f.wal, file, *count * 4, b"data", *count + 1);
                *count += 1;
            }
            Step::Delete(n) => {
                let Some((file, count)) = files[n].take() else { continue };
                f.stepper.retire(&file).expect("retired");
                let whole = contents(&f.disk, &path(n)).expect("retiring has written what was queued");
                assert_eq!(whole.len() as u64, count * 4);
                // As the logs do it: a removal whose folder is not synced may be undone by a power loss.
                f.disk.remove_dir_all(path(n).parent().expect("a folder")).expect("removed");
                f.disk.sync_dir(Path::new("/data/wal/topic")).expect("synced");
            }
            Step::Sync => {
                let (done, answer) = std::sync::mpsc::sync_channel(1);
                f.wal.core.queue.push(crate::wal::queue::Operation::SyncAll(done));
                waiting.push(answer);
            }
            Step::Commit => drop(f.stepper.commit().expect("committed")),
            Step::Job => drop(f.stepper.run_job().expect("done")),
        }
    }
    f.stepper.shutdown().expect("closed");
    assert!(waiting.iter().all(|answer| answer.try_recv().is_ok()), "everybody who waited was told");
    let after = f.disk.crash(1);
    for (n, file) in files.iter().enumerate() {
        let found = contents(&after, &path(n)).map(|bytes| bytes.len() as u64);
        assert_eq!(found, file.as_ref().map(|(_, count)| count * 4), "{n}: neither lost nor revived");
    }
}

proptest::proptest! {
    #[test]
    fn whenever_files_are_deleted_the_others_lose_nothing_and_the_wal_goes_on(
        steps in proptest::collection::vec(any_step(), 0..60),
        fsync in proptest::bool::ANY,
    ) {
        let durability = if fsync { Durability::Fsync } else { Durability::Os };
        run_steps(&steps, WalOptions { durability, open_files: 2, ..options() });
    }
}

#[test]
fn a_retired_file_is_never_replayed() {
    for seed in 0..100 {
        let mut f = Fixture::open(&SimDisk::new(), options());
        f.append(0, &[1; 600], 1);
        f.append(600, &[2; 600], 2);
        f.stepper.commit().expect("committed");
        f.stepper.retire(&f.file).expect("retired");
        let handle = f.file.handle().expect("open");
        handle.set_len(600).and_then(|()| handle.sync_data()).expect("cut");
        f.append(600, &[3; 100], 3);
        f.stepper.commit().expect("committed");
        let after = f.disk.crash(seed);
        let f = Fixture::open(&after, options());
        let expected: Vec<u8> = [vec![1; 600], vec![3; 100]].concat();
        assert_eq!(contents(&after, f.file.path()).expect("there"), expected);
    }
}

/// Power was lost while the journal's only file was begun anew, and took its first block.
#[test]
fn what_an_unreadable_journal_held_never_follows_what_is_written_over_it() {
    let options = WalOptions { journal_files: 1, ..options() };
    let mut f = Fixture::open(&SimDisk::new(), options.clone());
    f.append(0, &[1; 100], 1);
    f.stepper.commit().expect("committed");
    f.append(100, &[2; 100], 2);
    f.stepper.commit().expect("committed");
    f.stepper.retire(&f.file.clone()).expect("retired");
    let handle = f.file.handle().expect("open");
    handle.set_len(50).and_then(|()| handle.sync_data()).expect("cut");
    let journal = f.disk.open(&Path::new(DIR).join("00000001.journal"), OpenMode::Write).expect("there");
    journal.write_all_at(&[std::io::IoSlice::new(&[0xff; 512])], 0).and_then(|()| journal.sync_data()).expect("lost");

    let f = Fixture::open(&f.disk.kill(), options.clone());
    f.append(50, &[3; 100], 1);
    let mut stepper = f.stepper;
    stepper.commit().expect("committed");
    for seed in 0..50 {
        let after = f.disk.crash(seed);
        let f = Fixture::open(&after, options.clone());
        assert_eq!(contents(&after, f.file.path()).expect("there"), [vec![1; 50], vec![3; 100]].concat());
    }
}

/// The rounds that are written over are all there, or none of them, whatever power loss does.
#[test]
fn a_journal_file_begun_anew_revives_no_part_of_what_it_held() {
    for (fault_point, seed) in (1..9).flat_map(|point| (0..40).map(move |seed| (point, seed))) {
        let options = WalOptions { journal_files: 1, ..options() };
        let mut f = Fixture::open(&SimDisk::new(), options.clone());
        let mut length = 0;
        // Every round takes one block; the last but two leave the file nearly full.
        for token in 0..14 {
            f.append(length, &[token as u8; 100], token + 1);
            f.stepper.commit().expect("committed");
            length += 100;
        }
        f.stepper.sync_all().expect("synced");
        f.disk.crash_at(fault_point);
        f.append(length, &[14; 9000], 15);
        // It fails, because the power does.
        let _ = f.stepper.run();
        let flushed = if f.probe.told().flushed.contains(&15) { length + 9000 } else { length };
        let after = f.disk.crash(seed);
        let f = Fixture::open(&after, options);
        let found = contents(&after, f.file.path()).expect("there").len() as u64;
        assert!(found >= flushed, "{found} of {flushed} bytes are there after fault point {fault_point}, seed {seed}");
    }
}

#[test]
fn a_shutdown_leaves_nothing_to_replay() {
    let disk = SimDisk::new();
    let mut f = Fixture::open(&disk, options());
    f.append(0, b"kept", 1);
    f.stepper.shutdown().expect("closed");
    let after = disk.crash(1);
    disk.remove_file(f.file.path()).expect_err("the old machine is gone");
    assert_eq!(contents(&after, f.file.path()).expect("synced"), b"kept");
    after.remove_file(f.file.path()).expect("removed behind its back");
    let f = Fixture::open(&after, options());
    assert_eq!(contents(&after, f.file.path()), None, "not replayed");
}

#[test]
fn a_missing_round_of_the_live_journal_is_reported_not_skipped() {
    let disk = SimDisk::new();
    let mut f = Fixture::open(&disk, WalOptions { direct_sync_bytes: 1 << 30, ..options() });
    // Into the second journal file, without any sync of the files.
    for token in 0..30 {
        f.append(token * 3000, &[token as u8; 3000], token);
        while f.stepper.commit().expect("committed") {}
        if token == 5 {
            f.stepper.run_job().expect("prepared another file");
        }
    }
    let journal = disk.list(Path::new(DIR)).expect("listed");
    assert_eq!(journal.len(), 2, "{journal:?}");
    let first = disk.open(&Path::new(DIR).join("00000001.journal"), OpenMode::Write).expect("there");
    first.write_all_at(&[std::io::IoSlice::new(&[0xff; 8])], 5 * 4096).expect("spoilt");
    let after = disk.kill();
    let opened = GroupCommitWal::open_stepped(Arc::new(after), PathBuf::from(DIR), options());
    assert!(matches!(opened, Err(WalError::Corrupt { .. })));
}

#[test]
fn durability_os_waits_for_no_sync_and_syncs_on_demand() {
    let disk = SimDisk::new();
    let mut f = Fixture::open(&disk, WalOptions { durability: Durability::Os, ..options() });
    disk.fail(Operation::Sync, "", 1, EIO);
    f.append(0, b"cached", 1);
    f.stepper.commit().expect("nothing is synced");
    assert_eq!(f.probe.told().flushed, [1]);
    f.stepper.sync_all().expect_err("now it is");
    let mut f = Fixture::open(&disk.kill(), WalOptions { durability: Durability::Os, ..options() });
    f.append(6, b", kept", 2);
    f.stepper.shutdown().expect("synced");
    assert_eq!(contents(&f.disk.crash(3), f.file.path()).expect("there"), b"cached, kept");
}

#[test]
fn many_dirty_files_are_synced_by_one_sync_of_the_file_system() {
    let disk = SimDisk::new();
    let mut f = Fixture::open(&disk, WalOptions { open_files: 1000, ..options() });
    for n in 0..100 {
        let file = f.wal.file(PathBuf::from(format!("/data/wal/topic/{n}/0.log")), Weak::<Probe>::new());
        append(&f.wal, &file, 0, b"data", 1);
    }
    f.stepper.run().expect("committed");
    disk.fail(Operation::Sync, ".log", 1, EIO);
    f.stepper.sync_all().expect("none is synced itself");
    let after = disk.crash(1);
    after.remove_dir_all(Path::new(DIR)).expect("the journal is not needed");
    for n in 0..100 {
        let path = PathBuf::from(format!("/data/wal/topic/{n}/0.log"));
        assert_eq!(contents(&after, &path).as_deref(), Some(b"data".as_slice()), "{n}");
    }
}

#[test]
fn at_most_so_many_files_are_kept_open() {
    let disk = SimDisk::new();
    let mut f = Fixture::open(&disk, WalOptions { open_files: 4, ..options() });
    let files: Vec<_> = (0..40)
        .map(|n| f.wal.file(PathBuf::from(format!("/data/wal/topic/{n}/0.log")), Weak::<Probe>::new()))
        .collect();
    for file in &files {
        append(&f.wal, file, 0, b"data", 1);
        f.stepper.run().expect("committed");
    }
    f.stepper.sync_all().expect("synced");
    for file in files.iter().chain(&files) {
        let mut read = [0; 4];
        file.handle().expect("opened again").read_exact_at(&mut read, 0).expect("read");
        assert_eq!(&read, b"data");
    }
    assert!(files.iter().filter(|file| file.is_open()).count() <= 4);
}

#[test]
fn files_that_wait_for_their_sync_are_never_more_than_may_be_open() {
    let disk = SimDisk::new();
    let mut f = Fixture::open(&disk, WalOptions { open_files: 4, ..options() });
    let path = |n| PathBuf::from(format!("/data/wal/topic/{n}/0.log"));
    let files: Vec<_> = (0..40).map(|n| f.wal.file(path(n), Weak::<Probe>::new())).collect();
    for file in &files {
        append(&f.wal, file, 0, b"data", 1);
    }
    while f.stepper.commit().expect("committed") || f.stepper.run_job().expect("synced") {
        assert!(files.iter().filter(|file| file.is_open()).count() <= 4);
    }
    for n in 0..40 {
        assert_eq!(contents(&disk, &path(n)).as_deref(), Some(b"data".as_slice()), "{n}");
    }
}

#[test]
fn where_no_descriptor_is_left_idle_files_are_closed_and_the_open_is_tried_again() {
    let disk = SimDisk::new();
    let mut f = Fixture::open(&disk, options());
    let idle = f.wal.file(PathBuf::from("/data/wal/topic/1/1.log"), Weak::<Probe>::new());
    append(&f.wal, &idle, 0, b"data", 1);
    f.stepper.sync_all().expect("synced");
    assert!(idle.is_open());
    disk.fail(Operation::Create, "0.log", 1, EMFILE);
    f.append(0, b"data", 1);
    f.stepper.run().expect("committed");
    assert_eq!(f.probe.told(), Told { flushed: vec![1], refused: vec![] });
    assert!(!idle.is_open());
}

#[test]
fn where_no_descriptor_can_be_freed_the_append_is_refused_and_the_wal_goes_on() {
    let disk = SimDisk::new();
    let mut f = Fixture::open(&disk, options());
    disk.fail(Operation::Create, "0.log", 1, EMFILE);
    disk.fail(Operation::Create, "0.log", 2, ENFILE);
    f.append(0, b"data", 1);
    f.stepper.run().expect("a file that was not opened has lost nothing");
    assert_eq!(f.probe.told(), Told { flushed: vec![], refused: vec![1] });
    f.wal.resume(&f.file);
    f.append(0, b"data", 2);
    f.stepper.shutdown().expect("closed");
    assert_eq!(f.probe.told(), Told { flushed: vec![2], refused: vec![1] });
    assert_eq!(contents(&disk.crash(1), f.file.path()).as_deref(), Some(b"data".as_slice()));
}
