//! What a log puts into the checkpoint, its producer snapshots, and its index files: so that the next start reads no
//! more than what follows.

use std::io::{self, IoSlice};

use crate::ids::Offset;
use crate::io::disk::{OpenMode, remove_if_there};

use super::checkpoint::LogCheckpoint;
use super::error::LogError;
use super::files;
use super::partition_log::{Log, Standing, State};
use super::producers::Producers;

/// What background work knows of a log, under its maintenance lock.
#[derive(Debug)]
pub(super) struct Maintained {
    /// Offsets of the producer snapshots on disk, in order.
    pub snapshots: Vec<Offset>,
    /// The snapshot that holds for `snapshot_version`; `None` when no producer was known.
    pub snapshot: Option<Offset>,
    /// The state's `producers_version` that the snapshot was made of.
    pub snapshot_version: u64,
    /// Compaction has been here.
    pub cleaned_end: Offset,
    /// Compaction met records that it cannot read: until the next start it leaves the log alone.
    pub unreadable: bool,
}

/// A log at one moment, on its way into the checkpoint.
pub(super) struct Capture {
    log: LogCheckpoint,
    cuts: u64,
    producers: Option<(u64, Producers)>,
}

impl Capture {
    /// The log's end.
    pub(super) fn end(&self) -> Offset {
        self.log.recovery_point
    }
}

impl Log {
    /// Takes the log as it is; `None` when the checkpoint says all of it already, or while its files are being changed.
    pub(super) fn capture(&self) -> Option<Capture> {
        let maintained = self.maintenance.try_lock()?;
        let state = self.state.lock();
        let log = LogCheckpoint {
            log_start: state.log_start,
            high_watermark: state.high_watermark,
            recovery_point: state.log_end,
            cleaned_end: maintained.cleaned_end,
            snapshot: maintained.snapshot,
            epochs: state.epochs.clone(),
            segments: state.slots.iter().map(super::segment::Slot::checkpoint).collect(),
        };
        let changed = state.producers_version != maintained.snapshot_version;
        let producers = changed.then(|| (state.producers_version, state.producers.clone()));
        let capture = Capture { log, cuts: state.cuts, producers };
        drop(state);
        let unchanged = capture.producers.is_none()
            && self.shared.checkpoints.lock().get(&self.id).is_some_and(|known| *known == capture.log);
        (!unchanged).then_some(capture)
    }

    /// Whether the log has all that a checkpoint knows of it.
    pub(super) fn reaches(&self, known: &LogCheckpoint) -> bool {
        let state = self.state.lock();
        state.log_end >= known.recovery_point && same_segments(&state, known)
    }

    /// Puts a capture into the checkpoint, after the WAL has synced: unless its end is not durable after all, or the log
    /// was cut, compacted or deleted meanwhile. Whether it did.
    pub(super) fn settle(&self, capture: Capture, idle: bool) -> Result<bool, LogError> {
        let Capture { mut log, cuts, producers } = capture;
        let Some(mut maintained) = self.maintenance.try_lock() else { return Ok(false) };
        {
            let state = self.state.lock();
            let open = state.standing != Standing::Closed;
            let holds = open && state.cuts == cuts && state.flushed_end >= log.recovery_point;
            if !holds || !same_segments(&state, &log) {
                return Ok(false);
            }
        }
        if let Some((version, producers)) = producers {
            self.store_snapshot(&mut maintained, &producers, log.recovery_point)?;
            maintained.snapshot_version = version;
        }
        log.snapshot = maintained.snapshot;
        self.store_index(idle)?;
        self.shared.checkpoints.lock().set(self.id, log);
        Ok(true)
    }

    fn store_snapshot(&self, maintained: &mut Maintained, producers: &Producers, at: Offset) -> Result<(), LogError> {
        if producers.is_empty() {
            maintained.snapshot = None;
            return Ok(());
        }
        let path = files::snapshot_path(&self.folder, at);
        let bytes = producers.encode();
        let written = self.shared.disk.open(&path, OpenMode::Create).and_then(|file| {
            file.set_len(0)?;
            file.write_all_at(&[IoSlice::new(&bytes)], 0)
        });
        written.map_err(LogError::io("writing", &path))?;
        let replaced = maintained.snapshot.replace(at).filter(|before| *before != at);
        if !maintained.snapshots.contains(&at) {
            maintained.snapshots.push(at);
        }
        // One per segment is enough. The replaced one goes a round later: until the checkpoint is written it is the
        // one that counts.
        let bases: Vec<_> = self.state.lock().slots.iter().map(super::segment::Slot::base).collect();
        let segment_of = |offset: Offset| bases.partition_point(|base| *base < offset);
        let old = std::mem::take(&mut maintained.snapshots);
        for (index, snapshot) in old.iter().enumerate() {
            let newer_in_segment = old.get(index + 1).is_some_and(|next| segment_of(*next) == segment_of(*snapshot));
            if newer_in_segment && *snapshot != at && Some(*snapshot) != replaced {
                self.remove_snapshot(*snapshot)?;
            } else {
                maintained.snapshots.push(*snapshot);
            }
        }
        Ok(())
    }

    pub(super) fn remove_snapshot(&self, at: Offset) -> Result<(), LogError> {
        let path = files::snapshot_path(&self.folder, at);
        remove_if_there(&*self.shared.disk, &path).map_err(LogError::io("removing", &path))
    }

    /// Writes the indexes of what is durable; of an idle log all of it.
    fn store_index(&self, idle: bool) -> Result<(), LogError> {
        let slots: Vec<_> = {
            let state = self.state.lock();
            let from = state.slots.len().saturating_sub(2);
            state.slots[from..].to_vec()
        };
        let last = slots.len() - 1;
        for (at, slot) in slots.iter().enumerate() {
            match slot.segment.store_index(&*self.shared.disk, slot.flushed_size, idle || at < last) {
                // The folder is made with the first append; an index can be built again at any time.
                Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
}

fn same_segments(state: &State, log: &LogCheckpoint) -> bool {
    // Compaction or retention may have replaced or removed some since the capture.
    log.segments.iter().all(|known| {
        state.slots.iter().any(|slot| slot.base() == known.base && slot.size >= known.size && slot.end >= known.end)
    })
}
