//! The task behind one coordinator partition: loads the log, then brings requests, time and finished appends to the
//! shard, and the shard's writes to the log. Many writes share one append; one append is under way at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use uuid::Uuid;

use super::batch::{self, ReadBatchError};
use super::group::{Now, respond};
use super::loads::Load;
use super::options::GroupOptions;
use super::shard::{Request, Shard};
use super::write::{AfterWrite, Write, WriteFailure};
use crate::ids::{LeaderEpoch, Offset};
use crate::io::blocking;
use crate::io::clock::Clock;
use crate::io::flood::Flood;
use crate::kafka::wire::ErrorCode;
use crate::log::{AppendError, Origin};
use crate::metadata::MetadataPlane;
use crate::stream::{DataWaiter, Partition, PartitionError};

/// Lines about appends that fail.
static NOT_APPENDED: Flood = Flood::new("appends to __consumer_offsets that fail");

/// Requests that wait for a partition's task; more make their connections wait.
const QUEUED_REQUESTS: usize = 1024;
/// Requests taken between two looks at the time and at finished appends.
const REQUESTS_AT_ONCE: usize = 256;
/// While so many records wait to be appended, because the disk does not answer, no offset is taken any more.
const MAX_QUEUED_RECORDS: usize = 100_000;
/// Bytes read at once while loading, as `offsets.load.buffer.size`.
const LOAD_BYTES: usize = 5 << 20;

/// Why a partition could not be loaded.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("reading at offset {offset}: {source}")]
    Partition { offset: i64, source: PartitionError },
    #[error("the batches from offset {offset}: {source}")]
    Batches { offset: i64, source: ReadBatchError },
    #[error("leadership ended meanwhile")]
    Resigned,
}

/// Where requests for a partition's groups go. When the last one is dropped the task ends.
#[derive(Clone)]
pub(super) struct ShardHandle {
    requests: mpsc::Sender<Request>,
    loaded: Arc<AtomicBool>,
}

impl ShardHandle {
    /// Asks and waits for the answer. The handle is given up for the wait: a member that waits for others must not keep
    /// the task of a former leadership alive.
    pub(super) async fn ask<T>(self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, ErrorCode> {
        let Self { requests, loaded } = self;
        if !loaded.load(Ordering::Acquire) {
            return Err(ErrorCode::CoordinatorLoadInProgress);
        }
        let (reply, answer) = oneshot::channel();
        requests.send(request(reply)).await.map_err(|_| ErrorCode::NotCoordinator)?;
        drop(requests);
        answer.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    /// Tells what needs no answer. A task that has ended has nothing to be told.
    pub(super) async fn tell(&self, request: Request) {
        drop(self.requests.send(request).await);
    }
}

/// What a partition's task works with.
pub(super) struct Actor {
    pub(super) partition: Arc<Partition>,
    /// The leadership that it serves: it writes in no other.
    pub(super) epoch: LeaderEpoch,
    pub(super) options: Arc<GroupOptions>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metadata: Arc<dyn MetadataPlane>,
    pub(super) new_id: fn() -> Uuid,
}

impl Actor {
    /// The handle, and the task to spawn.
    pub(super) fn start(self, load: Load) -> (ShardHandle, impl Future<Output = ()> + Send) {
        let (sender, requests) = mpsc::channel(QUEUED_REQUESTS);
        let handle = ShardHandle { requests: sender, loaded: Arc::default() };
        let loaded = handle.loaded.clone();
        (handle, self.run(requests, loaded, load))
    }

    fn now(&self) -> Now {
        Now { monotonic: self.clock.monotonic(), wall_ms: self.clock.wall_ms() }
    }

    async fn run(self, mut requests: mpsc::Receiver<Request>, loaded: Arc<AtomicBool>, load: Load) {
        let partition = self.partition.index();
        // Dropping the handle, as at resignation, ends the load too.
        let shard = tokio::select! {
            biased;
            () = closed(&mut requests) => return,
            shard = self.load() => shard,
        };
        match shard {
            Ok((shard, records)) => {
                load.done(records);
                loaded.store(true, Ordering::Release);
                self.serve(shard, requests).await;
            }
            Err(LoadError::Resigned) => {}
            Err(error) => tracing::error!(%partition, %error, "the groups of {} are not served", super::OFFSETS_TOPIC),
        }
    }

    /// Replays the log up to where it ended at the election; also counts the records.
    async fn load(&self) -> Result<(Shard, u64), LoadError> {
        let end = self.partition.offsets().log_end;
        self.committed_up_to(end).await?;
        let mut shard = Shard::new(self.options.clone(), Box::new(self.new_id));
        let mut at = self.partition.offsets().log_start.get();
        let mut count = 0u64;
        while at < end.get() {
            let partition = self.partition.clone();
            let batches = blocking(move || partition.read(at, LOAD_BYTES, true, false)).await;
            let batches = batches.map_err(|source| LoadError::Partition { offset: at, source })?;
            let mut next = None;
            let limit = self.partition.log().config().max_message_bytes;
            for bytes in &batches.data {
                let now = self.now();
                let read = batch::read(bytes, limit, |record| {
                    count += 1;
                    shard.replay(record, now);
                });
                next = read.map_err(|source| LoadError::Batches { offset: at, source })?.or(next);
            }
            // Nothing below the end: compaction left a hole up to it.
            at = next.unwrap_or(end.get());
        }
        let image = self.metadata.image();
        shard.loaded(self.now(), |topic| image.topic_by_id(topic).is_some());
        tracing::debug!(partition = %self.partition.index(), records = count, "loaded the groups of a partition");
        Ok((shard, count))
    }

    /// Waits until the high watermark has reached what a former leader left.
    async fn committed_up_to(&self, end: Offset) -> Result<(), LoadError> {
        struct Wake(Notify);
        impl DataWaiter for Wake {
            fn changed(&self) {
                self.0.notify_one();
            }
        }
        let wake = Arc::new(Wake(Notify::new()));
        loop {
            let seen = self.partition.offsets().high_watermark;
            if seen >= end {
                return Ok(());
            }
            if self.partition.leading().is_none() {
                return Err(LoadError::Resigned);
            }
            let waiter: Arc<dyn DataWaiter> = wake.clone();
            self.partition.when_readable(seen, false, Arc::downgrade(&waiter));
            wake.0.notified().await;
        }
    }

    async fn serve(&self, mut shard: Shard, mut requests: mpsc::Receiver<Request>) {
        let mut queue: VecDeque<Write> = VecDeque::new();
        let mut append = None;
        loop {
            queue.extend(shard.take_writes());
            if append.is_none() && !queue.is_empty() {
                let limit = self.partition.log().config().max_message_bytes as usize;
                let (batch, after) = batch::next_batch(&mut queue, limit, self.clock.wall_ms());
                append = Some(Box::pin(self.append(batch, after)));
            }
            let pause = shard.next_deadline().map(|at| at.saturating_sub(self.clock.monotonic()));
            tokio::select! {
                biased;
                (outcome, after) = async { append.as_mut().expect("checked by the guard").await }, if append.is_some() => {
                    append = None;
                    for after in after {
                        shard.written(after, outcome, self.now());
                    }
                }
                request = requests.recv() => {
                    let Some(request) = request else { return };
                    let full = queue.iter().map(|write| write.records.len()).sum::<usize>() >= MAX_QUEUED_RECORDS;
                    self.take(&mut shard, request, full);
                    for _ in 0..REQUESTS_AT_ONCE {
                        let Ok(request) = requests.try_recv() else { break };
                        self.take(&mut shard, request, full);
                    }
                }
                () = tokio::time::sleep(pause.unwrap_or(Duration::MAX)), if pause.is_some() => {}
            }
            shard.tick(self.now());
        }
    }

    /// Brings a request to the shard, unless it wants to write offsets and there are too many to be written.
    fn take(&self, shard: &mut Shard, request: Request, full: bool) {
        match request {
            Request::Commit(_, reply) if full => respond(reply, Err(ErrorCode::CoordinatorNotAvailable)),
            Request::DeleteOffsets(_, _, reply) if full => respond(reply, Err(ErrorCode::CoordinatorNotAvailable)),
            request => shard.handle(request, self.now()),
        }
    }

    async fn append(
        &self,
        batch: Option<Bytes>,
        after: Vec<AfterWrite>,
    ) -> (Result<(), WriteFailure>, Vec<AfterWrite>) {
        let Some(batch) = batch else { return (Ok(()), after) };
        let outcome = self.partition.append_and_wait(batch, self.epoch, Origin::Coordinator).await;
        let outcome = outcome.map(drop).map_err(|error| {
            if let Some(line) = NOT_APPENDED.line() {
                let (partition, left_out) = (self.partition.index(), line.left_out());
                tracing::warn!(%partition, %error, left_out, "could not append to {}", super::OFFSETS_TOPIC);
            }
            failure(&error)
        });
        (outcome, after)
    }
}

/// Resolves when nobody can ask any more. Until the load is done nobody asks.
async fn closed(requests: &mut mpsc::Receiver<Request>) {
    while requests.recv().await.is_some() {}
}

fn failure(error: &PartitionError) -> WriteFailure {
    match error {
        PartitionError::NotLeader
        | PartitionError::FencedLeaderEpoch
        | PartitionError::UnknownLeaderEpoch
        | PartitionError::Append(AppendError::Closed)
        | PartitionError::Log(_) => WriteFailure::NotLeader,
        PartitionError::NotEnoughReplicas
        | PartitionError::NotEnoughReplicasAfterAppend
        | PartitionError::OffsetNotAvailable
        | PartitionError::Append(AppendError::DiskFull) => WriteFailure::Unavailable,
        PartitionError::Append(AppendError::TooLarge { .. } | AppendError::LargerThanSegment { .. }) => {
            WriteFailure::TooLarge
        }
        PartitionError::Append(_) | PartitionError::Read(_) => WriteFailure::Refused,
    }
}

#[cfg(test)]
mod tests;
