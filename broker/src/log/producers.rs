//! What a partition knows of its idempotent and transactional producers (KIP-98): the last five batches of each, open
//! transactions, and the aborted ones that `read_committed` readers must skip.

use std::collections::{BTreeMap, HashMap};

use smallvec::SmallVec;

use crate::ids::{Offset, ProducerEpoch, ProducerId};

use super::batch::{BatchHeader, sequence_after};
use super::codec::{Reader, Writer};
use super::error::AppendError;
use super::types::{Origin, ProducerState};
use super::validate::Marker;

/// Batches remembered per producer: as many as Kafka's producers have in flight.
const REMEMBERED_BATCHES: usize = 5;
const SNAPSHOT_VERSION: u32 = 1;
const ABORT: i16 = 0;

/// A batch that a retry may repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RememberedBatch {
    last_sequence: i32,
    last_offset: i64,
    offset_delta: i32,
    timestamp: i64,
}

impl RememberedBatch {
    fn base_sequence(&self) -> i32 {
        sequence_after(self.last_sequence, -self.offset_delta)
    }
}

/// One producer's state.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    coordinator_epoch: i32,
    last_timestamp: i64,
    transaction_start: Option<i64>,
    batches: SmallVec<[RememberedBatch; REMEMBERED_BATCHES]>,
}

impl Producer {
    fn new(epoch: i16) -> Self {
        Self { epoch, coordinator_epoch: -1, last_timestamp: -1, transaction_start: None, batches: SmallVec::new() }
    }

    fn enter_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }

    fn last_sequence(&self) -> i32 {
        self.batches.last().map_or(-1, |batch| batch.last_sequence)
    }
}

/// An aborted transaction, by the offsets of its first record and of its marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer_id: ProducerId,
    /// Its first record.
    pub first: Offset,
    /// Its abort marker.
    pub last: Offset,
}

/// What an append would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on where the producer stopped.
    Append,
    /// It is there already.
    Duplicate {
        /// Offset of its first record.
        base: Offset,
        /// One past its last record.
        end: Offset,
        /// Its largest timestamp, ms.
        timestamp_ms: i64,
    },
}

/// A producer's state before an append, to take the append back.
#[derive(Debug)]
pub struct Undo {
    producer_id: i64,
    before: Option<Producer>,
}

/// All producers of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: HashMap<i64, Producer>,
    /// Open transactions by first offset.
    open: BTreeMap<i64, i64>,
    /// Ended transactions whose marker is not committed yet: first offset and marker's.
    ended: Vec<(i64, i64)>,
    /// In the order of their markers.
    aborted: Vec<AbortedTransaction>,
}

impl Producers {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.aborted.is_empty()
    }

    /// Checks a batch against its producer's state.
    pub fn check(&self, header: &BatchHeader, marker: Option<Marker>, origin: Origin) -> Result<Verdict, AppendError> {
        let Some(producer_id) = header.producer() else { return Ok(Verdict::Append) };
        let Some(known) = self.by_id.get(&producer_id.get()) else { return Ok(Verdict::Append) };
        if origin == Origin::Client
            && let Some(duplicate) = find_duplicate(known, header)
        {
            return Ok(duplicate);
        }
        if header.producer_epoch < known.epoch {
            return Err(AppendError::InvalidProducerEpoch { current: known.epoch, got: header.producer_epoch });
        }
        if let Some(marker) = marker {
            if marker.coordinator_epoch < known.coordinator_epoch {
                return Err(AppendError::CoordinatorFenced {
                    current: known.coordinator_epoch,
                    got: marker.coordinator_epoch,
                });
            }
            return Ok(Verdict::Append);
        }
        if origin == Origin::Client {
            check_sequence(known, header)?;
        }
        if known.transaction_start.is_some() && !header.is_transactional() && !header.is_control() {
            return Err(AppendError::InvalidTransactionState(producer_id));
        }
        Ok(Verdict::Append)
    }

    /// Takes a batch that is in the log now. Returns how to take it back; `None` when nothing changed.
    pub fn apply(&mut self, header: &BatchHeader, marker: Option<Marker>) -> Option<Undo> {
        let producer_id = header.producer()?;
        let before = self.by_id.get(&producer_id.get()).cloned();
        let undo = Undo { producer_id: producer_id.get(), before };
        let producer = self.by_id.entry(producer_id.get()).or_insert_with(|| Producer::new(header.producer_epoch));
        producer.enter_epoch(header.producer_epoch);
        producer.last_timestamp = header.max_timestamp;
        if header.is_control() {
            // A control batch whose record compaction has removed says nothing.
            let Some(marker) = marker else { return Some(undo) };
            producer.coordinator_epoch = marker.coordinator_epoch;
            if let Some(first) = producer.transaction_start.take() {
                self.open.remove(&first);
                self.ended.push((first, header.base_offset));
                if marker.control_type == ABORT {
                    let first = Offset::new(first);
                    self.aborted.push(AbortedTransaction { producer_id, first, last: header.base() });
                }
            }
            return Some(undo);
        }
        if header.base_sequence >= 0 {
            if producer.batches.len() == REMEMBERED_BATCHES {
                producer.batches.remove(0);
            }
            producer.batches.push(RememberedBatch {
                last_sequence: header.last_sequence(),
                last_offset: header.last_offset(),
                offset_delta: header.last_offset_delta,
                timestamp: header.max_timestamp,
            });
        }
        if header.is_transactional() && producer.transaction_start.is_none() {
            producer.transaction_start = Some(header.base_offset);
            self.open.insert(header.base_offset, producer_id.get());
        }
        Some(undo)
    }

    /// Takes back appends at and behind `cut`, newest first.
    pub fn take_back(&mut self, undos: impl Iterator<Item = Undo>, cut: Offset) {
        for undo in undos {
            match undo.before {
                Some(before) => {
                    if let Some(first) = before.transaction_start {
                        self.open.insert(first, undo.producer_id);
                    }
                    self.by_id.insert(undo.producer_id, before);
                }
                None => {
                    self.by_id.remove(&undo.producer_id);
                }
            }
        }
        let cut = cut.get();
        self.open.retain(|first, _| *first < cut);
        self.ended.retain(|(_, marker)| *marker < cut);
        self.aborted.retain(|aborted| aborted.last.get() < cut);
    }

    /// The first offset that `read_committed` readers must not pass: of an open transaction, or of one whose marker is
    /// not below the high watermark.
    pub fn first_unstable(&self, high_watermark: Offset) -> Option<Offset> {
        let open = self.open.first_key_value().map(|(first, _)| *first);
        let ended = self.ended.iter().filter(|(_, marker)| *marker >= high_watermark.get()).map(|(first, _)| *first);
        ended.chain(open).min().map(Offset::new)
    }

    /// Forgets ended transactions below the high watermark.
    pub fn committed(&mut self, high_watermark: Offset) {
        self.ended.retain(|(_, marker)| *marker >= high_watermark.get());
    }

    /// Aborted transactions with records in `from..upto`.
    pub fn aborted_in(&self, from: Offset, upto: Offset) -> Vec<(ProducerId, Offset)> {
        let after = self.aborted.partition_point(|aborted| aborted.last < from);
        let mut found: Vec<_> = self.aborted[after..]
            .iter()
            .filter(|aborted| aborted.first < upto)
            .map(|aborted| (aborted.producer_id, aborted.first))
            .collect();
        found.sort_by_key(|(_, first)| *first);
        found
    }

    /// Whether the record at `offset`, of a transactional batch of this producer, was aborted.
    pub fn is_aborted(&self, producer_id: i64, offset: i64) -> bool {
        let after = self.aborted.partition_point(|aborted| aborted.last.get() < offset);
        self.aborted[after..]
            .iter()
            .any(|aborted| aborted.producer_id.get() == producer_id && aborted.first.get() <= offset)
    }

    /// The log begins at `log_start` now: aborted transactions below are of no interest.
    pub fn truncate_start(&mut self, log_start: Offset) {
        self.aborted.retain(|aborted| aborted.last >= log_start);
    }

    /// Forgets producers that have been silent for `after_ms` and have no open transaction.
    pub fn expire(&mut self, now_ms: i64, after_ms: u64) {
        let after = i64::try_from(after_ms).unwrap_or(i64::MAX);
        self.by_id.retain(|_, producer| {
            producer.transaction_start.is_some() || now_ms.saturating_sub(producer.last_timestamp) < after
        });
        if self.by_id.is_empty() {
            self.by_id.shrink_to_fit();
        }
    }

    /// Whether this batch holds the newest sequence of its producer below `bound`: compaction keeps it, if empty. What is
    /// beyond may be cut again. A batch that may be the newest is, where all that are remembered are beyond.
    pub fn is_newest_of_producer(&self, header: &BatchHeader, bound: Offset) -> bool {
        self.by_id.get(&header.producer_id).is_some_and(|producer| {
            let newest = producer.batches.iter().rfind(|batch| batch.last_offset < bound.get());
            newest.map_or(!producer.batches.is_empty(), |batch| batch.last_offset == header.last_offset())
        })
    }

    /// What DescribeProducers tells.
    pub fn describe(&self) -> Vec<ProducerState> {
        let mut states: Vec<_> = self
            .by_id
            .iter()
            .filter_map(|(id, producer)| {
                Some(ProducerState {
                    producer_id: ProducerId::try_from(*id).ok()?,
                    epoch: ProducerEpoch::try_from(producer.epoch).ok()?,
                    last_sequence: producer.last_sequence(),
                    last_timestamp_ms: producer.last_timestamp,
                    coordinator_epoch: producer.coordinator_epoch,
                    transaction_start: producer.transaction_start.map(Offset::new),
                })
            })
            .collect();
        states.sort_by_key(|state| state.producer_id);
        states
    }

    /// A snapshot file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(SNAPSHOT_VERSION);
        let mut producers: Vec<_> = self.by_id.iter().collect();
        producers.sort_by_key(|(id, _)| **id);
        writer.u32(producers.len() as u32);
        for (id, producer) in producers {
            writer.i64(*id);
            writer.i32(i32::from(producer.epoch));
            writer.i32(producer.coordinator_epoch);
            writer.i64(producer.last_timestamp);
            writer.i64(producer.transaction_start.unwrap_or(-1));
            writer.u32(producer.batches.len() as u32);
            for batch in &producer.batches {
                writer.i32(batch.last_sequence);
                writer.i64(batch.last_offset);
                writer.i32(batch.offset_delta);
                writer.i64(batch.timestamp);
            }
        }
        writer.u32(self.aborted.len() as u32);
        for aborted in &self.aborted {
            writer.i64(aborted.producer_id.get());
            writer.i64(aborted.first.get());
            writer.i64(aborted.last.get());
        }
        writer.finish()
    }

    /// Reads a snapshot file; `None` when it is damaged.
    pub fn decode(file: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(file, SNAPSHOT_VERSION)?;
        let mut state = Self::default();
        for _ in 0..reader.count(36)? {
            let id = reader.i64()?;
            let mut producer = Producer::new(i16::try_from(reader.i32()?).ok()?);
            producer.coordinator_epoch = reader.i32()?;
            producer.last_timestamp = reader.i64()?;
            producer.transaction_start = Some(reader.i64()?).filter(|first| *first >= 0);
            let count = reader.count(24)?;
            if count > REMEMBERED_BATCHES {
                return None;
            }
            for _ in 0..count {
                producer.batches.push(RememberedBatch {
                    last_sequence: reader.i32()?,
                    last_offset: reader.i64()?,
                    offset_delta: reader.i32()?,
                    timestamp: reader.i64()?,
                });
            }
            if let Some(first) = producer.transaction_start {
                state.open.insert(first, id);
            }
            state.by_id.insert(id, producer);
        }
        for _ in 0..reader.count(24)? {
            state.aborted.push(AbortedTransaction {
                producer_id: ProducerId::try_from(reader.i64()?).ok()?,
                first: Offset::try_from(reader.i64()?).ok()?,
                last: Offset::try_from(reader.i64()?).ok()?,
            });
        }
        reader.is_done().then_some(state)
    }
}

fn find_duplicate(known: &Producer, header: &BatchHeader) -> Option<Verdict> {
    if known.epoch != header.producer_epoch {
        return None;
    }
    let same = |batch: &&RememberedBatch| {
        batch.base_sequence() == header.base_sequence && batch.last_sequence == header.last_sequence()
    };
    // A leader that began behind a batch has taken its retry as new, so that it may be known twice.
    let batch = known.batches.iter().rfind(same)?;
    Some(Verdict::Duplicate {
        base: Offset::new(batch.last_offset - i64::from(batch.offset_delta)),
        end: Offset::new(batch.last_offset + 1),
        timestamp_ms: batch.timestamp,
    })
}

/// A new epoch begins at 0; within an epoch each batch goes on where the last ended.
fn check_sequence(known: &Producer, header: &BatchHeader) -> Result<(), AppendError> {
    let last = if header.producer_epoch == known.epoch { known.last_sequence() } else { -1 };
    let expected = if last < 0 { 0 } else { sequence_after(last, 1) };
    if header.base_sequence == expected {
        return Ok(());
    }
    Err(AppendError::OutOfOrderSequence { expected, got: header.base_sequence })
}
