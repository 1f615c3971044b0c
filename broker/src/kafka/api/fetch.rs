//! Fetch: reads what consumers ask for, and waits for it while there is less than they want. Followers answer too; a
//! leader may send a consumer to one that stands nearer (KIP-392).

mod nearer;

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use self::nearer::Nearer;
use super::replica;
use crate::ids::{LeaderEpoch, Offset};
use crate::io::flood::Flood;
use crate::kafka::RequestContext;
use crate::kafka::offload::Lane;
use crate::kafka::response_memory::{Held, ResponseMemory, STEP};
use crate::kafka::wire::ErrorCode;
use crate::kafka::wire::fetch::{FetchPartition, FetchRequest, FetchResponse, PartitionData};
use crate::kafka::wire::fields::TopicRef;
use crate::log::{LogOffsets, ReadError};
use crate::stream::{DataWaiter, Partition, PartitionError};

/// Lines about fetches that fail.
static FAILED: Flood = Flood::new("fetches that fail");

/// First version whose answers name the leader to those who asked another (KIP-951).
const CURRENT_LEADER: i16 = 16;
/// First version whose clients know that followers may answer (KIP-392).
const FOLLOWERS: i16 = 11;

/// Answers a Fetch request.
pub async fn handle(context: &RequestContext, mut request: FetchRequest) -> FetchResponse {
    let broker = &context.broker;
    let fetch = match broker.fetch_sessions.begin(context.version, &mut request, broker.clock.monotonic()) {
        Ok(fetch) => fetch,
        Err(error) => return FetchResponse { error: Some(error), ..FetchResponse::default() },
    };
    let mut memory = None;
    let answers = if request.replica_id >= 0 {
        // Replicas of this cluster don't fetch, they are streamed to: a broker that fetches is none of them.
        refuse_replica(&fetch.partitions)
    } else {
        let image = broker.metadata.image();
        let limits = Limits {
            min_bytes: request.min_bytes.max(0) as usize,
            max_bytes: request.max_bytes.clamp(0, broker.settings.broker(&image).fetch_max_bytes) as usize,
            committed: request.read_committed,
            leader_only: context.version < FOLLOWERS,
        };
        let nearer = Nearer::of(&image, &broker.settings.broker(&image), broker.node, &request.rack_id);
        let max_wait = Duration::from_millis(request.max_wait_ms.max(0) as u64);
        let (targets, absent) = look_up(context, &fetch.partitions);
        let poll = Poll { targets, limits, nearer, memory: &broker.response_memory, disk: &broker.offload.disk };
        let mut found = poll.run(Instant::now() + max_wait).await;
        memory = (found.bytes > 0).then_some(found.held);
        found.answers.extend(absent);
        found.answers
    };
    let now = broker.clock.monotonic();
    match broker.fetch_sessions.finish(context.version, fetch, answers, now, rand::random) {
        Err(error) => FetchResponse { error: Some(error), ..FetchResponse::default() },
        Ok((session_id, partitions)) => FetchResponse { memory, ..respond(context, session_id, partitions) },
    }
}

fn respond(context: &RequestContext, session_id: i32, mut partitions: Vec<(TopicRef, PartitionData)>) -> FetchResponse {
    let mut endpoints = Vec::new();
    let stale =
        |data: &PartitionData| matches!(data.error, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
    if context.version >= CURRENT_LEADER && partitions.iter().any(|(_, data)| stale(data)) {
        let image = context.broker.metadata.image();
        for (topic, data) in partitions.iter_mut().filter(|(_, data)| stale(data)) {
            data.current_leader = Some(replica::current_leader(&image, topic, data.index, &mut endpoints));
        }
    }
    FetchResponse { session_id, partitions, endpoints, ..FetchResponse::default() }
}

fn refuse_replica(partitions: &[FetchPartition]) -> Vec<(TopicRef, PartitionData)> {
    let refusal = |fetch: &FetchPartition| PartitionData::failed(fetch.index, ErrorCode::NotLeaderOrFollower);
    partitions.iter().map(|fetch| (fetch.topic.clone(), refusal(fetch))).collect()
}

/// A partition to read, or why there is none to wait for.
struct Target<'a> {
    fetch: &'a FetchPartition,
    partition: Result<Arc<Partition>, ErrorCode>,
}

/// Finds the replicas. Partitions that nobody has are answered without being waited for, and don't end the wait for
/// others: as in Kafka they come last, with an empty list of aborted transactions.
fn look_up<'a>(
    context: &RequestContext,
    partitions: &'a [FetchPartition],
) -> (Vec<Target<'a>>, Vec<(TopicRef, PartitionData)>) {
    let mut targets = Vec::with_capacity(partitions.len());
    let mut absent = Vec::new();
    for fetch in partitions {
        match replica::find(&context.broker, &fetch.topic, fetch.index) {
            Err(error @ (ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)) => {
                let data = PartitionData { aborted: Some(Vec::new()), ..PartitionData::failed(fetch.index, error) };
                absent.push((fetch.topic.clone(), data));
            }
            partition => targets.push(Target { fetch, partition }),
        }
    }
    (targets, absent)
}

struct Limits {
    min_bytes: usize,
    max_bytes: usize,
    committed: bool,
    /// Whether only leaders may answer.
    leader_only: bool,
}

/// One request's long poll.
struct Poll<'a> {
    targets: Vec<Target<'a>>,
    limits: Limits,
    nearer: Option<Nearer<'a>>,
    memory: &'a ResponseMemory,
    /// For reads that wait for the disk.
    disk: &'a Lane,
}

/// What one look at all partitions found.
struct Round {
    answers: Vec<(TopicRef, PartitionData)>,
    /// Of each target: where what it can read ends.
    seen: Vec<Offset>,
    bytes: usize,
    /// Their memory.
    held: Held,
    /// Bytes read since other connections had their turn.
    unbroken: usize,
    /// Whether there is something to tell at once: an error, a log that parted from the client's.
    urgent: bool,
}

/// Woken by the first partition that changes.
#[derive(Default)]
struct Reader(Notify);

impl DataWaiter for Reader {
    fn changed(&self) {
        self.0.notify_one();
    }
}

impl Poll<'_> {
    /// Reads until there is enough, something urgent, or no more time.
    async fn run(&self, deadline: Instant) -> Round {
        let enough = self.limits.min_bytes.min(self.limits.max_bytes);
        loop {
            let round = self.read().await;
            if round.bytes >= enough || round.urgent || self.targets.is_empty() || Instant::now() >= deadline {
                return round;
            }
            let reader = Arc::new(Reader::default());
            for (target, seen) in self.targets.iter().zip(&round.seen) {
                if let Ok(partition) = &target.partition {
                    let waiter: Weak<Reader> = Arc::downgrade(&reader);
                    partition.when_readable(*seen, self.limits.committed, waiter);
                }
            }
            // Nobody waits for more with records in memory: they are read again.
            let unread = Some(round).filter(|round| round.bytes == 0);
            if timeout_at(deadline, reader.0.notified()).await.is_err()
                && let Some(round) = unread
            {
                return round;
            }
        }
    }

    /// Reads all partitions in their order. The first that has data gives at least one batch, whatever the limits.
    async fn read(&self) -> Round {
        let mut round = Round {
            answers: Vec::with_capacity(self.targets.len()),
            seen: Vec::with_capacity(self.targets.len()),
            bytes: 0,
            held: self.memory.response(),
            unbroken: 0,
            urgent: false,
        };
        for Target { fetch, partition } in &self.targets {
            let read = match partition {
                Ok(partition) => self.read_partition(partition, fetch, &mut round).await.map_err(|error| {
                    report(partition, &error);
                    ErrorCode::from(&error)
                }),
                Err(error) => Err(*error),
            };
            let (data, seen) = read.unwrap_or_else(|error| (PartitionData::failed(fetch.index, error), Offset::FIRST));
            round.urgent |= data.error != ErrorCode::None
                || data.diverging_epoch.is_some()
                || data.preferred_read_replica.is_some();
            round.seen.push(seen);
            round.answers.push((fetch.topic.clone(), data));
        }
        round.held.settle();
        round
    }

    /// Reads one partition, a step at a time: the answer, and where what can be read of it ends.
    async fn read_partition(
        &self,
        partition: &Arc<Partition>,
        fetch: &FetchPartition,
        round: &mut Round,
    ) -> Result<(PartitionData, Offset), PartitionError> {
        let committed = self.limits.committed;
        let (mut data, offsets, bound) = look(partition, fetch, &self.limits)?;
        let seen = Offset::try_from(fetch.fetch_offset).map_or(bound, |from| from.max(bound));
        if data.diverging_epoch.is_some() {
            return Ok((data, seen));
        }
        data.preferred_read_replica =
            self.nearer.as_ref().and_then(|nearer| nearer.replica(partition, fetch.fetch_offset));
        if data.preferred_read_replica.is_some() {
            return Ok((data, seen));
        }
        data.aborted = committed.then(Vec::new);
        let mut from = fetch.fetch_offset;
        let mut room = self.limits.max_bytes.saturating_sub(round.bytes).min(fetch.max_bytes.max(0) as usize);
        loop {
            // What has nothing to give needs no memory, and tells its errors at once.
            let readable = (offsets.log_start.get()..bound.get()).contains(&from);
            let at_least_one = round.bytes == 0;
            let step = if readable && (room > 0 || at_least_one) { round.held.room(room.max(1)).await } else { 0 };
            let max_bytes = step.min(room);
            let read = match partition.read_cached_within(&offsets, from, max_bytes, at_least_one, committed) {
                Ok(None) => {
                    let reader = Arc::clone(partition);
                    let read = move || reader.read_within(&offsets, from, max_bytes, at_least_one, committed);
                    self.disk.run(read).await
                }
                Ok(Some(batches)) => Ok(batches),
                Err(error) => Err(error),
            };
            let batches = match read {
                // Whatever happened to the log meanwhile: the next fetch is told.
                Err(_) if !data.records.is_empty() => break,
                outcome => outcome?,
            };
            let bytes: usize = batches.data.iter().map(bytes::Bytes::len).sum();
            if !round.held.add(bytes) {
                // Only the first batch may be larger than what was reserved for it.
                drop(batches);
                round.held.wait(bytes).await;
                continue;
            }
            round.bytes += bytes;
            round.unbroken += bytes;
            room = room.saturating_sub(bytes);
            data.records.extend(batches.data);
            if let Some(aborted) = &mut data.aborted {
                aborted.extend(batches.aborted);
            }
            if round.unbroken >= STEP / 2 {
                round.unbroken = 0;
                tokio::task::yield_now().await;
            }
            match batches.end {
                Some(end) if room > 0 && end < bound => from = end.get(),
                _ => break,
            }
        }
        if let Some(aborted) = data.aborted.as_mut().filter(|_| data.records.len() > 1) {
            aborted.sort_unstable_by_key(|(producer, first)| (first.get(), producer.get()));
            aborted.dedup();
        }
        Ok((data, seen))
    }
}

/// Looks at a partition before it is read: the answer without records, and where what can be read of it ends.
fn look(
    partition: &Partition,
    fetch: &FetchPartition,
    limits: &Limits,
) -> Result<(PartitionData, LogOffsets, Offset), PartitionError> {
    if limits.leader_only {
        partition.check_leader(Some(fetch.current_leader_epoch))?;
    } else {
        partition.check_replica(Some(fetch.current_leader_epoch))?;
    }
    let offsets = partition.offsets();
    let bound = if limits.committed { offsets.last_stable } else { offsets.high_watermark };
    let mut data = PartitionData {
        high_watermark: offsets.high_watermark.get(),
        last_stable_offset: offsets.last_stable.get(),
        log_start_offset: offsets.log_start.get(),
        ..PartitionData::failed(fetch.index, ErrorCode::None)
    };
    if let Ok(last) = LeaderEpoch::try_from(fetch.last_fetched_epoch) {
        let (epoch, end) = partition.log().end_offset_for_epoch(last).ok_or(ReadError::OutOfRange {
            offset: fetch.fetch_offset,
            start: offsets.log_start,
            end: offsets.high_watermark,
        })?;
        if epoch < last || end.get() < fetch.fetch_offset {
            data.diverging_epoch = Some((epoch.get(), end.get()));
        }
    }
    Ok((data, offsets, bound))
}

/// A disk that can't be read is the operator's business, not only the client's.
fn report(partition: &Partition, error: &PartitionError) {
    if let PartitionError::Log(_) | PartitionError::Read(ReadError::Log(_)) = error
        && let Some(line) = FAILED.line()
    {
        let (topic, partition) = (partition.topic(), partition.index());
        tracing::error!(%topic, %partition, %error, left_out = line.left_out(), "a fetch failed");
    }
}

#[cfg(test)]
mod tests;
