//! A segment: record batches, back to back.

use std::fmt::Write;
use std::path::Path;

use bytes::Bytes;
use serde::Serialize;

use super::super::{Failure, Shared};
use crate::client::records::{self, BatchError, Record};
use crate::log::batch::BatchHeader;

#[derive(Serialize)]
struct Segment {
    batches: Vec<Batch>,
    /// Bytes that are whole batches.
    valid_bytes: usize,
    /// What is wrong behind them.
    damage: Option<String>,
}

#[derive(Serialize)]
struct Batch {
    position: usize,
    bytes: usize,
    base_offset: i64,
    last_offset: i64,
    leader_epoch: i32,
    records: i32,
    compression: String,
    transactional: bool,
    control: bool,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    max_timestamp: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    content: Vec<Content>,
}

#[derive(Serialize)]
struct Content {
    offset: i64,
    timestamp: i64,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, Option<String>)>,
}

pub(super) fn dump(path: &Path, data: Bytes, with_records: bool, shared: &Shared) -> Result<(), Failure> {
    let segment = read(data, with_records);
    shared.open().document(&segment, people)?;
    match segment.damage {
        None => Ok(()),
        Some(damage) => {
            Err(Failure::Failed(format!("{}: after {} bytes: {damage}", path.display(), segment.valid_bytes)))
        }
    }
}

fn read(mut data: Bytes, with_records: bool) -> Segment {
    let whole = data.len();
    let mut segment = Segment { batches: Vec::new(), valid_bytes: 0, damage: None };
    loop {
        match next(&mut data, segment.valid_bytes, with_records) {
            Ok(Some(batch)) => segment.batches.push(batch),
            Ok(None) => return segment,
            Err(why) => {
                segment.damage = Some(why.to_string());
                return segment;
            }
        }
        segment.valid_bytes = whole - data.len();
    }
}

fn next(data: &mut Bytes, position: usize, with_records: bool) -> Result<Option<Batch>, BatchError> {
    let Some((header, packed)) = records::next_batch(data)? else { return Ok(None) };
    let content = if with_records { records::decode(&header, &packed)? } else { Vec::new() };
    Ok(Some(batch(position, &header, content)))
}

fn batch(position: usize, header: &BatchHeader, content: Vec<Record>) -> Batch {
    Batch {
        position,
        bytes: header.size(),
        base_offset: header.base_offset,
        last_offset: header.last_offset(),
        leader_epoch: header.leader_epoch,
        records: header.count,
        compression: format!("{:?}", header.compression()).to_lowercase(),
        transactional: header.is_transactional(),
        control: header.is_control(),
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        max_timestamp: header.max_timestamp,
        content: content.iter().map(text).collect(),
    }
}

fn text(record: &Record) -> Content {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    Content {
        offset: record.offset,
        timestamp: record.timestamp_ms,
        key: record.key.as_ref().map(text),
        value: record.value.as_ref().map(text),
        headers: record.headers.iter().map(|(name, value)| (name.clone(), value.as_ref().map(text))).collect(),
    }
}

fn people(segment: &Segment) -> String {
    let mut out = String::new();
    for batch in &segment.batches {
        let _ = writeln!(
            out,
            "{:>10}  offsets {}..{}  {} records  {} bytes  epoch {}  {}  producer {}/{}/{}  max time {}{}{}",
            batch.position,
            batch.base_offset,
            batch.last_offset,
            batch.records,
            batch.bytes,
            batch.leader_epoch,
            batch.compression,
            batch.producer_id,
            batch.producer_epoch,
            batch.base_sequence,
            batch.max_timestamp,
            if batch.transactional { "  transactional" } else { "" },
            if batch.control { "  control" } else { "" },
        );
        for record in &batch.content {
            let shown = |text: &Option<String>| text.as_ref().map_or("null".to_owned(), |text| format!("{text:?}"));
            let _ = writeln!(
                out,
                "            {} at {}: {} = {}",
                record.offset,
                record.timestamp,
                shown(&record.key),
                shown(&record.value)
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::records::NewRecord;
    use crate::log::Compression;

    #[test]
    fn whole_batches_are_shown_and_a_torn_tail_is_told() {
        let record = NewRecord { value: Some("v".into()), ..NewRecord::default() };
        let batch = records::encode(&[record.clone(), record], Compression::Lz4, None);
        let torn = [&batch[..], &batch[..batch.len() - 1]].concat();
        let segment = read(torn.into(), true);
        assert_eq!((segment.batches.len(), segment.valid_bytes), (1, batch.len()));
        assert_eq!(segment.batches[0].content.len(), 2);
        assert_eq!(segment.batches[0].compression, "lz4");
        assert!(segment.damage.is_some());
        assert!(read(batch, false).damage.is_none());
    }
}
