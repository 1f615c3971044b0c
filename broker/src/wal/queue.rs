//! What waits for the committer: operations in their order, bounded in bytes by admission.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, Semaphore};

use super::background::Outcome;
use super::file::WalFile;
use super::{Admission, Append};

/// Told when something is done; dropped when it never will be.
pub(super) type Done = SyncSender<()>;

/// What the committer is asked to do.
pub(super) enum Operation {
    Append(Arc<WalFile>, Append),
    Resume(Arc<WalFile>),
    Retire(Arc<WalFile>, Done),
    SyncAll(Done),
    Shutdown(Done),
    /// A background job has ended.
    Finished(Outcome),
}

#[derive(Default)]
struct Inner {
    operations: Vec<Operation>,
    asleep: bool,
    closed: bool,
}

/// A queue with one reader.
#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
    /// Woken in place of a thread, where a task reads.
    task: Notify,
}

impl Queue {
    /// Adds an operation; drops it when the WAL has ended.
    pub(super) fn push(&self, operation: Operation) {
        let mut inner = self.inner.lock();
        if inner.closed {
            drop(inner);
            drop(operation);
            return;
        }
        inner.operations.push(operation);
        let wake = std::mem::take(&mut inner.asleep);
        drop(inner);
        if wake {
            self.wake.notify_one();
            self.task.notify_one();
        }
    }

    /// Waits, as a task, until there is something to take.
    pub(super) async fn filled(&self) {
        loop {
            {
                let mut inner = self.inner.lock();
                if inner.closed || !inner.operations.is_empty() {
                    return;
                }
                inner.asleep = true;
            }
            self.task.notified().await;
        }
    }

    /// Whether the WAL has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }

    /// Swaps everything queued into `into`, which is empty; waits for something when `wait`. False when closed.
    pub(super) fn take(&self, into: &mut Vec<Operation>, wait: bool) -> bool {
        debug_assert!(into.is_empty(), "what was taken before has been handed on");
        let mut inner = self.inner.lock();
        while wait && inner.operations.is_empty() && !inner.closed {
            inner.asleep = true;
            self.wake.wait(&mut inner);
        }
        std::mem::swap(&mut inner.operations, into);
        !inner.closed
    }

    /// Ends the WAL: what is queued or comes is dropped.
    pub(super) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.asleep = false;
        let dropped = std::mem::take(&mut inner.operations);
        drop(inner);
        self.wake.notify_one();
        self.task.notify_one();
        drop(dropped);
    }
}

/// Bounds the bytes between admission and commit.
pub(super) struct Admissions {
    room: Arc<Semaphore>,
    limit: u32,
}

impl Admissions {
    pub(super) fn new(bytes: usize) -> Self {
        let limit = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
        Self { room: Arc::new(Semaphore::new(limit as usize)), limit }
    }

    /// What is larger than the whole queue waits for all of it.
    pub(super) async fn admit(&self, bytes: usize) -> Admission {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.limit);
        let permit = self.room.clone().acquire_many_owned(bytes).await;
        Admission { _permit: Some(permit.expect("open, because nothing ever closes it")) }
    }

    pub(super) fn held(&self) -> u64 {
        (self.limit as usize - self.room.available_permits()) as u64
    }
}
