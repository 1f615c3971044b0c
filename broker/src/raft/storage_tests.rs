//! `RaftWalStorage` on a simulated disk: whatever a crash takes away, what was reported durable is there.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use raft::eraftpb::{Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, Storage as _};

use super::snapshot_file::{self, SnapshotFile};
use super::storage::{Limits, RaftWalStorage};
use super::{ConfState, RaftError, segments};
use crate::io::disk::sim::{Operation, SimDisk};
use crate::io::disk::{Disk, OpenMode};

const LIMITS: Limits = Limits { segment_bytes: 200, snapshot_every_bytes: 0, kept_bytes: 150, message_bytes: 1 << 20 };

fn dir() -> &'static Path {
    Path::new("/data/wal/__meta")
}

/// What a storage must hold.
#[derive(Debug, Clone, PartialEq)]
struct Model {
    term: u64,
    vote: u64,
    snapshot: (u64, u64),
    /// All entries from index 2 on, as (term, data).
    entries: Vec<(u64, Vec<u8>)>,
}

impl Model {
    fn last(&self) -> u64 {
        1 + self.entries.len() as u64
    }

    fn term_at(&self, index: u64) -> u64 {
        if index == 1 { 1 } else { self.entries[index as usize - 2].0 }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Append entries, replacing some at the end, in the same or a newer term.
    Append { replaced: u64, count: u64, new_term: bool, size: usize },
    /// Vote in a newer term.
    Vote(u64),
    /// Take a snapshot of the own state, so many 255ths of the way to the last entry, and compact.
    Compact(u8),
    /// Install a leader's snapshot that contradicts the end of the log, or lies beyond it, and so many entries that follow
    /// it and are committed too.
    Install { beyond: u64, more: u64 },
    /// Close and open.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u64..3, 1_u64..4, any::<bool>(), 0_usize..90)
            .prop_map(|(replaced, count, new_term, size)| Step::Append { replaced, count, new_term, size }),
        2 => (1_u64..4).prop_map(Step::Vote),
        2 => any::<u8>().prop_map(Step::Compact),
        1 => (0_u64..6, 0_u64..3).prop_map(|(beyond, more)| Step::Install { beyond, more }),
        1 => Just(Step::Reopen),
    ]
}

fn form(disk: &SimDisk) -> Model {
    RaftWalStorage::form(disk, dir(), vec![1, 2, 3], Bytes::from_static(b"formed")).expect("no faults");
    Model { term: 1, vote: 0, snapshot: (1, 1), entries: Vec::new() }
}

fn open(disk: &SimDisk) -> Result<RaftWalStorage, RaftError> {
    RaftWalStorage::open(Arc::new(disk.clone()), dir(), LIMITS).map(|(storage, _)| storage)
}

fn hard_state(model: &Model) -> HardState {
    HardState { term: model.term, vote: model.vote, commit: model.snapshot.0, ..HardState::default() }
}

fn entry(index: u64, (term, data): &(u64, Vec<u8>)) -> Entry {
    Entry { index, term: *term, data: data.clone().into(), ..Entry::default() }
}

/// The model after the step, and what carries the step out.
fn next(model: &Model, step: &Step) -> Model {
    let mut next = model.clone();
    match *step {
        Step::Append { replaced, count, new_term, size } => {
            let kept = next.last().saturating_sub(replaced).max(next.snapshot.0);
            let replaces = kept < next.last();
            next.entries.truncate(kept as usize - 1);
            // Entries are replaced in a newer term only.
            next.term += u64::from(new_term || replaces);
            let of = |at| (next.term, vec![at as u8; size]);
            let new: Vec<_> = (0..count).map(of).collect();
            next.entries.extend(new);
        }
        Step::Vote(vote) => {
            next.term += 1;
            next.vote = vote;
        }
        Step::Compact(part) => {
            let index = next.snapshot.0 + (next.last() - next.snapshot.0) * u64::from(part) / 255;
            next.snapshot = (index, next.term_at(index));
        }
        Step::Install { beyond, more } => {
            next.term += 1;
            let index = (next.last() + beyond).saturating_sub(2).max(next.snapshot.0 + 1);
            next.entries.truncate(index as usize - 2);
            next.entries.resize((index + more) as usize - 1, (next.term, Vec::new()));
            next.snapshot = (index, next.term);
        }
        Step::Reopen => {}
    }
    next
}

fn carry_out(
    disk: &SimDisk,
    mut storage: RaftWalStorage,
    before: &Model,
    after: &Model,
    step: &Step,
) -> Result<RaftWalStorage, RaftError> {
    match step {
        Step::Append { count, .. } => {
            let first = after.last() + 1 - count;
            let entries =
                (first..=after.last()).map(|index| entry(index, &after.entries[index as usize - 2])).collect();
            storage.persist(Some(&hard_state(after)), entries)?;
        }
        Step::Vote(_) => storage.persist(Some(&hard_state(after)), Vec::new())?,
        Step::Compact(_) => {
            let (index, term) = after.snapshot;
            if index > before.snapshot.0 {
                let members = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
                let file = SnapshotFile { index, term, members: members.clone(), state: Bytes::from_static(b"own") };
                storage.set_commit(index);
                snapshot_file::write(disk, dir(), &file)?;
                storage.compact(index, members)?;
            }
        }
        Step::Install { .. } => {
            let (index, term) = after.snapshot;
            let metadata = SnapshotMetadata { index, term, ..SnapshotMetadata::default() };
            let snapshot = Snapshot { metadata: Some(metadata).into(), ..Snapshot::default() };
            let more =
                (index + 1..=after.last()).map(|index| entry(index, &after.entries[index as usize - 2])).collect();
            let committed = HardState { commit: after.last(), ..hard_state(after) };
            storage.install(Some(&committed), &snapshot, more)?;
        }
        Step::Reopen => {
            drop(storage);
            return open(disk);
        }
    }
    Ok(storage)
}

/// Whether the storage holds what the model says. Entries that a snapshot covers may be gone.
fn holds(storage: &RaftWalStorage, model: &Model) -> bool {
    let state = storage.initial_state().expect("in memory");
    let first = storage.first_index().expect("in memory");
    let same_entries = storage.last_index().expect("in memory") == model.last()
        && first <= model.snapshot.0 + 1
        && storage.term(first - 1).expect("in memory") == model.term_at(first - 1)
        && (first > model.last() || {
            let all = GetEntriesContext::empty(false);
            let entries = storage.entries(first, model.last() + 1, None, all).expect("in memory");
            let expected = (first..=model.last()).map(|index| entry(index, &model.entries[index as usize - 2]));
            entries.into_iter().eq(expected)
        });
    same_entries
        && storage.snapshot_index() == model.snapshot.0
        && state.hard_state.term == model.term
        && state.hard_state.vote == model.vote
        && state.hard_state.commit >= model.snapshot.0
}

/// An installation that was cut short may have left the snapshot alone: as good as the log that it replaces.
fn holds_installed_snapshot_only(storage: &RaftWalStorage, before: &Model, after: &Model) -> bool {
    let state = storage.initial_state().expect("in memory");
    let term_and_vote = (state.hard_state.term, state.hard_state.vote);
    storage.snapshot_index() == after.snapshot.0
        && storage.last_index().expect("in memory") == after.snapshot.0
        && (term_and_vote == (before.term, before.vote) || term_and_vote == (after.term, 0))
}

proptest! {
    #[test]
    fn what_was_reported_durable_survives_a_crash_at_any_point(
        steps in prop::collection::vec(step(), 1..40),
        crash_after in 1_u64..150,
        seed: u64,
    ) {
        let disk = SimDisk::new();
        let mut model = form(&disk);
        let mut storage = open(&disk).expect("formed");
        disk.crash_at(crash_after);
        let mut in_flight = None;
        for step in &steps {
            let after = next(&model, step);
            match carry_out(&disk, storage, &model, &after, step) {
                Ok(done) => {
                    prop_assert!(holds(&done, &after), "{step:?}: {after:?}");
                    (storage, model) = (done, after);
                }
                Err(error) => {
                    prop_assert!(disk.has_crashed(), "{error}");
                    in_flight = Some((after, matches!(step, Step::Install { .. })));
                    break;
                }
            }
        }
        let recovered = open(&disk.crash(seed)).expect("a crash leaves nothing that is refused");
        let fits = holds(&recovered, &model)
            || in_flight.as_ref().is_some_and(|(after, installing)| {
                holds(&recovered, after) || *installing && holds_installed_snapshot_only(&recovered, &model, after)
            });
        prop_assert!(fits, "expected {model:?} or {in_flight:?}");
    }

    #[test]
    fn any_bytes_in_the_log_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let disk = SimDisk::new();
        form(&disk);
        write(&disk, "00000000000000000000.log", &bytes);
        // Reaching the end without a panic is the point.
        let _ = open(&disk);
    }

    #[test]
    fn a_log_with_damage_is_refused_or_ends_before_it(
        steps in prop::collection::vec(step(), 1..20), file: prop::sample::Index, at: prop::sample::Index, flip in 1_u8..,
    ) {
        let disk = SimDisk::new();
        let mut model = form(&disk);
        let mut storage = open(&disk).expect("formed");
        let mut highest = 1;
        for step in &steps {
            let after = next(&model, step);
            storage = carry_out(&disk, storage, &model, &after, step).expect("no faults");
            model = after;
            highest = highest.max(model.last());
        }
        drop(storage);
        let files = disk.list(dir()).expect("no faults");
        let file = disk.open(&dir().join(&files[file.index(files.len())].name), OpenMode::Write).expect("no faults");
        let mut bytes = vec![0; file.len().expect("no faults") as usize];
        if !bytes.is_empty() {
            file.read_exact_at(&mut bytes, 0).expect("no faults");
            bytes[at.index(file.len().expect("no faults") as usize)] ^= flip;
            file.write_all_at(&[std::io::IoSlice::new(&bytes)], 0).expect("no faults");
        }
        if let Ok(storage) = open(&disk) {
            prop_assert!(storage.last_index().expect("in memory") <= highest);
        }
    }
}

fn write(disk: &SimDisk, name: &str, bytes: &[u8]) {
    let file = disk.open(&dir().join(name), OpenMode::Create).expect("no faults");
    file.write_all_at(&[std::io::IoSlice::new(bytes)], 0).expect("no faults");
}

#[test]
fn any_forming_that_a_crash_cuts_short_can_be_repeated() {
    for point in 1.. {
        let disk = SimDisk::new();
        disk.crash_at(point);
        let formed = RaftWalStorage::form(&disk, dir(), vec![1], Bytes::new()).is_ok();
        for seed in 0..8 {
            let disk = disk.crash(seed);
            assert!(!formed || RaftWalStorage::is_formed(&disk, dir()).expect("no faults"));
            form(&disk);
            open(&disk).expect("formed");
        }
        if formed {
            break;
        }
    }
}

#[test]
fn an_empty_folder_is_refused() {
    let disk = SimDisk::new();
    disk.create_dir_all(dir()).expect("no faults");
    let error = open(&disk).err().expect("refused");
    assert!(error.to_string().starts_with("/data/wal/__meta holds no metadata"), "{error}");
}

#[test]
fn the_log_stays_small_behind_snapshots() {
    let disk = SimDisk::new();
    let mut model = form(&disk);
    let mut storage = open(&disk).expect("formed");
    let append = Step::Append { replaced: 0, count: 3, new_term: false, size: 80 };
    let steps = [append.clone(), append, Step::Compact(255)];
    for step in steps.iter().cycle().take(150) {
        let after = next(&model, step);
        storage = carry_out(&disk, storage, &model, &after, step).expect("no faults");
        model = after;
    }
    drop(storage);
    let files = disk.list(dir()).expect("no faults");
    assert!(files.len() <= 4, "{files:?}");
    assert_eq!(files.iter().filter(|file| file.name.ends_with(".snapshot")).count(), 1);
}

#[test]
fn a_failed_sync_is_reported_and_names_the_file() {
    let disk = SimDisk::new();
    form(&disk);
    let (mut segments, _) = segments::Segments::open(Arc::new(disk.clone()), dir(), 100).expect("formed");
    disk.fail(Operation::Sync, "__meta", 1, 5);
    let error = segments.append(&super::proto::LogRecord::default()).expect_err("the disk fails");
    assert!(error.to_string().starts_with("sync /data/wal/__meta/00000000000000000000.log: "), "{error}");
}

#[test]
fn what_a_killed_process_left_in_the_page_cache_is_durable_before_more_builds_on_it() {
    for point in 1.. {
        let disk = SimDisk::new();
        let model = form(&disk);
        let mut storage = open(&disk).expect("opened");
        disk.crash_at(point);
        let first = (1, vec![1; 50]);
        let persisted = storage.persist(Some(&hard_state(&model)), vec![entry(2, &first)]).is_ok();
        let disk = disk.kill();
        let mut storage = open(&disk).expect("opened again");
        let next = storage.last_index().expect("known") + 1;
        storage.persist(None, vec![entry(next, &first)]).expect("no faults");
        for seed in 0..16 {
            let storage = open(&disk.crash(seed)).expect("whole");
            assert_eq!(storage.last_index().expect("known"), next, "killed at point {point}, then power loss {seed}");
        }
        if persisted {
            break;
        }
    }
}

#[test]
fn after_an_orderly_stop_nothing_of_the_log_is_torn() {
    let log = dir().join("00000000000000000000.log");
    let written = || {
        let disk = SimDisk::new();
        let model = form(&disk);
        let mut storage = open(&disk).expect("opened");
        storage.persist(Some(&hard_state(&model)), vec![entry(2, &(1, vec![1; 50]))]).expect("no faults");
        drop(storage);
        disk.kill()
    };
    let contents = |disk: &SimDisk| {
        let file = disk.open(&log, OpenMode::Read).expect("there");
        let mut bytes = vec![0; file.len().expect("known") as usize];
        file.read_exact_at(&mut bytes, 0).expect("read");
        bytes
    };
    let check = |disk: &SimDisk| RaftWalStorage::check_whole(disk, dir());
    check(&written()).expect("whole");
    let whole = contents(&written());
    let damaged = [vec![0xa5; 3000], whole[..whole.len() - 1].to_vec(), Vec::new(), [&whole[..], &[0]].concat()];
    for bytes in damaged {
        let disk = written();
        let file = disk.open(&log, OpenMode::Write).expect("there");
        file.set_len(0).expect("cut");
        file.write_all_at(&[std::io::IoSlice::new(&bytes)], 0).expect("written");
        let refused = check(&disk).expect_err("not what was left").to_string();
        assert!(refused.contains("00000000000000000000.log") && refused.contains("back-up"), "{refused}");
        assert_eq!(contents(&disk), bytes, "nothing was changed");
    }
    let disk = written();
    disk.remove_file(&log).expect("removed");
    check(&disk).expect_err("the log is gone");
}

#[test]
fn a_log_overwritten_with_noise_is_refused_after_a_crash_too() {
    let disk = SimDisk::new();
    form(&disk);
    let file = disk.open(&dir().join("00000000000000000000.log"), OpenMode::Create).expect("made");
    file.write_all_at(&[std::io::IoSlice::new(&[0xa5; 3000])], 0).expect("written");
    assert!(matches!(open(&disk), Err(RaftError::Corrupt { .. })));
    assert_eq!(file.len().expect("known"), 3000, "nothing was cut");
}
