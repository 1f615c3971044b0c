//! Producers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::checker::Value;
use super::clock::EPOCH_MS;
use super::cluster::Cluster;
use super::machine::Serving;
use super::trace::note;
use crate::ids::{LeaderEpoch, NodeId, ProducerEpoch, ProducerId, TopicPartition};
use crate::log::{AppendError, Appended, BatchBuilder, Compression, Origin};
use crate::stream::{AckWaiter, Acks, Partition, PartitionError};
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
    /// Where a batch of its was acknowledged. Who is not known yet may begin with any sequence, as with Kafka: it sends
    /// one batch at a time.
    known: BTreeSet<TopicPartition>,
    /// Whom it takes for the leader.
    leaders: BTreeMap<TopicPartition, i32>,
}

/// What came of an attempt.
enum Attempt {
    Acked(Appended, LeaderEpoch),
    /// It may have been appended, or not.
    Again,
    /// It can't be acknowledged any more: there is no such partition.
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
    values: Vec<Value>,
    bytes: Bytes,
}

impl Producer {
    pub(super) fn new(cluster: Arc<Cluster>, id: u64, acks: Acks) -> Self {
        Self { cluster, id, acks, next: BTreeMap::new(), known: BTreeSet::new(), leaders: BTreeMap::new() }
    }

    /// Sends until it is told to stop.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let partitions = self.cluster.partitions();
            if !partitions.is_empty() {
                let at = self.cluster.rng.below(partitions.len() as u64) as usize;
                self.send(partitions[at].0, &stop).await;
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
        Batch { values, bytes: builder.build() }
    }

    /// So many batches of a partition it has under way at most.
    fn in_flight(&self, partition: TopicPartition) -> usize {
        let pipelines = self.acks == Acks::All && self.known.contains(&partition);
        if pipelines { self.cluster.world.scenario.in_flight } else { 1 }
    }

    /// Sends some batches, each until it is acknowledged, or can't be any more. Without acks=all once only.
    async fn send(&mut self, partition: TopicPartition, stop: &CancellationToken) {
        let in_flight = self.in_flight(partition);
        let mut left = if in_flight > 1 { 1 + self.cluster.rng.below(3 * in_flight as u64) } else { 1 };
        // From the first that is not settled on; `None`: it is.
        let mut window: VecDeque<Option<Batch>> = VecDeque::new();
        loop {
            while window.pop_front_if(|batch| batch.is_none()).is_some() {}
            while left > 0 && window.len() < in_flight {
                window.push_back(Some(self.batch(partition)));
                left -= 1;
            }
            if window.is_empty() {
                return;
            }
            let open: Vec<_> = window.iter().flatten().collect();
            let attempts = self.attempt(partition, &open).await;
            let mut again = false;
            for (batch, attempt) in window.iter_mut().filter(|batch| batch.is_some()).zip(attempts) {
                match attempt {
                    Attempt::Acked(appended, epoch) => self.acked(partition, epoch, appended, batch.take()),
                    Attempt::Gone => *batch = None,
                    Attempt::Again if self.acks != Acks::All => return,
                    Attempt::Again => again = true,
                }
            }
            if again {
                self.leaders.remove(&partition);
                let pause = Duration::from_millis(20 + self.cluster.rng.below(200));
                // One that stops may never know: then it is not acknowledged.
                if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                    return;
                }
            }
        }
    }

    fn acked(&mut self, partition: TopicPartition, epoch: LeaderEpoch, appended: Appended, batch: Option<Batch>) {
        if let Some(Batch { values, .. }) = batch.filter(|_| self.acks == Acks::All) {
            self.known.insert(partition);
            self.cluster.checker.acked(partition, epoch, appended, &values);
        }
    }

    /// Writes one batch to a partition with acks=all, for as long as it may take; whether it was acknowledged.
    pub(super) async fn write_within(&mut self, partition: TopicPartition, within: Duration) -> bool {
        let batch = self.batch(partition);
        let give_up = Instant::now() + within;
        while Instant::now() < give_up {
            match self.attempt(partition, &[&batch]).await.pop() {
                Some(Attempt::Acked(appended, epoch)) => {
                    self.acked(partition, epoch, appended, Some(batch));
                    return true;
                }
                Some(Attempt::Gone) | None => return false,
                Some(Attempt::Again) => {
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

    /// Sends these batches, one after the other, and waits for the answers: one for each.
    async fn attempt(&mut self, partition: TopicPartition, batches: &[&Batch]) -> Vec<Attempt> {
        let Some(leader) = self.leader(partition) else {
            self.leaders.remove(&partition);
            return self.unheard(partition, batches);
        };
        let (acks, cluster) = (self.acks, self.cluster.clone());
        let within = Duration::from_millis(500 + cluster.rng.below(ACKED_WITHIN_MS));
        let produce = async |node: &Serving| produce(&cluster, node, partition, batches, acks, within).await;
        let Ok(answers) = cluster.call(&leader, produce).await else {
            return self.unheard(partition, batches);
        };
        let lost = cluster.world.scenario.lost_answers;
        let judged = answers.into_iter().enumerate().map(|(at, answer)| {
            if lost > 0 && cluster.chance(lost) {
                return self.again_or_gone(partition);
            }
            self.judge(partition, &leader, at == 0, answer)
        });
        judged.collect()
    }

    /// What an answer means. `first`: all batches before have been acknowledged.
    fn judge(&self, partition: TopicPartition, leader: &Serving, first: bool, answer: Answer) -> Attempt {
        let cluster = &self.cluster;
        let Answer { epoch: Some(epoch), outcome } = answer else { return self.again_or_gone(partition) };
        match outcome {
            Ok(appended) => Attempt::Acked(appended, epoch),
            // One that was deposed and has not heard of it lacks what the leader after it has acknowledged.
            Err(PartitionError::Append(AppendError::OutOfOrderSequence { .. }))
                if !first || cluster.checker.has_acked_since(partition, epoch) =>
            {
                self.again_or_gone(partition)
            }
            // As with Kafka, a log that has lost batches remembers them only as long as its process runs.
            Err(PartitionError::Append(AppendError::OutOfOrderSequence { .. }))
                if cluster.world.scenario.in_flight > 1 && cluster.checker.has_deleted(partition) =>
            {
                Attempt::Gone
            }
            Err(PartitionError::Append(AppendError::OutOfOrderSequence { expected, got })) => {
                if cluster.partitions().iter().any(|(it, _)| *it == partition) {
                    let what = format!(
                        "{partition:?} at node {}: producer {} sends {got} after all before was acknowledged, and {expected} is expected",
                        leader.process.machine, self.id
                    );
                    cluster.checker.violated(what);
                }
                Attempt::Gone
            }
            Err(PartitionError::Append(why @ (AppendError::DiskFull | AppendError::Closed))) => {
                note!(cluster.world.trace, "producer {}: {why}", self.id);
                self.again_or_gone(partition)
            }
            Err(PartitionError::Append(why)) => {
                cluster.checker.violated(format!("a right batch is refused: {why}"));
                Attempt::Gone
            }
            Err(_) => self.again_or_gone(partition),
        }
    }

    fn unheard(&self, partition: TopicPartition, batches: &[&Batch]) -> Vec<Attempt> {
        batches.iter().map(|_| self.again_or_gone(partition)).collect()
    }

    fn again_or_gone(&self, partition: TopicPartition) -> Attempt {
        let there = self.cluster.partitions().iter().any(|(it, _)| *it == partition);
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

/// A batch that a node has taken, or refused.
struct Sent {
    epoch: Option<LeaderEpoch>,
    taken: Result<(Appended, oneshot::Receiver<Result<(), PartitionError>>), PartitionError>,
    until: Instant,
}

impl Sent {
    fn to(partition: &Partition, batch: &Batch, acks: Acks, within: Duration) -> Self {
        let epoch = partition.leading();
        let accepted = partition.append(batch.bytes.clone(), acks, Origin::Client, Admission::unbounded());
        let taken = accepted.map(|accepted| {
            let (sender, settled) = oneshot::channel();
            partition.when_acked(&accepted, acks, Arc::new(Once(Mutex::new(Some(sender)))), 0);
            (accepted.appended, settled)
        });
        Self { epoch, taken, until: Instant::now() + within }
    }

    async fn answer(self) -> Answer {
        let outcome = match self.taken {
            Err(why) => Err(why),
            Ok((appended, settled)) => match timeout_at(self.until, settled).await {
                Ok(Ok(outcome)) => outcome.map(|()| appended),
                // Kafka's REQUEST_TIMED_OUT, or the partition is gone: the same to a client, who tries again.
                Ok(Err(_)) | Err(_) => Err(PartitionError::NotLeader),
            },
        };
        Answer { epoch: self.epoch, outcome }
    }
}

/// Appends these batches, one after the other as they arrive, and waits for their acknowledgements.
async fn produce(
    cluster: &Cluster,
    node: &Serving,
    id: TopicPartition,
    batches: &[&Batch],
    acks: Acks,
    within: Duration,
) -> Vec<Answer> {
    let mut sent = Vec::new();
    for (at, batch) in batches.iter().enumerate() {
        if at > 0 {
            let most_us = if cluster.chance(10) { 500_000 } else { 20_000 };
            sleep(Duration::from_micros(cluster.rng.below(most_us))).await;
        }
        sent.push(match node.partitions.get(&id).filter(|_| !node.is_gone()) {
            Some(partition) => Sent::to(&partition, batch, acks, within),
            None => Sent { epoch: None, taken: Err(PartitionError::NotLeader), until: Instant::now() },
        });
    }
    let mut answers = Vec::new();
    for sent in sent {
        answers.push(sent.answer().await);
    }
    if let Some(partition) = node.partitions.get(&id) {
        cluster.checker.begins(id, partition.offsets().log_start);
    }
    answers
}
