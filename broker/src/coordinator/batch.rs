//! From writes to record batches of `__consumer_offsets`, and back at loading.

use std::collections::VecDeque;

use bytes::Bytes;

use super::records::{RecordError, StateRecord};
use super::write::{AfterWrite, Write};
use crate::log::batch::{BatchError, BatchHeader, HEADER_BYTES};
use crate::log::compression::{DecompressError, decompress, unpacked_limit};
use crate::log::record::{self, Records};
use crate::log::{BatchBuilder, Compression};

/// More than a record needs beside its key and value.
const RECORD_OVERHEAD: usize = 24;

/// Why a batch of the coordinator's topic can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadBatchError {
    /// Its header.
    #[error(transparent)]
    Header(#[from] BatchError),
    /// Its payload.
    #[error(transparent)]
    Compression(#[from] DecompressError),
    /// One of its records' frames.
    #[error(transparent)]
    Frame(#[from] record::RecordError),
}

/// Takes from the front of the queue what fits into one batch of at most `limit` bytes, at least one write. Writes
/// without records go along; with no other there is no batch.
pub(crate) fn next_batch(queue: &mut VecDeque<Write>, limit: usize, now_ms: i64) -> (Option<Bytes>, Vec<AfterWrite>) {
    let mut builder = BatchBuilder::new(Compression::None);
    let mut after = Vec::new();
    while let Some(write) = queue.front() {
        let records: Vec<_> = write.records.iter().map(|record| (record.key(), record.value())).collect();
        let size =
            |(key, value): &(Bytes, Option<Bytes>)| key.len() + value.as_ref().map_or(0, Bytes::len) + RECORD_OVERHEAD;
        if builder.count() > 0
            && !records.is_empty()
            && builder.bytes() + records.iter().map(size).sum::<usize>() > limit
        {
            break;
        }
        for (key, value) in &records {
            builder.push(now_ms, Some(&key[..]), value.as_deref(), std::iter::empty());
        }
        after.push(queue.pop_front().expect("it was at the front").after);
    }
    let batch = (builder.count() > 0).then(|| builder.build());
    (batch, after)
}

/// Reads the data records of whole batches, back to back; what is not the coordinator's own kind is passed over with a
/// warning, as Kafka does with records of later versions. Returns the offset after the last batch.
pub(crate) fn read(
    mut batches: &[u8],
    max_message_bytes: u32,
    mut each: impl FnMut(StateRecord),
) -> Result<Option<i64>, ReadBatchError> {
    let mut next = None;
    let mut payload = Vec::new();
    while !batches.is_empty() {
        let header = BatchHeader::read_stored(batches)?;
        let (batch, rest) = batches.split_at(header.size());
        batches = rest;
        next = Some(header.end().get());
        if header.is_control() {
            continue;
        }
        decompress(header.compression(), &batch[HEADER_BYTES..], unpacked_limit(max_message_bytes), &mut payload)?;
        for record in Records::new(&payload, header.count) {
            let record = record?;
            let offset = header.base_offset + i64::from(record.offset_delta);
            let key = Bytes::copy_from_slice(record.key.unwrap_or_default());
            match StateRecord::parse(key, record.value.map(Bytes::copy_from_slice)) {
                Ok(record) => each(record),
                Err(
                    error @ (RecordError::UnknownKey(_) | RecordError::UnknownValue(_) | RecordError::Malformed(_)),
                ) => {
                    tracing::warn!(offset, %error, "passed over a record of {}", super::OFFSETS_TOPIC);
                }
            }
        }
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LeaderEpoch, Offset};
    use crate::log::batch::place;

    fn write(group: &str, records: usize) -> Write {
        let record = StateRecord::Group { group: group.into(), value: None };
        Write { records: vec![record; records], after: AfterWrite::Nothing { what: "a test" } }
    }

    fn stored(batch: &Bytes, base: i64) -> Vec<u8> {
        let mut batch = batch.to_vec();
        place(&mut batch, Offset::new(base), LeaderEpoch::FIRST);
        batch
    }

    #[test]
    fn many_writes_share_a_batch_and_are_read_back() {
        let mut queue = VecDeque::from([write("a", 1), write("b", 0), write("c", 2)]);
        let (batch, after) = next_batch(&mut queue, 1 << 20, 1000);
        assert_eq!(after.len(), 3);
        let mut bytes = stored(&batch.expect("three records"), 7);
        let (batch, _) = next_batch(&mut VecDeque::from([write("d", 1)]), 1 << 20, 1000);
        bytes.extend(stored(&batch.expect("one record"), 10));
        let mut groups = Vec::new();
        let next = read(&bytes, 1 << 20, |record| {
            let StateRecord::Group { group, value: None } = record else { panic!("{record:?}") };
            groups.push(group.to_string());
        });
        assert_eq!(next.expect("well formed"), Some(11));
        assert_eq!(groups, ["a", "c", "c", "d"]);
    }

    #[test]
    fn a_full_batch_leaves_the_rest_for_the_next_and_a_write_is_never_split() {
        let mut queue = VecDeque::from([write("a", 2), write("b", 2), write("c", 0)]);
        let (first, after) = next_batch(&mut queue, 100, 0);
        assert_eq!((first.is_some(), after.len()), (true, 1));
        let (second, after) = next_batch(&mut queue, 100, 0);
        assert_eq!((second.is_some(), after.len(), queue.len()), (true, 2, 0));
    }

    #[test]
    fn writes_without_records_need_no_batch() {
        let mut queue = VecDeque::from([write("a", 0)]);
        let (batch, after) = next_batch(&mut queue, 100, 0);
        assert_eq!((batch, after.len()), (None, 1));
    }
}
