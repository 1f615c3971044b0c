//! `partition.json`: whose folder it is. Written through the WAL before the first record, so that it is durable no
//! later than that record, and making a partition costs no sync of its own.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::ids::TopicId;
use crate::wal::{Admission, Append, FlushListener, GroupCommitWal, Refusal, WalFile};

use super::files;
use super::segment::SegmentListener;

/// A folder's identity file.
pub(super) struct Identity {
    file: Arc<WalFile>,
    written: Arc<Written>,
    contents: Bytes,
}

/// Whether the file is durable, or was refused because the disk was full.
struct Written {
    durable: AtomicBool,
    refused: AtomicBool,
    log: Weak<dyn SegmentListener>,
}

impl FlushListener for Written {
    fn flushed(&self, _token: u64) {
        self.durable.store(true, Ordering::Release);
        if let Some(log) = self.log.upgrade() {
            log.identity_flushed();
        }
    }

    fn refused(&self, _token: u64, _why: &Refusal) {
        self.refused.store(true, Ordering::Release);
    }
}

impl Identity {
    /// The identity of a folder that has the file already.
    pub(super) fn existing(
        wal: &GroupCommitWal,
        folder: &Path,
        topic: TopicId,
        log: Weak<dyn SegmentListener>,
    ) -> Self {
        Self::register(wal, folder, topic, log, true)
    }

    fn register(
        wal: &GroupCommitWal,
        folder: &Path,
        topic: TopicId,
        log: Weak<dyn SegmentListener>,
        durable: bool,
    ) -> Self {
        let written = Arc::new(Written { durable: durable.into(), refused: false.into(), log });
        let listener: Arc<dyn FlushListener> = Arc::clone(&written) as _;
        let file = wal.file(folder.join(files::IDENTITY_FILE), Arc::downgrade(&listener));
        Self { file, written, contents: files::encode_identity(topic).into() }
    }

    /// The identity of a new folder: queued to the WAL.
    pub(super) fn create(wal: &GroupCommitWal, folder: &Path, topic: TopicId, log: Weak<dyn SegmentListener>) -> Self {
        let identity = Self::register(wal, folder, topic, log, false);
        identity.queue(wal);
        identity
    }

    pub(super) fn file(&self) -> &Arc<WalFile> {
        &self.file
    }

    /// Whether the file is durable: before it is, no record counts as durable.
    pub(super) fn is_durable(&self) -> bool {
        self.written.durable.load(Ordering::Acquire)
    }

    fn queue(&self, wal: &GroupCommitWal) {
        let append = Append { position: 0, data: self.contents.clone(), token: 1, admission: Admission::unbounded() };
        wal.append(&self.file, append);
    }

    /// Called before records are queued: queues the file again when it was refused.
    pub(super) fn ensure(&self, wal: &GroupCommitWal) {
        if self.written.refused.swap(false, Ordering::AcqRel) {
            wal.resume(&self.file);
            self.queue(wal);
        }
    }
}
