//! A machine: its disk and clocks, and the node that runs on it, or does not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::clock::SimClock;
use super::network::{Process, SimNetwork};
use super::scenario::Scenario;
use super::trace::{Trace, note};
use crate::config::{Config, HostPort, Settings, load};
use crate::datadir::DataDir;
use crate::ids::{BrokerEpoch, NodeId};
use crate::io::disk::sim::SimDisk;
use crate::io::rng::Rng;

use crate::node::{Io, NodeError, Planes, PlanesOptions, failed};
use crate::raft::{self, Drive, RaftNode};
use crate::stream::Partitions;
use crate::wal::{self, Durability, WalOptions};

/// An orderly stop takes no longer.
const STOP_WITHIN: std::time::Duration = std::time::Duration::from_secs(25);
const DATA_DIR: &str = "/data";
/// Free bytes below which appends are refused.
const RESERVE_BYTES: u64 = 8 << 10;
/// Room for what is in the journal only.
const DEFERRED_BYTES: u64 = 64 << 10;
/// A snapshot of the metadata after some commands, and few of them in a message.
const SMALL_RAFT: raft::Limits =
    raft::Limits { segment_bytes: 2_000, snapshot_every_bytes: 1_500, kept_bytes: 500, message_bytes: 300 };

/// A node that serves.
pub(super) struct Serving {
    pub(super) process: Process,
    pub(super) epoch: BrokerEpoch,
    pub(super) raft: Arc<RaftNode>,
    pub(super) partitions: Arc<Partitions>,

    gone: Arc<AtomicBool>,
}

impl Serving {
    /// Whether its process has ended since: nothing that it says arrives anywhere.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

struct Running {
    process: Process,
    task: JoinHandle<()>,
    stop: CancellationToken,
    gone: Arc<AtomicBool>,
    serving: Option<Arc<Serving>>,
}

struct State {
    disk: SimDisk,
    starts: u64,
    running: Option<Running>,
    /// When it starts again.
    restart_at: Option<Instant>,
    rng: SmallRng,
}

/// What all machines have in common.
#[derive(Clone)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) scenario: Arc<Scenario>,
    pub(super) net: SimNetwork,
    pub(super) trace: Trace,
    /// Why a node that should have started did not: the first one that is not to be expected.
    pub(super) refusals: Arc<Mutex<Vec<String>>>,
}

pub(super) struct Machine {
    pub(super) id: i32,
    world: World,
    clock: Arc<SimClock>,
    /// A WAL round takes so long at most, µs.
    round_us: Arc<AtomicU64>,
    full: AtomicBool,
    /// Whether its disk was full since its process began: what failed of it then may be told when there is room again.
    was_full: AtomicBool,
    state: Mutex<State>,
}

impl Machine {
    pub(super) fn new(id: i32, world: World) -> Arc<Self> {
        let rng = SmallRng::seed_from_u64(world.seed.wrapping_mul(31).wrapping_add(id as u64));
        let state = State { disk: SimDisk::new(), starts: 0, running: None, restart_at: None, rng };
        Arc::new(Self {
            id,
            clock: Arc::new(SimClock::new()),
            round_us: Arc::new(AtomicU64::new(world.scenario.disk_us)),
            full: AtomicBool::new(false),
            was_full: AtomicBool::new(false),
            state: Mutex::new(state),
            world,
        })
    }

    /// Its node, if it serves.
    pub(super) fn serving(&self) -> Option<Arc<Serving>> {
        self.state.lock().running.as_ref()?.serving.clone()
    }

    pub(super) fn is_running(&self) -> bool {
        self.state.lock().running.is_some()
    }

    pub(super) fn set_clock_off(&self, ms: i64) {
        self.clock.set_off(ms);
    }

    pub(super) fn set_round_us(&self, most: u64) {
        self.round_us.store(most, Ordering::Relaxed);
    }

    /// Leaves so much room on its disk; `None` for plenty.
    pub(super) fn set_room(&self, bytes: Option<u64>) {
        let state = self.state.lock();
        state.disk.set_capacity(bytes.map(|bytes| state.disk.used() + bytes));
        self.full.store(bytes.is_some(), Ordering::Relaxed);
        self.was_full.fetch_or(bytes.is_some(), Ordering::Relaxed);
    }

    /// Whether its power went in the middle of a write, of which nobody has heard yet.
    pub(super) fn has_crashed(&self) -> bool {
        self.state.lock().disk.has_crashed()
    }

    /// Loses its power at the `n`-th operation on its disk from now.
    pub(super) fn crash_at(&self, n: u64) {
        self.state.lock().disk.crash_at(n);
    }

    /// Nothing is planned against it any more: its disk has room and is as fast as it was, its clock is right.
    pub(super) fn heal(&self) {
        self.set_room(None);
        self.set_round_us(self.world.scenario.disk_us);
        self.set_clock_off(0);
        self.state.lock().disk.cancel_crash();
    }

    /// Starts its node.
    pub(super) fn start(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.running.is_some() {
            return;
        }
        state.starts += 1;
        state.restart_at = None;
        self.was_full.store(self.full.load(Ordering::Relaxed), Ordering::Relaxed);
        let process = Process { machine: self.id, start: state.starts };
        note!(self.world.trace, "node {} starts ({})", self.id, state.starts);
        let (stop, gone) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let seed = state.rng.random();
        let life = Life { machine: self.clone(), process, disk: state.disk.clone(), stop: stop.clone(), seed };
        let span = tracing::info_span!("node", id = self.id, start = state.starts);
        let task = tokio::spawn(life.live(gone.clone()).instrument(span));
        state.running = Some(Running { process, task, stop, gone, serving: None });
    }

    /// Starts its node, if it is time.
    pub(super) fn start_if_due(self: &Arc<Self>) {
        let due = self.state.lock().restart_at.is_some_and(|at| at <= Instant::now());
        if due {
            self.start();
        }
    }

    /// Has its node start again after so many milliseconds.
    pub(super) fn restart_in(&self, ms: u64) {
        self.state.lock().restart_at = Some(Instant::now() + std::time::Duration::from_millis(ms));
    }

    /// Stops its node as an administrator does.
    pub(super) fn stop(&self) {
        if let Some(running) = &self.state.lock().running {
            note!(self.world.trace, "node {} is told to stop", self.id);
            running.stop.cancel();
        }
    }

    /// Its node dies; with the machine's power, what was not synced goes, too.
    pub(super) fn kill(&self, power_loss: bool) {
        let running = {
            let mut state = self.state.lock();
            let running = state.running.take();
            state.lose(power_loss);
            running
        };
        let Some(running) = running else { return };
        note!(self.world.trace, "node {} {}", self.id, if power_loss { "loses power" } else { "is killed" });
        running.gone.store(true, Ordering::Relaxed);
        running.task.abort();
        self.world.net.detach(running.process, power_loss);
        if let Some(serving) = running.serving {
            serving.raft.shutdown();
        }
    }

    /// Its disk is replaced by an empty one.
    pub(super) fn wipe(&self) {
        self.kill(true);
        self.state.lock().disk = SimDisk::new();
        note!(self.world.trace, "node {} has an empty disk", self.id);
    }

    fn serves(&self, serving: Arc<Serving>) {
        let mut state = self.state.lock();
        let running = state.running.as_mut().filter(|running| running.process == serving.process);
        if let Some(running) = running {
            note!(self.world.trace, "node {} serves in registration {}", self.id, serving.epoch);
            running.serving = Some(serving);
        }
    }

    /// Its node has ended by itself.
    fn ended(&self, process: Process, why: Result<(), NodeError>) {
        let mut state = self.state.lock();
        let Some(running) = state.running.take_if(|running| running.process == process) else { return };
        let crashed = state.disk.has_crashed();
        let outcome = match &why {
            Ok(()) => "stopped".to_owned(),
            Err(NodeError::Refused(why)) => format!("refused to start: {why}"),
            Err(NodeError::Failed(why)) => format!("failed: {why}"),
        };
        note!(self.world.trace, "node {} {outcome}", self.id);
        // The process before is heard for a while, the longer the more leaders change: who is refused tries again.
        let in_use = matches!(&why, Err(NodeError::Refused(why)) if why.contains("another process"));
        let no_room = matches!(&why, Err(NodeError::Failed(why)) if why.contains("no storage space"));
        let full = self.full.load(Ordering::Relaxed) || (no_room && self.was_full.load(Ordering::Relaxed));
        let expected = why.is_ok() || crashed || in_use || full;
        if !expected {
            self.world.refusals.lock().push(format!("node {} {outcome}", self.id));
        }
        state.lose(crashed);
        if state.restart_at.is_none() {
            let pause = state.rng.random_range(300..2_000);
            state.restart_at = Some(Instant::now() + std::time::Duration::from_millis(pause));
        }
        drop(state);
        running.gone.store(true, Ordering::Relaxed);
        self.world.net.detach(process, crashed);
        if let Some(serving) = running.serving {
            serving.raft.shutdown();
        }
    }

    fn config(&self) -> Config {
        let scenario = &self.world.scenario;
        let voters: Vec<_> = (0..scenario.voters).map(|id| format!("{id}@node{id}:9391")).collect();
        let seeds: Vec<_> = (0..scenario.voters).map(|id| format!("node{id}:9391")).collect();
        let id = self.id;
        let given = [
            ("node_id", id.to_string()),
            ("cluster_id", "simulated-cluster-0001".to_owned()),
            ("data_dir", DATA_DIR.to_owned()),
            ("kafka_addr", format!("node{id}:9092")),
            ("grpc_addr", format!("node{id}:9391")),
            ("wal_receiver_addr", format!("node{id}:9291")),
            ("initial_voters", voters.join(",")),
            ("seeds", seeds.join(",")),
            ("replica.lag.time.max.ms", scenario.lag_max_ms.to_string()),
            ("min.insync.replicas", scenario.min_insync.to_string()),
            ("log.retention.check.interval.ms", "1000".to_owned()),
            ("log.cleaner.backoff.ms", "500".to_owned()),
            ("log.cleaner.min.cleanable.ratio", "0.01".to_owned()),
            ("log.cleaner.dedupe.buffer.size", "65536".to_owned()),
            ("log.segment.delete.delay.ms", "1000".to_owned()),
            ("leader.imbalance.check.interval.seconds", "5".to_owned()),
        ];
        load(None, [], given.map(|(name, value)| (name.to_owned(), value))).expect("these settings are right")
    }
}

impl State {
    /// What is left of the disk when the process ends; `power_loss`: not even the page cache.
    fn lose(&mut self, power_loss: bool) {
        self.disk = if power_loss { self.disk.crash(self.rng.random()) } else { self.disk.kill() };
    }
}

/// One process of a machine.
struct Life {
    machine: Arc<Machine>,
    process: Process,
    disk: SimDisk,
    stop: CancellationToken,
    seed: u64,
}

impl Life {
    async fn live(self, gone: Arc<AtomicBool>) {
        let (machine, process) = (self.machine.clone(), self.process);
        let ended = self.run(gone).await;
        machine.ended(process, ended);
    }

    async fn run(self, gone: Arc<AtomicBool>) -> Result<(), NodeError> {
        let Self { machine, process, disk, stop, seed } = self;
        let rng = Rng::seeded(seed);
        let node = NodeId::new(machine.id);
        let disk = Arc::new(disk);
        let config = machine.config();
        let cluster = config.cluster_id.clone();
        let draw = || rng.uuid();
        let dir = DataDir::open(disk.clone(), Path::new(DATA_DIR), node, cluster.as_deref(), draw).map_err(failed)?;
        let (pace, round_us) = (Mutex::new(SmallRng::seed_from_u64(seed ^ 1)), machine.round_us.clone());
        let pace = move || {
            let most = round_us.load(Ordering::Relaxed);
            std::time::Duration::from_micros(pace.lock().random_range(0..=most))
        };
        let mut planes = Planes::start(PlanesOptions {
            io: Io {
                disk,
                clock: machine.clock.clone(),
                network: machine.world.net.attach(process),
                rng,
                drive: Drive::Task,
                wal: wal::Drive::Task(Arc::new(pace)),
            },
            wal: WalOptions {
                journal_file_bytes: 32 << 10,
                journal_files: 3,
                queue_bytes: 256 << 10,
                direct_sync_bytes: 8 << 10,
                deferred_bytes: DEFERRED_BYTES,
                reserve_bytes: RESERVE_BYTES,
                open_files: 32,
                durability: Durability::Fsync,
            },
            raft: if machine.world.scenario.small_raft { SMALL_RAFT } else { raft::Limits::default() },
            dir,
            settings: Arc::new(Settings::new(config)),
            kafka: HostPort { host: format!("node{}", machine.id), port: 9092 },
        })
        .await?;
        machine.serves(Arc::new(Serving {
            process,
            epoch: planes.epoch,
            raft: planes.raft.clone(),
            partitions: planes.partitions.clone(),

            gone,
        }));
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            why = planes.failure() => return Err(NodeError::Failed(why)),
        }
        let stopped = tokio::time::timeout(STOP_WITHIN, async {
            planes.step_aside().await;
            planes.stop().await.map(drop)
        });
        // As `server` does it: what is not finished then is recovered at the next start.
        stopped.await.unwrap_or(Ok(()))
    }
}
