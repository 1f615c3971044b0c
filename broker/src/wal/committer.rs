//! The committer: takes what is queued and makes it durable, round by round. Steps when it is told to, so that tests
//! and simulations drive it without a thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::background::{Job, Outcome, SyncPass};
use super::core::Core;
use super::file::WalFile;
use super::journal::ring::Ring;
use super::journal::{ENTRY_BYTES, Encoder, FileId, REGISTRATION_BYTES};
use super::queue::{Done, Operation};
use super::round::Round;
use super::stats::count;
use super::{Durability, IoContext, Refusal, WalError};

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// A round was committed; there may be more.
    Committed,
    /// Nothing to do until something is queued (or a job ends).
    Idle,
    /// The journal is full until a job ends.
    Blocked,
    /// Everything is synced and the journal says so: the end.
    Closed,
}

/// Bytes of a round when no journal bounds it.
const UNJOURNALLED_ROUND_BYTES: u64 = 16 << 20;

/// See the module.
pub(super) struct Committer {
    core: Arc<Core>,
    ring: Ring,
    /// Whether rounds are journalled: not with `Durability::Os`.
    journals: bool,
    backlog: VecDeque<Operation>,
    round: Round,
    round_number: u64,
    encoder: Encoder,
    next_id: u64,
    /// Files with appends that no sync pass has covered.
    dirty: Vec<Arc<WalFile>>,
    pass_running: bool,
    /// How many files the running pass syncs.
    passing: usize,
    /// Whether the ballast is being made, and in which generation of the journal that was last tried.
    ballasting: bool,
    ballast_tried_in: u64,
    sync_waiters: Vec<Done>,
    closing: Option<Done>,
    /// Jobs to be run elsewhere; their outcomes come back as operations.
    pub(super) jobs: VecDeque<Job>,
}

impl Committer {
    pub(super) fn new(core: Arc<Core>, ring: Ring, next_id: u64) -> Self {
        Self {
            journals: core.options.durability == Durability::Fsync,
            core,
            ring,
            backlog: VecDeque::new(),
            round: Round::default(),
            round_number: 0,
            encoder: Encoder::new(),
            next_id,
            dirty: Vec::new(),
            pass_running: false,
            passing: 0,
            ballasting: false,
            ballast_tried_in: 0,
            sync_waiters: Vec::new(),
            closing: None,
            jobs: VecDeque::new(),
        }
    }

    /// Takes over what was queued.
    pub(super) fn take(&mut self, operations: &mut Vec<Operation>) {
        for operation in operations.drain(..) {
            match operation {
                Operation::Finished(outcome) => self.finished(outcome),
                other => self.backlog.push_back(other),
            }
        }
    }

    fn finished(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Prepared(file) => self.ring.prepared(file),
            Outcome::Ballasted => self.ballasting = false,
            Outcome::Synced(pass) => {
                self.pass_running = false;
                self.passing = 0;
                self.ring.advance_spent(pass.upto);
                count(&self.core.counters.sync_passes, 1);
                pass.waiters.into_iter().for_each(tell);
            }
        }
    }

    /// Commits one round of what was taken. An error is final: nothing of the round was acknowledged, nothing ever
    /// will be.
    pub(super) fn step(&mut self) -> Result<Progress, WalError> {
        if self.backlog.is_empty() {
            return self.idle();
        }
        let budget = if self.journals { self.budget()? } else { Some(UNJOURNALLED_ROUND_BYTES) };
        let files_left = self.files_left();
        let Some(budget) = budget.filter(|_| files_left > 0) else {
            self.start_jobs(true);
            return Ok(Progress::Blocked);
        };
        self.gather(budget, files_left)?;
        self.round.write()?;
        self.sync_directly(budget)?;
        if self.journals {
            self.journal()?;
        }
        self.tell_all();
        self.start_jobs(false);
        Ok(Progress::Committed)
    }

    /// Bytes that the next round may take of the journal; begins its next file when it is due.
    fn budget(&mut self) -> Result<Option<u64>, WalError> {
        let budget = self.ring.budget();
        if !self.ring.wants_empty_round() {
            return Ok(budget);
        }
        self.begin()?;
        Ok(self.ring.budget())
    }

    fn idle(&mut self) -> Result<Progress, WalError> {
        self.encoder.idle();
        self.start_jobs(false);
        if self.closing.is_none() || self.pass_running || !self.dirty.is_empty() {
            return Ok(Progress::Idle);
        }
        self.close_journal()?;
        self.closing.take().into_iter().for_each(tell);
        Ok(Progress::Closed)
    }

    /// How many more files may be written before some of those written are synced, which stay open until then.
    fn files_left(&self) -> usize {
        if self.journals {
            let most = self.core.options.open_files.max(1);
            most.saturating_sub(self.dirty.len() + self.passing)
        } else {
            usize::MAX
        }
    }

    /// Takes appends in their order until the round is full.
    fn gather(&mut self, budget: u64, files_left: usize) -> Result<(), WalError> {
        self.round_number += 1;
        let full = self.core.check_full()?;
        let mut cost = 0;
        while let Some(operation) = self.backlog.front() {
            let more = match operation {
                Operation::Append(file, append) => match self.cost(file, append.data.len(), files_left) {
                    Some(bytes) => bytes,
                    None => break,
                },
                Operation::Retire(..) => ENTRY_BYTES as u64,
                _ => 0,
            };
            if cost + more > budget && !self.round.is_empty() {
                break;
            }
            cost += more;
            let operation = self.backlog.pop_front().expect("it has a front because that was just seen");
            self.gather_one(operation, full);
        }
        self.round.sort();
        Ok(())
    }

    /// Bytes of the journal that an append takes; `None` when it must wait for the next round.
    fn cost(&self, file: &WalFile, data: usize, files_left: usize) -> Option<u64> {
        let commit = file.commit.lock();
        if commit.round == self.round_number {
            return (!commit.retiring).then_some(data as u64);
        }
        if self.round.touched.len() >= files_left {
            return None;
        }
        let registration = REGISTRATION_BYTES + file.path().as_os_str().len();
        Some((data + ENTRY_BYTES + registration) as u64)
    }

    fn gather_one(&mut self, operation: Operation, full: bool) {
        match operation {
            Operation::Append(file, append) => {
                let mut commit = file.commit.lock();
                if commit.refusing {
                    return;
                }
                commit.refusing = full;
                drop(commit);
                if full {
                    self.core.refuse(&file, append.token, &Refusal::DiskFull(file.path().to_owned()));
                } else {
                    self.round.add(self.round_number, file, append);
                }
            }
            Operation::Resume(file) => file.commit.lock().refusing = false,
            Operation::Retire(file, done) => {
                let mut commit = file.commit.lock();
                commit.retiring = true;
                if commit.round != self.round_number {
                    // No append of this round touches it; later ones wait for the next.
                    commit.round = self.round_number;
                    commit.slot = usize::MAX;
                }
                drop(commit);
                self.round.retiring.push((file, done));
            }
            Operation::SyncAll(done) => self.sync_waiters.push(done),
            Operation::Shutdown(done) => self.closing = Some(done),
            Operation::Finished(outcome) => self.finished(outcome),
        }
    }

    /// Syncs the files that have much, instead of journalling it, and those that are retired.
    fn sync_directly(&mut self, budget: u64) -> Result<(), WalError> {
        let core = &self.core;
        let threshold = (core.options.direct_sync_bytes as u64).min(budget / 2);
        for touched in self.round.touched.iter_mut().filter(|touched| touched.refused.is_none()) {
            core.note_written(touched.bytes);
            if self.journals && touched.bytes >= threshold {
                touched.direct = true;
                touched.file.sync_with_names(&core.root).on("sync", touched.file.path())?;
                count(&core.counters.directly_synced_bytes, touched.bytes);
            }
        }
        for (file, _) in &self.round.retiring {
            file.sync_with_names(&core.root).on("sync", file.path())?;
        }
        Ok(())
    }

    /// Writes the round to the journal and waits until it is there.
    fn journal(&mut self) -> Result<(), WalError> {
        self.encoder.clear();
        let here = self.ring.end();
        let mut entries = 0;
        for touched in self.round.touched.iter().filter(|touched| touched.refused.is_none()) {
            let mut commit = touched.file.commit.lock();
            let id = *commit.id.get_or_insert_with(|| {
                self.next_id += 1;
                FileId(self.next_id)
            });
            if commit.registered_in != here.generation {
                commit.registered_in = here.generation;
                self.encoder.registered(id, self.core.named_in_journal(touched.file.path()));
            }
            if touched.direct {
                self.encoder.synced(id, touched.start, touched.bytes);
            } else {
                self.encoder.appended(id, touched.start, touched.bytes);
                commit.last_record = Some(here);
            }
            entries += 1;
        }
        for (file, _) in &self.round.retiring {
            let commit = file.commit.lock();
            // Records that the journal durably calls spent are never replayed anyway.
            if let (Some(id), Some(last)) = (commit.id, commit.last_record)
                && last >= self.ring.spent_durable()
            {
                self.encoder.retired(id);
                entries += 1;
            }
        }
        if entries > 0 {
            self.commit(false)?;
        }
        Ok(())
    }

    fn commit(&mut self, clean: bool) -> Result<(), WalError> {
        let path = self.ring.path().to_owned();
        let data = self.round.journalled_data();
        let counters = &self.core.counters;
        let written = self.ring.commit(&mut self.encoder, &data, clean, |file| {
            let start = Instant::now();
            file.sync_data()?;
            counters.fsynced(start.elapsed());
            Ok(())
        });
        count(&counters.journalled_bytes, written.on("write and sync journal", &path)?);
        Ok(())
    }

    /// Declares durably, with an empty round, what of the journal is spent: after an opening all that was written before.
    /// Whatever follows an opening relies on it: files are cut or deleted without a record, because none of their records
    /// is live.
    pub(super) fn begin(&mut self) -> Result<(), WalError> {
        assert!(self.round.is_empty(), "a journal is begun before anything is gathered");
        self.encoder.clear();
        self.commit(false)
    }

    /// Says in the journal that an orderly shutdown has left nothing to replay and nothing unsynced.
    fn close_journal(&mut self) -> Result<(), WalError> {
        if !self.journals || self.ring.budget().is_some() {
            self.encoder.clear();
            self.ring.advance_spent(self.ring.end());
            self.commit(true)?;
        }
        Ok(())
    }

    /// Tells listeners and those who retire; forgets the round.
    fn tell_all(&mut self) {
        count(&self.core.counters.rounds, 1);
        count(&self.core.counters.appends, self.round.appends() as u64);
        for touched in &self.round.touched {
            let mut commit = touched.file.commit.lock();
            if let Some(why) = &touched.refused {
                commit.end = Some(touched.start);
                commit.refusing = true;
                drop(commit);
                self.core.refuse(&touched.file, touched.first_token, why);
                continue;
            }
            // A direct sync has not made an earlier round's append to another incarnation durable, but its own.
            let newly_dirty = !touched.direct && !std::mem::replace(&mut commit.dirty, true);
            drop(commit);
            if newly_dirty {
                self.dirty.push(touched.file.clone());
            }
            if let Some(listener) = touched.file.listener.upgrade() {
                listener.flushed(touched.last_token);
            }
        }
        for (file, done) in self.round.retiring.drain(..) {
            let mut commit = file.commit.lock();
            commit.id = None;
            commit.registered_in = 0;
            commit.last_record = None;
            commit.end = None;
            commit.retiring = false;
            drop(commit);
            file.retired();
            tell(done);
        }
        self.round.clear();
    }

    /// Starts a sync pass or the preparation of a journal file when one is due.
    fn start_jobs(&mut self, blocked: bool) {
        let closing = self.closing.is_some() && !self.dirty.is_empty();
        // Unsynced files stay open.
        let many_open = self.dirty.len() >= (self.core.options.open_files / 2).max(1);
        let due = blocked || closing || many_open || !self.sync_waiters.is_empty() || self.ring.wants_spending();
        if due && !self.pass_running {
            self.pass_running = true;
            let files = std::mem::take(&mut self.dirty);
            self.passing = files.len();
            for file in &files {
                file.commit.lock().dirty = false;
            }
            let waiters = std::mem::take(&mut self.sync_waiters);
            self.jobs.push_back(Job::Sync(SyncPass { files, upto: self.ring.end(), waiters }));
        }
        if let Some((path, bytes)) = self.ring.wants_file() {
            self.jobs.push_back(Job::Prepare(path, bytes));
        }
        // Like a journal file, it is made when the node has something to do, and tried again in the next generation.
        let generation = self.ring.end().generation;
        if self.ring.is_in_use()
            && self.core.ballast.is_wanted()
            && !self.ballasting
            && self.ballast_tried_in < generation
        {
            self.ballasting = true;
            self.ballast_tried_in = generation;
            self.jobs.push_back(Job::Ballast);
        }
    }
}

fn tell(done: Done) {
    // Whoever asked may have stopped waiting; then there is nobody to tell.
    let _ = done.try_send(());
}

impl Core {
    fn refuse(&self, file: &WalFile, token: u64, why: &Refusal) {
        count(&self.counters.refused, 1);
        if let Some(listener) = file.listener.upgrade() {
            listener.refused(token, why);
        }
    }
}
