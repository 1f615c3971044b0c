//! What compaction keeps of a batch: no I/O, a batch in, a batch (or nothing) out.
//!
//! Of each key the newest record stays. A tombstone and a transaction marker stay until `delete.retention.ms` after
//! compaction first met them (KIP-534: the batch's delete horizon), a marker also as long as any record of its
//! transaction does. Records of aborted transactions go at once. Offsets never change.

use std::collections::HashSet;

use super::batch::{BatchHeader, HEADER_BYTES, NO_TIMESTAMP, with_delete_horizon};
use super::compression::{compress, stored_limit};
use super::config::{CompressionLevels, LogConfig, TimestampType};
use super::offset_map::OffsetMap;
use super::producers::Producers;
use super::record::{Record, RecordParts, Records};
use super::scan::ScannedBatch;
use crate::ids::Offset;

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cleaned {
    /// It stays as it is.
    Same,
    /// It stays, changed.
    Changed(Vec<u8>),
    /// It goes.
    Gone,
}

/// One pass over a log from its start.
pub(super) struct Cleaning<'a> {
    pub config: &'a LogConfig,
    pub newest: &'a OffsetMap,
    pub producers: &'a Producers,
    /// Everything below is committed, what the pass goes over among it; what is beyond may be cut again.
    pub bound: Offset,
    pub now_ms: i64,
    /// Producers with a kept batch in a transaction whose marker is still to come.
    pub kept_open: HashSet<i64>,
    unpacked: Vec<u8>,
}

impl<'a> Cleaning<'a> {
    pub(super) fn new(
        config: &'a LogConfig,
        newest: &'a OffsetMap,
        producers: &'a Producers,
        bound: Offset,
        now_ms: i64,
    ) -> Self {
        Self { config, newest, producers, bound, now_ms, kept_open: HashSet::new(), unpacked: Vec::new() }
    }

    /// Decides about the next batch; `None` when its records cannot be read.
    pub(super) fn clean(&mut self, batch: &ScannedBatch<'_>) -> Option<Cleaned> {
        let header = &batch.header;
        let cleaned = if header.is_control() { self.clean_marker(batch) } else { self.clean_records(batch)? };
        if header.is_transactional() && !header.is_control() && cleaned != Cleaned::Gone {
            self.kept_open.insert(header.producer_id);
        }
        Some(cleaned)
    }

    fn clean_marker(&mut self, batch: &ScannedBatch<'_>) -> Cleaned {
        let header = &batch.header;
        if self.kept_open.remove(&header.producer_id) {
            return Cleaned::Same;
        }
        match header.delete_horizon_ms() {
            Some(horizon) if horizon > self.now_ms => Cleaned::Same,
            Some(_) if self.producers.is_newest_of_producer(header, self.bound) => Cleaned::Same,
            Some(_) => Cleaned::Gone,
            None => {
                let records: Vec<_> = Records::new(&batch.bytes[HEADER_BYTES..], header.count).flatten().collect();
                Cleaned::Changed(self.encode(header, &records, true))
            }
        }
    }

    fn clean_records(&mut self, batch: &ScannedBatch<'_>) -> Option<Cleaned> {
        let header = &batch.header;
        let mut unpacked = std::mem::take(&mut self.unpacked);
        let payload = batch.payload(stored_limit(), &mut unpacked).ok()?;
        let aborted = header.is_transactional() && self.producers.is_aborted(header.producer_id, header.base_offset);
        let mut kept = Vec::new();
        let mut tombstones = false;
        for record in Records::new(payload, header.count) {
            let record = record.ok()?;
            if !aborted && self.keeps(header, &record) {
                tombstones |= record.value.is_none();
                kept.push(record);
            }
        }
        let needs_horizon = tombstones && header.delete_horizon_ms().is_none();
        let cleaned = if kept.len() == header.count as usize && !needs_horizon {
            Cleaned::Same
        } else if kept.is_empty() && !self.producers.is_newest_of_producer(header, self.bound) {
            Cleaned::Gone
        } else {
            Cleaned::Changed(self.encode(header, &kept, needs_horizon))
        };
        unpacked.clear();
        self.unpacked = unpacked;
        Some(cleaned)
    }

    fn keeps(&self, header: &BatchHeader, record: &Record<'_>) -> bool {
        let Some(key) = record.key else { return false };
        let offset = header.base_offset + i64::from(record.offset_delta);
        let expired = record.value.is_none() && header.delete_horizon_ms().is_some_and(|at| at <= self.now_ms);
        !expired && self.newest.is_newest(key, offset)
    }

    /// The batch with only these records; its offsets, epoch, producer and sequence as they were.
    fn encode(&self, header: &BatchHeader, records: &[Record<'_>], new_horizon: bool) -> Vec<u8> {
        let horizon = new_horizon.then(|| self.now_ms.saturating_add_unsigned(self.config.delete_retention_ms));
        let mut changed = *header;
        changed.base_timestamp = horizon.unwrap_or(header.base_timestamp);
        if horizon.is_some() {
            changed.attributes = with_delete_horizon(changed.attributes);
        }
        changed.count = records.len() as i32;
        let mut payload = Vec::new();
        let mut max_timestamp = NO_TIMESTAMP;
        for record in records {
            let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
            max_timestamp = max_timestamp.max(timestamp);
            let parts = RecordParts {
                timestamp_delta: timestamp.wrapping_sub(changed.base_timestamp),
                offset_delta: record.offset_delta,
                key: record.key,
                value: record.value,
                headers: record.headers(),
            };
            parts.encode(&mut payload);
        }
        if header.timestamp_type() == TimestampType::CreateTime && !records.is_empty() {
            changed.max_timestamp = max_timestamp;
        }
        let mut bytes = vec![0; HEADER_BYTES];
        compress(header.compression(), CompressionLevels::default(), &payload, &mut bytes)
            .expect("compressed because writing to memory cannot fail");
        changed.write(&mut bytes);
        bytes
    }
}
