//! Compaction.
use super::error::LogError;
use super::files;
use super::partition_log::Shared;
use super::recovery::sync_folder;
use super::store::LogStore;
use crate::ids::Offset;
use std::path::Path;

/// Puts a whole compacted segment in the place of those that it replaces, durably. Safe to repeat after a crash.
pub(super) fn finish_swap(
    shared: &Shared,
    folder: &Path,
    base: Offset,
    end: Offset,
    segments: &[Offset],
) -> Result<(), LogError> {
    let disk = &*shared.disk;
    for replaced in segments.iter().filter(|segment| (base..end).contains(*segment)) {
        for path in [files::segment_path(folder, *replaced), files::index_path(folder, *replaced)] {
            files::remove_if_there(disk, &path).map_err(LogError::io("removing", &path))?;
        }
    }
    sync_folder(shared, folder)?;
    let (swap, path) = (files::swap_path(folder, base, end), files::segment_path(folder, base));
    disk.rename(&swap, &path).map_err(LogError::io("renaming", &swap))?;
    sync_folder(shared, folder)
}

impl LogStore {
    pub(super) fn compact(&self, _now_ms: i64) -> Result<(), LogError> {
        Ok(())
    }
}
