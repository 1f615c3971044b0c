//! How a compacted segment takes the place of those that it replaces.

use std::path::Path;

use crate::ids::Offset;
use crate::io::disk::{Disk, remove_if_there};

use super::error::LogError;
use super::files;

/// Puts a whole compacted segment in the place of those that it replaces, durably. Safe to repeat after a crash.
pub(super) fn finish_swap(
    disk: &dyn Disk,
    folder: &Path,
    base: Offset,
    end: Offset,
    segments: &[Offset],
) -> Result<(), LogError> {
    for replaced in segments.iter().filter(|segment| (base..end).contains(*segment)) {
        for path in [files::segment_path(folder, *replaced), files::index_path(folder, *replaced)] {
            remove_if_there(disk, &path).map_err(LogError::io("removing", &path))?;
        }
    }
    files::sync_folder(disk, folder)?;
    let (swap, path) = (files::swap_path(folder, base, end), files::segment_path(folder, base));
    disk.rename(&swap, &path).map_err(LogError::io("renaming", &swap))?;
    files::sync_folder(disk, folder)
}
