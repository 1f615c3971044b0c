//! What a Raft leader does beside ordering commands: it makes the seats follow the roster, and knows how its members do.

use std::collections::BTreeMap;
use std::time::Duration;

use raft::eraftpb::{ConfChange, ConfChangeType};
use raft::{ProgressState, StateRole};

use super::super::RaftId;
use super::super::seating::{self, Change, Progress};
use super::{ELECTION_TICKS, RaftCore, Seen, TICK};
use crate::ids::NodeId;
use crate::metadata::{PeerStatus, RaftRole, RaftStatus};

/// Ticks since a member was heard of after which it no longer counts as there.
const SILENT_TICKS: u64 = 2 * ELECTION_TICKS as u64;
/// Entries that a learner may lack of what is committed and be promoted.
const PROMOTION_LAG: u64 = 64;

impl<W> RaftCore<W> {
    /// Proposes the next change of Raft's configuration, if one is due; whether it did.
    ///
    /// One at a time: raft-rs makes an empty entry of a change that is proposed while another is not applied.
    pub(super) fn seat_next(&mut self) -> bool {
        if self.leads().is_none() || self.raw.raft.has_pending_conf() {
            return false;
        }
        let image = self.state.image();
        let roster: Vec<_> = image.roster().collect();
        let seats = image.seats().collect();
        let Some(change) = seating::next_change(self.node, &roster, &seats, &self.progress()) else {
            return false;
        };
        let (kind, node) = match change {
            Change::Learner(node) => (ConfChangeType::AddLearnerNode, node),
            Change::Voter(node) => (ConfChangeType::AddNode, node),
            Change::Remove(node) => (ConfChangeType::RemoveNode, node),
            Change::HandOver(to) => {
                self.transfer_leadership(to);
                return false;
            }
        };
        let change = ConfChange { change_type: kind, node_id: RaftId::of(node).0, ..ConfChange::default() };
        match self.raw.propose_conf_change(Vec::new(), change) {
            Ok(()) => tracing::info!(node = node.get(), ?kind, "changing the members of the metadata plane"),
            Err(error) => {
                tracing::debug!(%error, "a change of the members is put off");
                return false;
            }
        }
        true
    }

    fn progress(&self) -> BTreeMap<NodeId, Progress> {
        let committed = self.raw.raft.raft_log.committed;
        let of = |(&id, progress): (&u64, &raft::Progress)| {
            let node = RaftId(id).node()?;
            let contact = self.seen.get(&node).and_then(|seen| seen.contact);
            let active = node == self.node || contact.is_some_and(|tick| self.ticks - tick <= SILENT_TICKS);
            let near = progress.matched > 0 && progress.matched + PROMOTION_LAG >= committed;
            // Not "replicating": after a lost message raft-rs probes, and goes on doing so while there is nothing to send.
            let caught_up = near && progress.state != ProgressState::Snapshot;
            Some((node, Progress { active, caught_up, matched: progress.matched }))
        };
        self.raw.raft.prs().iter().filter_map(of).collect()
    }

    pub(super) fn note_progress(&mut self) {
        if !self.is_leader() {
            self.led_since = self.ticks;
            return;
        }
        let last = self.raw.raft.raft_log.last_index();
        for (&id, progress) in self.raw.raft.prs().iter() {
            let Some(node) = RaftId(id).node() else { continue };
            let seen = self.seen.entry(node).or_default();
            if node == self.node {
                *seen = Seen { contact: Some(self.ticks), caught_up: Some(self.ticks) };
            } else if progress.matched >= last {
                seen.caught_up = seen.contact;
            }
        }
    }

    /// How long `node` has been silent, as far as this node can know: not longer than it leads. `None` unless it leads.
    pub fn silent_for(&self, node: NodeId) -> Option<Duration> {
        let contact = self.seen.get(&node).and_then(|seen| seen.contact);
        let since = contact.unwrap_or(self.led_since).max(self.led_since);
        self.is_leader().then(|| TICK * (self.ticks - since) as u32)
    }

    /// Its view of the group.
    pub fn status(&self) -> RaftStatus {
        let raft = &self.raw.raft;
        let ago = |tick: Option<u64>| tick.map(|tick| TICK * (self.ticks - tick) as u32);
        let peer = |(&id, progress): (&u64, &raft::Progress)| {
            let node = RaftId(id).node()?;
            let seen = self.seen.get(&node).copied().unwrap_or_default();
            Some(PeerStatus {
                node,
                matched: progress.matched,
                receives_snapshot: progress.state == ProgressState::Snapshot,
                since_contact: ago(seen.contact),
                since_caught_up: ago(seen.caught_up),
            })
        };
        let mut peers: Vec<PeerStatus> = raft.prs().iter().filter_map(peer).collect();
        peers.sort_by_key(|peer| peer.node);
        let role = match raft.state {
            StateRole::Leader => RaftRole::Leader,
            StateRole::Candidate | StateRole::PreCandidate => RaftRole::Candidate,
            StateRole::Follower if raft.promotable() => RaftRole::Follower,
            StateRole::Follower => RaftRole::Learner,
        };
        RaftStatus {
            role,
            term: raft.term,
            leader: self.leader(),
            committed: raft.raft_log.committed,
            applied: self.state.index(),
            last_index: raft.raft_log.last_index(),
            peers: if role == RaftRole::Leader { peers } else { Vec::new() },
        }
    }

    /// Proposes a change that the roster does not ask for.
    #[cfg(test)]
    pub(in crate::raft) fn propose_change_for_test(&mut self, change: ConfChange) {
        self.raw.propose_conf_change(Vec::new(), change).expect("it leads");
    }
}
