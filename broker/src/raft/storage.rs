//! `RaftWalStorage`: what raft-rs must find again after a crash, in `data/wal/__meta/`.
//!
//! Entries and hard state of one round are one record of the log, synced before anything that depends on them is sent.
//! Entries since the last snapshot are also kept in memory, which the log's compaction bounds.

use std::cell::Cell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, HardState, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::segments::Segments;
use super::snapshot_file::{self, SnapshotFile};
use super::{ConfState, RaftError, proto};
use crate::io::disk::{Disk, create_dir_durably};

/// When files and messages are full, and logs are compacted.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A file of the log is full when it has this many bytes.
    pub segment_bytes: u64,
    /// A snapshot is due when the log has grown by this many bytes, and by more than the last snapshot has.
    pub snapshot_every_bytes: u64,
    /// Bytes of entries kept behind a snapshot, so that a follower that is a little late needs none.
    pub kept_bytes: u64,
    /// A message to a peer carries entries of about so many bytes at most, or one entry.
    pub message_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { segment_bytes: 4 << 20, snapshot_every_bytes: 8 << 20, kept_bytes: 1 << 20, message_bytes: 1 << 20 }
    }
}

/// The snapshot that a group is formed with. It is at index 1, so that whoever joins later starts from a snapshot,
/// which tells who the first voters were; the log does not.
const FORMED: (u64, u64) = (1, 1);

/// Where one entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    index: u64,
    term: u64,
}

/// The durable state of one Raft node.
pub struct RaftWalStorage {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    limits: Limits,
    segments: Segments,
    hard_state: HardState,
    snapshot: Position,
    members: ConfState,
    /// The entry before the first in `entries`.
    before: Position,
    entries: VecDeque<Entry>,
    /// The newest change of the members that was applied since the start.
    members_changed: u64,
    /// Whether a node that must not have the newest snapshot waits for one.
    snapshot_wanted: Cell<bool>,
}

impl RaftWalStorage {
    /// Whether a group was formed, or joined, in this folder.
    pub fn is_formed(disk: &dyn Disk, dir: &Path) -> Result<bool, RaftError> {
        Ok(snapshot_file::newest(disk, dir)?.is_some())
    }

    /// Forms a group: its first voters, and the state it starts with, which is that after entry
    /// [`RaftWalStorage::formed_index`]. Does nothing when it was formed before.
    pub fn form(disk: &dyn Disk, dir: &Path, voters: Vec<u64>, state: Bytes) -> Result<(), RaftError> {
        if Self::is_formed(disk, dir)? {
            return Ok(());
        }
        create_dir_durably(disk, dir).map_err(RaftError::io("create", dir))?;
        let members = ConfState { voters, ..ConfState::default() };
        let (index, term) = FORMED;
        snapshot_file::write(disk, dir, &SnapshotFile { index, term, members, state })
    }

    /// Begins as a member of a group that has let this node in: with a state at index 0, and no members, until the leader
    /// sends its snapshot. Does nothing when the folder holds metadata.
    pub fn join(disk: &dyn Disk, dir: &Path, state: Bytes) -> Result<(), RaftError> {
        if Self::is_formed(disk, dir)? {
            return Ok(());
        }
        create_dir_durably(disk, dir).map_err(RaftError::io("create", dir))?;
        let members = ConfState::default();
        snapshot_file::write(disk, dir, &SnapshotFile { index: 0, term: 0, members, state })
    }

    /// The index of the state that a group is formed with.
    pub const fn formed_index() -> u64 {
        FORMED.0
    }

    /// Refuses a folder that an orderly stop can't have left; for after one, before `open`. Changes nothing.
    pub fn check_whole(disk: &dyn Disk, dir: &Path) -> Result<(), RaftError> {
        Segments::check_whole(disk, dir)
    }

    /// Opens what `form` and `persist` wrote, and returns it with the snapshot's state.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, limits: Limits) -> Result<(Self, Bytes), RaftError> {
        let newest = snapshot_file::newest(disk.as_ref(), dir)?.ok_or_else(|| RaftError::Empty(dir.to_owned()))?;
        let file = snapshot_file::read(disk.as_ref(), dir, newest)?;
        snapshot_file::remove_before(disk.as_ref(), dir, newest)?;
        let (segments, records) = Segments::open(Arc::clone(&disk), dir, limits.segment_bytes)?;
        let snapshot = Position { index: file.index, term: file.term };
        let replayed = Replayed::of(snapshot, records).map_err(|what| RaftError::corrupt(dir, what))?;
        let storage = Self {
            disk,
            dir: dir.to_owned(),
            limits,
            segments,
            hard_state: replayed.hard_state,
            snapshot,
            members: file.members,
            before: snapshot,
            entries: replayed.entries,
            members_changed: 0,
            snapshot_wanted: Cell::new(false),
        };
        Ok((storage, file.state))
    }

    /// Makes entries and hard state durable, together. Entries replace those from their first index on.
    pub fn persist(&mut self, hard_state: Option<&HardState>, entries: Vec<Entry>) -> Result<(), RaftError> {
        if let Some(hard_state) = hard_state {
            self.hard_state = hard_state.clone();
        }
        let record = proto::LogRecord {
            hard_state: Some(proto::HardState {
                term: self.hard_state.term,
                vote: self.hard_state.vote,
                commit: self.hard_state.commit,
            }),
            entries: entries.iter().map(entry_to).collect(),
        };
        self.segments.append(&record)?;
        if let Some(first) = entries.first() {
            let keep = first.index.checked_sub(self.before.index + 1).expect("Raft never replaces compacted entries");
            assert!(keep <= self.entries.len() as u64, "Raft leaves no gap before entry {}", first.index);
            self.entries.truncate(keep as usize);
            self.entries.extend(entries);
        }
        Ok(())
    }

    /// Notes how far entries are committed. It becomes durable with the next record; that suffices, since an older
    /// commit index is found again by electing a leader.
    pub fn set_commit(&mut self, commit: u64) {
        self.hard_state.commit = self.hard_state.commit.max(commit);
    }

    /// Replaces everything by a leader's snapshot, and the entries that follow it. They are one record with the hard state,
    /// whose commit index may be one of theirs.
    pub fn install(
        &mut self,
        hard_state: Option<&HardState>,
        snapshot: &Snapshot,
        entries: Vec<Entry>,
    ) -> Result<(), RaftError> {
        let metadata = snapshot.get_metadata();
        let file = SnapshotFile {
            index: metadata.index,
            term: metadata.term,
            members: metadata.get_conf_state().clone(),
            state: snapshot.data.clone(),
        };
        snapshot_file::write(self.disk.as_ref(), &self.dir, &file)?;
        self.snapshot = Position { index: file.index, term: file.term };
        self.members = file.members;
        self.before = self.snapshot;
        self.entries.clear();
        self.set_commit(file.index);
        self.persist(hard_state, entries)?;
        self.segments.remove_through(file.index)
    }

    /// Takes note of a snapshot of this node's own state that is on disk now, and compacts the log behind it.
    pub fn compact(&mut self, index: u64, members: ConfState) -> Result<(), RaftError> {
        if index <= self.snapshot.index {
            return Ok(());
        }
        self.snapshot = Position { index, term: self.term(index)? };
        self.members = members;
        self.snapshot_wanted.set(false);
        let behind = self.entries.iter().take_while(|entry| entry.index <= index);
        let mut behind_bytes: u64 = behind.map(entry_bytes).sum();
        while behind_bytes > self.limits.kept_bytes {
            let entry =
                self.entries.pop_front().expect("entries behind the snapshot have bytes because they are there");
            behind_bytes -= entry_bytes(&entry);
            self.before = Position { index: entry.index, term: entry.term };
        }
        self.segments.remove_through(self.before.index)?;
        snapshot_file::remove_before(self.disk.as_ref(), &self.dir, index)
    }

    /// The members changed with the entry at `index`, which is applied.
    pub fn members_changed(&mut self, index: u64) {
        self.members_changed = index;
    }

    /// Where it keeps its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether a snapshot is to be taken at once, because somebody needs one that names it.
    pub fn snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.get()
    }

    /// The index of the newest snapshot.
    pub fn snapshot_index(&self) -> u64 {
        self.snapshot.index
    }

    fn last(&self) -> Position {
        self.entries.back().map_or(self.before, |entry| Position { index: entry.index, term: entry.term })
    }
}

impl Storage for RaftWalStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.members.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.before.index {
            return Err(StorageError::Compacted.into());
        }
        assert!(high <= self.last().index + 1, "entries {low}..{high} of a log that ends at {:?}", self.last());
        let mut budget = max_size.into().unwrap_or(u64::MAX);
        let mut entries = Vec::new();
        for index in low..high {
            let entry = &self.entries[(index - self.before.index - 1) as usize];
            let size = entry_bytes(entry);
            if !entries.is_empty() && size > budget {
                break;
            }
            budget = budget.saturating_sub(size);
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before.index {
            return Ok(self.before.term);
        }
        if index < self.before.index {
            return Err(StorageError::Compacted.into());
        }
        let entry = self.entries.get((index - self.before.index - 1) as usize);
        entry.map(|entry| entry.term).ok_or(StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().index)
    }

    /// A snapshot for the node with Raft's id `to`. Raft-rs drops one whose members the receiver is not among, without a
    /// word, for ever. And one from before a wiped voter was removed tells it that it votes; of the group's first state,
    /// that it is the only one to: it would elect itself. So where the newest was taken before the members changed last,
    /// a new one is wanted.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let names = self.members.voters.contains(&to) || self.members.learners.contains(&to);
        if self.snapshot.index < request_index.max(self.members_changed) || !names {
            self.snapshot_wanted.set(true);
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        let file = snapshot_file::read(self.disk.as_ref(), &self.dir, self.snapshot.index)
            .map_err(|error| StorageError::Other(Box::new(error)))?;
        let metadata = SnapshotMetadata {
            index: file.index,
            term: file.term,
            conf_state: Some(file.members).into(),
            ..SnapshotMetadata::default()
        };
        Ok(Snapshot { data: file.state, metadata: Some(metadata).into(), ..Snapshot::default() })
    }
}

/// What a snapshot and the log's records add up to.
struct Replayed {
    hard_state: HardState,
    entries: VecDeque<Entry>,
}

impl Replayed {
    /// Replays the records over the snapshot; says what is wrong with records that no Raft node can have written.
    fn of(snapshot: Position, records: Vec<proto::LogRecord>) -> Result<Self, String> {
        let mut hard_state = HardState::default();
        let mut entries: VecDeque<Entry> = VecDeque::new();
        // Of a log that the snapshot, a leader's, has replaced: of that nothing is left.
        let mut replaced = false;
        for record in records {
            let kept = record.hard_state.ok_or("a record has no hard state")?;
            (hard_state.term, hard_state.vote, hard_state.commit) = (kept.term, kept.vote, kept.commit);
            if replaced && hard_state.commit >= snapshot.index {
                // What contradicts the snapshot can't be committed: this is the first record after its installation.
                entries.clear();
                replaced = false;
            }
            for entry in record.entries {
                let entry = entry_from(entry)?;
                if entry.index <= snapshot.index {
                    replaced = entry.index == snapshot.index && entry.term != snapshot.term;
                    entries.clear();
                    continue;
                }
                let position = entry.index - snapshot.index - 1;
                if position > entries.len() as u64 {
                    return Err(format!("entry {} follows a gap", entry.index));
                }
                entries.truncate(position as usize);
                entries.push_back(entry);
            }
        }
        if replaced {
            // The crash came before the first record after the installation.
            entries.clear();
        }
        if hard_state.term < snapshot.term {
            (hard_state.term, hard_state.vote) = (snapshot.term, 0);
        }
        hard_state.commit = hard_state.commit.max(snapshot.index);
        let last = entries.back().map_or(snapshot, |entry| Position { index: entry.index, term: entry.term });
        if hard_state.commit > last.index || hard_state.term < last.term {
            return Err(format!("its hard state {hard_state:?} does not fit its last entry {last:?}"));
        }
        Ok(Self { hard_state, entries })
    }
}

/// What an entry takes, roughly: its data, and what comes with it.
pub(super) fn entry_bytes(entry: &Entry) -> u64 {
    (entry.data.len() + entry.context.len() + 32) as u64
}

fn entry_to(entry: &Entry) -> proto::Entry {
    proto::Entry {
        index: entry.index,
        term: entry.term,
        kind: entry.entry_type as i32,
        data: entry.data.clone(),
        context: entry.context.clone(),
    }
}

fn entry_from(entry: proto::Entry) -> Result<Entry, String> {
    let kinds = [EntryType::EntryNormal, EntryType::EntryConfChange, EntryType::EntryConfChangeV2];
    let kind = kinds.into_iter().find(|&kind| kind as i32 == entry.kind);
    Ok(Entry {
        entry_type: kind.ok_or_else(|| format!("entry {} is of the unknown kind {}", entry.index, entry.kind))?,
        index: entry.index,
        term: entry.term,
        data: entry.data,
        context: entry.context,
        ..Entry::default()
    })
}
