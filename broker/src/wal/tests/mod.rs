//! The WAL on simulated and real disks.

mod crash;
mod deferred;
mod direct;
mod faults;
mod threads;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Admission, Append, Durability, FlushListener, GroupCommitWal, Refusal, Stepper, WalFile, WalOptions};
use crate::io::disk::sim::SimDisk;
use crate::io::disk::{Disk, OpenMode};

const DIR: &str = "/data/wal/__commit";

fn options() -> WalOptions {
    WalOptions {
        journal_file_bytes: 64 << 10,
        journal_files: 3,
        queue_bytes: 1 << 20,
        direct_sync_bytes: 16 << 10,
        deferred_bytes: 0,
        reserve_bytes: 0,
        open_files: 16,
        durability: Durability::Fsync,
    }
}

/// Remembers what it was told.
#[derive(Default)]
struct Probe {
    told: Mutex<Told>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Told {
    flushed: Vec<u64>,
    refused: Vec<u64>,
}

impl FlushListener for Probe {
    fn flushed(&self, token: u64) {
        self.told.lock().flushed.push(token);
    }

    fn refused(&self, token: u64, _why: &Refusal) {
        self.told.lock().refused.push(token);
    }
}

impl Probe {
    fn told(&self) -> Told {
        self.told.lock().clone()
    }
}

fn append(wal: &GroupCommitWal, file: &Arc<WalFile>, position: u64, data: &[u8], token: u64) {
    let data = Bytes::copy_from_slice(data);
    wal.append(file, Append { position, data, token, admission: Admission::unbounded() });
}

/// A stepped WAL on a simulated disk, with one file.
struct Fixture {
    disk: SimDisk,
    wal: Arc<GroupCommitWal>,
    stepper: Stepper,
    probe: Arc<Probe>,
    file: Arc<WalFile>,
}

const FILE: &str = "/data/wal/topic/0/0.log";

impl Fixture {
    fn open(disk: &SimDisk, options: WalOptions) -> Self {
        let (wal, stepper) =
            GroupCommitWal::open_stepped(Arc::new(disk.clone()), PathBuf::from(DIR), options).expect("opened");
        let probe = Arc::new(Probe::default());
        let listener: Weak<dyn FlushListener> = Arc::downgrade(&(probe.clone() as Arc<dyn FlushListener>));
        let file = wal.file(PathBuf::from(FILE), listener);
        Self { disk: disk.clone(), wal, stepper, probe, file }
    }

    fn append(&self, position: u64, data: &[u8], token: u64) {
        append(&self.wal, &self.file, position, data, token);
    }
}

fn contents(disk: &dyn Disk, path: &Path) -> Option<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read).ok()?;
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    Some(bytes)
}
