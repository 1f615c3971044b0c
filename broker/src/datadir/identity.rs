//! `node.json`: whose data folder it is.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::files::{is_empty, read, replace};
use super::{DataDirError, WAL};
use crate::ids::NodeId;
use crate::io::disk::Disk;

/// The layout of the folder that this version writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The file's name.
pub(super) const IDENTITY: &str = "node.json";

/// Whose folder it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, as clients see it.
    pub cluster_id: String,
    /// The node.
    pub node: NodeId,
    /// The folder itself: an emptied or replaced one has another.
    pub directory: Uuid,
}

/// `node.json`.
#[derive(Serialize, Deserialize)]
struct IdentityFile {
    format_version: u32,
    cluster_id: String,
    node_id: i32,
    directory_id: Uuid,
    /// Whether the node has formed or joined a cluster, so that its metadata must be there.
    formed: bool,
}

/// The part of `node.json` that every version can read.
#[derive(Deserialize)]
struct FormatOnly {
    format_version: u32,
}

/// The identity of a folder that has none yet, not written down. The folder must hold nothing.
pub(super) fn new_identity(
    disk: &dyn Disk,
    path: &Path,
    node: NodeId,
    cluster_id: Option<&str>,
    mut draw: impl FnMut() -> Uuid,
) -> Result<Identity, DataDirError> {
    if !is_empty(disk, &path.join(WAL))? {
        return Err(DataDirError::NoIdentity(path.to_owned()));
    }
    // As Kafka writes UUIDs; one that starts with a dash would look like an option on a command line.
    let mut drawn_cluster = || loop {
        let text = URL_SAFE_NO_PAD.encode(draw().as_bytes());
        if !text.starts_with('-') {
            return text;
        }
    };
    let cluster_id = cluster_id.map_or_else(&mut drawn_cluster, str::to_owned);
    Ok(Identity { cluster_id, node, directory: draw() })
}

/// Whether the folder is that of this node, and of this cluster when one is given.
pub(super) fn check_identity(
    path: &Path,
    found: &Identity,
    node: NodeId,
    cluster_id: Option<&str>,
) -> Result<(), DataDirError> {
    if found.node != node {
        return Err(DataDirError::OtherNode { path: path.to_owned(), found: found.node, given: node });
    }
    match cluster_id {
        Some(given) if given != found.cluster_id => Err(DataDirError::OtherCluster {
            path: path.to_owned(),
            found: found.cluster_id.clone(),
            given: given.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// What `node.json` says, when there is one; and whether the node has formed or joined a cluster.
pub(super) fn read_identity(disk: &dyn Disk, dir: &Path) -> Result<Option<(Identity, bool)>, DataDirError> {
    let path = dir.join(IDENTITY);
    let Some(bytes) = read(disk, &path)? else { return Ok(None) };
    let damaged = |what: String| DataDirError::Damaged { path: path.clone(), what };
    let format: FormatOnly = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if format.format_version > FORMAT_VERSION {
        return Err(DataDirError::NewerFormat { path: dir.to_owned(), found: format.format_version });
    }
    let file: IdentityFile = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let node = NodeId::try_from(file.node_id).map_err(|error| damaged(error.to_string()))?;
    Ok(Some((Identity { cluster_id: file.cluster_id, node, directory: file.directory_id }, file.formed)))
}

/// Writes `node.json` whole or not at all, durably.
pub(super) fn write_identity(
    disk: &dyn Disk,
    dir: &Path,
    identity: &Identity,
    formed: bool,
) -> Result<(), DataDirError> {
    let file = IdentityFile {
        format_version: FORMAT_VERSION,
        cluster_id: identity.cluster_id.clone(),
        node_id: identity.node.get(),
        directory_id: identity.directory,
        formed,
    };
    let mut text = serde_json::to_vec_pretty(&file).expect("strings and numbers are always JSON");
    text.push(b'\n');
    replace(disk, dir, IDENTITY, &text)
}
