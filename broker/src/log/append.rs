//! Appending: batches are validated before the lock; under it they get offsets and go to the WAL in that order.

use bytes::{Bytes, BytesMut};

use crate::ids::{LeaderEpoch, Offset};
use crate::wal::{Admission, Append};

use super::batch;
use super::config::LogConfig;
use super::error::AppendError;
use super::partition_log::{Counters, Log, Pending, Standing, State};
use super::producers::Verdict;
use super::types::{Appended, Brief, Origin};
use super::validate::{Rules, ValidBatch, ValidBatches, validate, validate_briefly};

impl Log {
    /// Validates client batches (the raw `records` field of a Produce request), gives them offsets and the leader
    /// epoch, and queues them to the WAL. Returns before they are durable: `LogListener::flushed` tells.
    ///
    /// An epoch older than the newest that was begun here is `Closed`: its leadership is over.
    pub fn append_as_leader(
        &self,
        records: Bytes,
        epoch: LeaderEpoch,
        origin: Origin,
        admission: Admission,
    ) -> Result<Appended, AppendError> {
        let config = self.config.load();
        let valid = validate(records, self.rules(&config, origin))?;
        self.append_valid(valid, epoch, origin, &config, admission)
    }

    /// Like `append_as_leader` for a client's batch, but gives it back when checking it takes long.
    pub fn append_briefly(
        &self,
        records: Bytes,
        epoch: LeaderEpoch,
        admission: Admission,
    ) -> Result<Brief<Appended>, AppendError> {
        let config = self.config.load();
        match validate_briefly(records, self.rules(&config, Origin::Client))? {
            Brief::Done(valid) => self.append_valid(valid, epoch, Origin::Client, &config, admission).map(Brief::Done),
            Brief::Long(records) => Ok(Brief::Long(records)),
        }
    }

    fn rules<'a>(&'a self, config: &'a LogConfig, origin: Origin) -> Rules<'a> {
        Rules { config, origin, now_ms: self.shared.clock.wall_ms(), name: &self.name }
    }

    fn append_valid(
        &self,
        valid: ValidBatches,
        epoch: LeaderEpoch,
        origin: Origin,
        config: &LogConfig,
        admission: Admission,
    ) -> Result<Appended, AppendError> {
        if self.shared.wal.is_full() {
            return Err(AppendError::DiskFull);
        }
        let mut state = self.state.lock();
        self.admit(&mut state, epoch)?;
        if let Some(duplicate) = check_producers(&state, &valid.batches, origin)? {
            return Ok(duplicate);
        }
        Ok(self.append_locked(&mut state, valid, epoch, config, admission))
    }

    /// Whether the log takes appends of this leadership now.
    pub(super) fn admit(&self, state: &mut State, epoch: LeaderEpoch) -> Result<(), AppendError> {
        match state.standing {
            Standing::Closed => return Err(AppendError::Closed),
            Standing::Refused if !state.orphans.is_empty() => return Err(AppendError::DiskFull),
            Standing::Refused => {
                self.shared.wal.resume(&state.active().segment.file);
                state.standing = Standing::Open;
            }
            Standing::Open => {}
        }
        if state.epochs.newest().is_some_and(|newest| newest.epoch > epoch) {
            return Err(AppendError::Closed);
        }
        // Also for a duplicate: its original is not durable before the identity is.
        self.identity.ensure(&self.shared.wal);
        Ok(())
    }

    fn append_locked(
        &self,
        state: &mut State,
        valid: ValidBatches,
        epoch: LeaderEpoch,
        config: &LogConfig,
        admission: Admission,
    ) -> Appended {
        let log_append_time_ms = valid.log_append_time_ms;
        if must_roll(state, Growth::of(&valid.batches, state.log_end), config) {
            self.roll(state);
        }
        let base = state.log_end;
        state.epochs.assign(epoch, base);
        let position = state.active().size;
        let max_timestamp_before = state.active().max_timestamp;
        let mut undos = Vec::new();
        let mut data = Vec::with_capacity(valid.batches.len());
        for mut valid in valid.batches {
            batch::place(&mut valid.bytes, state.log_end, epoch);
            valid.header.base_offset = state.log_end.get();
            valid.header.leader_epoch = epoch.get();
            let slot = state.active_mut();
            let at = slot.size;
            let before = slot.grow(&valid.header);
            slot.segment.note(&valid.header, at, before, config.index_interval_bytes);
            state.log_end = valid.header.end();
            if let Some(undo) = state.producers.apply(&valid.header, valid.marker) {
                undos.push(undo);
                state.producers_version += 1;
            }
            data.push(valid.bytes);
        }
        let data = joined(data);
        if let Some(observer) = &state.observer {
            observer.appended(base, data.clone());
        }
        Counters::add(&self.shared.counters.bytes_in, data.len() as u64);
        Counters::add(&self.shared.counters.records_in, state.log_end.since(base));

        let token = state.next_token;
        state.next_token += 1;
        let slot = state.active();
        self.shared.wal.append(&slot.segment.file, Append { position: u64::from(position), data, token, admission });
        let pending = Pending {
            token,
            segment: slot.base(),
            base,
            end: state.log_end,
            position,
            end_position: slot.size,
            max_timestamp_before,
            undos,
        };
        state.pending.push_back(pending);
        Appended { base_offset: base, end_offset: state.log_end, log_append_time_ms, duplicate: false }
    }
}

/// A duplicate is answered with what the original got; only a single batch can be one.
fn check_producers(state: &State, batches: &[ValidBatch], origin: Origin) -> Result<Option<Appended>, AppendError> {
    for valid in batches {
        match state.producers.check(&valid.header, valid.marker, origin)? {
            Verdict::Append => {}
            Verdict::Duplicate { base, end, timestamp_ms } => {
                return Ok(Some(Appended {
                    base_offset: base,
                    end_offset: end,
                    log_append_time_ms: Some(timestamp_ms),
                    duplicate: true,
                }));
            }
        }
    }
    Ok(None)
}

/// What an append adds to a log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Growth {
    pub bytes: usize,
    /// One past its last offset.
    pub end: Offset,
    /// Its largest timestamp, ms.
    pub newest_timestamp: i64,
}

impl Growth {
    fn of(batches: &[ValidBatch], log_end: Offset) -> Self {
        let records: u64 = batches.iter().map(|valid| valid.header.count as u64).sum();
        let newest = batches.iter().map(|valid| valid.header.max_timestamp).max();
        Self {
            bytes: batches.iter().map(|valid| valid.bytes.len()).sum(),
            end: log_end.plus(records),
            newest_timestamp: newest.unwrap_or(batch::NO_TIMESTAMP),
        }
    }
}

/// Whether an append needs a new segment: this one would be too large, its offsets too far from its base, or it is
/// older (by its records' time) than `segment.ms`.
pub(super) fn must_roll(state: &State, growth: Growth, config: &LogConfig) -> bool {
    let slot = state.active();
    if slot.size == 0 {
        return false;
    }
    u64::from(slot.size) + growth.bytes as u64 > u64::from(config.segment_bytes)
        || growth.end.since(slot.base()) > i32::MAX as u64
        || (slot.first_timestamp >= 0
            && growth.newest_timestamp.saturating_sub(slot.first_timestamp) > config.segment_ms)
}

/// One buffer for the WAL; a single batch is passed on as it is.
fn joined(mut batches: Vec<BytesMut>) -> Bytes {
    if batches.len() == 1 {
        return batches.pop().expect("one because the length says so").freeze();
    }
    batches.concat().into()
}
