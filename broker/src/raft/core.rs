//! The ready loop: what one Raft node does with what reaches it, without a thread, a socket or a clock of its own.
//!
//! Inputs are `tick`, `step`, `propose` and the like; `process` then makes durable what Raft asks for, applies what is
//! committed, in order, and returns what the driver has to do. In raft-rs's order: persist before send, apply after
//! commit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeV2, Entry, EntryType, HardState, Message, Snapshot};
use raft::{Config, INVALID_ID, RawNode, SnapshotStatus, StateRole, Storage as _};

use super::candidacy::{self, Candidacy};
use super::inbound;
use super::proposals::{ProposalId, Proposals};
use super::stats::RaftStats;
use super::storage::{Limits, RaftWalStorage, entry_bytes};
use super::{RaftError, RaftId, logger, seats_of};
use crate::ids::NodeId;
use crate::io::disk::Disk;
use crate::metadata::{Image, Outcome, ProposeError, Seat, State, codec, snapshot};

mod effects;
mod leader;

pub use effects::{Effects, SnapshotJob, SnapshotWritten};

/// How often `tick` is to be called.
pub const TICK: Duration = Duration::from_millis(50);

/// Ticks without a leader after which a node stands for election, at least.
pub(super) const ELECTION_TICKS: usize = 10;
/// Ticks between a leader's heartbeats.
pub(super) const HEARTBEAT_TICKS: usize = 2;
/// Append messages under way to one follower.
const MESSAGES_IN_FLIGHT: usize = 64;
/// Bytes of committed entries that are applied at a time.
const APPLY_BYTES: u64 = 16 << 20;
/// Bytes of a leader's entries that are not committed yet; more proposals are refused.
const UNCOMMITTED_BYTES: u64 = 128 << 20;

/// What a leader has seen of a peer, in its own ticks.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    contact: Option<u64>,
    caught_up: Option<u64>,
}

/// One Raft node.
pub struct RaftCore<W> {
    raw: RawNode<RaftWalStorage>,
    node: NodeId,
    /// Drawn at the start of the process: names its proposals and reads, and seeds its election timeouts.
    process: u64,
    disk: Arc<dyn Disk>,
    limits: Limits,
    state: State,
    proposals: Proposals<W>,
    next_read: u64,
    /// Reads that have an index, which the image has not reached.
    reads: Vec<(u64, u64)>,
    candidacy: Option<Candidacy>,
    ticks: u64,
    /// The tick in which this node became the leader.
    led_since: u64,
    seen: BTreeMap<NodeId, Seen>,
    stats: Arc<RaftStats>,
    log_bytes: u64,
    snapshot_bytes: u64,
    snapshot_running: bool,
}

impl<W> RaftCore<W> {
    /// Goes on from what the folder holds. A group of one elects itself at once. `process` is a random number that no
    /// other process has.
    pub fn open(
        node: NodeId,
        process: u64,
        disk: Arc<dyn Disk>,
        dir: &Path,
        limits: Limits,
    ) -> Result<Self, RaftError> {
        let (storage, state) = RaftWalStorage::open(Arc::clone(&disk), dir, limits)?;
        let index = storage.snapshot_index();
        let snapshot_bytes = state.len() as u64;
        let image = snapshot::decode(state).map_err(|source| RaftError::Undecodable { index, source })?;
        if image.index() != index {
            return Err(RaftError::corrupt(dir, format!("the snapshot at {index} holds {}", image.index())));
        }
        let id = RaftId::of(node).0;
        let config = config(id, index, &limits);
        let members = storage.initial_state()?.conf_state;
        let applied_term = storage.term(index)?;
        let mut state = State::new(image);
        state.seat(seats_of(&members));
        let mut raw = RawNode::new(&config, storage, &logger::logger())?;
        if members.voters == [id] {
            raw.campaign()?;
        }
        let mut core = Self {
            raw,
            node,
            process,
            disk,
            limits,
            state,
            proposals: Proposals::new(process, applied_term),
            next_read: 0,
            reads: Vec::new(),
            candidacy: None,
            ticks: 0,
            led_since: 0,
            seen: BTreeMap::new(),
            stats: Arc::default(),
            log_bytes: 0,
            snapshot_bytes,
            snapshot_running: false,
        };
        core.set_timeout();
        Ok(core)
    }

    /// The image now.
    pub fn image(&self) -> Arc<Image> {
        self.state.image()
    }

    /// Which node leads, as this one knows. Raft-rs lets a learner believe in a silent leader for ever: it never stands for
    /// election. Any voter would have by now.
    pub fn leader(&self) -> Option<NodeId> {
        let silent = !self.is_leader() && self.raw.raft.election_elapsed >= 2 * ELECTION_TICKS;
        RaftId(self.raw.raft.leader_id).node().filter(|_| !silent)
    }

    /// The term.
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// The term that this node leads, once it has applied all that was committed before.
    pub fn leads(&self) -> Option<u64> {
        let leads = self.is_leader() && self.raw.raft.apply_to_current_term();
        leads.then_some(self.raw.raft.term)
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<RaftStats> {
        &self.stats
    }

    /// Time moves on by [`TICK`].
    pub fn tick(&mut self) {
        self.ticks += 1;
        self.raw.tick();
        self.stand();
        self.set_timeout();
    }

    /// A peer's message. One that does not fit is dropped, as if the network had lost it.
    pub fn step(&mut self, message: Message) {
        let raft = &self.raw.raft;
        if let Err(why) = inbound::check(&message, raft.id, raft.raft_log.last_index()) {
            tracing::error!(from = ?RaftId(message.from).node(), kind = ?message.get_msg_type(), %why, "dropped a Raft message");
            return;
        }
        if let Some(from) = RaftId(message.from).node() {
            self.seen.entry(from).or_default().contact = Some(self.ticks);
        }
        if let Err(error) = self.raw.step(message) {
            tracing::debug!(%error, "dropped a Raft message");
        }
        self.set_timeout();
    }

    /// Proposes an encoded command, if this node leads; otherwise gives the waiter back. `number` names the proposal and
    /// is never used again by this process.
    pub fn propose(&mut self, number: u64, command: Vec<u8>, who: W, now: Duration) -> Result<(), W> {
        let id = ProposalId { process: self.process, number };
        match self.propose_for(self.raw.raft.term, id, command) {
            Some(_) => self.expect(number, self.raw.raft.term, who, now),
            None => Err(who),
        }
    }

    /// Proposes another node's command, if this one leads in that term; the index of its entry.
    pub fn propose_for(&mut self, term: u64, id: ProposalId, command: Vec<u8>) -> Option<u64> {
        if !self.is_leader() || self.raw.raft.term != term {
            return None;
        }
        self.raw.propose(id.to_bytes().to_vec(), command).ok()?;
        Some(self.raw.raft.raft_log.last_index())
    }

    /// `who` waits for a proposal of this process that goes to the leader of `term`.
    pub fn expect(&mut self, number: u64, term: u64, who: W, now: Duration) -> Result<(), W> {
        self.proposals.wait(number, term, now, who)
    }

    /// The leader did not take the proposal: nobody waits for it any more.
    pub fn forget(&mut self, number: u64) -> Option<W> {
        self.proposals.forget(number)
    }

    /// Asks the leader how far the cluster is; the number comes back in `Effects::reads` when the image is as far. It
    /// may be lost (with a message, or a leader): then ask again.
    pub fn read(&mut self) -> u64 {
        self.next_read += 1;
        // A context must be new each time, in the whole group, or raft-rs takes it for one that it knows.
        let context = ProposalId { process: self.process, number: self.next_read };
        self.raw.read_index(context.to_bytes().to_vec());
        self.next_read
    }

    /// A voter was asked to take the leadership over.
    pub fn transfer_leadership(&mut self, to: NodeId) {
        self.raw.transfer_leader(RaftId::of(to).0);
    }

    /// A peer is known to be dead. If it led, this node no longer waits until the leader's lease has expired: with
    /// `check_quorum` a node that has a leader ignores every candidate, so those who know better must drop it first.
    pub fn suspect(&mut self, node: NodeId) {
        let raft = &mut self.raw.raft;
        if raft.leader_id != RaftId::of(node).0 || node == self.node {
            return;
        }
        tracing::info!(leader = node.get(), term = raft.term, "the metadata leader is dead: standing for election");
        raft.become_follower(raft.term, INVALID_ID);
        if raft.promotable() {
            let voters = self.state.image();
            let others = voters.seats().filter(|&(other, seat)| seat == Seat::Voter && other != node);
            let rank = others.take_while(|&(other, _)| other != self.node).count();
            self.candidacy = Some(Candidacy::at_rank(rank));
        }
        self.stand();
        self.set_timeout();
    }

    /// A message could not be delivered.
    pub fn report_unreachable(&mut self, node: NodeId) {
        self.raw.report_unreachable(RaftId::of(node).0);
    }

    /// A snapshot was delivered, or not.
    pub fn report_snapshot(&mut self, node: NodeId, delivered: bool) {
        let status = if delivered { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(RaftId::of(node).0, status);
    }

    /// Handles all that is ready, and sends messages to peers as early as may be. After an error the process must end:
    /// what is durable is unknown.
    pub fn process(&mut self, now: Duration, send: &mut dyn FnMut(Message)) -> Result<Effects<W>, RaftError> {
        let mut effects = Effects::default();
        let before = self.state.index();
        loop {
            while self.raw.has_ready() {
                self.round(now, send, &mut effects)?;
            }
            if !self.seat_next() {
                break;
            }
        }
        if self.state.index() > before {
            effects.image = Some(self.state.image());
        }
        effects.snapshot = self.snapshot_due()?;
        let applied = self.state.index();
        effects.reads.extend(self.reads.extract_if(.., |(_, index)| *index <= applied).map(|(number, _)| number));
        self.note_progress();
        self.stats.moved(self.raw.raft.term, applied);
        Ok(effects)
    }

    fn round(
        &mut self,
        now: Duration,
        send: &mut dyn FnMut(Message),
        effects: &mut Effects<W>,
    ) -> Result<(), RaftError> {
        let mut ready = self.raw.ready();
        // A leader's appends travel while it writes its own; what depends on the write is sent after it.
        ready.take_messages().into_iter().for_each(&mut *send);
        self.take_reads(ready.take_read_states());
        let snapshot = ready.snapshot().clone();
        let entries = ready.take_entries();
        self.persist(ready.hs(), &snapshot, entries, ready.must_sync(), effects)?;
        ready.take_persisted_messages().into_iter().for_each(&mut *send);
        self.apply_all(ready.take_committed_entries(), now, effects)?;
        let mut light = self.raw.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            self.raw.mut_store().set_commit(commit);
        }
        light.take_messages().into_iter().for_each(&mut *send);
        self.apply_all(light.take_committed_entries(), now, effects)?;
        self.raw.advance_apply();
        Ok(())
    }

    /// The job's snapshot is on disk: the log is compacted behind it.
    pub fn snapshot_written(&mut self, written: SnapshotWritten) -> Result<(), RaftError> {
        self.snapshot_running = false;
        self.snapshot_bytes = written.bytes;
        self.stats.snapshot_written();
        self.raw.mut_store().compact(written.index, written.members)
    }

    fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    fn take_reads(&mut self, states: Vec<raft::ReadState>) {
        for state in states {
            let id = ProposalId::from_bytes(&state.request_ctx).filter(|id| id.process == self.process);
            self.reads.extend(id.map(|id| (id.number, state.index)));
        }
    }

    /// Campaigns, if it is this node's turn after the leader's death.
    fn stand(&mut self) {
        let Some(mut candidacy) = self.candidacy.take() else { return };
        if self.leader().is_some() {
            return;
        }
        let Some(due) = candidacy.due() else { return };
        // An election under way is not disturbed.
        let may_campaign = matches!(self.raw.raft.state, StateRole::Follower | StateRole::PreCandidate);
        if due
            && may_campaign
            && let Err(error) = self.raw.campaign()
        {
            tracing::warn!(%error, "can't stand for election");
        }
        candidacy.tick();
        self.candidacy = Some(candidacy);
    }

    /// raft-rs draws a timeout wherever it resets; this replaces it by the seeded one.
    fn set_timeout(&mut self) {
        let ticks = candidacy::timeout_ticks(self.process, self.raw.raft.term);
        self.raw.raft.set_randomized_election_timeout(ticks);
    }

    fn persist(
        &mut self,
        hard_state: Option<&HardState>,
        snapshot: &Snapshot,
        entries: Vec<Entry>,
        must_sync: bool,
        effects: &mut Effects<W>,
    ) -> Result<(), RaftError> {
        self.log_bytes += entries.iter().map(entry_bytes).sum::<u64>();
        if !snapshot.is_empty() {
            self.raw.mut_store().install(hard_state, snapshot, entries)?;
            self.restore(snapshot, effects)?;
        } else if must_sync {
            self.raw.mut_store().persist(hard_state, entries)?;
        } else if let Some(hard_state) = hard_state {
            // Only the commit index moved.
            self.raw.mut_store().set_commit(hard_state.commit);
        }
        Ok(())
    }

    /// Takes the state of a leader's snapshot. What became of proposals that it covers is unknown.
    fn restore(&mut self, snapshot: &Snapshot, effects: &mut Effects<W>) -> Result<(), RaftError> {
        let metadata = snapshot.get_metadata();
        let index = metadata.index;
        let image =
            snapshot::decode(snapshot.data.clone()).map_err(|source| RaftError::Undecodable { index, source })?;
        self.state = State::new(image);
        self.state.seat(seats_of(metadata.get_conf_state()));
        let unknown = self.proposals.replaced(metadata.term);
        effects.answers.extend(unknown.into_iter().map(|who| (who, Err(ProposeError::TimedOut))));
        Ok(())
    }

    fn apply_all(&mut self, entries: Vec<Entry>, now: Duration, effects: &mut Effects<W>) -> Result<(), RaftError> {
        for entry in entries {
            let lost = self.proposals.enter(entry.term);
            effects.answers.extend(lost.into_iter().map(|who| (who, Err(ProposeError::LeaderChanged))));
            let context = entry.context.clone();
            let outcome = self.apply(entry)?;
            if let Some((who, since)) = self.proposals.applied(&context) {
                self.stats.committed(now.saturating_sub(since));
                effects.answers.push((who, Ok(outcome)));
            }
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
            // A new leader's first, and a conf change that raft-rs refused.
            EntryType::EntryNormal => self.state.skip(index),
            EntryType::EntryConfChange => {
                let change = ConfChange::parse_from_bytes(&entry.data).map_err(raft::Error::CodecError)?;
                let members = self.raw.apply_conf_change(&change)?;
                self.raw.mut_store().members_changed(index);
                self.state.skip(index);
                self.state.seat(seats_of(&members));
            }
            EntryType::EntryConfChangeV2 => {
                let change = ConfChangeV2::parse_from_bytes(&entry.data).map_err(raft::Error::CodecError)?;
                let members = self.raw.apply_conf_change(&change)?;
                self.raw.mut_store().members_changed(index);
                self.state.skip(index);
                self.state.seat(seats_of(&members));
            }
        }
        Ok(Outcome::Done)
    }

    fn snapshot_due(&mut self) -> Result<Option<SnapshotJob>, RaftError> {
        let storage = self.raw.store();
        let grown = self.log_bytes >= self.limits.snapshot_every_bytes.max(self.snapshot_bytes);
        let newer = self.state.index() > storage.snapshot_index();
        if self.snapshot_running || !newer || !(grown || storage.snapshot_wanted()) {
            return Ok(None);
        }
        let job = SnapshotJob {
            disk: Arc::clone(&self.disk),
            dir: storage.dir().to_owned(),
            image: self.state.image(),
            term: storage.term(self.state.index())?,
            members: self.raw.raft.prs().conf().to_conf_state(),
        };
        self.snapshot_running = true;
        self.log_bytes = 0;
        Ok(Some(job))
    }
}

fn config(id: u64, applied: u64, limits: &Limits) -> Config {
    Config {
        id,
        applied,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        max_size_per_msg: limits.message_bytes,
        max_inflight_msgs: MESSAGES_IN_FLIGHT,
        max_committed_size_per_ready: APPLY_BYTES,
        max_uncommitted_size: UNCOMMITTED_BYTES,
        check_quorum: true,
        pre_vote: true,
        ..Config::default()
    }
}
