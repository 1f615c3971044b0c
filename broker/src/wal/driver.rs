//! Drives the committer: with two threads, as a task, or step by step.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::background::Job;
use super::ballast::Ballast;
use super::committer::{Committer, Progress};
use super::core::Core;
use super::file::WalFile;
use super::journal::ring::Ring;
use super::queue::Operation;
use super::{Durability, IoContext, OnFatal, Pace, WalError, WalOptions, recovery};
use crate::io::disk::{Disk, OpenMode};

/// Recovers, and opens the journal for what comes.
pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path, options: WalOptions) -> Result<(Arc<Core>, Committer), WalError> {
    let root = dir.parent().unwrap_or(dir).to_owned();
    let recovered = recovery::recover(disk.as_ref(), dir, &root, options.open_files)?;
    let (file_bytes, files) = (options.journal_file_bytes, options.journal_files.max(1));
    let ring = Ring::open(disk.as_ref(), dir.to_owned(), file_bytes, files, recovered.found);
    let ring = ring.on("make a journal file in", dir)?;
    let witness = disk.open(ring.path(), OpenMode::Read).on("open", ring.path())?;
    let deferred = if options.durability == Durability::Fsync { options.deferred_bytes } else { 0 };
    let ballast = Ballast::open(disk.clone(), dir, deferred).on("look for the ballast in", dir)?;
    let core = Arc::new(Core::new(disk, root, witness, ballast, options)?);
    let mut committer = Committer::new(core.clone(), ring, recovered.last_id);
    if recovered.had_rounds {
        committer.begin()?;
    }
    Ok((core, committer))
}

/// What both threads and their owner share.
struct Shared {
    core: Arc<Core>,
    on_fatal: OnFatal,
}

impl Shared {
    /// The cause is told before anybody who waits for the WAL hears that it has ended.
    fn fail(&self, error: &WalError) {
        (self.on_fatal)(error);
        self.core.queue.close();
    }
}

/// The commit thread and the background thread.
pub(super) struct Threads {
    shared: Arc<Shared>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    pub(super) fn start(core: Arc<Core>, committer: Committer, on_fatal: OnFatal) -> Self {
        let shared = Arc::new(Shared { core, on_fatal });
        let (jobs, work) = mpsc::channel();
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
            thread.expect("a starting process may have two threads more")
        };
        let (committing, syncing) = (shared.clone(), shared.clone());
        let handles = vec![
            spawn("wal-commit", Box::new(move || commit(&committing, committer, &jobs))),
            spawn("wal-sync", Box::new(move || work_off(&syncing, &work))),
        ];
        Self { shared, handles: Mutex::new(handles) }
    }

    pub(super) fn fail(&self, error: &WalError) {
        self.shared.fail(error);
    }

    /// Waits for the threads to end; from one of them (a listener dropped the WAL) it does not.
    pub(super) fn join(&self) {
        let handles = std::mem::take(&mut *self.handles.lock());
        for handle in handles {
            if handle.thread().id() != std::thread::current().id() {
                // A thread that panicked has taken nothing with it that is not lost anyway.
                drop(handle.join());
            }
        }
    }
}

fn commit(shared: &Shared, mut committer: Committer, jobs: &Sender<Job>) {
    let mut taken = Vec::new();
    let mut wait = true;
    while shared.core.queue.take(&mut taken, wait) {
        committer.take(&mut taken);
        let progress = match committer.step() {
            Ok(progress) => progress,
            Err(error) => return shared.fail(&error),
        };
        for job in committer.jobs.drain(..) {
            if jobs.send(job).is_err() {
                return;
            }
        }
        if progress == Progress::Closed {
            return shared.core.queue.close();
        }
        wait = progress != Progress::Committed;
    }
}

fn work_off(shared: &Shared, work: &Receiver<Job>) {
    for mut job in work {
        match job.run(&shared.core) {
            Ok(outcome) => shared.core.queue.push(Operation::Finished(outcome)),
            Err(error) => return shared.fail(&error),
        }
    }
}

/// Does the threads' work, one step at a time.
pub struct Stepper {
    core: Arc<Core>,
    committer: Committer,
    jobs: VecDeque<Job>,
    taken: Vec<Operation>,
    closed: bool,
}

impl Stepper {
    pub(super) fn new(core: Arc<Core>, committer: Committer) -> Self {
        Self { core, committer, jobs: VecDeque::new(), taken: Vec::new(), closed: false }
    }

    /// Takes what is queued and commits one round; whether there may be more to do before something is queued or a
    /// job is run. An error is final.
    pub fn commit(&mut self) -> Result<bool, WalError> {
        self.core.queue.take(&mut self.taken, false);
        self.committer.take(&mut self.taken);
        let progress = self.committer.step()?;
        self.jobs.append(&mut self.committer.jobs);
        self.closed |= progress == Progress::Closed;
        Ok(progress == Progress::Committed)
    }

    /// Runs the next background job; whether there was one. An error is final.
    pub fn run_job(&mut self) -> Result<bool, WalError> {
        let Some(mut job) = self.jobs.pop_front() else { return Ok(false) };
        let outcome = job.run(&self.core)?;
        self.core.queue.push(Operation::Finished(outcome));
        Ok(true)
    }

    /// Everything there is to do.
    pub fn run(&mut self) -> Result<(), WalError> {
        while self.commit()? || self.run_job()? {}
        Ok(())
    }

    /// `GroupCommitWal::retire`, doing the work that it waits for.
    pub fn retire(&mut self, file: &Arc<WalFile>) -> Result<(), WalError> {
        self.ask(|done| Operation::Retire(file.clone(), done))
    }

    /// `GroupCommitWal::sync_all`, doing the work that it waits for.
    pub fn sync_all(&mut self) -> Result<(), WalError> {
        self.ask(Operation::SyncAll)
    }

    /// `GroupCommitWal::shutdown`, doing the work that it waits for.
    pub fn shutdown(&mut self) -> Result<(), WalError> {
        self.ask(Operation::Shutdown)?;
        assert!(self.closed, "a shutdown that was answered has closed the journal");
        Ok(())
    }

    fn ask(&mut self, operation: impl FnOnce(super::queue::Done) -> Operation) -> Result<(), WalError> {
        let (done, answer) = mpsc::sync_channel(1);
        self.core.queue.push(operation(done));
        while answer.try_recv().is_err() {
            if !self.commit()? && !self.run_job()? {
                return answer.try_recv().map_err(|_| WalError::Ended);
            }
        }
        Ok(())
    }
}

/// The threads' work as one task of the ambient runtime. Whoever waits for it does it itself, so nothing here blocks.
pub(super) struct Task {
    shared: Arc<Shared>,
    stepper: Mutex<Stepper>,
}

impl Task {
    pub(super) fn start(core: Arc<Core>, committer: Committer, on_fatal: OnFatal, pace: Pace) -> Arc<Self> {
        let stepper = Mutex::new(Stepper::new(core.clone(), committer));
        let task = Arc::new(Self { shared: Arc::new(Shared { core, on_fatal }), stepper });
        tokio::spawn(task.clone().run(pace));
        task
    }

    pub(super) fn fail(&self, error: &WalError) {
        self.shared.fail(error);
    }

    async fn run(self: Arc<Self>, pace: Pace) {
        let queue = &self.shared.core.queue;
        while !queue.is_closed() {
            queue.filled().await;
            loop {
                tokio::time::sleep(pace()).await;
                if queue.is_closed() {
                    return;
                }
                match self.step() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => return self.fail(&error),
                }
            }
        }
    }

    fn step(&self) -> Result<bool, WalError> {
        let mut stepper = self.stepper.lock();
        Ok(stepper.commit()? || stepper.run_job()?)
    }

    /// Does the work until `operation` is done.
    pub(super) fn ask(&self, operation: impl FnOnce(super::queue::Done) -> Operation) -> Result<(), WalError> {
        let mut stepper = self.stepper.lock();
        if self.shared.core.queue.is_closed() {
            return Err(WalError::Ended);
        }
        let asked = stepper.ask(operation);
        if stepper.closed {
            self.shared.core.queue.close();
        }
        drop(stepper);
        asked.inspect_err(|error| self.fail(error))
    }
}
