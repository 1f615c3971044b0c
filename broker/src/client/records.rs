//! Record batches (magic 2, KIP-98) as a client writes and reads them.

use std::io::{Read, Write};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::log::Compression;

/// Bytes before a batch's records.
const HEADER_BYTES: usize = 61;
/// Where the checksummed part begins.
const CRC_COVERS_FROM: usize = 21;
/// Attributes: the codec's bits, and the flags.
const CODEC_BITS: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
/// What a batch may unpack to, bytes: against bombs.
const MAX_UNPACKED: u64 = 256 << 20;
/// How a snappy stream of Java's snappy library starts: its magic and two versions.
const XERIAL_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Bytes that the Java library packs in one snappy block.
const XERIAL_BLOCK: usize = 32 << 10;

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
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value) + 10).sum();
        length(&self.key) + length(&self.value) + headers + 20
    }
}

fn length(bytes: &Option<Bytes>) -> usize {
    bytes.as_ref().map_or(0, Bytes::len)
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
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence of the batch's first record.
    pub sequence: i32,
}

/// A batch's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes of the whole batch.
    pub size: usize,
    /// The leader epoch it was written in.
    pub leader_epoch: i32,
    /// CRC-32C of what follows it.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: i16,
    /// Offset of the last record, relative to the first.
    pub last_offset_delta: i32,
    /// The first record's timestamp, ms.
    pub base_timestamp_ms: i64,
    /// The largest timestamp, ms.
    pub max_timestamp_ms: i64,
    /// The producer's id, −1 when none.
    pub producer_id: i64,
    /// The producer's epoch, −1 when none.
    pub producer_epoch: i16,
    /// The first record's sequence, −1 when none.
    pub base_sequence: i32,
    /// How many records follow.
    pub record_count: i32,
}

impl BatchHeader {
    /// One past the last record.
    pub fn next_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta)).saturating_add(1)
    }

    /// Whether it is a transaction's marker.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether its timestamps are the broker's.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// How its records are compressed.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        codec_of(self.attributes & CODEC_BITS)
    }
}

/// Why bytes are no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// They end too early: a part of a batch.
    #[error("the batch is cut off")]
    Truncated,
    /// Magic 0, 1 or unknown.
    #[error("magic {0} is not supported")]
    Magic(i8),
    /// The checksum is wrong.
    #[error("the checksum is {computed:#010x}, the header says {stored:#010x}")]
    Checksum {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// No such codec.
    #[error("codec {0} is unknown")]
    Codec(i16),
    /// The records can't be unpacked.
    #[error("the records can't be unpacked: {0}")]
    Unpack(String),
    /// A record's bytes are inconsistent.
    #[error("record {0} of the batch is malformed")]
    Record(i32),
}

/// Encodes records as one batch, with offsets from 0.
///
/// # Panics
/// When there are no records: a batch holds at least one.
pub fn encode(
    records: &[NewRecord],
    compression: Compression,
    producer: Option<ProducerPosition>,
) -> Result<Bytes, BatchError> {
    assert!(!records.is_empty(), "a batch holds at least one record");
    let base_timestamp = records[0].timestamp_ms;
    let max_timestamp = records.iter().map(|record| record.timestamp_ms).max().unwrap_or(base_timestamp);
    let mut plain = BytesMut::with_capacity(records.iter().map(NewRecord::size).sum());
    for (delta, record) in records.iter().enumerate() {
        put_record(&mut plain, delta as i64, record, base_timestamp);
    }
    let body = pack(&plain, compression).map_err(|why| BatchError::Unpack(why.to_string()))?;
    let producer = producer.unwrap_or(ProducerPosition { id: -1, epoch: -1, sequence: -1 });

    let mut batch = BytesMut::with_capacity(HEADER_BYTES + body.len());
    batch.put_i64(0);
    batch.put_i32((HEADER_BYTES - 12 + body.len()) as i32);
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(0);
    batch.put_i16(codec_bits(compression));
    batch.put_i32(records.len() as i32 - 1);
    batch.put_i64(base_timestamp);
    batch.put_i64(max_timestamp);
    batch.put_i64(producer.id);
    batch.put_i16(producer.epoch);
    batch.put_i32(producer.sequence);
    batch.put_i32(records.len() as i32);
    batch.put_slice(&body);
    let crc = crc32c(&batch[CRC_COVERS_FROM..]);
    batch[CRC_COVERS_FROM - 4..CRC_COVERS_FROM].copy_from_slice(&crc.to_be_bytes());
    Ok(batch.freeze())
}

/// Takes the next batch off the front of `data`: its header and its packed records. `None` at the end.
pub fn next_batch(data: &mut Bytes) -> Result<Option<(BatchHeader, Bytes)>, BatchError> {
    if data.is_empty() {
        return Ok(None);
    }
    if data.len() < HEADER_BYTES {
        return Err(BatchError::Truncated);
    }
    let mut fields = data.slice(..HEADER_BYTES);
    let base_offset = fields.get_i64();
    let length = fields.get_i32();
    let leader_epoch = fields.get_i32();
    let magic = fields.get_i8();
    if magic != 2 {
        return Err(BatchError::Magic(magic));
    }
    let size = usize::try_from(length).ok().and_then(|length| length.checked_add(12));
    let size = size.filter(|size| (HEADER_BYTES..=data.len()).contains(size)).ok_or(BatchError::Truncated)?;
    let crc = fields.get_u32();
    let header = BatchHeader {
        base_offset,
        size,
        leader_epoch,
        crc,
        attributes: fields.get_i16(),
        last_offset_delta: fields.get_i32(),
        base_timestamp_ms: fields.get_i64(),
        max_timestamp_ms: fields.get_i64(),
        producer_id: fields.get_i64(),
        producer_epoch: fields.get_i16(),
        base_sequence: fields.get_i32(),
        record_count: fields.get_i32(),
    };
    let batch = data.split_to(size);
    let computed = crc32c(&batch[CRC_COVERS_FROM..]);
    if computed != crc {
        return Err(BatchError::Checksum { stored: crc, computed });
    }
    Ok(Some((header, batch.slice(HEADER_BYTES..))))
}

/// Unpacks the records of a batch.
pub fn decode(header: &BatchHeader, packed: &Bytes) -> Result<Vec<Record>, BatchError> {
    let mut body = unpack(packed, header.compression()?)?;
    let mut records = Vec::new();
    for index in 0..header.record_count {
        records.push(take_record(&mut body, header).ok_or(BatchError::Record(index))?);
    }
    Ok(records)
}

fn put_record(out: &mut BytesMut, offset_delta: i64, record: &NewRecord, base_timestamp: i64) {
    let mut body = BytesMut::with_capacity(record.size());
    body.put_i8(0);
    put_varint(&mut body, record.timestamp_ms - base_timestamp);
    put_varint(&mut body, offset_delta);
    put_bytes(&mut body, record.key.as_deref());
    put_bytes(&mut body, record.value.as_deref());
    put_varint(&mut body, record.headers.len() as i64);
    for (name, value) in &record.headers {
        put_bytes(&mut body, Some(name.as_bytes()));
        put_bytes(&mut body, value.as_deref());
    }
    put_varint(out, body.len() as i64);
    out.put_slice(&body);
}

fn take_record(body: &mut Bytes, header: &BatchHeader) -> Option<Record> {
    let length = usize::try_from(take_varint(body)?).ok()?;
    if length > body.len() {
        return None;
    }
    let mut record = body.split_to(length);
    record.try_get_i8().ok()?;
    let timestamp_delta = take_varint(&mut record)?;
    let offset_delta = take_varint(&mut record)?;
    let key = take_bytes(&mut record)?;
    let value = take_bytes(&mut record)?;
    let mut headers = Vec::new();
    for _ in 0..take_varint(&mut record)? {
        let name = String::from_utf8_lossy(&take_bytes(&mut record)??).into_owned();
        headers.push((name, take_bytes(&mut record)?));
    }
    let timestamp_ms = if header.is_log_append_time() {
        header.max_timestamp_ms
    } else {
        header.base_timestamp_ms.checked_add(timestamp_delta)?
    };
    Some(Record { offset: header.base_offset.checked_add(offset_delta)?, timestamp_ms, key, value, headers })
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8((rest as u8 & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn take_varint(from: &mut Bytes) -> Option<i64> {
    let mut raw = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = from.try_get_u8().ok()?;
        raw |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((raw >> 1) as i64 ^ -((raw & 1) as i64));
        }
    }
    None
}

fn put_bytes(out: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        None => put_varint(out, -1),
        Some(value) => {
            put_varint(out, value.len() as i64);
            out.put_slice(value);
        }
    }
}

#[allow(clippy::option_option, reason = "outside: malformed or not; inside: Kafka's null")]
fn take_bytes(from: &mut Bytes) -> Option<Option<Bytes>> {
    let length = take_varint(from)?;
    if length < 0 {
        return Some(None);
    }
    let length = usize::try_from(length).ok().filter(|length| *length <= from.len())?;
    Some(Some(from.split_to(length)))
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

fn codec_bits(compression: Compression) -> i16 {
    match compression {
        Compression::None => 0,
        Compression::Gzip => 1,
        Compression::Snappy => 2,
        Compression::Lz4 => 3,
        Compression::Zstd => 4,
    }
}

fn codec_of(bits: i16) -> Result<Compression, BatchError> {
    Ok(match bits {
        0 => Compression::None,
        1 => Compression::Gzip,
        2 => Compression::Snappy,
        3 => Compression::Lz4,
        4 => Compression::Zstd,
        unknown => return Err(BatchError::Codec(unknown)),
    })
}

fn pack(plain: &[u8], compression: Compression) -> std::io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(plain.to_vec()),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(plain)?;
            encoder.finish()
        }
        Compression::Snappy => {
            let mut out = XERIAL_HEADER.to_vec();
            for block in plain.chunks(XERIAL_BLOCK) {
                let packed = snap::raw::Encoder::new().compress_vec(block)?;
                out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
                out.extend_from_slice(&packed);
            }
            Ok(out)
        }
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(plain)?;
            encoder.finish().map_err(std::io::Error::from)
        }
        Compression::Zstd => zstd::stream::encode_all(plain, 0),
    }
}

fn unpack(packed: &Bytes, compression: Compression) -> Result<Bytes, BatchError> {
    let failed = |why: &dyn std::fmt::Display| BatchError::Unpack(why.to_string());
    match compression {
        Compression::None => Ok(packed.clone()),
        Compression::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(&packed[..])),
        Compression::Snappy => unpack_snappy(packed).map(Bytes::from),
        Compression::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(&packed[..])),
        Compression::Zstd => {
            read_bounded(zstd::stream::read::Decoder::new(&packed[..]).map_err(|why| failed(&why))?)
        }
    }
}

fn read_bounded(reader: impl Read) -> Result<Bytes, BatchError> {
    let mut out = Vec::new();
    reader.take(MAX_UNPACKED + 1).read_to_end(&mut out).map_err(|why| BatchError::Unpack(why.to_string()))?;
    if out.len() as u64 > MAX_UNPACKED {
        return Err(BatchError::Unpack(format!("more than {MAX_UNPACKED} bytes")));
    }
    Ok(out.into())
}

/// Snappy comes raw or in blocks of Java's framing.
fn unpack_snappy(packed: &[u8]) -> Result<Vec<u8>, BatchError> {
    let Some(mut blocks) = packed.strip_prefix(&XERIAL_HEADER[..8]).and_then(|rest| rest.get(8..)) else {
        return unpack_snappy_block(packed);
    };
    let mut out = Vec::new();
    while !blocks.is_empty() {
        let (length, rest) = blocks.split_first_chunk::<4>().ok_or(BatchError::Truncated)?;
        let block = rest.get(..u32::from_be_bytes(*length) as usize).ok_or(BatchError::Truncated)?;
        out.extend(unpack_snappy_block(block)?);
        if out.len() as u64 > MAX_UNPACKED {
            return Err(BatchError::Unpack(format!("more than {MAX_UNPACKED} bytes")));
        }
        blocks = &rest[block.len()..];
    }
    Ok(out)
}

fn unpack_snappy_block(block: &[u8]) -> Result<Vec<u8>, BatchError> {
    let failed = |why: snap::Error| BatchError::Unpack(why.to_string());
    let length = snap::raw::decompress_len(block).map_err(failed)?;
    if length as u64 > MAX_UNPACKED {
        return Err(BatchError::Unpack(format!("more than {MAX_UNPACKED} bytes")));
    }
    snap::raw::Decoder::new().decompress_vec(block).map_err(failed)
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
            let producer = ProducerPosition { id: 7, epoch: 1, sequence };
            let mut data = encode(&records, CODECS[codec], Some(producer)).unwrap();
            let (header, packed) = next_batch(&mut data).unwrap().unwrap();
            prop_assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 1, sequence));
            prop_assert_eq!(header.compression().unwrap(), CODECS[codec]);
            let decoded = decode(&header, &packed).unwrap();
            prop_assert_eq!(decoded.len(), records.len());
            for (index, (read, written)) in decoded.into_iter().zip(records).enumerate() {
                prop_assert_eq!(read.offset, index as i64);
                prop_assert_eq!((read.key, read.value, read.headers), (written.key, written.value, written.headers));
                prop_assert_eq!(read.timestamp_ms, written.timestamp_ms);
            }
            prop_assert!(next_batch(&mut data).unwrap().is_none());
        }

        #[test]
        fn any_bytes_are_an_error_not_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..400), codec in 0..8_i16) {
            let mut data = Bytes::from(noise.clone());
            drop(next_batch(&mut data));
            let mut whole = encode(&[NewRecord::default()], Compression::None, None).unwrap();
            let (mut header, _) = next_batch(&mut whole).unwrap().unwrap();
            header.attributes = codec;
            header.record_count = i32::MAX;
            prop_assert!(decode(&header, &Bytes::from(noise)).is_err());
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let whole = encode(&[NewRecord { timestamp_ms: 5, ..NewRecord::default() }], Compression::None, None).unwrap();
        let mut wrong = BytesMut::from(&whole[..]);
        let last = wrong.len() - 1;
        wrong[last] ^= 1;
        assert!(matches!(next_batch(&mut wrong.freeze()), Err(BatchError::Checksum { .. })));
    }
}
