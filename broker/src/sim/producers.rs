//! Producers and consumers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::checker::{Value, read};
use super::clock::EPOCH_MS;
use super::cluster::Cluster;
use super::machine::Serving;
use super::trace::note;
use crate::ids::{LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, TopicPartition};
use crate::log::{AppendError, Appended, BatchBuilder, Compression, Origin, ReadError};
use crate::stream::{AckWaiter, Acks, PartitionError};
use crate::wal::Admission;

/// A request with acks=all waits so long at most, ms.
const ACKED_WITHIN_MS: u64 = 8_000;

/// A producer, which numbers its records.
pub(super) struct Producer {
    cluster: Arc<Cluster>,
    id: u64,
    acks: Acks,
    /// The next sequence in each partition.
    next: BTreeMap<TopicPartition, u64>,
    /// Whom it takes for the leader.
    leaders: BTreeMap<TopicPartition, i32>,
}

/// What came of an attempt.
enum Attempt {
    Acked(Appended, LeaderEpoch),
    /// It may have been appended, or not.
    Again,
    /// There is no such partition any more.
    Gone,
}

/// What a node answers to a batch.
struct Answer {
    /// The epoch that it led in when it took the batch, or refused it.
    epoch: Option<LeaderEpoch>,
    outcome: Result<Appended, PartitionError>,
}

/// A batch that is sent until it is acknowledged.
struct Batch {
    partition: TopicPartition,
    values: Vec<Value>,
    bytes: Bytes,
}

impl Producer {
    pub(super) fn new(cluster: Arc<Cluster>, id: u64, acks: Acks) -> Self {
        Self { cluster, id, acks, next: BTreeMap::new(), leaders: BTreeMap::new() }
    }

    /// Sends until it is told to stop.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let partitions = self.cluster.partitions();
            if !partitions.is_empty() {
                let at = self.cluster.rng.below(partitions.len() as u64) as usize;
                let batch = self.batch(partitions[at].0);
                self.send(&batch, &stop).await;
            }
            let pause = Duration::from_micros(self.cluster.rng.below(80_000));
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    fn batch(&mut self, partition: TopicPartition) -> Batch {
        let rng = &self.cluster.rng;
        let next = self.next.entry(partition).or_insert(0);
        let count = 1 + rng.below(3);
        let values: Vec<_> = (*next..*next + count)
            .map(|number| Value { producer: self.id, number, key: rng.below(self.cluster.world.scenario.keys) as u8 })
            .collect();
        let now = EPOCH_MS + self.cluster.world.trace.elapsed().as_millis() as i64;
        let mut builder = BatchBuilder::new(Compression::None);
        if self.acks == Acks::All {
            let id = ProducerId::new(self.id as i64);
            builder = builder.idempotent(id, ProducerEpoch::new(0), *next as i32);
        }
        for value in &values {
            let bytes = value.bytes(rng.below(150) as usize);
            builder = builder.record(now, Some(&[value.key]), Some(&bytes));
        }
        *next += count;
        Batch { partition, values, bytes: builder.build() }
    }

    /// Sends until the batch is acknowledged, or can't be any more. Without acks=all once only.
    async fn send(&mut self, batch: &Batch, stop: &CancellationToken) {
        loop {
            match self.attempt(batch).await {
                Attempt::Acked(appended, epoch) => {
                    if self.acks == Acks::All {
                        self.cluster.checker.acked(batch.partition, epoch, appended.base_offset.get(), &batch.values);
                    }
                    return;
                }
                Attempt::Gone => return,
                Attempt::Again if self.acks != Acks::All => return,
                Attempt::Again => {
                    self.leaders.remove(&batch.partition);
                    let pause = Duration::from_millis(20 + self.cluster.rng.below(200));
                    // One that stops may never know: then it is not acknowledged.
                    if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Writes one batch to a partition with acks=all, for as long as it may take; whether it was acknowledged.
    pub(super) async fn write_within(&mut self, partition: TopicPartition, within: Duration) -> bool {
        let batch = self.batch(partition);
        let give_up = Instant::now() + within;
        while Instant::now() < give_up {
            match self.attempt(&batch).await {
                Attempt::Acked(appended, epoch) => {
                    self.cluster.checker.acked(partition, epoch, appended.base_offset.get(), &batch.values);
                    return true;
                }
                Attempt::Gone => return false,
                Attempt::Again => {
                    self.leaders.remove(&partition);
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        false
    }

    fn leader(&mut self, partition: TopicPartition) -> Option<Arc<Serving>> {
        let cluster = &self.cluster;
        let known = self.leaders.get(&partition).copied().or_else(|| {
            let image = cluster.any_serving()?;
            let image = crate::metadata::MetadataPlane::image(&*image.raft);
            image.partition(&partition)?.leader.map(NodeId::get)
        })?;
        let serving = cluster.machines.get(known as usize)?.serving()?;
        self.leaders.insert(partition, known);
        Some(serving)
    }

    async fn attempt(&mut self, batch: &Batch) -> Attempt {
        let Some(leader) = self.leader(batch.partition) else {
            self.leaders.remove(&batch.partition);
            return self.again_or_gone(batch);
        };
        let (acks, cluster) = (self.acks, self.cluster.clone());
        let within = Duration::from_millis(500 + cluster.rng.below(ACKED_WITHIN_MS));
        let answered = cluster.call(&leader, async |node| produce(&cluster, node, batch, acks, within).await).await;
        let Ok(Answer { epoch: Some(epoch), outcome }) = answered else { return self.again_or_gone(batch) };
        match outcome {
            Ok(appended) => Attempt::Acked(appended, epoch),
            // One that was deposed and has not heard of it lacks what the leader after it has acknowledged.
            Err(PartitionError::Append(AppendError::OutOfOrderSequence { .. }))
                if cluster.checker.has_acked_since(batch.partition, epoch) =>
            {
                self.again_or_gone(batch)
            }
            Err(PartitionError::Append(AppendError::OutOfOrderSequence { expected, got })) => {
                if cluster.partitions().iter().any(|(partition, _)| *partition == batch.partition) {
                    let what = format!(
                        "{:?} at node {}: producer {} sends {got} after all before was acknowledged, and {expected} is expected",
                        batch.partition, leader.process.machine, self.id
                    );
                    cluster.checker.violated(what);
                }
                Attempt::Gone
            }
            Err(PartitionError::Append(why @ (AppendError::DiskFull | AppendError::Closed))) => {
                note!(cluster.world.trace, "producer {}: {why}", self.id);
                self.again_or_gone(batch)
            }
            Err(PartitionError::Append(why)) => {
                cluster.checker.violated(format!("a right batch is refused: {why}"));
                Attempt::Gone
            }
            Err(_) => self.again_or_gone(batch),
        }
    }

    fn again_or_gone(&self, batch: &Batch) -> Attempt {
        let there = self.cluster.partitions().iter().any(|(partition, _)| *partition == batch.partition);
        if there { Attempt::Again } else { Attempt::Gone }
    }
}

struct Once(Mutex<Option<oneshot::Sender<Result<(), PartitionError>>>>);

impl AckWaiter for Once {
    fn settled(&self, _slot: u32, outcome: Result<(), PartitionError>) {
        if let Some(sender) = self.0.lock().take() {
            // The request may have timed out.
            let _ = sender.send(outcome);
        }
    }
}

/// Appends, and waits for the acknowledgement.
async fn produce(cluster: &Cluster, node: &Serving, batch: &Batch, acks: Acks, within: Duration) -> Answer {
    let Some(partition) = node.partitions.get(&batch.partition) else {
        return Answer { epoch: None, outcome: Err(PartitionError::NotLeader) };
    };
    let epoch = partition.leading();
    let accepted = match partition.append(batch.bytes.clone(), acks, Origin::Client, Admission::unbounded()) {
        Ok(accepted) => accepted,
        Err(why) => return Answer { epoch, outcome: Err(why) },
    };
    let (sender, settled) = oneshot::channel();
    partition.when_acked(&accepted, acks, Arc::new(Once(Mutex::new(Some(sender)))), 0);
    let settled = timeout(within, settled).await;
    cluster.checker.begins(batch.partition, partition.offsets().log_start);
    let outcome = match settled {
        Ok(Ok(outcome)) => outcome.map(|()| accepted.appended),
        // Kafka's REQUEST_TIMED_OUT, or the partition is gone: the same to a client, who tries again.
        Ok(Err(_)) | Err(_) => Err(PartitionError::NotLeader),
    };
    Answer { epoch, outcome }
}

/// Reads partitions at leaders and followers, from the beginning on.
pub(super) async fn consume(cluster: Arc<Cluster>, stop: CancellationToken) {
    let mut positions: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    loop {
        let pause = Duration::from_micros(cluster.rng.below(150_000));
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
        let partitions = cluster.partitions();
        let Some(node) = cluster.any_serving().filter(|_| !partitions.is_empty()) else { continue };
        let partition = partitions[cluster.rng.below(partitions.len() as u64) as usize].0;
        let position = positions.entry(partition).or_insert(0);
        let from = *position;
        // Who loses an answer asks again.
        if let Ok(Some(next)) = cluster.call(&node, async |node| fetch(&cluster, node, partition, from)).await {
            *position = next;
        }
    }
}

/// Reads once; where to go on.
fn fetch(cluster: &Cluster, node: &Serving, partition: TopicPartition, from: i64) -> Option<i64> {
    let replica = node.partitions.get(&partition)?;
    replica.check_replica(None).ok()?;
    let offsets = replica.offsets();
    cluster.checker.begins(partition, offsets.log_start);
    match replica.read(from, 2_000, true, false) {
        Err(PartitionError::Read(ReadError::OutOfRange { start, .. })) => {
            // A follower may not have it yet.
            return (from < start.get()).then_some(start.get());
        }
        Err(why) => {
            cluster.unreadable(node, partition, &why);
            return None;
        }
        Ok(_) if from >= offsets.high_watermark.get() => return None,
        Ok(_) => {}
    }
    match read(&replica, Offset::new(from), offsets.high_watermark, 2_000) {
        Ok(found) => {
            cluster.checker.seen(partition, node.process.machine, from, &found.records);
            found.end.map(|end| end.get().min(offsets.high_watermark.get()))
        }
        Err(why) => {
            cluster.unreadable(node, partition, &why);
            None
        }
    }
}
