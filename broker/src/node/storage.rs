//! A node's message WAL and logs: opened, worked on, closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::tasks::Tasks;
use super::{Io, NodeError, failed};
use crate::config::{Config, Settings};
use crate::datadir::DataDir;
use crate::io::blocking;
use crate::log::{LogError, LogStore};
use crate::wal::{Drive, GroupCommitWal, WalError, WalOptions};

/// The message WAL's journal, in the folder of the WALs.
pub const JOURNAL_DIR: &str = "__commit";
/// How often background work on the logs is looked for; each kind has its own interval.
const MAINTAIN_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Storage {
    pub(super) wal: Arc<GroupCommitWal>,
    pub(super) logs: Arc<LogStore>,
}

/// Recovers the message WAL, then the logs.
pub(super) async fn open(
    io: &Io,
    options: WalOptions,
    dir: &DataDir,
    settings: Arc<Settings>,
    fatal: mpsc::Sender<String>,
) -> Result<Storage, NodeError> {
    let (disk, clock, drive) = (io.disk.clone(), io.clock.clone(), io.wal.clone());
    let (journal, clean) = (dir.wal_dir().join(JOURNAL_DIR), dir.clean_shutdown().is_some());
    blocking(move || {
        let wal = match drive {
            Drive::Threads => GroupCommitWal::open(disk.clone(), journal, options),
            Drive::Task(_) => {
                // When the channel is full the reason is known already.
                let ended = Box::new(move |why: &WalError| drop(fatal.try_send(why.to_string())));
                GroupCommitWal::open_with(disk.clone(), journal, options, drive, ended)
            }
        };
        let wal = wal.map_err(failed)?;
        let data_dir = settings.config().data_dir.clone();
        let options = settings.at_start().store_options();
        let logs = LogStore::open(disk, data_dir, wal.clone(), clock, options, clean).map_err(failed)?;
        Ok(Storage { wal, logs })
    })
    .await
}

/// The sizes of a message WAL that may keep so many log files open.
pub fn wal_options(config: &Config, open_files: usize) -> WalOptions {
    WalOptions {
        journal_file_bytes: 64 << 20,
        journal_files: 8,
        queue_bytes: 64 << 20,
        direct_sync_bytes: 1 << 20,
        deferred_bytes: 16 << 20,
        reserve_bytes: 64 << 20,
        open_files,
        durability: config.durability,
    }
}

/// Retention, checkpoints, compaction: in the background.
pub(super) fn maintain(logs: &Arc<LogStore>, tasks: &mut Tasks) {
    tasks.spawn("maintain the logs", |stop| every_second(logs.clone(), LogStore::maintain, stop));
    tasks.spawn("compact the logs", |stop| every_second(logs.clone(), LogStore::compact_due, stop));
}

/// Puts everything on disk, so that the next start has nothing to recover. Blocks.
pub(super) fn close(wal: &GroupCommitWal, logs: &LogStore) -> Result<(), NodeError> {
    wal.sync_all().map_err(failed)?;
    logs.close().map_err(failed)?;
    wal.shutdown().map_err(failed)
}

/// One kind of background work on the logs, which blocks.
async fn every_second(
    logs: Arc<LogStore>,
    work: fn(&LogStore) -> Result<(), LogError>,
    stop: CancellationToken,
) -> Result<(), String> {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(MAINTAIN_EVERY) => {}
        }
        let logs = logs.clone();
        blocking(move || work(&logs)).await.map_err(|why| why.to_string())?;
    }
}
