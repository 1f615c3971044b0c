//! The ready loop: what one Raft node does with what reaches it, without a thread, a socket or a clock of its own.
//!
//! Inputs are `tick`, `step` and `propose`; `process` then makes durable what Raft asks for, applies what is committed,
//! in order, and returns what the driver has to do. In raft-rs's order: persist before send, apply after commit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeV2, Entry, EntryType, HardState, Message, Snapshot};
use raft::{Config, RawNode, StateRole, Storage as _};

use super::snapshot_file::{self, SnapshotFile};
use super::stats::RaftStats;
use super::storage::{Limits, RaftWalStorage, entry_bytes};
use super::{ConfState, RaftError, RaftId, logger};
use crate::ids::NodeId;
use crate::io::disk::Disk;
use crate::metadata::{Image, Outcome, ProposeError, State, codec, snapshot};

/// How often `tick` is to be called.
pub const TICK: Duration = Duration::from_millis(50);

/// Ticks without a leader after which a node stands for election, at least.
const ELECTION_TICKS: usize = 10;
/// Ticks between a leader's heartbeats.
const HEARTBEAT_TICKS: usize = 2;
/// Bytes of one append message.
const MESSAGE_BYTES: u64 = 1 << 20;
/// Append messages under way to one follower.
const MESSAGES_IN_FLIGHT: usize = 64;
/// Bytes of committed entries that are applied at a time.
const APPLY_BYTES: u64 = 16 << 20;

/// What the driver has to do. `W` is who waits for a proposal.
pub struct Effects<W> {
    /// Messages to peers.
    pub messages: Vec<Message>,
    /// The newest image, when it changed. To be published before the answers are given.
    pub image: Option<Arc<Image>>,
    /// Proposals that are decided.
    pub answers: Vec<(W, Result<Outcome, ProposeError>)>,
    /// A snapshot to be written, on another thread; `RaftCore::snapshot_written` must follow.
    pub snapshot: Option<SnapshotJob>,
}

impl<W> Default for Effects<W> {
    fn default() -> Self {
        Self { messages: Vec::new(), image: None, answers: Vec::new(), snapshot: None }
    }
}

/// A snapshot that is to be encoded and written, apart from the ready loop so that heartbeats don't wait for it.
pub struct SnapshotJob {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    image: Arc<Image>,
    term: u64,
    members: ConfState,
}

/// A snapshot that is on disk.
pub struct SnapshotWritten {
    index: u64,
    members: ConfState,
    bytes: u64,
}

impl SnapshotJob {
    /// Encodes and writes it.
    pub fn run(self) -> Result<SnapshotWritten, RaftError> {
        let state = snapshot::encode(&self.image);
        let bytes = state.len() as u64;
        let index = self.image.index();
        let file = SnapshotFile { index, term: self.term, members: self.members.clone(), state: state.into() };
        snapshot_file::write(self.disk.as_ref(), &self.dir, &file)?;
        Ok(SnapshotWritten { index, members: self.members, bytes })
    }
}

struct Waiter<W> {
    term: u64,
    since: Duration,
    who: W,
}

/// One Raft node.
pub struct RaftCore<W> {
    raw: RawNode<RaftWalStorage>,
    disk: Arc<dyn Disk>,
    limits: Limits,
    state: State,
    /// Who waits for the entry at an index, if it is still the one of that term.
    waiters: BTreeMap<u64, Waiter<W>>,
    stats: Arc<RaftStats>,
    log_bytes: u64,
    snapshot_bytes: u64,
    snapshot_running: bool,
}

impl<W> RaftCore<W> {
    /// Goes on from what the folder holds. A group of one elects itself at once.
    pub fn open(node: NodeId, disk: Arc<dyn Disk>, dir: &Path, limits: Limits) -> Result<Self, RaftError> {
        let (storage, state) = RaftWalStorage::open(Arc::clone(&disk), dir, limits)?;
        let index = storage.snapshot_index();
        let snapshot_bytes = state.len() as u64;
        let image = snapshot::decode(state).map_err(|source| RaftError::Undecodable { index, source })?;
        if image.index() != index {
            return Err(RaftError::corrupt(dir, format!("the snapshot at {index} holds {}", image.index())));
        }
        let id = RaftId::of(node).0;
        let config = Config {
            id,
            applied: index,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            max_size_per_msg: MESSAGE_BYTES,
            max_inflight_msgs: MESSAGES_IN_FLIGHT,
            max_committed_size_per_ready: APPLY_BYTES,
            check_quorum: true,
            pre_vote: true,
            ..Config::default()
        };
        let members = storage.initial_state()?.conf_state;
        let mut raw = RawNode::new(&config, storage, &logger::logger())?;
        if members.voters == [id] {
            raw.campaign()?;
        }
        Ok(Self {
            raw,
            disk,
            limits,
            state: State::new(image),
            waiters: BTreeMap::new(),
            stats: Arc::default(),
            log_bytes: 0,
            snapshot_bytes,
            snapshot_running: false,
        })
    }

    /// The image now.
    pub fn image(&self) -> Arc<Image> {
        self.state.image()
    }

    /// Which node leads, as this one knows.
    pub fn leader(&self) -> Option<NodeId> {
        RaftId(self.raw.raft.leader_id).node()
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<RaftStats> {
        &self.stats
    }

    /// Time moves on by [`TICK`].
    pub fn tick(&mut self) {
        self.raw.tick();
    }

    /// A peer's message. One that raft-rs refuses is dropped, as if the network had lost it.
    pub fn step(&mut self, message: Message) {
        if let Err(error) = self.raw.step(message) {
            tracing::debug!(%error, "dropped a Raft message");
        }
    }

    /// Proposes an encoded command, if this node leads; otherwise gives the waiter back.
    pub fn propose(&mut self, command: Vec<u8>, who: W, now: Duration) -> Result<(), W> {
        if self.raw.raft.state != StateRole::Leader || self.raw.propose(Vec::new(), command).is_err() {
            return Err(who);
        }
        let (index, term) = (self.raw.raft.raft_log.last_index(), self.raw.raft.term);
        self.waiters.insert(index, Waiter { term, since: now, who });
        Ok(())
    }

    /// Handles all that is ready. After an error the process must end: what is durable is unknown.
    pub fn process(&mut self, now: Duration) -> Result<Effects<W>, RaftError> {
        let mut effects = Effects::default();
        let before = self.state.index();
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            // A leader's appends may travel while it writes its own; what depends on the write is sent after it.
            effects.messages.append(&mut ready.take_messages());
            let snapshot = ready.snapshot().clone();
            let entries = ready.take_entries();
            self.persist(ready.hs(), &snapshot, entries, ready.must_sync(), &mut effects)?;
            effects.messages.append(&mut ready.take_persisted_messages());
            self.apply_all(ready.take_committed_entries(), now, &mut effects)?;
            let mut light = self.raw.advance_append(ready);
            if let Some(commit) = light.commit_index() {
                self.raw.mut_store().set_commit(commit);
            }
            effects.messages.append(&mut light.take_messages());
            self.apply_all(light.take_committed_entries(), now, &mut effects)?;
            self.raw.advance_apply();
        }
        if self.state.index() > before {
            effects.image = Some(self.state.image());
            effects.snapshot = self.snapshot_due()?;
        }
        self.stats.moved(self.raw.raft.term, self.state.index());
        Ok(effects)
    }

    /// The job's snapshot is on disk: the log is compacted behind it.
    pub fn snapshot_written(&mut self, written: SnapshotWritten) -> Result<(), RaftError> {
        self.snapshot_running = false;
        self.snapshot_bytes = written.bytes;
        self.stats.snapshot_written();
        self.raw.mut_store().compact(written.index, written.members)
    }

    fn persist(
        &mut self,
        hard_state: Option<&HardState>,
        snapshot: &Snapshot,
        entries: Vec<Entry>,
        must_sync: bool,
        effects: &mut Effects<W>,
    ) -> Result<(), RaftError> {
        let installs = !snapshot.is_empty();
        if installs {
            self.raw.mut_store().install(hard_state, snapshot)?;
            self.restore(snapshot, effects)?;
        }
        if must_sync && !(installs && entries.is_empty()) {
            self.log_bytes += entries.iter().map(entry_bytes).sum::<u64>();
            self.raw.mut_store().persist(hard_state, entries)?;
        } else if let Some(hard_state) = hard_state {
            // Only the commit index moved.
            self.raw.mut_store().set_commit(hard_state.commit);
        }
        Ok(())
    }

    /// Takes the state of a leader's snapshot. What became of proposals that it covers is unknown.
    fn restore(&mut self, snapshot: &Snapshot, effects: &mut Effects<W>) -> Result<(), RaftError> {
        let index = snapshot.get_metadata().index;
        let image =
            snapshot::decode(snapshot.data.clone()).map_err(|source| RaftError::Undecodable { index, source })?;
        self.state = State::new(image);
        let later = self.waiters.split_off(&(index + 1));
        let covered = std::mem::replace(&mut self.waiters, later);
        effects.answers.extend(covered.into_values().map(|waiter| (waiter.who, Err(ProposeError::TimedOut))));
        Ok(())
    }

    fn apply_all(&mut self, entries: Vec<Entry>, now: Duration, effects: &mut Effects<W>) -> Result<(), RaftError> {
        for entry in entries {
            let (index, term) = (entry.index, entry.term);
            let outcome = self.apply(entry)?;
            let Some(waiter) = self.waiters.remove(&index) else { continue };
            let answer = if waiter.term == term {
                self.stats.committed(now.saturating_sub(waiter.since));
                Ok(outcome)
            } else {
                Err(ProposeError::LeaderChanged)
            };
            effects.answers.push((waiter.who, answer));
        }
        Ok(())
    }

    fn apply(&mut self, entry: Entry) -> Result<Outcome, RaftError> {
        let index = entry.index;
        match entry.entry_type {
            EntryType::EntryNormal if !entry.data.is_empty() => {
                // A command that this version does not know stops the node: to skip it would be to diverge.
                let command = codec::decode(entry.data).map_err(|source| RaftError::Undecodable { index, source })?;
                return Ok(self.state.apply(index, command));
            }
            EntryType::EntryNormal => {}
            EntryType::EntryConfChange => {
                let change = ConfChange::parse_from_bytes(&entry.data).map_err(raft::Error::CodecError)?;
                self.raw.apply_conf_change(&change)?;
            }
            EntryType::EntryConfChangeV2 => {
                let change = ConfChangeV2::parse_from_bytes(&entry.data).map_err(raft::Error::CodecError)?;
                self.raw.apply_conf_change(&change)?;
            }
        }
        self.state.skip(index);
        Ok(Outcome::Done)
    }

    fn snapshot_due(&mut self) -> Result<Option<SnapshotJob>, RaftError> {
        if self.snapshot_running || self.log_bytes < self.limits.snapshot_every_bytes.max(self.snapshot_bytes) {
            return Ok(None);
        }
        self.snapshot_running = true;
        self.log_bytes = 0;
        let storage = self.raw.store();
        Ok(Some(SnapshotJob {
            disk: Arc::clone(&self.disk),
            dir: storage.dir().to_owned(),
            image: self.state.image(),
            term: storage.term(self.state.index())?,
            members: self.raw.raft.prs().conf().to_conf_state(),
        }))
    }
}
