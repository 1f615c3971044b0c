//! Appending as a follower: batches as their leader stored them, and a log that begins anew where its leader's does.
//!
//! A leader that has compacted its log sends it with holes. Where records were, an empty batch fills the follower's:
//! so every log is contiguous until it is compacted itself, which is what a start after a crash relies on.

use bytes::Bytes;

use crate::ids::{LeaderEpoch, Offset};
use crate::io::disk::remove_if_there;
use crate::wal::{Admission, Append};

use super::append::{Growth, must_roll};
use super::batch::{BatchHeader, HEADER_BYTES, LENGTH_OVERHEAD, NO_TIMESTAMP, sequence_after};
use super::error::{AppendError, LogError};
use super::files;
use super::partition_log::{Counters, Log, Pending, Standing, State};
use super::producers::Producers;
use super::scan::ScannedBatch;
use super::segment::{Segment, Slot};
use super::validate::Marker;

/// A batch with its offsets and leader epoch.
struct Placed {
    header: BatchHeader,
    marker: Option<Marker>,
    bytes: Bytes,
}

impl Log {
    /// Appends one batch of the leader, untouched. The log must end at `previous`; between it and the batch's first
    /// offset compaction may have left a hole. Enters the batch's epoch in the leader-epoch history, and its sequences
    /// in the producers' state. Returns before it is durable.
    pub fn append_as_follower(
        &self,
        previous: Offset,
        batch: Bytes,
        admission: Admission,
    ) -> Result<Offset, AppendError> {
        let header = BatchHeader::read_stored(&batch).map_err(|error| self.corrupt(&error.to_string()))?;
        if header.size() != batch.len() {
            return Err(self.corrupt("more bytes than the batch has"));
        }
        if header.base() < previous {
            return Err(self.corrupt("it begins before the batch before it ends"));
        }
        let marker = ScannedBatch { position: 0, header, bytes: &batch }.marker();
        if self.shared.wal.is_full() {
            return Err(AppendError::DiskFull);
        }
        let mut state = self.state.lock();
        self.admit(&mut state, header.stored_epoch())?;
        if state.log_end != previous {
            return Err(self.corrupt(&format!("it follows {previous}, the log ends at {}", state.log_end)));
        }
        self.fill(&mut state, header.base(), header.stored_epoch(), header.max_timestamp);
        self.append_placed(&mut state, Placed { header, marker, bytes: batch }, admission);
        Ok(state.log_end)
    }

    /// Fills the log with nothing up to `to`, where its leader's history begins. Returns before it is durable.
    pub fn fill_to(&self, to: Offset, epoch: LeaderEpoch) -> Result<(), AppendError> {
        let mut state = self.state.lock();
        self.admit(&mut state, epoch)?;
        self.fill(&mut state, to, epoch, NO_TIMESTAMP);
        Ok(())
    }

    /// Moves the log start to the leader's, as far as records are known to be committed here.
    pub fn follow_start(&self, to: Offset) {
        let mut state = self.state.lock();
        if state.standing != Standing::Closed {
            let to = to.min(state.high_watermark);
            state.move_start(to);
        }
    }

    /// Drops everything and begins again at `start`. When it returns that is durable. Nobody appends meanwhile. A log
    /// that is being deleted is left alone. Blocks.
    pub fn restart_at(&self, start: Offset) -> Result<(), LogError> {
        let mut maintained = self.maintenance.lock();
        if self.state.lock().standing == Standing::Closed {
            return Ok(());
        }
        for file in self.wal_files() {
            self.shared.wal.retire(&file)?;
        }
        let disk = &*self.shared.disk;
        self.shared.checkpoints.lock().forget(disk, &self.id)?;
        let (slots, orphans) = {
            let state = self.state.lock();
            (state.slots.clone(), state.orphans.clone())
        };
        // From the newest on: a crash in between leaves a log that only lacks its end.
        let segments = orphans.iter().chain(slots.iter().rev().map(|slot| &slot.segment));
        for segment in segments {
            for path in [segment.file.path().to_owned(), files::index_path(&self.folder, segment.base)] {
                remove_if_there(disk, &path).map_err(LogError::io("removing", &path))?;
            }
        }
        for at in std::mem::take(&mut maintained.snapshots) {
            self.remove_snapshot(at)?;
        }
        maintained.snapshot = None;
        maintained.cleaned_end = start;
        disk.create_dir_all(&self.folder).map_err(LogError::io("making", &self.folder))?;
        self.keep_name(start)?;
        files::sync_folder(&*self.shared.disk, &self.folder)?;

        let segment = Segment::register(&self.shared.wal, &self.folder, start, self.segment_listener(), true);
        let mut state = self.state.lock();
        state.slots = vec![Slot::empty(segment, self.shared.clock.wall_ms())];
        state.orphans.clear();
        state.pending.clear();
        state.producers = Producers::default();
        state.producers_version += 1;
        state.epochs.truncate_end(Offset::FIRST);
        state.log_start = start;
        state.log_end = start;
        state.flushed_end = start;
        state.high_watermark = start;
        state.cuts += 1;
        if state.standing == Standing::Refused {
            state.standing = Standing::Open;
        }
        Ok(())
    }

    fn corrupt(&self, what: &str) -> AppendError {
        AppendError::Corrupt(format!("{what}, in {}", self.name))
    }

    /// Empty batches up to `to`; one spans as many offsets as a segment may.
    fn fill(&self, state: &mut State, to: Offset, epoch: LeaderEpoch, timestamp: i64) {
        while state.log_end < to {
            let span = to.since(state.log_end).min(i32::MAX as u64);
            let placed = empty_batch(state.log_end, span, epoch, timestamp);
            // So few bytes are not waited for.
            self.append_placed(state, placed, Admission::unbounded());
        }
    }

    fn append_placed(&self, state: &mut State, placed: Placed, admission: Admission) {
        let Placed { header, marker, bytes } = placed;
        let config = self.config.load();
        let growth = Growth { bytes: bytes.len(), end: header.end(), newest_timestamp: header.max_timestamp };
        if must_roll(state, growth, &config) {
            self.roll(state);
        }
        let base = state.log_end;
        state.epochs.assign(header.stored_epoch(), base);
        let slot = state.active_mut();
        let position = slot.size;
        let max_timestamp_before = slot.grow(&header);
        slot.segment.note(&header, position, max_timestamp_before, config.index_interval_bytes);
        state.log_end = header.end();
        let undo = state.producers.apply(&header, marker);
        state.producers_version += u64::from(undo.is_some());
        Counters::add(&self.shared.counters.bytes_in, bytes.len() as u64);
        Counters::add(&self.shared.counters.records_in, header.count.max(0) as u64);

        let token = state.next_token;
        state.next_token += 1;
        let slot = state.active();
        let append = Append { position: u64::from(position), data: bytes, token, admission };
        self.shared.wal.append(&slot.segment.file, append);
        let pending = Pending {
            token,
            segment: slot.base(),
            base,
            end: state.log_end,
            position,
            end_position: slot.size,
            max_timestamp_before,
            undos: undo.into_iter().collect(),
        };
        state.pending.push_back(pending);
    }
}

/// What a batch without records says of the offsets from `from` on; `None` when it has records, or `from` does not lie
/// within. Such a batch may take the place of more offsets in one log than in another, which had a record there.
pub fn empty_from(batch: &[u8], from: Offset) -> Option<Bytes> {
    let mut header = BatchHeader::read_stored(batch).ok()?;
    if header.count != 0 || from <= header.base() || from >= header.end() {
        return None;
    }
    let skipped = i32::try_from(from.since(header.base())).expect("less than its own span, because it lies within");
    header.base_offset = from.get();
    header.last_offset_delta -= skipped;
    if header.producer_id >= 0 {
        header.base_sequence = sequence_after(header.base_sequence, skipped);
    }
    let mut bytes = batch.to_vec();
    header.write(&mut bytes);
    Some(bytes.into())
}

/// A batch without records, as compaction leaves them (KIP-98): it only takes the place of offsets.
fn empty_batch(base: Offset, span: u64, epoch: LeaderEpoch, timestamp: i64) -> Placed {
    let mut header = BatchHeader {
        base_offset: base.get(),
        length: (HEADER_BYTES - LENGTH_OVERHEAD) as i32,
        leader_epoch: epoch.get(),
        crc: 0,
        attributes: 0,
        last_offset_delta: (span - 1) as i32,
        base_timestamp: timestamp,
        max_timestamp: timestamp,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        count: 0,
    };
    let mut bytes = vec![0; HEADER_BYTES];
    header.write(&mut bytes);
    header = BatchHeader::read(&bytes).expect("a whole header because it was just written");
    Placed { header, marker: None, bytes: bytes.into() }
}
