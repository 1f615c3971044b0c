//! Small files of the data folder: read whole, replaced whole.

use std::io::IoSlice;
use std::path::Path;

use super::{DataDirError, io_error};
use crate::io::disk::{Disk, OpenMode};

/// Whether a folder holds nothing, or does not exist.
pub(super) fn is_empty(disk: &dyn Disk, dir: &Path) -> Result<bool, DataDirError> {
    if !disk.exists(dir).map_err(io_error("look for", dir))? {
        return Ok(true);
    }
    Ok(disk.list(dir).map_err(io_error("list", dir))?.is_empty())
}

/// A small file's contents, if it exists.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, DataDirError> {
    if !disk.exists(path).map_err(io_error("look for", path))? {
        return Ok(None);
    }
    let file = disk.open(path, OpenMode::Read).map_err(io_error("open", path))?;
    let mut bytes = vec![0; file.len().map_err(io_error("measure", path))? as usize];
    file.read_exact_at(&mut bytes, 0).map_err(io_error("read", path))?;
    Ok(Some(bytes))
}

/// Writes a file whole or not at all, durably.
pub(super) fn replace(disk: &dyn Disk, dir: &Path, name: &str, contents: &[u8]) -> Result<(), DataDirError> {
    let (path, temporary) = (dir.join(name), dir.join(format!("{name}.tmp")));
    let file = disk.open(&temporary, OpenMode::Create).map_err(io_error("create", &temporary))?;
    file.set_len(0).map_err(io_error("cut", &temporary))?;
    file.write_all_at(&[IoSlice::new(contents)], 0).map_err(io_error("write", &temporary))?;
    file.sync_all().map_err(io_error("sync", &temporary))?;
    disk.rename(&temporary, &path).map_err(io_error("rename", &temporary))?;
    disk.sync_dir(dir).map_err(io_error("sync", dir))
}
