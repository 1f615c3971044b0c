//! What goes by age and size, and the removal of segments below the log start.

use crate::ids::Offset;
use crate::io::disk::{OpenMode, remove_if_there};

use super::config::LogConfig;
use super::error::LogError;
use super::files::{self, DELETED};
use super::partition_log::{Counters, Log, Standing, State};
use super::segment::Slot;

impl Log {
    /// Rolls a segment that is older than `segment.ms` though nothing was appended that would have rolled it.
    pub(super) fn roll_by_age(&self, now_ms: i64) {
        let segment_ms = self.config.load().segment_ms;
        let mut state = self.state.lock();
        let slot = state.active();
        if state.standing == Standing::Open && slot.size > 0 && now_ms.saturating_sub(slot.since_ms) > segment_ms {
            self.roll(&mut state);
        }
    }

    /// Moves the log start by age and size, never beyond the high watermark. Whether segments may be removed now.
    pub(super) fn retain(&self, now_ms: i64) -> bool {
        let config = self.config.load();
        let mut state = self.state.lock();
        if state.standing == Standing::Closed {
            return false;
        }
        if config.cleanup_policy.delete {
            let expired = expired(&state, &config, now_ms);
            if expired == state.slots.len() && state.standing == Standing::Open {
                self.roll(&mut state);
            }
            let kept = state.slots.get(expired).map(Slot::base).filter(|_| expired > 0);
            // A hole that compaction left before the next segment may reach beyond the high watermark.
            if let Some(kept) = kept.filter(|kept| *kept <= state.high_watermark) {
                state.move_start(kept);
            }
        }
        removable(&state, state.log_start) > 0
    }

    /// Forgets producers that have been silent for long.
    pub(super) fn expire_producers(&self, now_ms: i64, after_ms: u64) {
        self.state.lock().producers.expire(now_ms, after_ms);
    }

    /// Removes segments below the log start, as far as the checkpoint knows that start: after a crash in the middle
    /// the next start removes the rest. Blocks.
    pub(super) fn remove_old_segments(&self) -> Result<(), LogError> {
        let Some(mut maintained) = self.maintenance.try_lock() else { return Ok(()) };
        let Some(log_start) = self.shared.checkpoints.lock().get(&self.id).map(|known| known.log_start) else {
            return Ok(());
        };
        let (gone, base) = {
            let state = self.state.lock();
            let count = removable(&state, log_start);
            if count == 0 || state.standing == Standing::Closed {
                return Ok(());
            }
            (state.slots[..count].to_vec(), state.slots[count].base())
        };
        self.keep_name(base)?;
        self.state.lock().slots.drain(..gone.len());
        let delay = self.config.load().file_delete_delay_ms;
        for slot in &gone {
            self.shared.wal.retire(&slot.segment.file)?;
            self.discard_file(slot.segment.file.path(), delay)?;
            let index = files::index_path(&self.folder, slot.base());
            remove_if_there(&*self.shared.disk, &index).map_err(LogError::io("removing", &index))?;
        }
        let needed = maintained.snapshot;
        let (kept, old): (Vec<_>, Vec<_>) =
            maintained.snapshots.iter().copied().partition(|at| *at > base || Some(*at) == needed);
        maintained.snapshots = kept;
        for at in old {
            self.remove_snapshot(at)?;
        }
        Counters::add(&self.shared.counters.segments_deleted, gone.len() as u64);
        tracing::info!(log = %self.name, segments = gone.len(), log_start = %base, "old segments are removed");
        Ok(())
    }

    /// A log whose segments all go keeps its end in the name of the next, empty one.
    pub(super) fn keep_name(&self, base: Offset) -> Result<(), LogError> {
        let path = files::segment_path(&self.folder, base);
        self.shared.disk.open(&path, OpenMode::Create).map_err(LogError::io("making", &path))?;
        files::sync_folder(&*self.shared.disk, &self.folder)
    }

    /// Renames a file and has it removed after a delay, so that readers that have it open can finish.
    pub(super) fn discard_file(&self, path: &std::path::Path, delay_ms: u64) -> Result<(), LogError> {
        let mut renamed = path.as_os_str().to_owned();
        renamed.push(DELETED);
        match self.shared.disk.rename(path, renamed.as_ref()) {
            // A segment that was begun and never written.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(LogError::io("renaming", path))?,
        }
        self.shared.doom(renamed.into(), delay_ms);
        Ok(())
    }
}

/// Segments, from the oldest, that age or size lets go. Never one with a record that is not committed.
fn expired(state: &State, config: &LogConfig, now_ms: i64) -> usize {
    let mut bytes: u64 = state.slots.iter().map(|slot| u64::from(slot.size)).sum();
    let mut count = 0;
    for (at, slot) in state.slots.iter().enumerate() {
        if slot.end > state.high_watermark {
            break;
        }
        // The newest before its first record, or one of which compaction has left nothing.
        if slot.size == 0 {
            continue;
        }
        let old = config.retention_ms.is_some_and(|limit| {
            slot.max_timestamp >= 0
                && now_ms.saturating_sub(slot.max_timestamp) > i64::try_from(limit).unwrap_or(i64::MAX)
        });
        let too_many = config.retention_bytes.is_some_and(|limit| bytes.saturating_sub(u64::from(slot.size)) >= limit);
        if !old && !too_many {
            break;
        }
        bytes -= u64::from(slot.size);
        count = at + 1;
    }
    count
}

/// Segments that lie wholly below `log_start`; the last one always stays.
fn removable(state: &State, log_start: Offset) -> usize {
    state.slots.windows(2).take_while(|pair| pair[1].base() <= log_start).count()
}
