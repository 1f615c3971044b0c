//! Looking records up by time (ListOffsets).

use crate::ids::Offset;

use super::batch::NO_TIMESTAMP;
use super::compression::stored_limit;
use super::error::LogError;
use super::index::Target;
use super::partition_log::Log;
use super::record::Records;
use super::scan::ScannedBatch;
use super::segment::Slot;
use super::types::TimestampOffset;

/// The part of the log that is looked at.
#[derive(Debug, Clone, Copy)]
struct Range {
    from: Offset,
    upto: Offset,
}

impl Range {
    fn holds(self, offset: i64) -> bool {
        (self.from.get()..self.upto.get()).contains(&offset)
    }
}

impl Log {
    /// The first record at or after a time, below `upto`.
    pub fn offset_for_timestamp(&self, timestamp_ms: i64, upto: Offset) -> Result<Option<TimestampOffset>, LogError> {
        let (slots, range) = self.looked_at(upto);
        for slot in slots.iter().filter(|slot| slot.max_timestamp >= timestamp_ms) {
            if let Some(found) = self.first_at_or_after(slot, timestamp_ms, range)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp, the first of them, below `upto`.
    pub fn offset_of_max_timestamp(&self, upto: Offset) -> Result<Option<TimestampOffset>, LogError> {
        let (slots, range) = self.looked_at(upto);
        let mut largest = NO_TIMESTAMP;
        for slot in slots {
            largest = largest.max(self.max_timestamp_in(&slot, range)?);
        }
        if largest == NO_TIMESTAMP { Ok(None) } else { self.offset_for_timestamp(largest, upto) }
    }

    fn looked_at(&self, upto: Offset) -> (Vec<Slot>, Range) {
        let state = self.state.lock();
        let range = Range { from: state.log_start, upto: upto.min(state.flushed_end) };
        let holds = |slot: &&Slot| slot.flushed_size > 0 && slot.end > range.from && slot.base() < range.upto;
        (state.slots.iter().filter(holds).cloned().collect(), range)
    }

    fn first_at_or_after(&self, slot: &Slot, from_ms: i64, range: Range) -> Result<Option<TimestampOffset>, LogError> {
        let target = Target::Timestamp(from_ms);
        let start = slot.segment.find(&*self.shared.disk, target, slot.flushed_size, self.interval())?;
        let mut scanner = slot.segment.scanner(start.position, slot.flushed_size)?;
        while let Some(batch) = scanner.next_batch() {
            let batch = batch.map_err(|error| slot.segment.scan_error(error))?;
            if batch.header.base_offset >= range.upto.get() {
                break;
            }
            if batch.header.max_timestamp >= from_ms
                && let Some(found) = record_at_or_after(slot, &batch, from_ms, range)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The largest timestamp of a segment's part in the range. Known without reading when the segment lies in it whole.
    fn max_timestamp_in(&self, slot: &Slot, range: Range) -> Result<i64, LogError> {
        if range.from <= slot.base() && slot.end <= range.upto {
            return Ok(slot.max_timestamp);
        }
        let mut largest = NO_TIMESTAMP;
        let mut start = 0;
        if range.from <= slot.base() {
            let target = Target::Offset(range.upto.since(slot.base()) as u32);
            let entry = slot.segment.find(&*self.shared.disk, target, slot.flushed_size, self.interval())?;
            largest = largest.max(entry.max_timestamp_before);
            start = entry.position;
        }
        let mut scanner = slot.segment.scanner(start, slot.flushed_size)?;
        while let Some(batch) = scanner.next_batch() {
            let header = batch.map_err(|error| slot.segment.scan_error(error))?.header;
            if header.base_offset >= range.upto.get() {
                break;
            }
            if header.last_offset() >= range.from.get() {
                largest = largest.max(header.max_timestamp);
            }
        }
        Ok(largest)
    }

    fn interval(&self) -> u32 {
        self.config.load().index_interval_bytes
    }
}

fn record_at_or_after(
    slot: &Slot,
    batch: &ScannedBatch<'_>,
    from_ms: i64,
    range: Range,
) -> Result<Option<TimestampOffset>, LogError> {
    let corrupt =
        |what: String| LogError::Corrupt { path: slot.segment.file.path().to_owned(), position: batch.position, what };
    let mut unpacked = Vec::new();
    let payload = batch.payload(stored_limit(), &mut unpacked).map_err(|error| corrupt(error.to_string()))?;
    for record in Records::new(payload, batch.header.count) {
        let record = record.map_err(|error| corrupt(error.to_string()))?;
        let offset = batch.header.base_offset + i64::from(record.offset_delta);
        let timestamp_ms = batch.header.record_timestamp(record.timestamp_delta);
        if timestamp_ms >= from_ms && range.holds(offset) {
            let (offset, leader_epoch) = (Offset::new(offset), batch.header.epoch());
            return Ok(Some(TimestampOffset { timestamp_ms, offset, leader_epoch }));
        }
    }
    Ok(None)
}
