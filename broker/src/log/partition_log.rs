//! One partition's log: its state, and what needs nothing but the state.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use crate::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::io::clock::Clock;
use crate::io::disk::Disk;
use crate::wal::{GroupCommitWal, Refusal, WalFile};

use super::checkpoint::CheckpointFile;
use super::config::LogConfig;
use super::epochs::EpochHistory;
use super::error::{LogError, ReadError};
use super::producers::{Producers, Undo};
use super::segment::{Segment, SegmentListener, Slot};
use super::stop::Stop;
use super::types::{AppendObserver, LogListener, LogOffsets, ProducerState};

/// What all logs of a node share.
pub(super) struct Shared {
    pub disk: Arc<dyn Disk>,
    pub wal: Arc<GroupCommitWal>,
    pub clock: Arc<dyn Clock>,
    pub counters: Arc<Counters>,
    pub checkpoints: Mutex<CheckpointFile>,
    /// Where folders go whose partition nobody knows.
    pub strays: PathBuf,
    /// What waits for its removal: when (monotonic ms), and what.
    pub doomed: Mutex<Vec<(u64, PathBuf)>>,
    pub stop: Stop,
}

impl Shared {
    /// Removes a file or folder, already renamed, after a delay.
    pub(super) fn doom(&self, path: PathBuf, delay_ms: u64) {
        let due = (self.clock.monotonic().as_millis() as u64).saturating_add(delay_ms);
        self.doomed.lock().push((due, path));
    }
}

/// What the logs of a node have done since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes appended.
    pub bytes_in: AtomicU64,
    /// Bytes read for fetches.
    pub bytes_out: AtomicU64,
    /// Records appended.
    pub records_in: AtomicU64,
    /// Segments begun.
    pub segments_rolled: AtomicU64,
    /// Segments removed by retention and DeleteRecords.
    pub segments_deleted: AtomicU64,
    /// Bytes read by compaction.
    pub compaction_bytes_read: AtomicU64,
    /// Bytes written by compaction.
    pub compaction_bytes_written: AtomicU64,
    /// Appends taken back because the disk was full.
    pub appends_refused: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// Passes on what segments report; they are there before their log is.
#[derive(Default)]
pub(super) struct LogLink(OnceLock<Weak<Log>>);

impl LogLink {
    pub(super) fn connect(&self, log: &Arc<Log>) {
        self.0.get_or_init(|| Arc::downgrade(log));
    }

    fn log(&self) -> Option<Arc<Log>> {
        self.0.get().and_then(Weak::upgrade)
    }
}

impl SegmentListener for LogLink {
    fn segment_flushed(&self, base: Offset, token: u64) {
        if let Some(log) = self.log() {
            log.segment_flushed(base, token);
        }
    }

    fn segment_refused(&self, base: Offset, token: u64, why: &Refusal) {
        if let Some(log) = self.log() {
            log.segment_refused(base, token, why);
        }
    }

    fn identity_flushed(&self) {
        if let Some(log) = self.log() {
            log.identity_flushed();
        }
    }
}

/// Whether a log takes appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It does.
    Open,
    /// The disk was full: not before the WAL takes appends to the segment again.
    Refused,
    /// It is being deleted.
    Closed,
}

/// An append that is not durable yet.
pub(super) struct Pending {
    pub token: u64,
    /// Base offset of the segment that it went to.
    pub segment: Offset,
    pub base: Offset,
    pub end: Offset,
    /// Where it begins in the segment.
    pub position: u32,
    /// Where it ends in the segment.
    pub end_position: u32,
    /// The segment's largest timestamp before it, ms.
    pub max_timestamp_before: i64,
    /// How to take it back from the producers' state.
    pub undos: Vec<Undo>,
}

/// Everything that changes with an append, under one short lock: no I/O happens while it is held.
pub(super) struct State {
    /// At least one; the last is appended to.
    pub slots: Vec<Slot>,
    pub log_start: Offset,
    pub log_end: Offset,
    pub flushed_end: Offset,
    pub high_watermark: Offset,
    pub epochs: EpochHistory,
    pub producers: Producers,
    /// Counts changes of `producers`, so that unchanged state is not written again.
    pub producers_version: u64,
    pub pending: VecDeque<Pending>,
    pub next_token: u64,
    pub standing: Standing,
    /// Counts refusals, truncations and compactions: what was true of the segments before may not be any more.
    pub cuts: u64,
    /// Segments that a refusal left behind the log's end; their files are to be removed.
    pub orphans: Vec<Arc<Segment>>,
    /// Sees each append of a leader that has followers.
    pub observer: Option<Arc<dyn AppendObserver>>,
}

impl State {
    pub(super) fn active(&self) -> &Slot {
        self.slots.last().expect("a log has at least one segment")
    }

    pub(super) fn active_mut(&mut self) -> &mut Slot {
        self.slots.last_mut().expect("a log has at least one segment")
    }

    /// The index of the first segment that ends behind `offset`: it holds it, or `offset` lies in a hole before it.
    pub(super) fn slot_of(&self, offset: Offset) -> usize {
        self.slots.partition_point(|slot| slot.end <= offset).min(self.slots.len() - 1)
    }

    pub(super) fn last_stable(&self) -> Offset {
        self.producers
            .first_unstable(self.high_watermark)
            .map_or(self.high_watermark, |first| first.min(self.high_watermark).max(self.log_start))
    }

    pub(super) fn offsets(&self) -> LogOffsets {
        debug_assert!(self.log_start <= self.high_watermark, "the log starts at or below the high watermark");
        debug_assert!(self.high_watermark <= self.flushed_end, "only durable records are committed");
        debug_assert!(self.flushed_end <= self.log_end, "only appended records are durable");
        LogOffsets {
            log_start: self.log_start,
            log_end: self.log_end,
            flushed_end: self.flushed_end,
            high_watermark: self.high_watermark,
            last_stable: self.last_stable(),
        }
    }
}

/// One partition's log. All methods may be called from any thread.
pub struct Log {
    pub(super) id: TopicPartition,
    pub(super) topic: Arc<str>,
    /// `topic-partition`, for messages.
    pub(super) name: Box<str>,
    pub(super) folder: PathBuf,
    pub(super) shared: Arc<Shared>,
    pub(super) config: ArcSwap<LogConfig>,
    pub(super) state: Mutex<State>,
    pub(super) identity: super::identity::Identity,
    pub(super) listener: RwLock<Option<Weak<dyn LogListener>>>,
    pub(super) link: Arc<LogLink>,
    /// Held by whoever changes files other than by appending: retention, compaction, truncation, deletion.
    pub(super) maintenance: Mutex<super::checkpointing::Maintained>,
}

impl Log {
    /// Which partition.
    pub fn id(&self) -> TopicPartition {
        self.id
    }

    /// The topic's name.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Who is told about progress; replaces the one before.
    pub fn set_listener(&self, listener: Weak<dyn LogListener>) {
        *self.listener.write() = Some(listener);
    }

    pub(super) fn listener(&self) -> Option<Arc<dyn LogListener>> {
        self.listener.read().as_ref().and_then(Weak::upgrade)
    }

    /// Who sees each append of a leader from now on, in their order.
    pub fn observe(&self, observer: Option<Arc<dyn AppendObserver>>) {
        self.state.lock().observer = observer;
    }

    /// The epochs that begin below `end`.
    pub fn epochs_below(&self, end: Offset) -> EpochHistory {
        let mut epochs = self.state.lock().epochs.clone();
        epochs.truncate_end(end);
        epochs
    }

    /// Takes new settings.
    pub fn set_config(&self, config: Arc<LogConfig>) {
        self.config.store(config);
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<LogConfig> {
        self.config.load_full()
    }

    /// The offsets, read together.
    pub fn offsets(&self) -> LogOffsets {
        self.state.lock().offsets()
    }

    /// Moves the high watermark (it never goes back, nor beyond what is durable); bounds compaction, retention, the
    /// last stable offset.
    pub fn advance_high_watermark(&self, to: Offset) {
        let mut state = self.state.lock();
        let to = to.min(state.flushed_end);
        if to > state.high_watermark {
            state.high_watermark = to;
            state.producers.committed(to);
        }
    }

    /// The newest leader epoch that has records.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        let state = self.state.lock();
        state.epochs.newest_with_records(state.log_end)
    }

    /// The epoch of a record offset.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let state = self.state.lock();
        if offset < state.log_end { state.epochs.at(offset) } else { None }
    }

    /// The largest epoch at or below `epoch` and where it ends (KIP-101, KIP-279). `None` when no such epoch is known.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let state = self.state.lock();
        state.epochs.end_of(epoch, state.log_end)
    }

    /// Starts a leadership at the log's end: records it in the leader-epoch history.
    pub fn begin_epoch(&self, epoch: LeaderEpoch) -> Result<(), LogError> {
        let mut state = self.state.lock();
        let end = state.log_end;
        state.epochs.assign(epoch, end);
        Ok(())
    }

    /// DeleteRecords: moves the log start to `to` (at most the high watermark); whole segments below go away later.
    pub fn delete_records(&self, to: Offset) -> Result<Offset, ReadError> {
        let mut state = self.state.lock();
        if state.standing == Standing::Closed {
            return Err(ReadError::Closed);
        }
        if to > state.high_watermark {
            return Err(ReadError::OutOfRange { offset: to.get(), start: state.log_start, end: state.high_watermark });
        }
        state.move_start(to);
        Ok(state.log_start)
    }

    /// Bytes on disk.
    pub fn size_bytes(&self) -> u64 {
        self.state.lock().slots.iter().map(|slot| u64::from(slot.size)).sum()
    }

    /// Segments on disk.
    pub fn segment_count(&self) -> usize {
        self.state.lock().slots.len()
    }

    /// The producers that have state here.
    pub fn producers(&self) -> Vec<ProducerState> {
        self.state.lock().producers.describe()
    }

    /// The segment that new records go to, begun at the log's end.
    pub(super) fn roll(&self, state: &mut State) {
        let segment = Segment::register(&self.shared.wal, &self.folder, state.log_end, self.segment_listener(), true);
        state.slots.push(Slot::empty(segment, self.shared.clock.wall_ms()));
        Counters::add(&self.shared.counters.segments_rolled, 1);
    }

    pub(super) fn segment_listener(&self) -> Weak<dyn SegmentListener> {
        let link: Arc<dyn SegmentListener> = Arc::clone(&self.link) as _;
        Arc::downgrade(&link)
    }

    /// Every file that is written through the WAL.
    pub(super) fn wal_files(&self) -> Vec<Arc<WalFile>> {
        let state = self.state.lock();
        let segments = state.slots.iter().map(|slot| &slot.segment).chain(&state.orphans);
        let mut files: Vec<_> = segments.map(|segment| Arc::clone(&segment.file)).collect();
        files.push(Arc::clone(self.identity.file()));
        files
    }
}

impl State {
    /// Moves the log start; it never goes back.
    pub(super) fn move_start(&mut self, to: Offset) {
        if to > self.log_start {
            assert!(to <= self.high_watermark, "only committed records are deleted");
            self.log_start = to;
            self.epochs.truncate_start(to);
            self.producers.truncate_start(to);
            self.producers_version += 1;
        }
    }
}
