//! Partitions' folders that nobody knows: moved aside, never removed, because what they hold may be all that is left.

use std::path::{Path, PathBuf};

use crate::ids::{PartitionIndex, TopicId};
use crate::io::disk::{Disk, create_dir_durably};

use super::error::LogError;

/// Beside `wal`, in the data folder.
pub(super) const STRAY_DIR: &str = "stray";

/// What is known of a folder whose partition is not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stray<'a> {
    pub folder: &'a Path,
    pub topic: &'a str,
    pub partition: PartitionIndex,
    /// `None` when its `partition.json` is lost.
    pub id: Option<TopicId>,
}

impl Stray<'_> {
    /// Moves the folder to `{strays}/{topic}/{partition}.{topic id}`, durably, over nothing that is there. `why` is for
    /// the operator. Nothing is written to the folder any more.
    pub(super) fn set_aside(&self, disk: &dyn Disk, strays: &Path, why: &str) -> Result<(), LogError> {
        let parent = strays.join(self.topic);
        create_dir_durably(disk, &parent).map_err(LogError::io("making", &parent))?;
        let to = self.unused_name(disk, &parent)?;
        disk.rename(self.folder, &to).map_err(LogError::io("moving aside", self.folder))?;
        let from = self.folder.parent().expect("a partition's folder is in its topic's");
        for changed in [&parent, from] {
            disk.sync_dir(changed).map_err(LogError::io("syncing", changed))?;
        }
        tracing::warn!(folder = %self.folder.display(), moved_to = %to.display(), why, "a stray folder is moved aside");
        Ok(())
    }

    fn unused_name(&self, disk: &dyn Disk, parent: &Path) -> Result<PathBuf, LogError> {
        let id = self.id.map_or_else(|| "unknown".to_owned(), |id| id.uuid().to_string());
        let name = format!("{}.{id}", self.partition);
        let mut path = parent.join(&name);
        for number in 1u64.. {
            if !disk.exists(&path).map_err(LogError::io("looking for", &path))? {
                break;
            }
            path = parent.join(format!("{name}~{number}"));
        }
        Ok(path)
    }
}
