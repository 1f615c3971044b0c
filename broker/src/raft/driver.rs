//! The thread around [`RaftCore`], and the [`MetadataPlane`] that the rest of the broker holds.
//!
//! All proposals that wait when the thread comes round become one write and one sync.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::core::{Effects, RaftCore, SnapshotJob, SnapshotWritten, TICK};
use super::stats::RaftStats;
use super::storage::{Limits, RaftWalStorage};
use super::{RaftError, RaftId};
use crate::ids::NodeId;
use crate::io::clock::Clock;
use crate::io::disk::Disk;
use crate::metadata::{Command, Image, MetadataPlane, Outcome, Proposal, ProposeError, State, codec, snapshot};

/// Bytes of one encoded command at most.
const COMMAND_BYTES: usize = 8 << 20;
/// Units of [`UNIT_BYTES`] that proposals on their way may take together; more wait.
const UNITS_IN_FLIGHT: usize = 64 << 10;
const UNIT_BYTES: usize = 1 << 10;
/// Proposals taken up for one write at most.
const BATCH: usize = 4096;
/// How long a proposal waits for its outcome.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Called once when the metadata plane can't go on: ends the process.
pub type FatalHandler = Arc<dyn Fn(&RaftError) + Send + Sync>;

/// What a Raft node needs.
pub struct RaftOptions {
    /// Who it is.
    pub node: NodeId,
    /// `data/wal/__meta`.
    pub dir: PathBuf,
    /// Where that is.
    pub disk: Arc<dyn Disk>,
    /// For latencies.
    pub clock: Arc<dyn Clock>,
    /// What ends the process.
    pub fatal: FatalHandler,
}

type Answer = oneshot::Sender<Result<Outcome, ProposeError>>;

enum Input {
    Propose { command: Vec<u8>, answer: Answer, room: OwnedSemaphorePermit },
    SnapshotWritten(Result<SnapshotWritten, RaftError>),
    Stop,
}

/// Who waits, and the room that the proposal takes until it is answered.
type Waiting = (Answer, OwnedSemaphorePermit);

/// This node's member of the metadata plane.
pub struct RaftNode {
    inputs: Sender<Input>,
    room: Arc<Semaphore>,
    images: watch::Receiver<Arc<Image>>,
    leader: Arc<AtomicU64>,
    stats: Arc<RaftStats>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl RaftNode {
    /// Forms a group of this node alone, unless its folder holds one. To be done once in a folder's life: a folder
    /// that was formed and is empty now has lost its data.
    pub fn form(options: &RaftOptions, cluster_id: &str) -> Result<(), RaftError> {
        let mut state = State::new(Image::empty(cluster_id));
        state.skip(RaftWalStorage::formed_index());
        let state = Bytes::from(snapshot::encode(&state.image()));
        RaftWalStorage::form(options.disk.as_ref(), &options.dir, vec![RaftId::of(options.node).0], state)
    }

    /// Refuses metadata that an orderly stop can't have left; for after one, before `start`. Changes nothing.
    pub fn check_whole(options: &RaftOptions) -> Result<(), RaftError> {
        RaftWalStorage::check_whole(options.disk.as_ref(), &options.dir)
    }

    /// Opens the folder and starts the thread. In a group of one all that was ever committed is applied when this
    /// returns. Blocks on files.
    pub fn start(options: RaftOptions) -> Result<Arc<Self>, RaftError> {
        let mut core = RaftCore::open(options.node, Arc::clone(&options.disk), &options.dir, Limits::default())?;
        let (inputs, received) = channel();
        let images = watch::Sender::new(core.image());
        let node = Self {
            inputs: inputs.clone(),
            room: Arc::new(Semaphore::new(UNITS_IN_FLIGHT)),
            images: images.subscribe(),
            leader: Arc::default(),
            stats: Arc::clone(core.stats()),
            thread: Mutex::new(None),
        };
        let effects = core.process(options.clock.monotonic())?;
        let driver = Driver {
            core,
            inputs,
            received,
            images,
            leader: Arc::clone(&node.leader),
            clock: options.clock,
            fatal: options.fatal,
        };
        driver.carry_out(effects);
        let spawned = std::thread::Builder::new().name("raft".to_owned()).spawn(move || driver.run());
        *node.thread.lock() = Some(spawned.map_err(RaftError::io("start a thread for", &options.dir))?);
        Ok(Arc::new(node))
    }

    /// Counters for `/metrics`.
    pub fn stats(&self) -> &Arc<RaftStats> {
        &self.stats
    }

    /// Ends the thread; proposals under way fail. Blocks.
    pub fn shutdown(&self) {
        self.room.close();
        // An error means that the thread has ended by itself.
        let _ = self.inputs.send(Input::Stop);
        if let Some(thread) = self.thread.lock().take()
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl MetadataPlane for RaftNode {
    fn image(&self) -> Arc<Image> {
        Arc::clone(&self.images.borrow())
    }

    fn subscribe(&self) -> watch::Receiver<Arc<Image>> {
        self.images.clone()
    }

    fn propose(&self, command: Command) -> Proposal<'_> {
        Box::pin(async move {
            let command = codec::encode(&command);
            if command.len() > COMMAND_BYTES {
                return Err(ProposeError::TooLarge { bytes: command.len(), limit: COMMAND_BYTES });
            }
            let decided = async {
                let units = 1 + (command.len() / UNIT_BYTES) as u32;
                let room = Arc::clone(&self.room).acquire_many_owned(units).await;
                let room = room.map_err(|_closed| ProposeError::Stopping)?;
                let (answer, answered) = oneshot::channel();
                let input = Input::Propose { command, answer, room };
                self.inputs.send(input).map_err(|_ended| ProposeError::Stopping)?;
                answered.await.unwrap_or(Err(ProposeError::Stopping))
            };
            tokio::time::timeout(PROPOSE_TIMEOUT, decided).await.unwrap_or(Err(ProposeError::TimedOut))
        })
    }

    fn leader(&self) -> Option<NodeId> {
        RaftId(self.leader.load(Ordering::Relaxed)).node()
    }
}

struct Driver {
    core: RaftCore<Waiting>,
    inputs: Sender<Input>,
    received: Receiver<Input>,
    images: watch::Sender<Arc<Image>>,
    leader: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
    fatal: FatalHandler,
}

impl Driver {
    fn run(mut self) {
        if let Err(error) = self.rounds() {
            (self.fatal)(&error);
        }
    }

    fn rounds(&mut self) -> Result<(), RaftError> {
        let mut next_tick = self.clock.monotonic() + TICK;
        loop {
            match self.received.recv_timeout(next_tick.saturating_sub(self.clock.monotonic())) {
                Ok(first) => {
                    if !self.take(first)? {
                        return Ok(());
                    }
                    for _ in 1..BATCH {
                        let Ok(input) = self.received.try_recv() else { break };
                        if !self.take(input)? {
                            return Ok(());
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the driver holds a sender itself"),
            }
            let now = self.clock.monotonic();
            if now >= next_tick {
                self.core.tick();
                next_tick = now + TICK;
            }
            let effects = self.core.process(now)?;
            self.carry_out(effects);
        }
    }

    /// Takes one input up; false when the node is to stop.
    fn take(&mut self, input: Input) -> Result<bool, RaftError> {
        match input {
            Input::Propose { command, answer, room } => {
                let now = self.clock.monotonic();
                if let Err((answer, _)) = self.core.propose(command, (answer, room), now) {
                    // The proposer may be gone.
                    let _ = answer.send(Err(ProposeError::LeaderChanged));
                }
            }
            Input::SnapshotWritten(written) => self.core.snapshot_written(written?)?,
            Input::Stop => return Ok(false),
        }
        Ok(true)
    }

    fn carry_out(&self, effects: Effects<Waiting>) {
        assert!(effects.messages.is_empty(), "a group of one has nobody to send to");
        self.leader.store(self.core.leader().map_or(0, |leader| RaftId::of(leader).0), Ordering::Relaxed);
        if let Some(image) = effects.image {
            self.images.send_replace(image);
        }
        for ((answer, _room), outcome) in effects.answers {
            // The proposer may be gone.
            let _ = answer.send(outcome);
        }
        if let Some(job) = effects.snapshot {
            self.write_snapshot(job);
        }
    }

    fn write_snapshot(&self, job: SnapshotJob) {
        let inputs = self.inputs.clone();
        std::thread::spawn(move || {
            // An error means that the node has stopped.
            let _ = inputs.send(Input::SnapshotWritten(job.run()));
        });
    }
}
