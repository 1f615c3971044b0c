//! All logs of a node: opening, making and deleting them, and the rounds of background work.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use crate::ids::{PartitionIndex, TopicId, TopicPartition};
use crate::io::clock::Clock;
use crate::io::disk::Disk;
use crate::wal::GroupCommitWal;

use super::checkpoint::{self, Checkpoint, CheckpointFile};
use super::config::{LogConfig, StoreOptions};
use super::error::LogError;
use super::files::{self, DELETED};
use super::identity::Identity;
use super::partition_log::{Counters, Log, LogLink, Shared, Standing};
use super::recovery::{Basis, Recovered, Trust, recover};
use super::segment::SegmentListener;
use super::stop::Stop;
use super::stray::{STRAY_DIR, Stray};

/// The checkpoint of all logs, beside the folder of the logs: no topic can have its name there.
const CHECKPOINT_FILE: &str = "log-checkpoint";
/// Folders in `data/wal` that belong to others.
const RESERVED: [&str; 2] = ["__meta", "__commit"];
/// Longest topic name, as in Kafka.
const MOST_NAME_BYTES: usize = 249;
/// Logs are opened on so many threads: most of the time they wait for the disk.
const OPENING_THREADS: usize = 8;

/// All logs of a node, in `data/wal/{topic}/{partition}/`.
pub struct LogStore {
    pub(super) shared: Arc<Shared>,
    pub(super) options: StoreOptions,
    /// `data/wal`.
    root: PathBuf,
    logs: RwLock<Logs>,
    /// One at a time makes or deletes logs.
    changing: Mutex<()>,
    pub(super) rounds: Mutex<super::maintenance::Rounds>,
}

/// Logs by what they are looked up by.
#[derive(Default)]
struct Logs {
    by_id: HashMap<TopicPartition, Arc<Log>>,
    by_folder: HashMap<PathBuf, TopicPartition>,
}

impl Logs {
    fn insert(&mut self, log: Arc<Log>) {
        self.by_folder.insert(log.folder.clone(), log.id());
        self.by_id.insert(log.id(), log);
    }

    fn remove(&mut self, id: &TopicPartition) -> Option<Arc<Log>> {
        let log = self.by_id.remove(id)?;
        self.by_folder.remove(&log.folder);
        Some(log)
    }
}

impl FromIterator<Arc<Log>> for Logs {
    fn from_iter<I: IntoIterator<Item = Arc<Log>>>(all: I) -> Self {
        let mut logs = Self::default();
        all.into_iter().for_each(|log| logs.insert(log));
        logs
    }
}

impl LogStore {
    /// Opens and recovers every log found below `data_dir/wal`. The WAL has been opened before. After a clean shutdown
    /// the checkpoint knows everything, and nothing is read but it and the newest segments' lengths.
    pub fn open(
        disk: Arc<dyn Disk>,
        data_dir: PathBuf,
        wal: Arc<GroupCommitWal>,
        clock: Arc<dyn Clock>,
        options: StoreOptions,
        clean_shutdown: bool,
    ) -> Result<Arc<Self>, LogError> {
        let root = data_dir.join("wal");
        disk.create_dir_all(&root).map_err(LogError::io("making", &root))?;
        let path = data_dir.join(CHECKPOINT_FILE);
        let loaded = checkpoint::load(&*disk, &path).map_err(LogError::io("reading", &path))?;
        let trust = match loaded {
            None => Trust::Nothing,
            Some(_) if clean_shutdown => Trust::Everything,
            Some(_) => Trust::Checkpointed,
        };
        let known = loaded.unwrap_or_default();
        let folders = find_folders(&*disk, &root)?;
        let shared = Arc::new(Shared {
            disk,
            wal,
            clock,
            counters: Arc::default(),
            checkpoints: Mutex::new(CheckpointFile::new(path, Checkpoint::new())),
            strays: data_dir.join(STRAY_DIR),
            doomed: Mutex::default(),
            stop: Stop::default(),
        });
        let durable = trust != Trust::Everything;
        if durable && !folders.is_empty() {
            // A killed process leaves bytes in the page cache: once for all, what is found from here on is durable.
            shared.disk.sync_filesystem(&root).map_err(LogError::io("syncing the file system of", &root))?;
        }
        let logs = open_all(&shared, &folders, &known, Basis { trust, durable })?;
        {
            let mut checkpoints = shared.checkpoints.lock();
            *checkpoints = CheckpointFile::new(data_dir.join(CHECKPOINT_FILE), known);
        }
        let store = Arc::new(Self {
            shared,
            options,
            root,
            logs: RwLock::new(logs.into_iter().collect()),
            changing: Mutex::default(),
            rounds: Mutex::default(),
        });
        store.checkpoint_opened(trust)?;
        Ok(store)
    }

    /// Writes down what was recovered, which is durable, where a later start must not believe the checkpoint that there
    /// was. Where that is only older, the first round of `maintain` does it: ten thousand producer snapshots take longer
    /// than all the rest of a start.
    fn checkpoint_opened(&self, trust: Trust) -> Result<(), LogError> {
        let logs = self.logs.read();
        let mut checkpoints = self.shared.checkpoints.lock();
        let gone: Vec<TopicPartition> = checkpoints.ids().filter(|id| !logs.by_id.contains_key(id)).collect();
        for id in &gone {
            checkpoints.remove(id);
        }
        let outdated =
            logs.by_id.values().any(|log| checkpoints.get(&log.id()).is_some_and(|known| !log.reaches(known)));
        drop(logs);
        if trust == Trust::Nothing {
            checkpoints.store(&*self.shared.disk)?;
        }
        drop(checkpoints);
        if trust == Trust::Nothing || outdated { self.checkpoint(false) } else { Ok(()) }
    }

    /// The log of a partition, when it exists.
    pub fn get(&self, id: &TopicPartition) -> Option<Arc<Log>> {
        self.logs.read().by_id.get(id).cloned()
    }

    /// The log of a partition, made when it does not exist. A folder of the same name that belongs to another topic id
    /// is moved aside first.
    pub fn open_or_create(
        &self,
        topic: &str,
        id: TopicPartition,
        config: Arc<LogConfig>,
    ) -> Result<Arc<Log>, LogError> {
        let _changing = self.changing.lock();
        if let Some(log) = self.get(&id) {
            if log.state.lock().standing != Standing::Closed {
                log.set_config(config);
                return Ok(log);
            }
            self.take_away(&id, Fate::Stray("it was taken from this node, but could not be moved before"))?;
        }
        let folder = self.folder(topic, id.partition)?;
        let other = self.logs.read().by_folder.get(&folder).copied();
        if let Some(other) = other {
            self.take_away(&other, Fate::Stray("its place is another topic's"))?;
        }
        self.shared.checkpoints.lock().forget(&*self.shared.disk, &id)?;
        let log = new_log(&self.shared, topic, id, folder, config, |me| {
            let recovered = recover(&self.shared, &self.folder(topic, id.partition)?, me.clone(), None, Basis::NEW)?;
            Ok((recovered, Identity::create(&self.shared.wal, &self.folder(topic, id.partition)?, id.topic, me)))
        })?;
        self.logs.write().insert(Arc::clone(&log));
        Ok(log)
    }

    /// Closes and deletes a partition's log: once this returns it does not come back. Blocks.
    pub fn delete(&self, id: &TopicPartition) -> Result<(), LogError> {
        let _changing = self.changing.lock();
        self.take_away(id, Fate::Deleted)
    }

    /// Closes a partition's log that nobody knows and moves its folder aside, with all that is in it. Blocks.
    pub fn set_aside(&self, id: &TopicPartition, why: &str) -> Result<(), LogError> {
        let _changing = self.changing.lock();
        self.take_away(id, Fate::Stray(why))
    }

    /// Closes a log, and has its folder gone. When that fails, a full disk for instance, the log stays, closed, in its
    /// folder's place, so that nothing else is put there; it may be tried again.
    fn take_away(&self, id: &TopicPartition, fate: Fate<'_>) -> Result<(), LogError> {
        let Some(log) = self.get(id) else { return Ok(()) };
        log.state.lock().standing = Standing::Closed;
        self.move_folder(&log, fate)?;
        self.logs.write().remove(id);
        Ok(())
    }

    fn move_folder(&self, log: &Log, fate: Fate<'_>) -> Result<(), LogError> {
        let id = log.id();
        self.shared.stop.look_again();
        let _maintenance = log.maintenance.lock();
        for file in log.wal_files() {
            self.shared.wal.retire(&file)?;
        }
        self.shared.checkpoints.lock().remove(&id);
        let disk = &*self.shared.disk;
        let folder = &log.folder;
        if !disk.exists(folder).map_err(LogError::io("looking for", folder))? {
            return Ok(());
        }
        if let Fate::Stray(why) = fate {
            let stray = Stray { folder, topic: log.topic(), partition: id.partition, id: Some(id.topic) };
            return stray.set_aside(disk, &self.shared.strays, why);
        }
        let parent = folder.parent().expect("a partition's folder is in its topic's");
        let renamed = unused_name(disk, parent, id.partition)?;
        disk.rename(folder, &renamed).map_err(LogError::io("renaming", folder))?;
        disk.sync_dir(parent).map_err(LogError::io("syncing", parent))?;
        self.shared.doom(renamed, log.config.load().file_delete_delay_ms);
        Ok(())
    }

    /// All logs, by topic id and partition: what is done to all of them is done in the same order each time.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        let mut logs: Vec<_> = self.logs.read().by_id.values().cloned().collect();
        logs.sort_unstable_by_key(|log| log.id());
        logs
    }

    /// Topic ids that have logs here, with the names of their folders.
    pub fn topics(&self) -> Vec<(TopicId, String)> {
        let topics: HashMap<TopicId, String> =
            self.logs.read().by_id.values().map(|log| (log.id().topic, log.topic().to_string())).collect();
        topics.into_iter().collect()
    }

    /// What the logs have done since the start.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    fn folder(&self, topic: &str, partition: PartitionIndex) -> Result<PathBuf, LogError> {
        if is_topic_folder(topic) {
            return Ok(self.root.join(topic).join(partition.to_string()));
        }
        let path = self.root.join("?");
        Err(LogError::io("making a topic of an illegal name in", &path)(std::io::ErrorKind::InvalidInput.into()))
    }
}

/// What becomes of a log's folder.
#[derive(Clone, Copy)]
enum Fate<'a> {
    /// It is removed: its topic was.
    Deleted,
    /// It is moved aside, and why.
    Stray(&'a str),
}

/// Whether a name is a topic's and stays within `data/wal`.
fn is_topic_folder(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty()
        && name.len() <= MOST_NAME_BYTES
        && name.bytes().all(legal)
        && name != "."
        && name != ".."
        && !RESERVED.contains(&name)
}

fn unused_name(disk: &dyn Disk, parent: &Path, partition: PartitionIndex) -> Result<PathBuf, LogError> {
    for number in 0u64.. {
        let path = parent.join(format!("{partition}~{number}{DELETED}"));
        if !disk.exists(&path).map_err(LogError::io("looking for", &path))? {
            return Ok(path);
        }
    }
    unreachable!("some number is unused")
}

/// A partition's folder that was found.
struct Folder {
    topic: String,
    partition: PartitionIndex,
    path: PathBuf,
}

/// The partitions' folders; what was being deleted goes, and topics' folders that are empty.
fn find_folders(disk: &dyn Disk, root: &Path) -> Result<Vec<Folder>, LogError> {
    let list = |path: &Path| disk.list(path).map_err(LogError::io("listing", path));
    let mut folders = Vec::new();
    for topic in list(root)?.into_iter().filter(|entry| entry.is_dir && is_topic_folder(&entry.name)) {
        let path = root.join(&topic.name);
        let mut any = false;
        for entry in list(&path)? {
            let path = path.join(&entry.name);
            if entry.name.ends_with(DELETED) {
                disk.remove_dir_all(&path).map_err(LogError::io("removing", &path))?;
                continue;
            }
            any = true;
            let number = entry.name.parse::<i32>().ok().and_then(|number| PartitionIndex::try_from(number).ok());
            if let Some(partition) = number.filter(|_| entry.is_dir) {
                folders.push(Folder { topic: topic.name.clone(), partition, path });
            }
        }
        if !any {
            disk.remove_dir_all(&path).map_err(LogError::io("removing", &path))?;
        }
    }
    Ok(folders)
}

fn open_all(
    shared: &Arc<Shared>,
    folders: &[Folder],
    known: &Checkpoint,
    basis: Basis,
) -> Result<Vec<Arc<Log>>, LogError> {
    let next = AtomicUsize::new(0);
    let open_some = || {
        let mut logs = Vec::new();
        while let Some(folder) = folders.get(next.fetch_add(1, Ordering::Relaxed)) {
            logs.extend(open_one(shared, folder, known, basis)?);
        }
        Ok::<_, LogError>(logs)
    };
    let threads = crate::io::threads(OPENING_THREADS).min(folders.len());
    if threads == 1 {
        return open_some();
    }
    let opened: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(open_some)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker panics only for a broken invariant")).collect()
    });
    let mut logs = Vec::with_capacity(folders.len());
    for some in opened {
        logs.extend(some?);
    }
    Ok(logs)
}

/// Opens one folder's log. A folder that doesn't say whose it is is moved aside, or removed when it holds no records.
fn open_one(
    shared: &Arc<Shared>,
    folder: &Folder,
    known: &Checkpoint,
    basis: Basis,
) -> Result<Option<Arc<Log>>, LogError> {
    let disk = &*shared.disk;
    let identity = files::read_identity(disk, &folder.path).map_err(LogError::io("reading", &folder.path))?;
    let Some(topic) = identity else {
        if files::holds_records(disk, &folder.path).map_err(LogError::io("looking into", &folder.path))? {
            let stray = Stray { folder: &folder.path, topic: &folder.topic, partition: folder.partition, id: None };
            stray.set_aside(disk, &shared.strays, "it has records, but no partition.json")?;
        } else {
            tracing::info!(folder = %folder.path.display(), "an empty folder without partition.json is removed");
            disk.remove_dir_all(&folder.path).map_err(LogError::io("removing", &folder.path))?;
        }
        return Ok(None);
    };
    let id = TopicPartition { topic, partition: folder.partition };
    let config = Arc::new(LogConfig::default());
    let log = new_log(shared, &folder.topic, id, folder.path.clone(), config, |me| {
        let recovered = recover(shared, &folder.path, me.clone(), known.get(&id), basis)?;
        Ok((recovered, Identity::existing(&shared.wal, &folder.path, topic, me)))
    })?;
    Ok(Some(log))
}

fn new_log(
    shared: &Arc<Shared>,
    topic: &str,
    id: TopicPartition,
    folder: PathBuf,
    config: Arc<LogConfig>,
    open: impl FnOnce(Weak<dyn SegmentListener>) -> Result<(Recovered, Identity), LogError>,
) -> Result<Arc<Log>, LogError> {
    let link = Arc::new(LogLink::default());
    let listener: Arc<dyn SegmentListener> = Arc::clone(&link) as _;
    let (Recovered { state, maintained }, identity) = open(Arc::downgrade(&listener))?;
    let log = Arc::new(Log {
        id,
        topic: topic.into(),
        name: format!("{topic}-{}", id.partition).into(),
        folder,
        shared: Arc::clone(shared),
        config: ArcSwap::new(config),
        state: Mutex::new(state),
        identity,
        listener: RwLock::new(None),
        link: Arc::clone(&link),
        maintenance: Mutex::new(maintained),
    });
    link.connect(&log);
    Ok(log)
}
