//! Reading: from the index to a place in a segment, one read into one buffer, whole batches out of it without a copy.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::ids::Offset;

use super::batch::{BatchHeader, HEADER_BYTES};
use super::error::{LogError, ReadError};
use super::index::Target;
use super::medium::Medium;
use super::partition_log::{Counters, Log, Standing};
use super::segment::{Segment, Slot};
use super::types::ReadBatches;

/// Bytes read beyond what was asked for, to skip from the index entry to the offset.
const SKIP_BYTES: usize = 8 << 10;

/// A buffer with more that is not given, and more than a quarter of it, is not kept.
const MOST_WASTE_BYTES: usize = 64 << 10;

/// A segment that is replaced while it is read is looked up again so often.
const READ_ATTEMPTS: u32 = 4;

/// What a read is after.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    medium: Medium,
    from: Offset,
    upto: Offset,
    max_bytes: usize,
    at_least_one: bool,
    /// Also records below the log start that are still there.
    deleted: bool,
}

impl Log {
    /// Reads whole batches from the one that holds `from`, below `upto`, at most `max_bytes` but always one batch when
    /// `at_least_one`. With `committed` also the aborted transactions of the range. Nothing beyond what is durable is
    /// read. May wait for the disk.
    pub fn read(
        &self,
        from: Offset,
        upto: Offset,
        max_bytes: usize,
        at_least_one: bool,
        committed: bool,
    ) -> Result<ReadBatches, ReadError> {
        let medium = Medium::Disk;
        self.read_from(Wanted { medium, from, upto, max_bytes, at_least_one, deleted: false }, committed)
    }

    /// Like `read`, one batch at least, for a follower's log: also below the log start, as long as it is there. The log may
    /// start within a batch, which a follower needs whole.
    pub fn read_for_follower(&self, from: Offset, upto: Offset, max_bytes: usize) -> Result<ReadBatches, ReadError> {
        let medium = Medium::Disk;
        self.read_from(Wanted { medium, from, upto, max_bytes, at_least_one: true, deleted: true }, false)
    }

    /// Like `read`, but waits for no disk: `None` when that takes more than memory holds.
    pub fn read_cached(
        &self,
        from: Offset,
        upto: Offset,
        max_bytes: usize,
        at_least_one: bool,
        committed: bool,
    ) -> Result<Option<ReadBatches>, ReadError> {
        let medium = Medium::PageCache;
        match self.read_from(Wanted { medium, from, upto, max_bytes, at_least_one, deleted: false }, committed) {
            Err(ReadError::Log(error)) if error.would_block() => Ok(None),
            read => read.map(Some),
        }
    }

    fn read_from(&self, wanted: Wanted, committed: bool) -> Result<ReadBatches, ReadError> {
        let from = wanted.from;
        let (mut slots, upto) = self.readable(wanted)?;
        let wanted = Wanted { upto, ..wanted };
        let mut read = ReadBatches::default();
        let mut end = from;
        let mut attempts = 1;
        loop {
            match self.read_first(&slots, wanted) {
                Ok(None) => break,
                Ok(Some((data, data_end))) => {
                    Counters::add(&self.shared.counters.bytes_out, data.len() as u64);
                    read.data.push(data);
                    end = data_end;
                    read.end = Some(end);
                    break;
                }
                Err(error) if error.would_block() => return Err(error.into()),
                // Compaction, retention or deletion may have taken the file away meanwhile: then the log knows.
                Err(error) => {
                    let now = self.readable(wanted)?.0;
                    let same = now.len() == slots.len()
                        && now.iter().zip(&slots).all(|(one, other)| Arc::ptr_eq(&one.segment, &other.segment));
                    if same || attempts == READ_ATTEMPTS {
                        return Err(error.into());
                    }
                    attempts += 1;
                    slots = now;
                }
            }
        }
        if committed && end > from {
            read.aborted = self.state.lock().producers.aborted_in(from, end);
        }
        Ok(read)
    }

    /// The segments that may hold `from`, and the bound. `from` at the bound is an empty read, beyond the log an error.
    fn readable(&self, Wanted { from, upto, deleted, .. }: Wanted) -> Result<(Vec<Slot>, Offset), ReadError> {
        let state = self.state.lock();
        if state.standing == Standing::Closed {
            return Err(ReadError::Closed);
        }
        let upto = upto.min(state.flushed_end);
        let start = if deleted { state.slots[0].base().min(state.log_start) } else { state.log_start };
        if from < start || from > state.log_end {
            return Err(ReadError::OutOfRange { offset: from.get(), start: state.log_start, end: upto });
        }
        if from >= upto {
            return Ok((Vec::new(), upto));
        }
        let holding = state.slots[state.slot_of(from)..].iter().filter(|slot| slot.flushed_size > 0);
        Ok((holding.take(2).cloned().collect(), upto))
    }

    /// The batches of the first segment that has any; `None` when there are none, or none may be given.
    fn read_first(&self, slots: &[Slot], wanted: Wanted) -> Result<Option<(Bytes, Offset)>, LogError> {
        for slot in slots {
            match self.read_segment(slot, wanted)? {
                Part::Batches(data, end) => return Ok(Some((data, end))),
                Part::Withheld => return Ok(None),
                Part::Absent => {}
            }
        }
        Ok(None)
    }

    fn read_segment(&self, slot: &Slot, wanted: Wanted) -> Result<Part, LogError> {
        let interval = self.config.load().index_interval_bytes;
        let segment = &slot.segment;
        let relative = wanted.from.since(segment.base) as u32;
        let target = Target::Offset(relative);
        let entry = match wanted.medium {
            Medium::PageCache => segment.find_cached(target, slot.flushed_size)?,
            Medium::Disk => segment.find(&*self.shared.disk, target, slot.flushed_size, interval)?,
        };
        let mut position = u64::from(entry.position);
        let limit = u64::from(slot.flushed_size);
        loop {
            let left = (limit - position) as usize;
            if left == 0 {
                return Ok(Part::Absent);
            }
            let bytes = wanted.max_bytes.saturating_add(SKIP_BYTES).min(left);
            let chunk = read_chunk(segment, wanted.medium, position, bytes)?;
            let skipped = skip_to(segment, position, &chunk, wanted.from)?;
            match skipped {
                Skipped::Past(0) => {
                    // A batch before the offset that is larger than the buffer.
                    position += header_at(segment, position, &chunk)?.size() as u64;
                }
                Skipped::Past(bytes) => position += bytes as u64,
                Skipped::Found(at) => return gather(segment, position, chunk, at, limit, wanted),
            }
            if position > limit {
                return Err(corrupt(segment, position, "a batch reaches beyond the segment's end"));
            }
        }
    }
}

/// What a segment has of the range.
enum Part {
    /// Batches, and where the last ends.
    Batches(Bytes, Offset),
    /// Something, but nothing that may be given.
    Withheld,
    /// Nothing: compaction has left a hole at its end.
    Absent,
}

enum Skipped {
    /// The batch with the offset begins here in the buffer.
    Found(usize),
    /// It does not begin in the buffer; so many bytes of whole batches do.
    Past(usize),
}

fn skip_to(segment: &Segment, position: u64, chunk: &[u8], from: Offset) -> Result<Skipped, LogError> {
    let mut at = 0;
    while chunk.len() - at >= HEADER_BYTES {
        let header = header_at(segment, position + at as u64, &chunk[at..])?;
        if header.last_offset() >= from.get() {
            return Ok(Skipped::Found(at));
        }
        if header.size() > chunk.len() - at {
            break;
        }
        at += header.size();
    }
    Ok(Skipped::Past(at))
}

/// Takes whole batches from the buffer; reads the first one again, whole, when it must be given and is cut.
fn gather(
    segment: &Segment,
    position: u64,
    chunk: BytesMut,
    at: usize,
    limit: u64,
    wanted: Wanted,
) -> Result<Part, LogError> {
    let first = header_at(segment, position + at as u64, &chunk[at..])?;
    if first.last_offset() >= wanted.upto.get() || (first.size() > wanted.max_bytes && !wanted.at_least_one) {
        return Ok(Part::Withheld);
    }
    if first.size() > chunk.len() - at {
        let start = position + at as u64;
        if start + first.size() as u64 > limit {
            return Err(corrupt(segment, start, "a batch reaches beyond the segment's end"));
        }
        let whole = read_chunk(segment, wanted.medium, start, first.size())?;
        if whole.len() < first.size() {
            return Err(corrupt(segment, start, "the file ends within a batch"));
        }
        return Ok(Part::Batches(whole.freeze(), first.end()));
    }
    let (mut stop, mut end) = (at + first.size(), first.end());
    while chunk.len() - stop >= HEADER_BYTES {
        let header = header_at(segment, position + stop as u64, &chunk[stop..])?;
        let whole = header.size() <= chunk.len() - stop;
        let fits = stop - at + header.size() <= wanted.max_bytes;
        if !whole || !fits || header.last_offset() >= wanted.upto.get() {
            break;
        }
        stop += header.size();
        end = header.end();
    }
    let kept = stop - at;
    // What is given keeps the whole buffer in memory, maybe for long: no large buffers for a few bytes.
    let wasteful = chunk.len() - kept > MOST_WASTE_BYTES && kept < chunk.len() / 4 * 3;
    let data = if wasteful { Bytes::copy_from_slice(&chunk[at..stop]) } else { chunk.freeze().slice(at..stop) };
    Ok(Part::Batches(data, end))
}

pub(super) fn header_at(segment: &Segment, position: u64, bytes: &[u8]) -> Result<BatchHeader, LogError> {
    let header = BatchHeader::read(bytes).map_err(|error| corrupt(segment, position, &error.to_string()))?;
    if header.base_offset < segment.base.get() || header.last_offset_delta < 0 {
        return Err(corrupt(segment, position, "an offset below the segment's base"));
    }
    Ok(header)
}

/// So many bytes, or fewer when the file has lost its end: what is whole before that can still be given.
fn read_chunk(segment: &Segment, medium: Medium, position: u64, bytes: usize) -> Result<BytesMut, LogError> {
    let mut buffer = BytesMut::zeroed(bytes);
    let mut done = 0;
    while done < bytes {
        let read = medium.read_at(&*segment.file, &mut buffer[done..], position + done as u64);
        match read.map_err(LogError::io("reading", segment.file.path()))? {
            0 => break,
            count => done += count,
        }
    }
    buffer.truncate(done);
    Ok(buffer)
}

fn corrupt(segment: &Segment, position: u64, what: &str) -> LogError {
    LogError::Corrupt { path: segment.file.path().to_owned(), position, what: what.to_owned() }
}
