//! What the Produce request itself demands of its records, before any log looks at them: one batch for each partition,
//! in the format that the version knows.

use bytes::Bytes;

use crate::kafka::wire::ErrorCode;

/// Bytes of a batch before those that its length counts: base offset and length.
const OVERHEAD: usize = 12;
/// Bytes up to and with the magic.
const UP_TO_MAGIC: usize = 17;
/// Bytes of a v2 batch without its records.
const HEADER: usize = 61;
/// The shortest thing that older formats call a record: what claims to be shorter is no batch of any format.
const SHORTEST: i32 = 14;
/// First version that may carry zstd (KIP-110).
const ZSTD: i16 = 7;

/// The one batch of a partition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Its bytes, without what follows it.
    pub(super) bytes: Bytes,
    /// Whether it belongs to a transaction.
    pub(super) transactional: bool,
}

/// Takes the batch of a partition, looking at its header only.
pub(super) fn take(version: i16, records: Option<&Bytes>) -> Result<Batch, ErrorCode> {
    let records = records.ok_or(ErrorCode::InvalidRecord)?;
    let length = first(records)?.ok_or(ErrorCode::InvalidRecord)?;
    if records[16] != 2 {
        return Err(ErrorCode::InvalidRecord);
    }
    if length < HEADER {
        return Err(ErrorCode::CorruptMessage);
    }
    let attributes = i16::from_be_bytes([records[21], records[22]]);
    if attributes & 7 == 4 && version < ZSTD {
        return Err(ErrorCode::UnsupportedCompressionType);
    }
    if first(&records[length..])?.is_some() {
        return Err(ErrorCode::InvalidRecord);
    }
    Ok(Batch { bytes: records.slice(..length), transactional: attributes & 0x10 != 0 })
}

/// The length of the first batch; `None` when there is no whole one.
fn first(records: &[u8]) -> Result<Option<usize>, ErrorCode> {
    let Some(head) = records.get(..OVERHEAD) else { return Ok(None) };
    let length = i32::from_be_bytes([head[8], head[9], head[10], head[11]]);
    if length < SHORTEST {
        return Err(ErrorCode::CorruptMessage);
    }
    let Some(head) = records.get(..UP_TO_MAGIC) else { return Ok(None) };
    if head[16] > 2 {
        return Err(ErrorCode::CorruptMessage);
    }
    let length = OVERHEAD + length as usize;
    Ok((length <= records.len()).then_some(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(magic: u8, attributes: i16, length: usize) -> Vec<u8> {
        let mut batch = vec![0; length];
        batch[8..12].copy_from_slice(&((length - OVERHEAD) as i32).to_be_bytes());
        batch[16] = magic;
        batch[21..23].copy_from_slice(&attributes.to_be_bytes());
        batch
    }

    fn taken(version: i16, records: &[u8]) -> Result<Batch, ErrorCode> {
        take(version, Some(&Bytes::copy_from_slice(records)))
    }

    #[test]
    fn exactly_one_whole_batch_of_format_2_is_taken() {
        let one = batch(2, 0, 70);
        assert_eq!(taken(9, &one).map(|batch| batch.bytes.len()), Ok(70));
        assert_eq!(taken(9, &[]), Err(ErrorCode::InvalidRecord));
        assert_eq!(take(9, None), Err(ErrorCode::InvalidRecord));
        assert_eq!(taken(9, &one[..69]), Err(ErrorCode::InvalidRecord), "cut short");
        assert_eq!(taken(9, &[one.clone(), one.clone()].concat()), Err(ErrorCode::InvalidRecord), "two batches");
        assert_eq!(taken(9, &batch(1, 0, 70)), Err(ErrorCode::InvalidRecord), "an older format");
        assert_eq!(taken(9, &batch(3, 0, 70)), Err(ErrorCode::CorruptMessage), "no format");
        assert_eq!(taken(9, &batch(2, 0, 60)), Err(ErrorCode::CorruptMessage), "shorter than its header");
    }

    #[test]
    fn a_batch_that_is_cut_short_behind_a_whole_one_is_dropped() {
        let one = batch(2, 0, 70);
        let records = [&one[..], &one[..30]].concat();
        assert_eq!(taken(9, &records).map(|batch| batch.bytes.len()), Ok(70));
    }

    #[test]
    fn zstd_needs_version_7() {
        let zstd = batch(2, 4, 70);
        assert_eq!(taken(6, &zstd), Err(ErrorCode::UnsupportedCompressionType));
        assert!(taken(7, &zstd).is_ok());
    }

    #[test]
    fn transactional_batches_are_told_apart() {
        assert!(taken(9, &batch(2, 0x10, 70)).is_ok_and(|batch| batch.transactional));
        assert!(taken(9, &batch(2, 0x20, 70)).is_ok_and(|batch| !batch.transactional));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(version in 3..=13_i16, records in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = taken(version, &records);
        }
    }
}
