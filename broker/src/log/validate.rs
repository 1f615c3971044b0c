//! What a leader checks and changes in produced batches before it appends them, as Kafka's LogValidator does.
//!
//! Runs before the log's lock is taken: everything but offsets and sequences is decided here.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::batch::{self, BYTES_TO_MAGIC, BatchError, BatchHeader, HEADER_BYTES, MAGIC, NO_TIMESTAMP};
use super::builder::BatchBuilder;
use super::compression::{DecompressError, decompress, unpacked_limit};
use super::config::{Compression, LogConfig, TimestampType, TopicCompression};
use super::error::{AppendError, RecordError};
use super::record::{Record, Records};
use super::types::{Brief, Origin};

/// What unpacks to more is unpacked one at a time.
const SHARED_BUFFER_BYTES: usize = 4 << 20;
/// Unpacking and packing more than this takes long: more than a millisecond or so.
const BRIEF_PACKED_BYTES: usize = 64 << 10;
const BRIEF_UNPACKED_BYTES: usize = 512 << 10;
const BRIEF_REPACKED_BYTES: usize = 16 << 10;
/// Kafka's message lists so many bad records.
const SHOWN_ERRORS: usize = 3;
/// Bad records of one batch that are told to the client; a batch may have millions.
const MOST_ERRORS: usize = 1000;

/// Held while a batch above `SHARED_BUFFER_BYTES` is unpacked and checked.
static ONE_LARGE: Mutex<()> = Mutex::new(());

thread_local! {
    static UNPACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What batches are checked against.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The topic's settings.
    pub config: &'a LogConfig,
    /// Who made the batches.
    pub origin: Origin,
    /// Now, ms since the Unix epoch.
    pub now_ms: i64,
    /// `topic-partition`, for messages.
    pub name: &'a str,
}

/// A batch that only lacks its offset and leader epoch.
#[derive(Debug)]
pub struct ValidBatch {
    /// Its bytes.
    pub bytes: BytesMut,
    /// Its header.
    pub header: BatchHeader,
    /// Of a control batch: type and coordinator epoch of its marker.
    pub marker: Option<Marker>,
}

/// What a transaction marker says (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// 0 abort, 1 commit.
    pub control_type: i16,
    /// The epoch of the coordinator that wrote it.
    pub coordinator_epoch: i32,
}

impl Marker {
    /// Reads a control record; `None` when it is no end-of-transaction marker.
    pub fn read(record: &Record<'_>) -> Option<Self> {
        let control_type = i16::from_be_bytes(*record.key?.get(2..)?.first_chunk()?);
        let coordinator_epoch = i32::from_be_bytes(*record.value?.get(2..)?.first_chunk()?);
        (0..=1).contains(&control_type).then_some(Self { control_type, coordinator_epoch })
    }
}

/// Batches that may be appended.
#[derive(Debug)]
pub struct ValidBatches {
    /// In order.
    pub batches: Vec<ValidBatch>,
    /// The time that `LogAppendTime` put on them, ms.
    pub log_append_time_ms: Option<i64>,
}

/// How long a check may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Others wait for the thread.
    Brief,
    /// As long as it takes.
    Unhurried,
}

/// Why batches are not valid, or not yet.
enum Invalid {
    Refused(AppendError),
    /// To find out takes long. Only for those in a hurry.
    Long(Bytes),
}

impl From<AppendError> for Invalid {
    fn from(error: AppendError) -> Self {
        Self::Refused(error)
    }
}

/// Checks `records` and makes them ready to be appended. May take long: a second for tens of megabytes.
pub fn validate(records: Bytes, rules: Rules<'_>) -> Result<ValidBatches, AppendError> {
    check(records, rules, Pace::Unhurried).map_err(|invalid| match invalid {
        Invalid::Refused(error) => error,
        Invalid::Long(_) => unreachable!("nobody is in a hurry"),
    })
}

/// Like `validate` for a client's batch, but gives it back when unpacking or packing it takes long.
pub fn validate_briefly(records: Bytes, rules: Rules<'_>) -> Result<Brief<ValidBatches>, AppendError> {
    assert_eq!(rules.origin, Origin::Client, "what is given back is the only batch");
    match check(records, rules, Pace::Brief) {
        Ok(valid) => Ok(Brief::Done(valid)),
        Err(Invalid::Long(records)) => Ok(Brief::Long(records)),
        Err(Invalid::Refused(error)) => Err(error),
    }
}

fn check(records: Bytes, rules: Rules<'_>, pace: Pace) -> Result<ValidBatches, Invalid> {
    let sizes = split(&records, rules)?;
    let mut batches = Vec::with_capacity(sizes.len());
    let mut rest = records;
    let last = sizes.len() - 1;
    for (index, size) in sizes.into_iter().enumerate() {
        // The last takes the buffer itself: when nobody else holds it, it is changed in place without a copy.
        let bytes = if index == last {
            rest.truncate(size);
            std::mem::take(&mut rest)
        } else {
            rest.split_to(size)
        };
        let header = check_batch(&bytes, rules)?;
        batches.push(check_records(bytes, header, rules, pace)?);
    }
    let total: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
    if total > rules.config.segment_bytes as usize {
        return Err(AppendError::LargerThanSegment { size: total, limit: rules.config.segment_bytes }.into());
    }
    let append_time = rules.config.timestamp_type == TimestampType::LogAppendTime;
    Ok(ValidBatches { batches, log_append_time_ms: append_time.then_some(rules.now_ms) })
}

/// Finds the batches' sizes: at least one, of magic 2; from clients exactly one. A cut batch at the end is ignored,
/// as Kafka does.
fn split(records: &[u8], rules: Rules<'_>) -> Result<Vec<usize>, AppendError> {
    let mut sizes = Vec::with_capacity(1);
    let mut left = records;
    while left.len() >= BYTES_TO_MAGIC {
        let magic = left[BYTES_TO_MAGIC - 1] as i8;
        if !(0..=MAGIC).contains(&magic) {
            return Err(AppendError::Corrupt(format!("invalid magic {magic} in {}", rules.name)));
        }
        let size = match batch::size_of_next(left).expect("the length is there because 17 bytes are") {
            Ok(size) => size,
            // Older formats have smaller headers: they are refused for their magic.
            Err(BatchError::Length(length)) if magic < MAGIC && length >= 2 => length as usize + batch::LENGTH_OVERHEAD,
            Err(error) => return Err(AppendError::Corrupt(format!("{error} in {}", rules.name))),
        };
        if size > left.len() {
            break;
        }
        if magic != MAGIC {
            return Err(AppendError::invalid(format!(
                "only record batches with magic version 2 are allowed, not {magic}, in {}",
                rules.name
            )));
        }
        sizes.push(size);
        left = &left[size..];
    }
    match (sizes.len(), rules.origin) {
        (0, _) => Err(AppendError::invalid(format!("no whole record batch for {}", rules.name))),
        (2.., Origin::Client) => {
            Err(AppendError::invalid(format!("more than one record batch in one request for {}", rules.name)))
        }
        _ => Ok(sizes),
    }
}

/// Everything that needs only the header and the CRC.
fn check_batch(bytes: &[u8], rules: Rules<'_>) -> Result<BatchHeader, AppendError> {
    let name = rules.name;
    if bytes.len() < HEADER_BYTES {
        return Err(AppendError::Corrupt(format!("a batch of {} bytes in {name}", bytes.len())));
    }
    let base_offset = i64::from_be_bytes(*bytes.first_chunk().expect("long enough because of the check above"));
    if rules.origin == Origin::Client && base_offset != 0 {
        return Err(AppendError::invalid(format!(
            "The baseOffset of the record batch in the append to {name} should be 0, but it is {base_offset}"
        )));
    }
    if bytes.len() > rules.config.max_message_bytes as usize {
        return Err(AppendError::TooLarge { size: bytes.len(), limit: rules.config.max_message_bytes });
    }
    let header = match BatchHeader::read(bytes) {
        Ok(header) => header,
        Err(error @ BatchError::Codec(_)) => return Err(AppendError::invalid(format!("{error} in {name}"))),
        Err(error) => return Err(AppendError::Corrupt(format!("{error} in {name}"))),
    };
    header.check_crc(bytes).map_err(|error| AppendError::Corrupt(format!("{error} in {name}")))?;

    let range = i64::from(header.last_offset_delta) + 1;
    if range <= 0 {
        return Err(AppendError::invalid(format!(
            "Batch has an invalid offset range: [{base_offset}, {}] in topic partition {name}",
            header.last_offset()
        )));
    }
    if header.count <= 0 {
        return Err(AppendError::invalid(format!(
            "Invalid reported count for record batch: {} in topic partition {name}",
            header.count
        )));
    }
    if range != i64::from(header.count) {
        return Err(AppendError::invalid(format!(
            "Inconsistent batch offset range [{base_offset}, {}] and count of records {} in topic partition {name}",
            header.last_offset(),
            header.count
        )));
    }
    if header.producer().is_some() && header.producer_epoch < 0 {
        return Err(AppendError::invalid(format!(
            "Invalid producer epoch {} in record batch with producerId {} in topic partition {name}",
            header.producer_epoch, header.producer_id
        )));
    }
    if rules.origin == Origin::Client {
        check_client_batch(&header, rules)?;
    }
    Ok(header)
}

fn check_client_batch(header: &BatchHeader, rules: Rules<'_>) -> Result<(), AppendError> {
    let name = rules.name;
    if header.is_control() {
        return Err(AppendError::invalid(format!(
            "Clients are not allowed to write control records in topic partition {name}"
        )));
    }
    if header.producer().is_some() && header.base_sequence < 0 {
        return Err(AppendError::invalid(format!(
            "Invalid sequence number {} in record batch with producerId {} in topic partition {name}",
            header.base_sequence, header.producer_id
        )));
    }
    Ok(())
}

/// What the walk over a batch's records found.
struct Walk {
    max_timestamp: i64,
    /// Offset deltas are 0, 1, 2, … .
    in_order: bool,
    marker: Option<Marker>,
}

/// Walks the records, then brings the batch into the form in which it is stored.
fn check_records(bytes: Bytes, header: BatchHeader, rules: Rules<'_>, pace: Pace) -> Result<ValidBatch, Invalid> {
    let source = header.compression();
    let target = match rules.config.compression {
        TopicCompression::Producer => source,
        // Markers are never compressed by the broker.
        TopicCompression::Always(_) if header.is_control() => source,
        TopicCompression::Always(codec) => codec,
    };
    let payload = &bytes[HEADER_BYTES..];
    // Packing is by far the slowest.
    let repacked = target != source && target != Compression::None;
    let too_long = |unpacked: usize| pace == Pace::Brief && repacked && unpacked > BRIEF_REPACKED_BYTES;
    if (source != Compression::None && pace == Pace::Brief && payload.len() > BRIEF_PACKED_BYTES)
        || too_long(payload.len())
    {
        return Err(Invalid::Long(bytes));
    }
    let checked = if source == Compression::None {
        Some(check_payload(payload, header, target, rules)?)
    } else {
        UNPACKED.with_borrow_mut(|unpacked| {
            let limit = unpacked_limit(rules.config.max_message_bytes);
            let refused = |error| AppendError::invalid(format!("{error} in {}", rules.name));
            if pace == Pace::Brief {
                match decompress(source, payload, limit.min(BRIEF_UNPACKED_BYTES), unpacked) {
                    Err(DecompressError::TooLarge(_)) => return Ok(None),
                    Ok(()) if too_long(unpacked.len()) => return Ok(None),
                    outcome => outcome.map_err(refused)?,
                }
                return check_payload(unpacked, header, target, rules).map(Some);
            }
            // Most batches are small. Of the others one at a time is unpacked: each may take as much as the limit.
            let _alone;
            let outcome = match decompress(source, payload, limit.min(SHARED_BUFFER_BYTES), unpacked) {
                Err(DecompressError::TooLarge(_)) if limit > SHARED_BUFFER_BYTES => {
                    _alone = ONE_LARGE.lock();
                    decompress(source, payload, limit, unpacked)
                }
                outcome => outcome,
            };
            let outcome = outcome.map_err(refused).and_then(|()| check_payload(unpacked, header, target, rules));
            // What takes long is done on many threads in turn: each would keep its own.
            unpacked.clear();
            unpacked.shrink_to(BRIEF_UNPACKED_BYTES);
            outcome.map(Some)
        })?
    };
    let Some((walk, rebuilt)) = checked else { return Err(Invalid::Long(bytes)) };
    if let Some(rebuilt) = rebuilt {
        let header = BatchHeader::read(&rebuilt).expect("a whole header because it was just built");
        return Ok(ValidBatch { bytes: rebuilt, header, marker: walk.marker });
    }
    Ok(stamped(bytes, header, &walk, rules))
}

fn check_payload(
    payload: &[u8],
    header: BatchHeader,
    target: Compression,
    rules: Rules<'_>,
) -> Result<(Walk, Option<BytesMut>), AppendError> {
    let walk = walk_records(payload, &header, rules)?;
    if target == header.compression() && (walk.in_order || header.is_control()) {
        return Ok((walk, None));
    }
    let rebuilt = rebuild(payload, &header, target, rules);
    if rebuilt.len() > rules.config.max_message_bytes as usize {
        return Err(AppendError::TooLarge { size: rebuilt.len(), limit: rules.config.max_message_bytes });
    }
    Ok((walk, Some(rebuilt)))
}

/// The producer's own bytes, with the timestamp fields that the topic demands.
fn stamped(bytes: Bytes, mut header: BatchHeader, walk: &Walk, rules: Rules<'_>) -> ValidBatch {
    let mut bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    let max_timestamp = match rules.config.timestamp_type {
        TimestampType::CreateTime => walk.max_timestamp,
        TimestampType::LogAppendTime => rules.now_ms,
    };
    if header.timestamp_type() != rules.config.timestamp_type || header.max_timestamp != max_timestamp {
        batch::stamp(&mut bytes, rules.config.timestamp_type, max_timestamp);
        header = BatchHeader::read(&bytes).expect("a whole header because it was one before");
    }
    ValidBatch { bytes, header, marker: walk.marker }
}

fn walk_records(payload: &[u8], header: &BatchHeader, rules: Rules<'_>) -> Result<Walk, AppendError> {
    let mut walk = Walk { max_timestamp: NO_TIMESTAMP, in_order: true, marker: None };
    let mut faults = Faults::default();
    let keys_needed = rules.config.cleanup_policy.compact;
    for (index, record) in (0i32..).zip(Records::new(payload, header.count)) {
        let record =
            record.map_err(|error| AppendError::invalid(format!("{error} in topic partition {}", rules.name)))?;
        let timestamp = header.record_timestamp(record.timestamp_delta);
        walk.max_timestamp = walk.max_timestamp.max(timestamp);
        walk.in_order &= record.offset_delta == index;
        if keys_needed && record.key.is_none() {
            faults.add(index, false, || {
                format!("Compacted topic cannot accept message without key in topic partition {}", rules.name)
            });
        } else if let Some(fault) = timestamp_fault(header, timestamp, rules) {
            faults.add(index, true, || fault.message(header.base_offset + i64::from(record.offset_delta), &record));
        }
        if header.is_control() && index == 0 {
            walk.marker = Marker::read(&record);
        }
    }
    faults.into_result().map(|()| walk)
}

enum TimestampFault {
    OutOfRange { timestamp: i64, from: i64, to: i64 },
    AppendTimeFromProducer { timestamp: i64 },
}

impl TimestampFault {
    fn message(&self, offset: i64, record: &Record<'_>) -> String {
        match self {
            Self::OutOfRange { timestamp, from, to } => format!(
                "Timestamp {timestamp} of message with offset {offset} is out of range. The timestamp should be \
                 within [{from}, {to}]"
            ),
            Self::AppendTimeFromProducer { timestamp } => {
                let key = record.key.map_or(-1, |key| key.len() as i64);
                let value = record.value.map_or(-1, |value| value.len() as i64);
                format!(
                    "Invalid timestamp type in message DefaultRecord(offset={offset}, timestamp={timestamp}, \
                     key={key} bytes, value={value} bytes). Producer should not set timestamp type to LogAppendTime."
                )
            }
        }
    }
}

fn timestamp_fault(header: &BatchHeader, timestamp: i64, rules: Rules<'_>) -> Option<TimestampFault> {
    let config = rules.config;
    if config.timestamp_type == TimestampType::CreateTime && timestamp != NO_TIMESTAMP {
        let age = rules.now_ms.saturating_sub(timestamp);
        let ahead = timestamp.saturating_sub(rules.now_ms);
        return (age > config.timestamp_before_max_ms || ahead > config.timestamp_after_max_ms).then(|| {
            TimestampFault::OutOfRange {
                timestamp,
                from: rules.now_ms.wrapping_sub(config.timestamp_before_max_ms),
                to: rules.now_ms.wrapping_add(config.timestamp_after_max_ms),
            }
        });
    }
    (header.timestamp_type() == TimestampType::LogAppendTime)
        .then_some(TimestampFault::AppendTimeFromProducer { timestamp })
}

/// The bad records of a batch.
#[derive(Default)]
struct Faults {
    records: Vec<RecordError>,
    count: usize,
    timestamps: bool,
}

impl Faults {
    fn add(&mut self, index: i32, timestamp: bool, message: impl FnOnce() -> String) {
        self.count += 1;
        self.timestamps |= timestamp;
        if self.records.len() < MOST_ERRORS {
            self.records.push(RecordError { index, message: message() });
        }
    }

    fn into_result(self) -> Result<(), AppendError> {
        let Self { records, count, timestamps } = self;
        if count == 0 {
            return Ok(());
        }
        if timestamps {
            let message = "One or more records have been rejected due to invalid timestamp".to_owned();
            return Err(AppendError::InvalidTimestamp { message, records });
        }
        let shown: Vec<String> = records
            .iter()
            .take(SHOWN_ERRORS)
            .map(|record| format!("RecordError(batchIndex={}, message='{}')", record.index, record.message))
            .collect();
        let message = format!(
            "One or more records have been rejected due to {count} record errors in total, and only showing the \
             first three errors at most: [{}]",
            shown.join(", ")
        );
        Err(AppendError::InvalidRecord { message, records })
    }
}

/// Encodes the (already walked) records again: in another codec, or with offsets in order.
fn rebuild(payload: &[u8], header: &BatchHeader, target: Compression, rules: Rules<'_>) -> BytesMut {
    let mut builder = BatchBuilder::new(target).levels(rules.config.compression_levels);
    if let Some(producer) = header.producer() {
        let epoch = crate::ids::ProducerEpoch::new(header.producer_epoch);
        builder = if header.is_transactional() {
            builder.transactional(producer, epoch, header.base_sequence)
        } else {
            builder.idempotent(producer, epoch, header.base_sequence)
        };
    }
    for record in Records::new(payload, header.count) {
        let record = record.expect("well formed because the walk has read it");
        builder.push(header.record_timestamp(record.timestamp_delta), record.key, record.value, record.headers());
    }
    if rules.config.timestamp_type == TimestampType::LogAppendTime {
        builder = builder.append_time(rules.now_ms);
    }
    BytesMut::from(&builder.build_vec()[..])
}
