//! Compaction (`cleanup.policy=compact`): of each key only the newest record stays, in segments written anew.
//!
//! It works below the high watermark and the last stable offset, on segments that the checkpoint vouches for, never on
//! the active one. A group of segments becomes one file, which takes their place crash-safely: the whole file under
//! its swap name is the moment; what follows is finished by the next start if need be.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::checkpointing::Maintained;
use super::cleaning::{Cleaned, Cleaning};
use super::compression::stored_limit;
use super::config::LogConfig;
use super::error::LogError;
use super::files::{self, CLEANED};
use super::offset_map::OffsetMap;
use super::partition_log::{Counters, Log, Shared, Standing, State};
use super::producers::Producers;
use super::record::Records;
use super::segment::{Segment, Slot};
use super::store::LogStore;
use super::swap::finish_swap;
use crate::ids::Offset;
use crate::io::disk::{DiskFile, OpenMode, remove_if_there};
#[cfg(test)]
use crate::sim::{Plant, planted};

/// Bytes written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// What a pass works on.
struct Plan {
    /// Segments from the log start to the end of the pass.
    slots: Vec<Slot>,
    /// Before this the keys are unique already.
    dirty_from: Offset,
    producers: Producers,
    /// What is committed and in the checkpoint.
    bound: Offset,
}

impl LogStore {
    /// Compacts the logs that are due, one after the other. Blocks.
    pub(super) fn compact(&self, now_ms: i64) -> Result<(), LogError> {
        for log in self.logs() {
            if log.config.load().cleanup_policy.compact && log.goes_on() {
                let budget = self.options.cleaner_io_bytes_per_second;
                log.compact(now_ms, self.options.cleaner_dedupe_bytes, budget)?;
            }
        }
        Ok(())
    }
}

impl Log {
    /// Whether work on the log goes on: not when the node stops or the log is deleted.
    fn goes_on(&self) -> bool {
        !self.shared.stop.is_stopping() && self.state.lock().standing != Standing::Closed
    }

    /// Compacts the log if it is due. One with records that cannot be read is left alone from then on: readers meet the
    /// damage where it is, and the other logs are compacted.
    pub(super) fn compact(&self, now_ms: i64, map_bytes: u64, bytes_per_second: Option<u64>) -> Result<(), LogError> {
        let mut maintained = self.maintenance.lock();
        if maintained.unreadable {
            return Ok(());
        }
        match self.compact_locked(&mut maintained, now_ms, map_bytes, bytes_per_second) {
            Err(error @ LogError::Corrupt { .. }) => {
                tracing::error!(log = %self.name, %error, "not compacted any more");
                maintained.unreadable = true;
                Ok(())
            }
            other => other,
        }
    }

    fn compact_locked(
        &self,
        maintained: &mut Maintained,
        now_ms: i64,
        map_bytes: u64,
        bytes_per_second: Option<u64>,
    ) -> Result<(), LogError> {
        let config = self.config.load_full();
        let Some(recovery_point) = self.shared.checkpoints.lock().get(&self.id).map(|known| known.recovery_point)
        else {
            return Ok(());
        };
        let plan = plan(&self.state.lock(), &config, maintained.cleaned_end, recovery_point, now_ms);
        let Some(mut plan) = plan else { return Ok(()) };
        let (newest, end) = self.newest_offsets(&plan, map_bytes)?;
        plan.slots.retain(|slot| slot.base() < end);
        let mut cleaning = Cleaning::new(&config, &newest, &plan.producers, plan.bound, now_ms);
        for group in groups(&plan.slots, config.segment_bytes) {
            if !self.rewrite(group, &mut cleaning)? {
                return Ok(());
            }
            let bytes: u64 = group.iter().map(|slot| u64::from(slot.size)).sum();
            if let Some(rate) = bytes_per_second {
                // The budget: this thread does nothing else, and may wait.
                let pause = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
                self.shared.stop.rest(pause, || self.state.lock().standing != Standing::Closed);
            }
        }
        maintained.cleaned_end = end;
        Ok(())
    }

    /// Writes a group of segments anew as one, and swaps it in; leaves them alone when nothing changes. False when it
    /// was told to end before.
    fn rewrite(&self, group: &[Slot], cleaning: &mut Cleaning<'_>) -> Result<bool, LogError> {
        let (base, end) = (group[0].base(), group[group.len() - 1].end);
        let mut output = Output::create(&self.shared, swap_source(&self.folder, base))?;
        let written = match self.write_cleaned(group, cleaning, &mut output) {
            Ok(Some(written)) => written,
            unfinished => {
                output.discard()?;
                return unfinished.map(|_| false);
            }
        };
        if !written.changed {
            output.discard()?;
            return Ok(true);
        }
        let path = output.finish()?;
        Counters::add(&self.shared.counters.compaction_bytes_written, u64::from(written.slot.size));
        self.swap_in(group, written.slot, base, end, &path)?;
        Ok(true)
    }

    /// Writes what a group's segments keep; `None` when it was told to end before.
    fn write_cleaned(
        &self,
        group: &[Slot],
        cleaning: &mut Cleaning<'_>,
        output: &mut Output<'_>,
    ) -> Result<Option<Written>, LogError> {
        let mut changed = group.len() > 1;
        let mut cleaned = Slot::empty(Arc::clone(&group[0].segment), group[0].since_ms);
        for slot in group {
            let mut scanner = slot.segment.scanner(0, slot.size)?;
            while let Some(batch) = scanner.next_batch() {
                if !self.goes_on() {
                    return Ok(None);
                }
                let batch = batch.map_err(|error| slot.segment.scan_error(error))?;
                Counters::add(&self.shared.counters.compaction_bytes_read, batch.bytes.len() as u64);
                let Some(outcome) = cleaning.clean(&batch) else {
                    return Err(unreadable(slot, batch.position, &"its records cannot be read"));
                };
                changed |= outcome != Cleaned::Same;
                let bytes = match &outcome {
                    Cleaned::Same => batch.bytes,
                    Cleaned::Changed(bytes) => bytes,
                    Cleaned::Gone => continue,
                };
                let header = super::batch::BatchHeader::read_stored(bytes)
                    .expect("a whole batch because it was read or written just now");
                cleaned.grow(&header);
                output.write(bytes)?;
            }
        }
        Ok(Some(Written { slot: cleaned, changed }))
    }

    fn swap_in(
        &self,
        group: &[Slot],
        mut cleaned: Slot,
        base: Offset,
        end: Offset,
        written: &Path,
    ) -> Result<(), LogError> {
        let disk = &*self.shared.disk;
        let replaced: Vec<Offset> = group.iter().map(Slot::base).collect();
        let vouched = |segment: &super::checkpoint::SegmentCheckpoint| replaced.contains(&segment.base);
        self.shared.checkpoints.lock().distrust(disk, &self.id, vouched, None)?;
        for slot in group {
            self.shared.wal.retire(&slot.segment.file)?;
        }
        let swap = files::swap_path(&self.folder, base, end);
        disk.rename(written, &swap).map_err(LogError::io("renaming", written))?;
        files::sync_folder(&*self.shared.disk, &self.folder)?;

        cleaned.flushed_size = cleaned.size;
        // While its file still has its swap name, readers find it there.
        cleaned.segment = Segment::register_at(&self.shared.wal, swap, base, self.segment_listener());
        self.replace(&replaced, &cleaned);
        finish_swap(disk, &self.folder, base, end, &replaced)?;
        cleaned.segment = Segment::register(&self.shared.wal, &self.folder, base, self.segment_listener(), false);
        self.replace(&[base], &cleaned);
        Ok(())
    }

    fn replace(&self, replaced: &[Offset], cleaned: &Slot) {
        let mut state = self.state.lock();
        if state.standing == Standing::Closed {
            return;
        }
        let first = state.slots.iter().position(|slot| slot.base() == replaced[0]);
        let first = first.expect("segments are removed only under the maintenance lock, which is held");
        state.slots.splice(first..first + replaced.len(), [cleaned.clone()]);
        state.cuts += 1;
    }

    /// The newest offset of each key from where the log is dirty, as far as memory allows and until it is told to end.
    /// Returns also the end: that of the last segment that went in whole.
    fn newest_offsets(&self, plan: &Plan, map_bytes: u64) -> Result<(OffsetMap, Offset), LogError> {
        let mut newest = OffsetMap::new(map_bytes);
        let mut unpacked = Vec::new();
        let mut end = plan.dirty_from;
        for slot in plan.slots.iter().filter(|slot| slot.end > plan.dirty_from) {
            let mut scanner = slot.segment.scanner(0, slot.size)?;
            while let Some(batch) = scanner.next_batch() {
                let batch = batch.map_err(|error| slot.segment.scan_error(error))?;
                let header = &batch.header;
                let aborted =
                    header.is_transactional() && plan.producers.is_aborted(header.producer_id, header.base_offset);
                if header.is_control() || aborted {
                    continue;
                }
                // A single segment goes in whole: else a log of many keys would never be compacted.
                let full =
                    !newest.is_empty() && end > plan.dirty_from && !newest.has_room(header.count.max(0) as usize);
                if full || !self.goes_on() {
                    return Ok((newest, end));
                }
                let payload = batch
                    .payload(stored_limit(), &mut unpacked)
                    .map_err(|error| unreadable(slot, batch.position, &error))?;
                for record in Records::new(payload, header.count) {
                    let record = record.map_err(|error| unreadable(slot, batch.position, &error))?;
                    if let Some(key) = record.key {
                        newest.note(key, header.base_offset + i64::from(record.offset_delta));
                    }
                }
            }
            end = slot.end;
        }
        Ok((newest, end))
    }
}

/// A group of segments written anew.
struct Written {
    slot: Slot,
    changed: bool,
}

fn swap_source(folder: &Path, base: Offset) -> PathBuf {
    let mut path = files::segment_path(folder, base).into_os_string();
    path.push(CLEANED);
    path.into()
}

fn unreadable(slot: &Slot, position: u64, what: &dyn std::fmt::Display) -> LogError {
    LogError::Corrupt { path: slot.segment.file.path().to_owned(), position, what: what.to_string() }
}

/// What is due now; `None` when too little is dirty.
fn plan(state: &State, config: &LogConfig, cleaned_end: Offset, recovery_point: Offset, now_ms: i64) -> Option<Plan> {
    if state.standing == Standing::Closed {
        return None;
    }
    let bound = state.last_stable().min(recovery_point);
    #[cfg(test)]
    let bound = if planted(Plant::CompactionAboveHighWatermark) { recovery_point } else { bound };
    let lag = i64::try_from(config.min_compaction_lag_ms).unwrap_or(i64::MAX);
    let sealed = &state.slots[..state.slots.len() - 1];
    let compactable =
        |slot: &&Slot| slot.end <= bound && (lag == 0 || now_ms.saturating_sub(slot.max_timestamp.max(0)) >= lag);
    let slots: Vec<Slot> = sealed.iter().take_while(compactable).cloned().collect();
    let end = slots.last()?.end;
    let dirty_from = cleaned_end.max(state.log_start);
    if dirty_from >= end {
        return None;
    }
    let bytes = |dirty: bool| -> u64 {
        slots.iter().filter(|slot| (slot.end > dirty_from) == dirty).map(|slot| u64::from(slot.size)).sum()
    };
    let (clean, dirty) = (bytes(false), bytes(true));
    let most_lag = i64::try_from(config.max_compaction_lag_ms).unwrap_or(i64::MAX);
    let overdue = slots
        .iter()
        .find(|slot| slot.end > dirty_from)
        .is_some_and(|slot| slot.first_timestamp >= 0 && now_ms.saturating_sub(slot.first_timestamp) > most_lag);
    let ratio = dirty as f64 / (clean + dirty).max(1) as f64;
    (overdue || ratio >= config.min_cleanable_dirty_ratio).then(|| Plan {
        slots,
        dirty_from,
        producers: state.producers.clone(),
        bound,
    })
}

/// Neighbours that fit into one segment together.
fn groups(slots: &[Slot], segment_bytes: u32) -> Vec<&[Slot]> {
    let mut groups = Vec::new();
    let mut start = 0;
    let mut bytes = 0u64;
    for (at, slot) in slots.iter().enumerate() {
        let fits = bytes + u64::from(slot.size) <= u64::from(segment_bytes)
            && i32::try_from(slot.end.since(slots[start].base())).is_ok();
        if at > start && !fits {
            groups.push(&slots[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += u64::from(slot.size);
    }
    if start < slots.len() {
        groups.push(&slots[start..]);
    }
    groups
}

/// The file that a group is written to.
struct Output<'a> {
    shared: &'a Shared,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    written: u64,
}

impl<'a> Output<'a> {
    fn create(shared: &'a Shared, path: PathBuf) -> Result<Self, LogError> {
        let file = shared.disk.open(&path, OpenMode::Create).map_err(LogError::io("making", &path))?;
        file.set_len(0).map_err(LogError::io("cutting", &path))?;
        Ok(Self { shared, path, file, buffer: Vec::new(), written: 0 })
    }

    fn write(&mut self, batch: &[u8]) -> Result<(), LogError> {
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), LogError> {
        let written = self.file.write_all_at(&[IoSlice::new(&self.buffer)], self.written);
        written.map_err(LogError::io("writing", &self.path))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<PathBuf, LogError> {
        self.flush()?;
        self.file.sync_all().map_err(LogError::io("syncing", &self.path))?;
        Ok(self.path)
    }

    fn discard(self) -> Result<(), LogError> {
        remove_if_there(&*self.shared.disk, &self.path).map_err(LogError::io("removing", &self.path))
    }
}
