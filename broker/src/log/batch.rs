//! A v2 record batch's header (KIP-98): reading it, checking its CRC, and changing in place what a leader sets.

use crate::ids::{LeaderEpoch, Offset, ProducerId};

use super::config::{Compression, TimestampType};

/// Bytes of a v2 header.
pub const HEADER_BYTES: usize = 61;
/// Bytes before what the length field counts: base offset and length.
pub const LENGTH_OVERHEAD: usize = 12;
/// Bytes up to and including the magic byte.
pub const BYTES_TO_MAGIC: usize = 17;
/// The only magic that Kafka 4 takes.
pub const MAGIC: i8 = 2;
/// "No timestamp", in Kafka's fields.
pub const NO_TIMESTAMP: i64 = -1;

const EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
const BASE_TIMESTAMP_AT: usize = 27;
const COUNT_AT: usize = 57;

const CODEC_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

/// Why bytes are no v2 batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header or than the length field says.
    #[error("the batch needs {needed} bytes, {available} are there")]
    Truncated {
        /// Bytes that the batch says it has.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// A length that no batch can have.
    #[error("illegal batch length {0}")]
    Length(i32),
    /// Another magic than 2.
    #[error("magic {0} is not supported")]
    Magic(i8),
    /// Compression codec 5 to 7.
    #[error("unknown compression codec {0}")]
    Codec(i16),
    /// Stored and computed CRC differ.
    #[error("stored crc {stored}, computed crc {computed}")]
    Crc {
        /// In the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// A number that a stored batch never has.
    #[error("field {0} is out of range")]
    Field(&'static str),
}

/// The fields of a batch's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record (compaction may have removed that record).
    pub base_offset: i64,
    /// What the length field says: bytes after it.
    pub length: i32,
    /// Epoch of the leader that appended it; −1 from producers.
    pub leader_epoch: i32,
    /// CRC-32C from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type, transactional, control, delete horizon.
    pub attributes: i16,
    /// Offset of the last record less the base offset.
    pub last_offset_delta: i32,
    /// Timestamp that the records' deltas add to, or the delete horizon, ms.
    pub base_timestamp: i64,
    /// Largest timestamp, ms.
    pub max_timestamp: i64,
    /// −1 without an idempotent producer.
    pub producer_id: i64,
    /// −1 without an idempotent producer.
    pub producer_epoch: i16,
    /// −1 without an idempotent producer.
    pub base_sequence: i32,
    /// Records in it.
    pub count: i32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes because the range is N long")
}

/// Size in bytes of the batch that begins here, from its length field; `None` when the field is not all there.
pub fn size_of_next(bytes: &[u8]) -> Option<Result<usize, BatchError>> {
    let length = i32::from_be_bytes(*bytes.get(8..)?.first_chunk::<4>()?);
    if length < (HEADER_BYTES - LENGTH_OVERHEAD) as i32 {
        return Some(Err(BatchError::Length(length)));
    }
    Some(Ok(length as usize + LENGTH_OVERHEAD))
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which may hold less than the whole batch. Checks magic, length and
    /// codec, not the CRC.
    pub fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::Truncated { needed: HEADER_BYTES, available: bytes.len() });
        }
        let magic = bytes[MAGIC_AT] as i8;
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let header = Self {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            length: i32::from_be_bytes(array(bytes, 8)),
            leader_epoch: i32::from_be_bytes(array(bytes, EPOCH_AT)),
            crc: u32::from_be_bytes(array(bytes, CRC_AT)),
            attributes: i16::from_be_bytes(array(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, BASE_TIMESTAMP_AT)),
            max_timestamp: i64::from_be_bytes(array(bytes, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            count: i32::from_be_bytes(array(bytes, COUNT_AT)),
        };
        if header.length < (HEADER_BYTES - LENGTH_OVERHEAD) as i32 {
            return Err(BatchError::Length(header.length));
        }
        if Compression::from_id(header.attributes & CODEC_MASK).is_none() {
            return Err(BatchError::Codec(header.attributes & CODEC_MASK));
        }
        Ok(header)
    }

    /// Reads and checks a batch as it is stored: whole, its CRC right, its offsets and epoch possible. `bytes` may
    /// hold more behind it.
    pub fn read_stored(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = Self::read(bytes)?;
        if bytes.len() < header.size() {
            return Err(BatchError::Truncated { needed: header.size(), available: bytes.len() });
        }
        header.check_crc(&bytes[..header.size()])?;
        if header.base_offset < 0 {
            return Err(BatchError::Field("base offset"));
        }
        if header.last_offset_delta < 0
            || header.base_offset.checked_add(i64::from(header.last_offset_delta) + 1).is_none()
        {
            return Err(BatchError::Field("last offset delta"));
        }
        if header.leader_epoch < 0 {
            return Err(BatchError::Field("leader epoch"));
        }
        Ok(header)
    }

    /// Compares the CRC with that of the batch's bytes.
    pub fn check_crc(&self, batch: &[u8]) -> Result<(), BatchError> {
        let computed = crc_fast::crc32_iscsi(&batch[ATTRIBUTES_AT..]);
        if computed == self.crc { Ok(()) } else { Err(BatchError::Crc { stored: self.crc, computed }) }
    }

    /// Bytes of the whole batch.
    pub fn size(&self) -> usize {
        self.length as usize + LENGTH_OVERHEAD
    }

    /// Offset of the first record.
    ///
    /// # Panics
    /// When the header is not one that `read_stored` took.
    pub fn base(&self) -> Offset {
        Offset::new(self.base_offset)
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.wrapping_add(i64::from(self.last_offset_delta))
    }

    /// One past the last record.
    ///
    /// # Panics
    /// When the header is not one that `read_stored` took.
    pub fn end(&self) -> Offset {
        Offset::new(self.last_offset() + 1)
    }

    /// The epoch it was appended in; `None` in a producer's batch.
    pub fn epoch(&self) -> Option<LeaderEpoch> {
        LeaderEpoch::try_from(self.leader_epoch).ok()
    }

    /// The epoch it was appended in.
    ///
    /// # Panics
    /// When the header is not one that `read_stored` took.
    pub fn stored_epoch(&self) -> LeaderEpoch {
        LeaderEpoch::new(self.leader_epoch)
    }

    /// The idempotent producer.
    pub fn producer(&self) -> Option<ProducerId> {
        ProducerId::try_from(self.producer_id).ok()
    }

    /// The last record's sequence; sequences wrap to 0 after `i32::MAX`.
    pub fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }

    /// The codec.
    pub fn compression(&self) -> Compression {
        Compression::from_id(self.attributes & CODEC_MASK).expect("a known codec because `read` checked it")
    }

    /// Whose clock the timestamps are from.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether it holds control records.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// When its tombstones and markers may go (KIP-534), ms; set by compaction.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// The timestamp of a record of this batch, ms.
    pub fn record_timestamp(&self, delta: i64) -> i64 {
        match self.timestamp_type() {
            TimestampType::LogAppendTime => self.max_timestamp,
            TimestampType::CreateTime => self.base_timestamp.wrapping_add(delta),
        }
    }

    /// Writes the header, with the CRC of what follows it, over the front of a whole batch.
    pub(super) fn write(&self, batch: &mut [u8]) {
        let length = (batch.len() - LENGTH_OVERHEAD) as i32;
        batch[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        batch[MAGIC_AT] = MAGIC as u8;
        batch[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        batch[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        batch[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        batch[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        batch[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        batch[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        batch[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        batch[57..61].copy_from_slice(&self.count.to_be_bytes());
        write_crc(batch);
    }

    /// The attributes for these properties.
    pub(super) fn attributes_of(
        compression: Compression,
        timestamps: TimestampType,
        transactional: bool,
        control: bool,
    ) -> i16 {
        let mut attributes = compression.id();
        if timestamps == TimestampType::LogAppendTime {
            attributes |= LOG_APPEND_TIME;
        }
        if transactional {
            attributes |= TRANSACTIONAL;
        }
        if control {
            attributes |= CONTROL;
        }
        attributes
    }
}

/// The sequence `count` after `sequence`, wrapping from `i32::MAX` to 0.
pub fn sequence_after(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) & i64::from(i32::MAX)) as i32
}

fn write_crc(batch: &mut [u8]) {
    let crc = crc_fast::crc32_iscsi(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}

/// Sets what the leader decides at append: both fields lie outside the CRC.
pub fn place(batch: &mut [u8], base_offset: Offset, epoch: LeaderEpoch) {
    batch[0..8].copy_from_slice(&base_offset.get().to_be_bytes());
    batch[EPOCH_AT..EPOCH_AT + 4].copy_from_slice(&epoch.get().to_be_bytes());
}

/// Sets the timestamp type and the largest timestamp, and computes the CRC again.
pub fn stamp(batch: &mut [u8], timestamps: TimestampType, max_timestamp: i64) {
    let mut attributes = i16::from_be_bytes(array(batch, ATTRIBUTES_AT));
    match timestamps {
        TimestampType::CreateTime => attributes &= !LOG_APPEND_TIME,
        TimestampType::LogAppendTime => attributes |= LOG_APPEND_TIME,
    }
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&max_timestamp.to_be_bytes());
    write_crc(batch);
}

/// `attributes` with the delete horizon flag (KIP-534): the base timestamp is the horizon then.
pub(super) fn with_delete_horizon(attributes: i16) -> i16 {
    attributes | DELETE_HORIZON
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::BatchBuilder;

    #[test]
    fn a_leaders_fields_lie_outside_the_crc() {
        let mut batch = BatchBuilder::new(Compression::None).record(5, Some(b"k"), Some(b"v")).build().to_vec();
        place(&mut batch, Offset::new(77), LeaderEpoch::new(3));
        let header = BatchHeader::read_stored(&batch).expect("still valid");
        assert_eq!((header.base_offset, header.leader_epoch, header.end().get()), (77, 3, 78));
    }

    #[test]
    fn append_time_changes_the_crc_with_it() {
        let mut batch = BatchBuilder::new(Compression::None).record(5, None, Some(b"v")).build().to_vec();
        place(&mut batch, Offset::FIRST, LeaderEpoch::FIRST);
        stamp(&mut batch, TimestampType::LogAppendTime, 99);
        let header = BatchHeader::read_stored(&batch).expect("still valid");
        assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!((header.max_timestamp, header.record_timestamp(0)), (99, 99));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
        assert_eq!(sequence_after(4, 0), 4);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = BatchHeader::read(&bytes);
            let _ = BatchHeader::read_stored(&bytes);
            let _ = size_of_next(&bytes);
        }
    }
}
