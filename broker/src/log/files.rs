//! Names and small files of a partition's folder.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ids::{Offset, TopicId};
use crate::io::disk::{Disk, OpenMode};

use super::error::LogError;

/// Whose folder it is: `partition.json`.
pub const IDENTITY_FILE: &str = "partition.json";
/// The end of the name of what only waits for its removal.
pub const DELETED: &str = ".deleted";
/// The end of the name of a compacted segment that is not whole yet.
pub const CLEANED: &str = ".cleaned";
/// The end of the name of a compacted segment that replaces others: `{base}-{end}.swap`.
pub const SWAP: &str = ".swap";

const IDENTITY_VERSION: u32 = 1;
const MOST_IDENTITY_BYTES: u64 = 4096;

#[derive(Serialize, Deserialize)]
struct Identity {
    version: u32,
    topic_id: uuid::Uuid,
}

/// The contents of `partition.json`.
pub fn encode_identity(topic: TopicId) -> Vec<u8> {
    let identity = Identity { version: IDENTITY_VERSION, topic_id: topic.uuid() };
    serde_json::to_vec(&identity).expect("encoded because a number and a UUID always are")
}

/// Whose folder it is; `None` when it is nobody's: the file is missing, or a crash has left only its beginning or zeros.
/// A file that is there but says something else is an error: what lies beside it may have been acknowledged.
pub fn read_identity(disk: &dyn Disk, folder: &Path) -> io::Result<Option<TopicId>> {
    let Some(bytes) = read_small(disk, &folder.join(IDENTITY_FILE), MOST_IDENTITY_BYTES)? else { return Ok(None) };
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let damaged = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{IDENTITY_FILE} {what}"));
    let identity: Identity = match serde_json::from_slice(&bytes) {
        Err(error) if error.is_eof() => return Ok(None),
        parsed => parsed.map_err(|error| damaged(format!("is damaged: {error}")))?,
    };
    if identity.version != IDENTITY_VERSION {
        return Err(damaged(format!("has version {}, this program reads {IDENTITY_VERSION}", identity.version)));
    }
    TopicId::from_uuid(identity.topic_id).map(Some).ok_or_else(|| damaged("names no topic".to_owned()))
}

/// Whether a partition's folder has a segment with anything in it.
pub fn holds_records(disk: &dyn Disk, folder: &Path) -> io::Result<bool> {
    for entry in disk.list(folder)? {
        let is_segment = entry.name.strip_suffix(".log").is_some() || entry.name.ends_with(SWAP);
        if is_segment && !disk.open(&folder.join(&entry.name), OpenMode::Read)?.is_empty()? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A whole file; `None` when there is none, or it is longer than `most` bytes.
pub fn read_small(disk: &dyn Disk, path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.len()?;
    if length > most {
        return Ok(None);
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}

/// A segment's records.
pub fn segment_path(folder: &Path, base: Offset) -> PathBuf {
    folder.join(format!("{:020}.log", base.get()))
}

/// A segment's index.
pub fn index_path(folder: &Path, base: Offset) -> PathBuf {
    folder.join(format!("{:020}.index", base.get()))
}

/// The producers' state before this offset.
pub fn snapshot_path(folder: &Path, at: Offset) -> PathBuf {
    folder.join(format!("{:020}.snapshot", at.get()))
}

/// The compacted form of the segments from `base` to `end`, ready to replace them.
pub fn swap_path(folder: &Path, base: Offset, end: Offset) -> PathBuf {
    folder.join(format!("{:020}-{:020}{SWAP}", base.get(), end.get()))
}

/// The base offset in a file's name that ends with `suffix`.
pub fn offset_of(name: &str, suffix: &str) -> Option<Offset> {
    parse_offset(name.strip_suffix(suffix)?)
}

/// The range in a swap file's name.
pub fn swap_range(name: &str) -> Option<(Offset, Offset)> {
    let (base, end) = name.strip_suffix(SWAP)?.split_once('-')?;
    Some((parse_offset(base)?, parse_offset(end)?))
}

fn parse_offset(digits: &str) -> Option<Offset> {
    let whole = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    whole.then(|| digits.parse::<i64>().ok()).flatten().and_then(|offset| Offset::try_from(offset).ok())
}

/// Makes what was created, renamed or removed in a folder durable.
pub fn sync_folder(disk: &dyn Disk, folder: &Path) -> Result<(), LogError> {
    disk.sync_dir(folder).map_err(LogError::io("syncing", folder))
}

/// The same where the log may never have written: its first write makes its folder, and before it there is nothing to be made
/// durable.
pub fn sync_folder_if_there(disk: &dyn Disk, folder: &Path) -> Result<(), LogError> {
    match disk.sync_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced.map_err(LogError::io("syncing", folder)),
    }
}
