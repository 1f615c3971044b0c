//! Snapshot files: written whole to a temporary file, synced, renamed, the folder synced. One with its final name is
//! whole, or was damaged later.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;

use super::record::crc;
use super::{ConfState, RaftError, proto};
use crate::io::disk::{Disk, OpenMode};

const EXTENSION: &str = ".snapshot";
const TEMPORARY: &str = ".tmp";
const MAGIC: &[u8; 8] = b"chrmeta1";
const HEADER_BYTES: usize = MAGIC.len() + 4;

/// The state up to an index of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotFile {
    /// The last entry that it holds.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// Who votes and who learns, as of that entry.
    pub members: ConfState,
    /// The state's bytes.
    pub state: Bytes,
}

/// Writes a snapshot; when this returns it is durable.
pub fn write(disk: &dyn Disk, dir: &Path, snapshot: &SnapshotFile) -> Result<(), RaftError> {
    let payload = proto::SnapshotFile {
        index: snapshot.index,
        term: snapshot.term,
        members: Some((&snapshot.members).into()),
        state: snapshot.state.clone(),
    }
    .encode_to_vec();
    let check = crc(&[&payload]).to_le_bytes();
    let path = path(dir, snapshot.index);
    let mut temporary = path.clone().into_os_string();
    temporary.push(TEMPORARY);
    let temporary = PathBuf::from(temporary);
    let file = disk.open(&temporary, OpenMode::Create).map_err(RaftError::io("create", &temporary))?;
    file.set_len(0).map_err(RaftError::io("cut", &temporary))?;
    let parts = [IoSlice::new(MAGIC), IoSlice::new(&check), IoSlice::new(&payload)];
    file.write_all_at(&parts, 0).map_err(RaftError::io("write", &temporary))?;
    file.sync_all().map_err(RaftError::io("sync", &temporary))?;
    disk.rename(&temporary, &path).map_err(RaftError::io("rename", &temporary))?;
    disk.sync_dir(dir).map_err(RaftError::io("sync", dir))
}

/// The index of the newest snapshot in a folder; `None` when there is none, or no such folder.
pub fn newest(disk: &dyn Disk, dir: &Path) -> Result<Option<u64>, RaftError> {
    if !disk.exists(dir).map_err(RaftError::io("look for", dir))? {
        return Ok(None);
    }
    let entries = disk.list(dir).map_err(RaftError::io("list", dir))?;
    Ok(entries.iter().filter_map(|entry| index_of(&entry.name)).max())
}

/// Reads a snapshot.
pub fn read(disk: &dyn Disk, dir: &Path, index: u64) -> Result<SnapshotFile, RaftError> {
    let path = path(dir, index);
    let file = disk.open(&path, OpenMode::Read).map_err(RaftError::io("open", &path))?;
    let length = file.len().map_err(RaftError::io("measure", &path))?;
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).map_err(RaftError::io("read", &path))?;
    let snapshot = decode(Bytes::from(bytes)).map_err(|what| RaftError::corrupt(&path, what))?;
    if snapshot.index != index {
        return Err(RaftError::corrupt(&path, format!("it holds the snapshot at {}", snapshot.index)));
    }
    Ok(snapshot)
}

/// The snapshot that a file's bytes hold, or what is wrong with them.
pub fn decode(bytes: Bytes) -> Result<SnapshotFile, String> {
    let header = bytes.get(..HEADER_BYTES).ok_or("it is too short")?;
    let (magic, check) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err("it is no snapshot of a version that is known here".to_owned());
    }
    let payload = bytes.slice(HEADER_BYTES..);
    if check != crc(&[&payload]).to_le_bytes() {
        return Err("its checksum does not match".to_owned());
    }
    let file = proto::SnapshotFile::decode(payload).map_err(|error| error.to_string())?;
    let members = file.members.ok_or("it names no members")?;
    Ok(SnapshotFile { index: file.index, term: file.term, members: members.into(), state: file.state })
}

/// Removes the snapshots before `index` and what interrupted writes left.
pub fn remove_before(disk: &dyn Disk, dir: &Path, index: u64) -> Result<(), RaftError> {
    for entry in disk.list(dir).map_err(RaftError::io("list", dir))? {
        let finished = entry.name.strip_suffix(TEMPORARY).unwrap_or(&entry.name);
        if index_of(finished).is_some_and(|of| of < index) {
            let path = dir.join(&entry.name);
            disk.remove_file(&path).map_err(RaftError::io("remove", &path))?;
        }
    }
    Ok(())
}

fn index_of(name: &str) -> Option<u64> {
    name.strip_suffix(EXTENSION)?.parse().ok()
}

fn path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{index:020}{EXTENSION}"))
}
