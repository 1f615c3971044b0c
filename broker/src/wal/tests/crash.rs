//! The promise under arbitrary crashes: what was flushed is there, byte for byte and in order, without a gap; nothing
//! that was cut, replaced or deleted comes back; nothing old lies over anything newer.
//!
//! Each case is a life after life of a WAL on a simulated disk: random appends, commits, background jobs, cuts,
//! replacements, deletions, a full disk; a crash at a random fault point, often in the recovery as well; then every
//! file is read and compared with what it may hold. `CHRONIK_CASES` sets the number of cases, `CHRONIK_SEED` runs the
//! one case of a seed that a failure has printed.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::wal::WalError;
use crate::wal::journal::{self, ring::file_number};

const FILES: usize = 4;
const CASES: u64 = 300;

/// One record of the test's own logs: told apart from every other ever written.
type Uid = u64;

/// uid, length, checksum; then bytes that follow from the uid.
fn frame(uid: Uid) -> Vec<u8> {
    // Fibonacci hashing: any spread of sizes will do.
    let dice = (uid.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize;
    let length = match dice % 20 {
        0 => 2000 + dice % 4000,
        1..5 => 300 + dice % 900,
        _ => 1 + dice % 120,
    };
    let mut bytes = Vec::with_capacity(20 + length);
    bytes.extend_from_slice(&uid.to_le_bytes());
    bytes.extend_from_slice(&(length as u64).to_le_bytes());
    bytes.resize(16 + length, uid as u8 | 1);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes) as u32;
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// The frames at the start of some bytes, and how many bytes they take; as a log's recovery scans.
fn scan(bytes: &[u8]) -> (Vec<Uid>, usize) {
    let (mut uids, mut at) = (Vec::new(), 0);
    while let Some(header) = bytes.get(at..at + 16) {
        let uid = u64::from_le_bytes(header[..8].try_into().expect("8 bytes"));
        let length = u64::from_le_bytes(header[8..].try_into().expect("8 bytes"));
        let Some(end) = usize::try_from(length).ok().and_then(|length| (at + 20).checked_add(length)) else { break };
        let Some(whole) = bytes.get(at..end) else { break };
        if crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &whole[..whole.len() - 4]) as u32
            != u32::from_le_bytes(whole[whole.len() - 4..].try_into().expect("4 bytes"))
        {
            break;
        }
        uids.push(uid);
        at = end;
    }
    (uids, at)
}

fn bytes_of(uids: &[Uid]) -> Vec<u8> {
    uids.iter().flat_map(|uid| frame(*uid)).collect()
}

/// What a file may hold after a crash: these frames, at least so many of them.
#[derive(Debug, Clone)]
struct Allowed {
    frames: Vec<Uid>,
    at_least: usize,
}

/// A file as its log sees it.
struct Model {
    path: PathBuf,
    file: Arc<WalFile>,
    probe: Arc<Probe>,
    frames: Vec<Uid>,
    length: u64,
    flushed: usize,
    /// Frames after each append that is not flushed yet, by token.
    pending: BTreeMap<u64, usize>,
    /// Contents that this name had before and might have again, while its removal is not durable.
    ghosts: Vec<Vec<Uid>>,
    /// What it may hold instead while something but an append changes it.
    instead: Vec<Allowed>,
}

impl Model {
    fn allowed(&self) -> Vec<Allowed> {
        let mut allowed = vec![Allowed { frames: self.frames.clone(), at_least: self.flushed }];
        allowed.extend(self.ghosts.iter().map(|frames| Allowed { frames: frames.clone(), at_least: frames.len() }));
        allowed.extend(self.instead.iter().cloned());
        allowed
    }
}

struct Life<'a> {
    disk: SimDisk,
    wal: Arc<GroupCommitWal>,
    stepper: Stepper,
    files: Vec<Model>,
    random: &'a mut SmallRng,
    next: &'a mut u64,
}

type Step = Result<(), WalError>;

fn io(result: std::io::Result<()>) -> Step {
    result.map_err(|source| WalError::Io { action: "the test's own", path: PathBuf::new(), source })
}

fn path(index: usize) -> PathBuf {
    PathBuf::from(format!("/data/wal/topic-{}/{index}/0.log", index % 2))
}

fn register(wal: &GroupCommitWal, path: PathBuf) -> (Arc<WalFile>, Arc<Probe>) {
    let probe = Arc::new(Probe::default());
    let listener: Weak<dyn FlushListener> = Arc::downgrade(&(probe.clone() as Arc<dyn FlushListener>));
    (wal.file(path, listener), probe)
}

impl Life<'_> {
    fn uid(&mut self) -> u64 {
        *self.next += 1;
        *self.next
    }

    /// One random thing.
    fn act(&mut self) -> Step {
        let index = self.random.random_range(0..FILES);
        match self.random.random_range(0..100) {
            0..45 => {
                self.append(index);
                Ok(())
            }
            45..70 => self.commit(),
            70..80 => self.stepper.run_job().map(|_| ()),
            80..88 => self.truncate(index),
            88..92 => self.delete(index),
            92..95 => self.replace(index),
            95..97 => self.stepper.sync_all(),
            97 => io(self.disk.sync_dir(Path::new("/data/wal"))),
            98 => {
                let room = self.random.random_range(0..20_000);
                self.disk.set_capacity(Some(self.disk.used() + room));
                Ok(())
            }
            _ => {
                self.disk.set_capacity(None);
                Ok(())
            }
        }
    }

    fn append(&mut self, index: usize) {
        for _ in 0..self.random.random_range(1..4) {
            let uids: Vec<Uid> = (0..self.random.random_range(1..4)).map(|_| self.uid()).collect();
            let token = self.uid();
            let data = bytes_of(&uids);
            let model = &mut self.files[index];
            model.frames.extend(uids);
            model.pending.insert(token, model.frames.len());
            append(&self.wal, &model.file, model.length, &data, token);
            model.length += data.len() as u64;
        }
    }

    fn commit(&mut self) -> Step {
        let done = self.stepper.commit().map(|_| ());
        self.listen();
        done
    }

    /// Takes in what the listeners were told.
    fn listen(&mut self) {
        for model in &mut self.files {
            let told = std::mem::take(&mut *model.probe.told.lock());
            for token in told.flushed {
                model.flushed = model.pending[&token];
                model.pending = model.pending.split_off(&(token + 1));
                model.ghosts.clear();
            }
            for token in told.refused {
                // The log ends before the refused append again.
                let at = model.pending.range(..token).next_back().map_or(model.flushed, |(_, frames)| *frames);
                model.frames.truncate(at);
                model.pending.clear();
                model.length = bytes_of(&model.frames).len() as u64;
                self.wal.resume(&model.file);
            }
        }
    }

    fn retire(&mut self, index: usize) -> Step {
        let file = self.files[index].file.clone();
        let done = self.stepper.retire(&file);
        self.listen();
        done?;
        // A refusal may have come with it; then all that is left was flushed.
        let model = &mut self.files[index];
        assert_eq!((model.flushed, model.pending.len()), (model.frames.len(), 0), "retiring commits what is queued");
        Ok(())
    }

    fn truncate(&mut self, index: usize) -> Step {
        self.retire(index)?;
        let keep = self.random.random_range(0..=self.files[index].frames.len());
        let model = &mut self.files[index];
        if model.frames.is_empty() {
            return Ok(());
        }
        let kept = model.frames[..keep].to_vec();
        let length = bytes_of(&kept).len() as u64;
        model.instead.push(Allowed { frames: kept.clone(), at_least: kept.len() });
        let handle = model.file.handle();
        let handle = handle.map_err(|source| WalError::Io { action: "open", path: PathBuf::new(), source })?;
        io(handle.set_len(length))?;
        io(handle.sync_data())?;
        (model.frames, model.length, model.flushed) = (kept, length, keep);
        model.instead.clear();
        Ok(())
    }

    fn delete(&mut self, index: usize) -> Step {
        self.retire(index)?;
        let synced = self.random.random();
        let model = &mut self.files[index];
        if model.frames.is_empty() {
            return Ok(());
        }
        model.instead.push(Allowed { frames: Vec::new(), at_least: 0 });
        io(self.disk.remove_file(&model.path))?;
        model.ghosts.push(std::mem::take(&mut model.frames));
        (model.length, model.flushed) = (0, 0);
        model.instead.clear();
        if synced {
            io(self.disk.sync_dir(model.path.parent().expect("a folder")))?;
            model.ghosts.clear();
        }
        (model.file, model.probe) = register(&self.wal, model.path.clone());
        Ok(())
    }

    fn replace(&mut self, index: usize) -> Step {
        self.retire(index)?;
        if self.files[index].frames.is_empty() || self.disk.free_bytes(Path::new("/")).is_ok_and(|free| free < 100_000)
        {
            return Ok(());
        }
        let uids: Vec<Uid> = (0..self.random.random_range(1..4)).map(|_| self.uid()).collect();
        let bytes = bytes_of(&uids);
        let model = &mut self.files[index];
        model.instead.push(Allowed { frames: uids.clone(), at_least: uids.len() });
        let swap = model.path.with_extension("swap");
        let file = self.disk.open(&swap, OpenMode::Create);
        let file = file.map_err(|source| WalError::Io { action: "open", path: swap.clone(), source })?;
        io(file.set_len(0))?;
        io(file.write_all_at(&[std::io::IoSlice::new(&bytes)], 0))?;
        io(file.sync_all())?;
        io(self.disk.rename(&swap, &model.path))?;
        io(self.disk.sync_dir(model.path.parent().expect("a folder")))?;
        (model.flushed, model.length, model.frames) = (uids.len(), bytes.len() as u64, uids);
        model.instead.clear();
        model.ghosts.clear();
        (model.file, model.probe) = register(&self.wal, model.path.clone());
        Ok(())
    }
}

fn crash_options(random: &mut SmallRng) -> WalOptions {
    let pick = |random: &mut SmallRng, from: &[u64]| from[random.random_range(0..from.len())];
    WalOptions {
        journal_file_bytes: pick(random, &[32 << 10, 64 << 10]),
        journal_files: pick(random, &[1, 2, 3, 5]) as usize,
        direct_sync_bytes: pick(random, &[1 << 10, 4 << 10, 1 << 30]) as usize,
        deferred_bytes: pick(random, &[0, 9 << 10, 64 << 10]),
        open_files: pick(random, &[1, 2, 8]) as usize,
        ..options()
    }
}

/// A WAL that was opened, and how its journal had been left.
struct Opened {
    wal: Arc<GroupCommitWal>,
    stepper: Stepper,
    /// By an orderly shutdown: then opening it made nothing durable.
    was_clean: bool,
}

/// Whether the newest round of the journal was written by an orderly shutdown.
fn is_clean(disk: &SimDisk) -> bool {
    let files = disk.list(Path::new(DIR)).unwrap_or_default();
    let journals = files.iter().filter(|entry| file_number(&entry.name).is_some());
    let bytes = journals.filter_map(|entry| contents(disk, &Path::new(DIR).join(&entry.name)));
    let newest = bytes.filter_map(|bytes| journal::read(&bytes).last().map(|round| (round.number, round.clean)));
    newest.max().is_some_and(|(_, clean)| clean)
}

/// Opens the WAL, crashing on the way now and then, until it is open.
fn reopen(disk: &mut SimDisk, options: &WalOptions, random: &mut SmallRng) -> Opened {
    loop {
        let was_clean = is_clean(disk);
        if random.random_range(0..3) == 0 {
            disk.crash_at(random.random_range(1..60));
        }
        match GroupCommitWal::open_stepped(Arc::new(disk.clone()), PathBuf::from(DIR), options.clone()) {
            Ok((wal, stepper)) if !disk.has_crashed() => return Opened { wal, stepper, was_clean },
            Ok(_) => {}
            Err(error) => assert!(disk.has_crashed(), "recovery fails only when the machine does: {error}"),
        }
        *disk = end(disk, random);
    }
}

/// The end of a life: mostly power loss, sometimes just the process.
fn end(disk: &SimDisk, random: &mut SmallRng) -> SimDisk {
    let after = if random.random_range(0..5) == 0 { disk.kill() } else { disk.crash(random.random()) };
    after.set_capacity(None);
    after
}

/// What a log does with its file after a crash: checks it, cuts its torn tail.
fn recover_file(disk: &SimDisk, opened: &mut Opened, path: PathBuf, allowed: &[Allowed]) -> Result<Model, WalError> {
    let bytes = match disk.open(&path, OpenMode::Read) {
        Ok(_) => contents(disk, &path).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    if disk.has_crashed() {
        return Err(WalError::Ended);
    }
    let (frames, length) = scan(&bytes);
    let fits = |allowed: &Allowed| frames.len() >= allowed.at_least && allowed.frames.starts_with(&frames);
    assert!(allowed.iter().any(fits), "{} holds {frames:?} and may hold {allowed:?}", path.display());
    let (file, probe) = register(&opened.wal, path.clone());
    if bytes.len() > length {
        opened.stepper.retire(&file)?;
        let handle = file.handle().map_err(|source| WalError::Io { action: "open", path: path.clone(), source })?;
        io(handle.set_len(length as u64))?;
        io(handle.sync_data())?;
    }
    let flushed = frames.len();
    // A removal whose folder was not synced may be undone by a later power loss, too, when the process was only killed:
    // a start after an orderly shutdown makes nothing durable, any other start everything.
    let removed = |allowed: &&Allowed| opened.was_clean && bytes.is_empty() && allowed.at_least > 0;
    let ghosts = allowed.iter().filter(removed).map(|allowed| allowed.frames.clone()).collect();
    let (pending, instead) = (BTreeMap::new(), Vec::new());
    Ok(Model { path, file, probe, frames, length: length as u64, flushed, pending, ghosts, instead })
}

fn run_case(seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let options = crash_options(&mut random);
    let mut next = 0;
    let mut disk = SimDisk::new();
    let mut allowed: Vec<Vec<Allowed>> = vec![vec![Allowed { frames: Vec::new(), at_least: 0 }]; FILES];
    for _ in 0..random.random_range(2..5) {
        let mut opened = reopen(&mut disk, &options, &mut random);
        let files: Result<Vec<Model>, WalError> =
            (0..FILES).map(|index| recover_file(&disk, &mut opened, path(index), &allowed[index])).collect();
        let Ok(files) = files else {
            assert!(disk.has_crashed());
            disk = end(&disk, &mut random);
            continue;
        };
        let Opened { wal, stepper, .. } = opened;
        let mut life = Life { disk: disk.clone(), wal, stepper, files, random: &mut random, next: &mut next };
        if life.random.random_range(0..10) > 0 {
            let fault_point = life.random.random_range(1..500);
            life.disk.crash_at(fault_point);
        }
        let mut lived = Ok(());
        for _ in 0..150 {
            lived = life.act();
            if lived.is_err() {
                break;
            }
        }
        if lived.is_ok() && life.random.random() {
            life.disk.set_capacity(None);
            lived = life.stepper.shutdown();
            life.listen();
        }
        if let Err(error) = lived {
            assert!(life.disk.has_crashed(), "the WAL fails only when the machine does: {error}");
        }
        allowed = life.files.iter().map(Model::allowed).collect();
        drop(life);
        disk = end(&disk, &mut random);
    }
    let mut opened = reopen(&mut disk, &options, &mut random);
    disk.crash_at(u64::MAX / 2);
    for (index, allowed) in allowed.iter().enumerate() {
        recover_file(&disk, &mut opened, path(index), allowed).expect("nothing crashes here");
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// A file is removed, its folder not synced; the process is killed; a life later the power fails.
#[test]
fn an_unsynced_removal_may_be_undone_by_a_later_power_loss() {
    run_case(3_033_400_160);
}

/// The journal's only file is begun anew and loses its first round; what it held before follows the next life's rounds.
#[test]
fn rounds_of_a_journal_that_was_begun_anew_do_not_come_back() {
    run_case(769_042_082);
}

#[test]
fn flushed_means_present_after_any_crash() {
    if let Some(seed) = from_environment("CHRONIK_SEED") {
        return run_case(seed);
    }
    let first: u64 = rand::random::<u32>().into();
    let cases = from_environment("CHRONIK_CASES").unwrap_or(CASES);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for seed in (first + thread..first + cases).step_by(threads as usize) {
                    let case = std::panic::catch_unwind(|| run_case(seed));
                    assert!(case.is_ok(), "failed with CHRONIK_SEED={seed}");
                }
            });
        }
    });
}
