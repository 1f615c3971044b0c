//! The rounds of background work over all logs.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use crate::ids::{Offset, TopicPartition};
use crate::io::disk::remove_if_there;
use crate::io::flood::Flood;

use super::error::LogError;
use super::files;
use super::partition_log::{Log, Shared, Standing};
use super::store::LogStore;

/// Lines about work that is put off.
static PUT_OFF: Flood = Flood::new("maintenance that is put off");

/// Time between checkpoints, ms: a crash makes the next start read what was appended since.
const CHECKPOINT_INTERVAL_MS: u64 = 5_000;

/// When what was done last, ms of the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    checkpoint: Option<u64>,
    retention: Option<u64>,
    compaction: Option<u64>,
    /// Ends of the logs at the last checkpoint: a log that has not grown since is idle.
    ends: HashMap<TopicPartition, Offset>,
}

fn due(last: &mut Option<u64>, now: u64, interval: u64) -> bool {
    let due = last.is_none_or(|last| now >= last.saturating_add(interval));
    if due {
        *last = Some(now);
    }
    due
}

impl LogStore {
    /// One round of what happens in the background, each part at its own interval: roll by age, retention, checkpoints,
    /// removal of deleted files, and taking appends again after a full disk. Blocks. Meant to be called about every
    /// second. What finds no room on the disk is put off.
    pub fn maintain(&self) -> Result<(), LogError> {
        put_off_when_full(self.maintain_now())
    }

    /// Compacts the logs that are due, at its own interval, one after the other; beside `maintain`, because it may take
    /// long. Blocks. Meant to be called about every second. What finds no room on the disk is put off.
    pub fn compact_due(&self) -> Result<(), LogError> {
        let now = self.shared.clock.monotonic().as_millis() as u64;
        if !due(&mut self.rounds.lock().compaction, now, self.options.cleaner_backoff_ms) {
            return Ok(());
        }
        put_off_when_full(self.compact(self.shared.clock.wall_ms()))
    }

    /// Ends long background work soon: the node stops. `close` comes after it.
    pub fn stop_background(&self) {
        self.shared.stop.stop();
    }

    fn maintain_now(&self) -> Result<(), LogError> {
        let now = self.shared.clock.monotonic().as_millis() as u64;
        let now_ms = self.shared.clock.wall_ms();
        let (retention, checkpoint) = {
            let mut rounds = self.rounds.lock();
            (
                due(&mut rounds.retention, now, self.options.retention_check_interval_ms),
                due(&mut rounds.checkpoint, now, CHECKPOINT_INTERVAL_MS),
            )
        };
        // First: it gives the room that the rest may need.
        self.remove_doomed(now)?;
        let logs = self.logs();
        for log in &logs {
            log.remove_orphans()?;
            log.retry_identity();
        }
        let mut removable = Vec::new();
        if retention {
            for log in &logs {
                log.roll_by_age(now_ms);
                log.expire_producers(now_ms, self.options.producer_id_expiration_ms);
                if log.retain(now_ms) {
                    removable.push(Arc::clone(log));
                }
            }
        }
        if checkpoint || !removable.is_empty() {
            self.checkpoint(false)?;
        }
        for log in removable {
            log.remove_old_segments()?;
        }
        Ok(())
    }

    /// Checkpoints everything after the WAL has synced: the next start scans nothing. Blocks.
    pub fn close(&self) -> Result<(), LogError> {
        self.checkpoint(true)
    }

    /// Writes down how far all logs are whole, if that has changed.
    pub(super) fn checkpoint(&self, closing: bool) -> Result<(), LogError> {
        let captures: Vec<_> =
            self.logs().into_iter().filter_map(|log| log.capture().map(|capture| (log, capture))).collect();
        if captures.is_empty() && !self.shared.checkpoints.lock().is_unsaved() {
            return Ok(());
        }
        self.shared.wal.sync_all()?;
        for (log, capture) in captures {
            let end = capture.end();
            let idle = closing || self.rounds.lock().ends.insert(log.id(), end) == Some(end);
            log.settle(capture, idle)?;
        }
        self.shared.checkpoints.lock().store(&*self.shared.disk)
    }

    /// Removes what has waited long enough; while the disk is full nothing waits.
    fn remove_doomed(&self, now: u64) -> Result<(), LogError> {
        let full = self.shared.wal.is_full();
        let due: Vec<_> = self.shared.doomed.lock().extract_if(.., |(due, _)| full || *due <= now).collect();
        for (_, path) in due {
            remove_all(&self.shared, &path).map_err(LogError::io("removing", &path))?;
        }
        Ok(())
    }
}

/// A full disk is no failure of background work: it goes on when there is room. Everything it does may be cut short.
fn put_off_when_full(outcome: Result<(), LogError>) -> Result<(), LogError> {
    match outcome {
        Err(error) if error.is_full() => {
            if let Some(line) = PUT_OFF.line() {
                let left_out = line.left_out();
                tracing::warn!(%error, left_out, "background work waits for room on the disk, or for a file descriptor");
            }
            Ok(())
        }
        other => other,
    }
}

/// Removes a file or a folder that may be gone already.
fn remove_all(shared: &Shared, path: &std::path::Path) -> io::Result<()> {
    match shared.disk.list(path) {
        Ok(_) => shared.disk.remove_dir_all(path),
        Err(_) => remove_if_there(&*shared.disk, path),
    }
}

impl Log {
    /// Writes `partition.json` when it was refused before: records that were taken wait for it.
    fn retry_identity(&self) {
        let state = self.state.lock();
        if state.standing != Standing::Closed {
            self.identity.ensure(&self.shared.wal);
        }
    }

    /// Removes the files of segments that a refusal left behind the log's end, so that appends can be taken again.
    fn remove_orphans(&self) -> Result<(), LogError> {
        let Some(_maintenance) = self.maintenance.try_lock() else { return Ok(()) };
        let orphans = {
            let state = self.state.lock();
            if state.orphans.is_empty() || state.standing == Standing::Closed {
                return Ok(());
            }
            state.orphans.clone()
        };
        for segment in &orphans {
            self.shared.wal.retire(&segment.file)?;
            for path in [segment.file.path().to_owned(), files::index_path(&self.folder, segment.base)] {
                remove_if_there(&*self.shared.disk, &path).map_err(LogError::io("removing", &path))?;
            }
        }
        files::sync_folder_if_there(&*self.shared.disk, &self.folder)?;
        self.state.lock().orphans.retain(|left| !orphans.iter().any(|gone| Arc::ptr_eq(gone, left)));
        Ok(())
    }
}
