//! What comes out of the ready loop, and the snapshots that are written beside it.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::snapshot_file::{self, SnapshotFile};
use super::super::{ConfState, RaftError};
use crate::io::disk::Disk;
use crate::metadata::{Image, Outcome, ProposeError, snapshot};

/// What the driver has to do. `W` is who waits for a proposal.
pub struct Effects<W> {
    /// The newest image, when it changed. To be published before the answers are given.
    pub image: Option<Arc<Image>>,
    /// Proposals that are decided.
    pub answers: Vec<(W, Result<Outcome, ProposeError>)>,
    /// Reads whose index the image has reached, by the number that `read` gave them.
    pub reads: Vec<u64>,
    /// A snapshot to be written, on another thread; `RaftCore::snapshot_written` must follow.
    pub snapshot: Option<SnapshotJob>,
}

impl<W> Default for Effects<W> {
    fn default() -> Self {
        Self { image: None, answers: Vec::new(), reads: Vec::new(), snapshot: None }
    }
}

/// A snapshot that is to be encoded and written, apart from the ready loop so that heartbeats don't wait for it.
pub struct SnapshotJob {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) image: Arc<Image>,
    pub(super) term: u64,
    pub(super) members: ConfState,
}

/// A snapshot that is on disk.
pub struct SnapshotWritten {
    pub(super) index: u64,
    pub(super) members: ConfState,
    pub(super) bytes: u64,
}

impl SnapshotJob {
    /// Encodes and writes it.
    pub fn run(self) -> Result<SnapshotWritten, RaftError> {
        let state = snapshot::encode(&self.image);
        let bytes = state.len() as u64;
        let index = self.image.index();
        let file = SnapshotFile { index, term: self.term, members: self.members.clone(), state: state.into() };
        snapshot_file::write(self.disk.as_ref(), &self.dir, &file)?;
        Ok(SnapshotWritten { index, members: self.members, bytes })
    }
}
