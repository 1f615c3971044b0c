//! Record batches (magic 2, KIP-98) as a client writes and reads them.

use bytes::Bytes;

use crate::ids::{ProducerEpoch, ProducerId};
use crate::log::batch::{self, BatchHeader, HEADER_BYTES};
use crate::log::compression::{DecompressError, decompress};
use crate::log::record::{self, Records};
use crate::log::{BatchBuilder, Compression};

/// What a batch may unpack to, bytes: against bombs.
const MAX_UNPACKED: usize = 256 << 20;

/// A record on its way to a broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Decides the partition, and what compaction keeps.
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

impl NewRecord {
    /// Bytes it takes in a batch, about.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value.as_ref()) + 10).sum();
        length(self.key.as_ref()) + length(self.value.as_ref()) + headers + 20
    }
}

fn length(bytes: Option<&Bytes>) -> usize {
    bytes.map_or(0, Bytes::len)
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// An idempotent producer's position (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerPosition {
    /// The producer's id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of the batch's first record.
    pub sequence: i32,
}

/// Why a batch can't be read.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Its header, or its checksum.
    #[error(transparent)]
    Header(#[from] batch::BatchError),
    /// Its compression.
    #[error("the records can't be unpacked: {0}")]
    Unpack(#[from] DecompressError),
    /// One of its records.
    #[error(transparent)]
    Record(#[from] record::RecordError),
}

impl BatchError {
    /// Whether the bytes end before the batch does.
    pub fn is_truncated(&self) -> bool {
        matches!(self, Self::Header(batch::BatchError::Truncated { .. }))
    }
}

/// Encodes records as one batch.
///
/// # Panics
/// When there are no records: a batch holds at least one.
pub fn encode(records: &[NewRecord], compression: Compression, producer: Option<ProducerPosition>) -> Bytes {
    let mut batch = BatchBuilder::new(compression);
    if let Some(position) = producer {
        batch = batch.idempotent(position.id, position.epoch, position.sequence);
    }
    for record in records {
        let headers = record.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_deref()));
        batch.push(record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), headers);
    }
    batch.build()
}

/// Takes the next batch off the front of `data`: its header and its packed records, the checksum found right. `None`
/// at the end.
pub fn next_batch(data: &mut Bytes) -> Result<Option<(BatchHeader, Bytes)>, BatchError> {
    if data.is_empty() {
        return Ok(None);
    }
    let header = BatchHeader::read(data)?;
    if header.size() > data.len() {
        return Err(batch::BatchError::Truncated { needed: header.size(), available: data.len() }.into());
    }
    header.check_crc(&data[..header.size()])?;
    let batch = data.split_to(header.size());
    Ok(Some((header, batch.slice(HEADER_BYTES..))))
}

/// Unpacks the records of a batch. Keys and values are slices of one buffer.
pub fn decode(header: &BatchHeader, packed: &Bytes) -> Result<Vec<Record>, BatchError> {
    let body = match header.compression() {
        Compression::None => packed.clone(),
        codec => {
            let mut body = Vec::new();
            decompress(codec, packed, MAX_UNPACKED, &mut body)?;
            Bytes::from(body)
        }
    };
    let owned = |bytes: Option<&[u8]>| bytes.map(|bytes| body.slice_ref(bytes));
    Records::new(&body, header.count)
        .map(|record| {
            let record = record?;
            let name = |name| String::from_utf8_lossy(name).into_owned();
            Ok(Record {
                offset: header.base_offset.saturating_add(i64::from(record.offset_delta)),
                timestamp_ms: header.record_timestamp(record.timestamp_delta),
                key: owned(record.key),
                value: owned(record.value),
                headers: record.headers().map(|(key, value)| (name(key), owned(value))).collect(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODECS: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    fn bytes() -> impl Strategy<Value = Option<Bytes>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from))
    }

    fn records() -> impl Strategy<Value = Vec<NewRecord>> {
        let headers = proptest::collection::vec(("[a-z]{0,5}", bytes()), 0..3);
        let record = (bytes(), bytes(), headers, 0..i64::from(u32::MAX))
            .prop_map(|(key, value, headers, timestamp_ms)| NewRecord { key, value, headers, timestamp_ms });
        proptest::collection::vec(record, 1..20)
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(records in records(), codec in 0..5_usize, sequence in 0..1000_i32) {
            let producer = ProducerPosition { id: ProducerId::new(7), epoch: ProducerEpoch::new(1), sequence };
            let mut data = encode(&records, CODECS[codec], Some(producer));
            let (header, packed) = next_batch(&mut data).unwrap().unwrap();
            prop_assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 1, sequence));
            let decoded = decode(&header, &packed).unwrap();
            prop_assert_eq!(decoded.len(), records.len());
            for (index, (read, written)) in decoded.into_iter().zip(records).enumerate() {
                prop_assert_eq!(read.offset, index as i64);
                prop_assert_eq!((read.key, read.value, read.headers), (written.key, written.value, written.headers));
                prop_assert_eq!(read.timestamp_ms, written.timestamp_ms);
            }
            prop_assert!(next_batch(&mut data).unwrap().is_none());
        }
    }

    #[test]
    fn a_batch_that_is_cut_is_told_from_one_that_is_wrong() {
        let whole = encode(&[NewRecord::default()], Compression::None, None);
        for length in 1..whole.len() {
            assert!(next_batch(&mut whole.slice(..length)).unwrap_err().is_truncated(), "{length}");
        }
        let mut wrong = whole.to_vec();
        wrong[HEADER_BYTES] ^= 1;
        assert!(!next_batch(&mut wrong.into()).unwrap_err().is_truncated());
    }
}
