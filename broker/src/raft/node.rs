//! This node's member of the metadata plane: what the rest of the broker holds.
//!
//! A proposal is made where the leader is: here, or by asking it; either way it is decided when this node applies it.
//! One that certainly took no effect (no leader, or one that lost its term) is made again, within the time that it has.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use raft::eraftpb::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::core::RaftCore;
use super::driver::{Drive, Driver, Input, Inputs, Leader, Published};
use super::peers::peers_client::PeersClient;
use super::peers::{Me, ProposeRequest, propose_response};
use super::proposals::ProposalId;
use super::roster::{self, Roster};
use super::stats::RaftStats;
use super::storage::{Limits, RaftWalStorage};
use super::transport::Transport;
use super::{RaftError, RaftId};
use crate::ids::NodeId;
use crate::io::clock::Clock;
use crate::io::disk::Disk;
use crate::io::flood::Flood;
use crate::io::net::Network;
use crate::io::rng::Rng;
use crate::metadata::{
    Command, HeartbeatSink, Image, Member, MetadataPlane, Outcome, Proposal, ProposeError, RaftStatus, State, codec,
    snapshot,
};

/// Lines about commands that are refused.
static REFUSED: Flood = Flood::new("commands that are refused");

/// Bytes of one encoded command at most.
pub(super) const COMMAND_BYTES: usize = 8 << 20;
/// Units of [`UNIT_BYTES`] that proposals on their way may take together; more wait.
const UNITS_IN_FLIGHT: usize = 64 << 10;
/// The same for messages of peers that wait to be taken up; more are dropped.
const UNITS_IN_INBOX: usize = 128 << 10;
const UNIT_BYTES: usize = 1 << 10;
/// How long a proposal waits for its outcome.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause before a proposal that nobody took is made again, unless another leader is known before.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Called once when the metadata plane can't go on: ends the process.
pub type FatalHandler = Arc<dyn Fn(&RaftError) + Send + Sync>;

/// What a Raft node needs.
pub struct RaftOptions {
    /// Who it is.
    pub me: Me,
    /// `data/wal/__meta`.
    pub dir: PathBuf,
    /// What its files and messages hold.
    pub limits: Limits,
    /// Where that is.
    pub disk: Arc<dyn Disk>,
    /// For latencies.
    pub clock: Arc<dyn Clock>,
    /// For election timeouts, pauses, and the names of proposals.
    pub rng: Rng,
    /// Where its peers are.
    pub network: Arc<dyn Network>,
    /// Where its loop runs.
    pub drive: Drive,
    /// What ends the process.
    pub fatal: FatalHandler,
}

/// This node's member of the metadata plane.
pub struct RaftNode {
    pub(super) me: Me,
    process: u64,
    next_proposal: AtomicU64,
    pub(super) inputs: Inputs,
    room: Arc<Semaphore>,
    inbox: Arc<Semaphore>,
    pub(super) images: watch::Receiver<Arc<Image>>,
    pub(super) leader: watch::Receiver<Leader>,
    pub(super) leadership: watch::Receiver<Option<u64>>,
    pub(super) status: Arc<Mutex<RaftStatus>>,
    pub(super) transport: Arc<Transport>,
    pub(super) heartbeats: OnceLock<Arc<dyn HeartbeatSink>>,
    stats: Arc<RaftStats>,
    /// A roster that a peer has told, while this node had no leader.
    pub(super) told: watch::Sender<Option<Arc<Roster>>>,
    stop: CancellationToken,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What became of an attempt to have a command taken.
enum Attempt {
    Decided(Result<Outcome, ProposeError>),
    /// It took no effect and never will.
    NotTaken,
}

impl RaftNode {
    /// Whether the folder holds metadata: a group was formed, or joined, with it.
    pub fn is_formed(options: &RaftOptions) -> Result<bool, RaftError> {
        RaftWalStorage::is_formed(options.disk.as_ref(), &options.dir)
    }

    /// Forms a group of this node alone, unless its folder holds one. To be done once in a folder's life: a folder
    /// that was formed and is empty now has lost its data.
    pub fn form(options: &RaftOptions) -> Result<(), RaftError> {
        let me = &options.me;
        let mut state = State::new(Image::empty(&me.cluster_id));
        let admitted = state.apply(
            RaftWalStorage::formed_index(),
            Command::AdmitMember { node: me.node, directory: me.directory, address: me.address.clone(), vote: true },
        );
        assert_eq!(admitted, Outcome::Done, "an empty roster refuses nobody");
        let state = Bytes::from(snapshot::encode(&state.image()));
        RaftWalStorage::form(options.disk.as_ref(), &options.dir, vec![RaftId::of(me.node).0], state)
    }

    /// Begins as a member of a group that has let this node in: with its roster, and nothing else yet. Does nothing
    /// when the folder holds metadata.
    pub fn join(options: &RaftOptions, roster: impl IntoIterator<Item = Member>) -> Result<(), RaftError> {
        let image = Image::with_roster(&options.me.cluster_id, roster);
        let state = Bytes::from(snapshot::encode(&image));
        RaftWalStorage::join(options.disk.as_ref(), &options.dir, state)
    }

    /// Refuses metadata that an orderly stop can't have left; for after one, before `start`. Changes nothing.
    pub fn check_whole(options: &RaftOptions) -> Result<(), RaftError> {
        RaftWalStorage::check_whole(options.disk.as_ref(), &options.dir)
    }

    /// Opens the folder and starts the loop; to be called in a Tokio runtime, which the connections run in. In a group
    /// of one all that was ever committed is applied when this returns. Blocks on files.
    pub fn start(options: RaftOptions) -> Result<Arc<Self>, RaftError> {
        let process = options.rng.u64();
        let limits = options.limits;
        let mut core = RaftCore::open(options.me.node, process, Arc::clone(&options.disk), &options.dir, limits)?;
        let (inputs, received) = mpsc::unbounded_channel();
        let (me, network) = (options.me.clone(), options.network.clone());
        let transport = Transport::new(options.me.clone(), options.network, options.rng, inputs.clone());
        let transport = Arc::new(transport);
        let published = Published {
            images: watch::Sender::new(core.image()),
            leader: watch::Sender::new(Leader::default()),
            leadership: watch::Sender::new(None),
            status: Arc::new(Mutex::new(core.status())),
        };
        let node = Arc::new(Self {
            me: options.me,
            process,
            next_proposal: AtomicU64::new(0),
            inputs: inputs.clone(),
            room: Arc::new(Semaphore::new(UNITS_IN_FLIGHT)),
            inbox: Arc::new(Semaphore::new(UNITS_IN_INBOX)),
            images: published.images.subscribe(),
            leader: published.leader.subscribe(),
            leadership: published.leadership.subscribe(),
            status: published.status.clone(),
            transport: transport.clone(),
            heartbeats: OnceLock::new(),
            stats: Arc::clone(core.stats()),
            told: watch::Sender::new(None),
            stop: CancellationToken::new(),
            thread: Mutex::new(None),
        });
        transport.follow(&Roster::of(&node.images.borrow()));
        let effects = core.process(options.clock.monotonic(), &mut |message| transport.send(message))?;
        let mut driver = Driver {
            core,
            inputs,
            received,
            published,
            transport: transport.clone(),
            clock: options.clock,
            fatal: options.fatal,
            drive: options.drive,
            reads: std::collections::BTreeMap::new(),
        };
        driver.carry_out(effects, true)?;
        tokio::spawn(roster::follow(node.images.clone(), node.told.subscribe(), transport, node.stop.clone()));
        tokio::spawn(roster::ask(Arc::downgrade(&node), me, network, node.stop.clone()));
        match options.drive {
            Drive::Task => drop(tokio::spawn(driver.run())),
            Drive::Thread => {
                *node.thread.lock() =
                    Some(on_a_thread(driver).map_err(RaftError::io("start a thread for", &options.dir))?);
            }
        }
        Ok(node)
    }

    /// From now on heartbeats are taken, while this node leads. To be called once.
    pub fn set_heartbeats(&self, sink: Arc<dyn HeartbeatSink>) {
        assert!(self.heartbeats.set(sink).is_ok(), "a process has one controller");
    }

    /// Which node this is.
    pub fn node(&self) -> NodeId {
        self.me.node
    }

    /// Counters for `/metrics`.
    pub fn stats(&self) -> &Arc<RaftStats> {
        &self.stats
    }

    /// Ends the loop and the connections; proposals under way fail. Blocks until the loop's thread, if it has one, has
    /// ended.
    pub fn shutdown(&self) {
        self.stop.cancel();
        self.room.close();
        self.transport.stop();
        // An error means that the loop has ended by itself.
        let _ = self.inputs.send(Input::Stop);
        if let Some(thread) = self.thread.lock().take()
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
    }

    /// Takes a peer's message of so many bytes, unless too many wait.
    pub(super) fn deliver(&self, message: Message, bytes: usize) {
        let units = units_of(bytes).min(UNITS_IN_INBOX as u32);
        let Ok(room) = Arc::clone(&self.inbox).try_acquire_many_owned(units) else {
            tracing::debug!("dropped a Raft message: too many wait");
            return;
        };
        // An error means that the node has stopped.
        let _ = self.inputs.send(Input::Message { message, room });
    }

    /// Takes another node's command into the log, if this node leads in that term: its index.
    pub(super) async fn take_forwarded(
        &self,
        term: u64,
        id: ProposalId,
        command: Vec<u8>,
    ) -> Result<Option<u64>, ProposeError> {
        let room = self.room_for(command.len()).await?;
        let (taken, answered) = oneshot::channel();
        let input = Input::Forwarded { term, id, command, taken, room };
        self.inputs.send(input).map_err(|_ended| ProposeError::Stopping)?;
        answered.await.map_err(|_ended| ProposeError::Stopping)
    }

    async fn room_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ProposeError> {
        let room = Arc::clone(&self.room).acquire_many_owned(units_of(bytes)).await;
        room.map_err(|_closed| ProposeError::Stopping)
    }

    async fn decide(&self, command: Vec<u8>) -> Result<Outcome, ProposeError> {
        let room = Arc::new(self.room_for(command.len()).await?);
        let mut leader = self.leader.clone();
        loop {
            let known = *leader.borrow_and_update();
            let attempt = match known.node {
                None => Attempt::NotTaken,
                Some(node) if node == self.me.node => self.propose_here(command.clone(), room.clone()).await,
                Some(node) => self.propose_to(node, known.term, &command, room.clone()).await,
            };
            if let Attempt::Decided(decided) = attempt {
                return decided;
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(ProposeError::Stopping),
                changed = leader.changed() => changed.map_err(|_ended| ProposeError::Stopping)?,
                () = tokio::time::sleep(RETRY_AFTER) => {}
            }
        }
    }

    async fn propose_here(&self, command: Vec<u8>, room: Arc<OwnedSemaphorePermit>) -> Attempt {
        let (answer, answered) = oneshot::channel();
        let number = self.next_proposal.fetch_add(1, Ordering::Relaxed);
        let input = Input::Propose { number, command, waiting: (answer, room) };
        if self.inputs.send(input).is_err() {
            return Attempt::Decided(Err(ProposeError::Stopping));
        }
        Attempt::of(answered.await)
    }

    async fn propose_to(&self, node: NodeId, term: u64, command: &[u8], room: Arc<OwnedSemaphorePermit>) -> Attempt {
        let Some((channel, who)) = self.transport.channel(node) else { return Attempt::NotTaken };
        let (answer, mut answered) = oneshot::channel();
        let number = self.next_proposal.fetch_add(1, Ordering::Relaxed);
        // Before it is sent: it may be applied here before the leader's reply arrives.
        if self.inputs.send(Input::Expect { number, term, waiting: (answer, room) }).is_err() {
            return Attempt::Decided(Err(ProposeError::Stopping));
        }
        let _forgotten = Forgotten { node: self, number };
        let request = ProposeRequest {
            envelope: Some(self.me.envelope(Some(who))),
            term,
            id: Bytes::copy_from_slice(&ProposalId { process: self.process, number }.to_bytes()),
            command: Bytes::copy_from_slice(command),
        };
        let mut client = PeersClient::new(channel).max_encoding_message_size(COMMAND_BYTES + 1024);
        let reply = tokio::select! {
            biased;
            decided = &mut answered => return Attempt::of(decided),
            reply = client.propose(request) => reply,
        };
        match reply.map(|reply| reply.into_inner().result) {
            Ok(Some(propose_response::Result::NotLeader(_))) => Attempt::NotTaken,
            Err(status) if was_refused(&status) => {
                if let Some(line) = REFUSED.line() {
                    let (leader, why, left_out) = (node.get(), status.message(), line.left_out());
                    tracing::warn!(leader, why, left_out, "the metadata leader refuses a command");
                }
                Attempt::NotTaken
            }
            // Taken; or nobody knows: what this node applies next will tell, an entry of a later term at the latest.
            Ok(_) | Err(_) => Attempt::of(answered.await),
        }
    }
}

impl Attempt {
    fn of(answered: Result<Result<Outcome, ProposeError>, oneshot::error::RecvError>) -> Self {
        match answered {
            Ok(Err(ProposeError::LeaderChanged)) => Self::NotTaken,
            Ok(decided) => Self::Decided(decided),
            Err(_ended) => Self::Decided(Err(ProposeError::Stopping)),
        }
    }
}

/// When it is dropped nobody waits for that proposal any more.
struct Forgotten<'a> {
    node: &'a RaftNode,
    number: u64,
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        // An error means that the node has stopped.
        let _ = self.node.inputs.send(Input::Forget { number: self.number });
    }
}

/// Whether the peer answered that it did nothing.
fn was_refused(status: &tonic::Status) -> bool {
    use tonic::Code;
    matches!(
        status.code(),
        Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition | Code::InvalidArgument
    )
}

fn units_of(bytes: usize) -> u32 {
    1 + (bytes / UNIT_BYTES) as u32
}

/// The loop on a thread of its own, which may wait for the disk.
fn on_a_thread(driver: Driver) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("raft".to_owned()).spawn(move || {
        runtime.block_on(driver.run());
        // A snapshot that is being written is not waited for: an unfinished one is not found at the next start.
        runtime.shutdown_background();
    })
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
            let decided = tokio::time::timeout(PROPOSE_TIMEOUT, self.decide(command)).await;
            decided.unwrap_or(Err(ProposeError::TimedOut))
        })
    }

    fn leader(&self) -> Option<NodeId> {
        self.leader.borrow().node
    }
}
