//! A segment's index: from offsets and times to places in the segment.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::super::{Failure, Shared};
use crate::io::disk::Disk;
use crate::io::disk::real::RealDisk;
use crate::log::index::read_all;

#[derive(Serialize)]
struct IndexRow {
    relative_offset: u32,
    position: u32,
    /// `None` when no batch is before it.
    max_timestamp_before: Option<i64>,
}

pub(super) fn dump(path: &Path, shared: &Shared) -> Result<(), Failure> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let entries = read_all(&disk, path).map_err(|why| Failure::Failed(format!("{}: {why}", path.display())))?;
    let rows: Vec<IndexRow> = entries
        .iter()
        .map(|entry| IndexRow {
            relative_offset: entry.relative_offset,
            position: entry.position,
            max_timestamp_before: (entry.max_timestamp_before != i64::MIN).then_some(entry.max_timestamp_before),
        })
        .collect();
    shared.open().rows(&["OFFSET+", "POSITION", "MAX TIME BEFORE"], &rows, |row| {
        let time = row.max_timestamp_before.map_or_else(|| "-".to_owned(), |time| time.to_string());
        vec![row.relative_offset.to_string(), row.position.to_string(), time]
    })
}
