//! The data folder: whose it is, that nobody else uses it, and whether its last stop was clean.
//!
//! `node.json` holds its identity: a directory id born with the folder, the node and the cluster that it belongs to, and
//! whether that node has been part of a cluster. A folder of another node, of another cluster, of a newer version or in
//! use is refused.

mod files;
mod identity;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use self::files::{is_empty, read, replace};
pub use self::identity::{FORMAT_VERSION, Identity};
use self::identity::{check_identity, new_identity, read_identity, write_identity};

use crate::ids::{BrokerEpoch, NodeId};
use crate::io::disk::{Disk, create_dir_durably};

const LOCK: &str = ".lock";
const CLEAN_SHUTDOWN: &str = "clean-shutdown";
const WAL: &str = "wal";
/// The folder of the metadata, among those of the topics.
pub(crate) const META: &str = "__meta";

/// Why a data folder can't be used. Each is one line that names the folder.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process uses it.
    #[error("the data folder {0} is in use by another process")]
    InUse(PathBuf),
    /// A newer version wrote it.
    #[error(
        "the data folder {path} has format {found}, written by a newer version; this one reads up to {FORMAT_VERSION}"
    )]
    NewerFormat {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It belongs to another node.
    #[error("the data folder {path} belongs to node {found}, not to node {given}")]
    OtherNode {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who wants it.
        given: NodeId,
    },
    /// It belongs to another cluster.
    #[error("the data folder {path} belongs to cluster {found}, not to cluster {given}")]
    OtherCluster {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who wants it.
        given: String,
    },
    /// It holds data, but not whose.
    #[error("the data folder {0} holds data but no node.json: the file is lost, or this is no data folder")]
    NoIdentity(PathBuf),
    /// A node that was part of a cluster has no metadata.
    #[error(
        "the data folder {0} is of a node that was part of a cluster, but holds no metadata: its data is lost or not mounted"
    )]
    NoMetadata(PathBuf),
    /// A file of it can't be understood.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file operation failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DataDirError + 'a {
    move |source| DataDirError::Io { action, path: path.to_owned(), source }
}

/// An open data folder; nobody else can open it until this is dropped.
pub struct DataDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    identity: Identity,
    formed: bool,
    clean_shutdown: Option<BrokerEpoch>,
    origin: Origin,
    _lock: Box<dyn Send + Sync>,
}

/// How the folder was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// With its identity, or it has it by now.
    Stamped,
    /// Without one.
    Unstamped,
    /// Not at all: this start made it.
    Made,
}

impl DataDir {
    /// Opens the folder, making it when it does not exist. `cluster_id` is checked when the folder has one already, and
    /// drawn when neither has. `draw` makes random UUIDs.
    ///
    /// Changes nothing that is there: a start that fails before `begin_use` leaves the mark of a clean shutdown, and of a
    /// folder that it made nothing.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        node: NodeId,
        cluster_id: Option<&str>,
        draw: impl FnMut() -> Uuid,
    ) -> Result<Self, DataDirError> {
        let made = !disk.exists(path).map_err(io_error("look for", path))?;
        create_dir_durably(disk.as_ref(), path).map_err(io_error("create", path))?;
        let lock_path = path.join(LOCK);
        let lock = disk.lock(&lock_path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => DataDirError::InUse(path.to_owned()),
            _ => io_error("lock", &lock_path)(error),
        })?;
        let (identity, formed, origin) = if let Some((identity, formed)) = read_identity(disk.as_ref(), path)? {
            check_identity(path, &identity, node, cluster_id)?;
            (identity, formed, Origin::Stamped)
        } else {
            let identity = new_identity(disk.as_ref(), path, node, cluster_id, draw)?;
            (identity, false, if made { Origin::Made } else { Origin::Unstamped })
        };
        let path = path.to_owned();
        let mut dir = Self { disk, path, identity, formed, clean_shutdown: None, origin, _lock: lock };
        if formed && is_empty(dir.disk.as_ref(), &dir.meta_dir())? {
            return Err(DataDirError::NoMetadata(dir.path.clone()));
        }
        dir.clean_shutdown = dir.read_clean_shutdown()?;
        Ok(dir)
    }

    /// Writes a new folder's identity, and takes the mark of a clean shutdown away, before anything else is written: it
    /// counts for one start.
    pub fn begin_use(&mut self) -> Result<(), DataDirError> {
        if self.origin != Origin::Stamped {
            write_identity(self.disk.as_ref(), &self.path, &self.identity, false)?;
            self.origin = Origin::Stamped;
        }
        if self.clean_shutdown.is_none() {
            return Ok(());
        }
        let path = self.path.join(CLEAN_SHUTDOWN);
        self.disk.remove_file(&path).map_err(io_error("remove", &path))?;
        self.disk.sync_dir(&self.path).map_err(io_error("sync", &self.path))
    }

    /// Whose it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether its node has formed or joined a cluster.
    pub fn is_formed(&self) -> bool {
        self.formed
    }

    /// Notes that its node has formed or joined a cluster: from now on it does not start without metadata. To be called
    /// once the metadata is durable.
    pub fn set_formed(&mut self) -> Result<(), DataDirError> {
        self.formed = true;
        write_identity(self.disk.as_ref(), &self.path, &self.identity, true)
    }

    /// The registration that ended cleanly when the folder was last used; `None` at its first start and after a crash.
    pub fn clean_shutdown(&self) -> Option<BrokerEpoch> {
        self.clean_shutdown
    }

    /// Notes that this registration ends cleanly: everything is flushed. The last thing that is written.
    pub fn set_clean_shutdown(&self, epoch: BrokerEpoch) -> Result<(), DataDirError> {
        replace(self.disk.as_ref(), &self.path, CLEAN_SHUTDOWN, format!("{epoch}\n").as_bytes())
    }

    /// The folder of the WALs.
    pub fn wal_dir(&self) -> PathBuf {
        self.path.join(WAL)
    }

    /// The folder of the metadata plane's log.
    pub fn meta_dir(&self) -> PathBuf {
        self.path.join(WAL).join(META)
    }

    /// Removes a folder that this start made and did not begin to use. The lock's file may go, because whoever waits for
    /// it looks again whether it is the one with that name ([`Disk::lock`]).
    fn unmake(&self) -> Result<(), DataDirError> {
        let lock = self.path.join(LOCK);
        self.disk.remove_file(&lock).map_err(io_error("remove", &lock))?;
        if is_empty(self.disk.as_ref(), &self.path)? {
            self.disk.remove_dir_all(&self.path).map_err(io_error("remove", &self.path))?;
        }
        Ok(())
    }

    fn read_clean_shutdown(&self) -> Result<Option<BrokerEpoch>, DataDirError> {
        let path = self.path.join(CLEAN_SHUTDOWN);
        let Some(text) = read(self.disk.as_ref(), &path)? else { return Ok(None) };
        let number: Option<i64> = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        let epoch = number.and_then(|number| BrokerEpoch::try_from(number).ok());
        let damaged = || DataDirError::Damaged { path, what: "it holds no broker epoch".to_owned() };
        epoch.ok_or_else(damaged).map(Some)
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.origin == Origin::Made
            && let Err(why) = self.unmake()
        {
            tracing::warn!(%why, "an unused data folder is left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::identity::IDENTITY;
    use super::*;
    use crate::io::disk::sim::SimDisk;

    const NODE: NodeId = NodeId::new(3);

    fn path() -> &'static Path {
        Path::new("/srv/data")
    }

    fn open_as(disk: &SimDisk, node: NodeId, cluster_id: Option<&str>) -> Result<DataDir, DataDirError> {
        // The first would give a cluster id that starts with a dash.
        let mut drawn = 0xfa_u128 << 120;
        let draw = || {
            drawn += 1 << 120;
            Uuid::from_u128(drawn)
        };
        DataDir::open(Arc::new(disk.clone()), path(), node, cluster_id, draw)
    }

    fn open(disk: &SimDisk) -> Result<DataDir, DataDirError> {
        open_as(disk, NODE, None)
    }

    /// Opened, and in use.
    fn used_as(disk: &SimDisk, cluster_id: Option<&str>) -> Result<DataDir, DataDirError> {
        let mut dir = open_as(disk, NODE, cluster_id)?;
        dir.begin_use()?;
        Ok(dir)
    }

    fn used(disk: &SimDisk) -> Result<DataDir, DataDirError> {
        used_as(disk, None)
    }

    fn refusal(result: Result<DataDir, DataDirError>) -> String {
        result.err().expect("the folder is refused").to_string()
    }

    fn form(disk: &SimDisk) -> DataDir {
        let mut dir = used(disk).expect("a new folder");
        disk.create_dir_all(&dir.meta_dir()).expect("no faults");
        replace(disk, &dir.meta_dir(), "log", b"metadata").expect("no faults");
        dir.set_formed().expect("no faults");
        dir
    }

    #[test]
    fn the_identity_is_born_once_and_survives_a_power_loss() {
        let disk = SimDisk::new();
        let dir = used(&disk).expect("a new folder");
        let born = dir.identity().clone();
        assert_eq!(born.cluster_id.len(), 22, "as Kafka writes UUIDs");
        drop(dir);
        let disk = disk.crash(1);
        let dir = open(&disk).expect("the same folder");
        assert_eq!(*dir.identity(), born);
        assert!(!dir.is_formed());
    }

    #[test]
    fn a_folder_in_use_is_refused() {
        let disk = SimDisk::new();
        let dir = open(&disk).expect("a new folder");
        assert_eq!(refusal(open(&disk)), "the data folder /srv/data is in use by another process");
        drop(dir);
        open(&disk).expect("free again");
    }

    #[test]
    fn a_newer_format_is_refused_whatever_else_it_holds() {
        let disk = SimDisk::new();
        drop(used(&disk).expect("a new folder"));
        replace(&disk, path(), IDENTITY, br#"{"format_version": 2, "anything": []}"#).expect("no faults");
        let text = "the data folder /srv/data has format 2, written by a newer version; this one reads up to 1";
        assert_eq!(refusal(open(&disk)), text);
    }

    #[test]
    fn a_folder_of_another_node_or_cluster_is_refused() {
        let disk = SimDisk::new();
        drop(used_as(&disk, Some("blue")).expect("a new folder"));
        let text = "the data folder /srv/data belongs to node 3, not to node 4";
        assert_eq!(refusal(open_as(&disk, NodeId::new(4), None)), text);
        let text = "the data folder /srv/data belongs to cluster blue, not to cluster green";
        assert_eq!(refusal(open_as(&disk, NODE, Some("green"))), text);
        open_as(&disk, NODE, Some("blue")).expect("its own");
    }

    #[test]
    fn a_formed_node_without_metadata_refuses_to_start() {
        let disk = SimDisk::new();
        let meta_dir = form(&disk).meta_dir();
        assert!(open(&disk).expect("whole").is_formed());
        disk.remove_dir_all(&meta_dir).expect("no faults");
        assert!(matches!(open(&disk), Err(DataDirError::NoMetadata(_))));
    }

    #[test]
    fn data_without_an_identity_is_refused() {
        let disk = SimDisk::new();
        drop(form(&disk));
        disk.remove_file(&path().join(IDENTITY)).expect("no faults");
        assert!(matches!(open(&disk), Err(DataDirError::NoIdentity(_))));
        replace(&disk, path(), IDENTITY, b"{").expect("no faults");
        assert!(matches!(open(&disk), Err(DataDirError::Damaged { .. })));
    }

    #[test]
    fn a_clean_shutdown_counts_for_one_start() {
        let disk = SimDisk::new();
        let dir = used(&disk).expect("a new folder");
        assert_eq!(dir.clean_shutdown(), None);
        dir.set_clean_shutdown(BrokerEpoch::new(17)).expect("no faults");
        drop(dir);
        assert_eq!(open(&disk.crash(2)).expect("its own").clean_shutdown(), Some(BrokerEpoch::new(17)));
        let disk = disk.kill();
        let mut dir = open(&disk).expect("its own");
        assert_eq!(dir.clean_shutdown(), Some(BrokerEpoch::new(17)));
        dir.begin_use().expect("no faults");
        assert_eq!(open(&disk.crash(3)).expect("its own").clean_shutdown(), None, "this start may have crashed");
    }

    #[test]
    fn a_start_that_fails_before_it_changes_anything_leaves_the_mark() {
        let disk = SimDisk::new();
        used(&disk).expect("a new folder").set_clean_shutdown(BrokerEpoch::new(17)).expect("no faults");
        drop(open(&disk).expect("its own"));
        assert_eq!(open(&disk).expect("its own").clean_shutdown(), Some(BrokerEpoch::new(17)));
    }

    #[test]
    fn a_crash_at_any_point_of_the_first_start_leaves_a_folder_that_starts() {
        for point in 1.. {
            let disk = SimDisk::new();
            disk.crash_at(point);
            let finished = used(&disk).is_ok();
            for seed in 0..8 {
                used(&disk.crash(seed)).expect("whatever was written, the folder starts");
            }
            if finished {
                assert!(point > 10, "the crash points were passed");
                break;
            }
        }
    }

    #[test]
    fn a_start_that_fails_before_it_uses_the_folder_leaves_none_that_it_made() {
        let disk = SimDisk::new();
        drop(open(&disk).expect("a new folder"));
        assert!(!disk.exists(path()).expect("no faults"), "nothing is left");
        disk.create_dir_all(path()).expect("no faults");
        drop(open(&disk).expect("an empty folder"));
        assert!(disk.exists(path()).expect("no faults"), "it was there before");
        assert!(!disk.exists(&path().join(IDENTITY)).expect("no faults"), "and is anybody's");
        drop(used(&disk).expect("an empty folder"));
        assert!(disk.exists(&path().join(IDENTITY)).expect("no faults"), "now it is this node's");
    }

    #[test]
    fn a_refused_start_removes_nothing_of_the_folder_that_another_uses() {
        let disk = SimDisk::new();
        let _used = open(&disk).expect("a new folder");
        assert!(matches!(open(&disk), Err(DataDirError::InUse(_))));
        assert!(disk.exists(&path().join(LOCK)).expect("no faults"));
    }
}
