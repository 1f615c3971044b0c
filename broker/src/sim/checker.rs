//! What must hold: what was acknowledged stays, once and in order; what a consumer saw never changes or vanishes; the
//! replicas' logs are equal below their high watermarks; one leader an epoch; whoever may be elected has what is committed.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::scenario::Cleanup;
use super::trace::{Trace, note};
use crate::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::log::Appended;
use crate::log::batch::{BatchHeader, HEADER_BYTES};
use crate::log::record::Records;
use crate::stream::Partition;

/// A record's value: who sent it, when, and its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Value {
    pub(super) producer: u64,
    /// Counts up for each producer and partition.
    pub(super) number: u64,
    pub(super) key: u8,
}

impl Value {
    pub(super) fn bytes(self, padding: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(17 + padding);
        bytes.extend(self.producer.to_be_bytes());
        bytes.extend(self.number.to_be_bytes());
        bytes.push(self.key);
        bytes.resize(17 + padding, b'.');
        bytes
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let number = |range: std::ops::Range<usize>| Some(u64::from_be_bytes(bytes.get(range)?.try_into().ok()?));
        Some(Self { producer: number(0..8)?, number: number(8..16)?, key: *bytes.get(16)? })
    }
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) acked: u64,
    pub(super) repeated: u64,
    pub(super) seen: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.acked += other.acked;
        self.repeated += other.repeated;
        self.seen += other.seen;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { acked, repeated, seen } = self;
        write!(f, "{acked} acknowledged ({repeated} when repeated), {seen} seen")
    }
}

/// What is known of a partition.
struct Known {
    topic: String,
    cleanup: Cleanup,
    /// Retention, or an administrator, has removed what is below.
    log_start: i64,
    /// An administrator has had the records below deleted.
    deleted: i64,
    /// The newest epoch in which anything was acknowledged.
    acked_in: Option<LeaderEpoch>,
    acked: BTreeMap<i64, Value>,
    seen: BTreeMap<i64, Value>,
    offsets: BTreeMap<Value, i64>,
    /// The highest that any replica had.
    high_watermark: i64,
}

#[derive(Default)]
struct Facts {
    partitions: BTreeMap<TopicPartition, Known>,
    leaders: BTreeMap<(TopicPartition, LeaderEpoch), (i32, u64)>,
    violation: Option<String>,
    acked: u64,
    /// Of these, in answers to repeated batches.
    repeated: u64,
    seen: u64,
    /// The index of the newest metadata that any node had.
    metadata: u64,
}

/// Collects facts, and finds the contradiction.
pub(super) struct Checker {
    facts: Mutex<Facts>,
    trace: Trace,
}

impl Checker {
    pub(super) fn new(trace: Trace) -> Self {
        Self { facts: Mutex::default(), trace }
    }

    /// The first contradiction.
    pub(super) fn violation(&self) -> Option<String> {
        self.facts.lock().violation.clone()
    }

    /// How many records were acknowledged, how many of these in answers to repeated batches, and how many were seen.
    pub(super) fn counts(&self) -> Counts {
        let facts = self.facts.lock();
        Counts { acked: facts.acked, repeated: facts.repeated, seen: facts.seen }
    }

    /// Where the last record ends that was acknowledged.
    pub(super) fn acked_end(&self, partition: TopicPartition) -> i64 {
        let facts = self.facts.lock();
        let last = facts.partitions.get(&partition).and_then(|known| known.acked.last_key_value());
        last.map_or(0, |(offset, _)| offset + 1)
    }

    /// Whether a replica's log may lack batches that there were.
    pub(super) fn has_deleted(&self, partition: TopicPartition) -> bool {
        let facts = self.facts.lock();
        let known = facts.partitions.get(&partition);
        known.is_some_and(|known| known.log_start > 0 || known.cleanup == Cleanup::Compaction)
    }

    /// Whether anything was acknowledged in a partition.
    pub(super) fn has_acked(&self, partition: TopicPartition) -> bool {
        self.facts.lock().partitions.get(&partition).is_some_and(|known| !known.acked.is_empty())
    }

    /// Whether anything was acknowledged in a later epoch.
    pub(super) fn has_acked_since(&self, partition: TopicPartition, epoch: LeaderEpoch) -> bool {
        let facts = self.facts.lock();
        facts.partitions.get(&partition).and_then(|known| known.acked_in).is_some_and(|newest| newest > epoch)
    }

    pub(super) fn violated(&self, what: String) {
        note!(self.trace, "VIOLATION: {what}");
        self.facts.lock().violation.get_or_insert(what);
    }

    fn with(&self, check: impl FnOnce(&mut Facts) -> Result<(), String>) {
        let checked = check(&mut self.facts.lock());
        if let Err(what) = checked {
            self.violated(what);
        }
    }

    /// A partition that there is from now on.
    pub(super) fn created(&self, partition: TopicPartition, topic: &str, cleanup: Cleanup) {
        let known = Known {
            topic: format!("{topic}-{}", partition.partition),
            cleanup,
            log_start: 0,
            deleted: 0,
            acked_in: None,
            acked: BTreeMap::new(),
            seen: BTreeMap::new(),
            offsets: BTreeMap::new(),
            high_watermark: 0,
        };
        self.facts.lock().partitions.insert(partition, known);
    }

    /// A replica's log begins here.
    pub(super) fn begins(&self, partition: TopicPartition, log_start: Offset) {
        if let Some(known) = self.facts.lock().partitions.get_mut(&partition) {
            known.log_start = known.log_start.max(log_start.get());
        }
    }

    /// An administrator has the records below deleted.
    pub(super) fn deletes(&self, partition: TopicPartition, upto: i64) {
        if let Some(known) = self.facts.lock().partitions.get_mut(&partition) {
            known.deleted = known.deleted.max(upto);
        }
    }

    /// A node led in this epoch.
    pub(super) fn led(&self, partition: TopicPartition, epoch: LeaderEpoch, machine: i32, start: u64) {
        self.with(|facts| {
            let first = *facts.leaders.entry((partition, epoch)).or_insert((machine, start));
            if first == (machine, start) {
                return Ok(());
            }
            Err(format!("{partition:?} has two leaders in epoch {epoch}: {first:?} and {:?}", (machine, start)))
        });
    }

    /// A replica's high watermark.
    pub(super) fn committed(&self, partition: TopicPartition, upto: i64) {
        if let Some(known) = self.facts.lock().partitions.get_mut(&partition) {
            known.high_watermark = known.high_watermark.max(upto);
        }
    }

    /// Whether nobody has had newer metadata than this. Where all that had are down, the others do not know who has left
    /// the ISR since; they can't elect anybody either.
    pub(super) fn is_newest(&self, metadata: u64) -> bool {
        let known = &mut self.facts.lock().metadata;
        *known = metadata.max(*known);
        *known == metadata
    }

    /// A replica that may be elected has so much on its disk: what is beyond would be given again.
    pub(super) fn may_lead(&self, partition: TopicPartition, at: i32, flushed_end: i64) {
        self.with(|facts| {
            let Some(known) = facts.partitions.get(&partition) else { return Ok(()) };
            let (topic, committed) = (&known.topic, known.high_watermark);
            if flushed_end >= committed {
                return Ok(());
            }
            Err(format!("{topic} at node {at} may be led, and ends at {flushed_end}, where {committed} is committed"))
        });
    }

    /// acks=all was answered by the leader of this epoch: these records are where it says.
    pub(super) fn acked(&self, partition: TopicPartition, epoch: LeaderEpoch, appended: Appended, values: &[Value]) {
        let (base, end) = (appended.base_offset.get(), appended.end_offset.get());
        self.with(|facts| {
            facts.acked += values.len() as u64;
            facts.repeated += if appended.duplicate { values.len() as u64 } else { 0 };
            if end - base != values.len() as i64 {
                return Err(format!("{values:?} is acknowledged from {base} to {end}"));
            }
            let Some(known) = facts.partitions.get_mut(&partition) else { return Ok(()) };
            known.acked_in = known.acked_in.max(Some(epoch));
            for (offset, value) in (base..).zip(values) {
                known.is_at(offset, *value, "acknowledged")?;
                known.acked.insert(offset, *value);
            }
            Ok(())
        });
    }

    /// A replica has these records below its high watermark. `whole`: none is missing between `from` and the last one.
    pub(super) fn seen(&self, partition: TopicPartition, at: i32, from: i64, records: &[(i64, Value)]) {
        self.with(|facts| {
            facts.seen += records.len() as u64;
            let Some(known) = facts.partitions.get_mut(&partition) else { return Ok(()) };
            let mut next = from;
            for (offset, value) in records {
                if *offset != next && known.cleanup != Cleanup::Compaction {
                    return Err(format!("{} at node {at}: {next} is followed by {offset}", known.topic));
                }
                known.is_at(*offset, *value, &format!("seen at node {at}"))?;
                known.seen.insert(*offset, *value);
                next = offset + 1;
            }
            Ok(())
        });
    }

    /// At the end: a replica's whole log below its high watermark.
    pub(super) fn ends_with(&self, partition: TopicPartition, at: i32, start: i64, end: i64, records: &[(i64, Value)]) {
        self.seen(partition, at, start, records);
        self.with(|facts| {
            let Some(known) = facts.partitions.get(&partition) else { return Ok(()) };
            known.holds(at, start, end, records)
        });
    }
}

impl Known {
    fn is_at(&mut self, offset: i64, value: Value, how: &str) -> Result<(), String> {
        let topic = &self.topic;
        for (what, known) in [("acknowledged", &self.acked), ("seen", &self.seen)] {
            if let Some(other) = known.get(&offset)
                && *other != value
            {
                return Err(format!("{topic}: {value:?} is {how} at {offset}, where {other:?} was {what}"));
            }
        }
        let first = self.offsets.entry(value).or_insert(offset);
        // As with Kafka, a replica that had to begin at the leader's log start knows of no batch before it: a producer
        // that goes on trying for longer than retention keeps its records may have them doubled.
        if *first < self.log_start {
            *first = offset;
        }
        let first = *first;
        if first != offset {
            return Err(format!("{topic}: {value:?} is {how} at {offset}, and was at {first}"));
        }
        Ok(())
    }

    fn holds(&self, at: i32, start: i64, end: i64, records: &[(i64, Value)]) -> Result<(), String> {
        let topic = &self.topic;
        if start > self.deleted && self.cleanup != Cleanup::Retention {
            return Err(format!("{topic} at node {at} begins at {start}"));
        }
        let there: BTreeMap<i64, Value> = records.iter().copied().collect();
        let mut newest: BTreeMap<u8, i64> = BTreeMap::new();
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        for (offset, value) in records {
            newest.insert(value.key, *offset);
            if last.insert(value.producer, value.number).is_some_and(|before| before >= value.number) {
                return Err(format!("{topic} at node {at}: {value:?} at {offset} is out of order"));
            }
        }
        for (what, known) in [("acknowledged", &self.acked), ("seen", &self.seen)] {
            for (offset, value) in known.range(start..) {
                let superseded =
                    self.cleanup == Cleanup::Compaction && newest.get(&value.key).is_some_and(|newer| newer > offset);
                if there.get(offset) != Some(value) && !superseded {
                    return Err(format!(
                        "{topic} at node {at}: {value:?} was {what} at {offset} and is lost (the log has {start}..{end})"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The records of a replica from `from` to below `upto`, as far as `most` bytes go; and where the next ones begin.
pub(super) fn read(replica: &Partition, from: Offset, upto: Offset, most: usize) -> Result<Read, String> {
    let read = replica.log().read(from, upto, most, true, false).map_err(|why| why.to_string())?;
    let mut records = Vec::new();
    for data in &read.data {
        let mut left = &data[..];
        while !left.is_empty() {
            let header = BatchHeader::read_stored(left).map_err(|why| format!("{why:?}"))?;
            for record in Records::new(&left[HEADER_BYTES..header.size()], header.count) {
                let record = record.map_err(|why| format!("{why:?}"))?;
                let offset = header.base_offset + i64::from(record.offset_delta);
                let value = record.value.and_then(Value::of).ok_or("a record that nobody sent")?;
                if offset >= from.get() && offset < upto.get() {
                    records.push((offset, value));
                }
            }
            left = &left[header.size()..];
        }
    }
    Ok(Read { records, end: read.end })
}

/// What was read.
pub(super) struct Read {
    pub(super) records: Vec<(i64, Value)>,
    /// Where to read on; `None` where there was nothing.
    pub(super) end: Option<Offset>,
}
