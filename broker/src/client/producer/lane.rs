//! One partition's way to its leader: at most five batches under way, in order, sent again in order after an error.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use kafka_wire::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_wire::{ProduceRequest, ProduceResponse};
use kafka_wire_core::StrBytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::super::cluster::{RETRY_FOR, RETRY_PAUSE};
use super::super::records::{self, NewRecord, ProducerPosition};
use super::super::{ClientError, Connection, check};
use super::{Delivery, Leaders, RequiredAcks, Shared};
use crate::kafka::wire::ErrorCode;
use crate::log::batch::sequence_after;
use crate::message;

/// Batches under way at a time; the broker remembers as many of a producer's (KIP-98).
const IN_FLIGHT: usize = 5;
/// The newest Produce version that names topics instead of giving their ids.
const BY_NAME: i16 = 12;
/// What the broker may wait for replicas.
const ACK_TIMEOUT_MS: i32 = 30_000;
/// After so long without an answer it is looked whether another node leads meanwhile.
const LOOK_AFTER: Duration = Duration::from_secs(3);

/// The queue of one partition.
pub(super) struct Lane {
    partition: i32,
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Gathering>,
    finished: bool,
}

/// A batch that still takes records.
#[derive(Default)]
struct Gathering {
    records: Vec<NewRecord>,
    queued_at: Vec<Instant>,
    room: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

/// A batch that is under way.
struct Sealed {
    data: Bytes,
    delivery: Delivery,
    /// Freed when the batch is settled.
    _room: Option<OwnedSemaphorePermit>,
}

impl Lane {
    pub(super) fn new(partition: i32) -> Arc<Self> {
        Arc::new(Self { partition, queue: Mutex::default(), changed: Notify::new() })
    }

    /// Adds a record; says whether it filled a batch.
    pub(super) fn push(&self, record: NewRecord, room: OwnedSemaphorePermit, batch_bytes: usize) -> bool {
        let size = record.size();
        let mut queue = self.queue.lock();
        let fits = queue.batches.back().is_some_and(|batch| batch.bytes + size <= batch_bytes);
        if !fits {
            queue.batches.push_back(Gathering::default());
        }
        let batch = queue.batches.back_mut().expect("there is a batch, because one was just added");
        batch.records.push(record);
        batch.queued_at.push(Instant::now());
        batch.bytes += size;
        match &mut batch.room {
            Some(held) => held.merge(room),
            none => *none = Some(room),
        }
        let filled = batch.bytes >= batch_bytes || (!fits && queue.batches.len() > 1);
        drop(queue);
        self.changed.notify_one();
        filled
    }

    /// No more records come.
    pub(super) fn finish(&self) {
        self.queue.lock().finished = true;
        self.changed.notify_one();
    }
}

/// Drives a lane until it is finished and empty, or failed.
pub(super) async fn run(lane: Arc<Lane>, shared: Arc<Shared>) {
    if let Err(why) = deliver_all(&lane, &shared).await {
        shared.failure.lock().get_or_insert(why);
        // Whoever waits for room learns of the failure instead; records that still come are dropped with it.
        shared.room.add_permits(super::BUFFER_BYTES);
    }
}

async fn deliver_all(lane: &Lane, shared: &Shared) -> Result<(), ClientError> {
    let mut sequence = 0_i32;
    let mut under_way: VecDeque<Sealed> = VecDeque::new();
    if !has_something(lane).await {
        return Ok(());
    }
    let mut connection = match leader(lane, shared, shared.opened).await {
        Err(why) if why.is_retriable() => reconnect(lane, shared, None, why).await?,
        settled => settled?,
    };
    loop {
        let mut answers = FuturesOrdered::new();
        let mut look_at = tokio::time::Instant::now() + LOOK_AFTER;
        for batch in &under_way {
            answers.push_back(send(shared, &connection, lane.partition, batch.data.clone()));
        }
        let failed = loop {
            while under_way.len() < IN_FLIGHT
                && let Some(batch) = seal(lane, shared, &mut sequence)
            {
                answers.push_back(send(shared, &connection, lane.partition, batch.data.clone()));
                under_way.push_back(batch);
            }
            if under_way.is_empty() && is_done(lane) {
                return Ok(());
            }
            tokio::select! {
                Some(answer) = answers.next() => match answer {
                    Ok(base_offset) => {
                        settle(shared, under_way.pop_front(), base_offset);
                        look_at = tokio::time::Instant::now() + LOOK_AFTER;
                    }
                    Err(why) => break why,
                },
                () = tokio::time::sleep_until(look_at), if !under_way.is_empty() => {
                    if is_led_elsewhere(lane, shared, &connection).await {
                        break ClientError::TimedOut { what: "Produce", address: connection.address().to_owned() };
                    }
                    look_at = tokio::time::Instant::now() + LOOK_AFTER;
                }
                () = lane.changed.notified(), if under_way.len() < IN_FLIGHT => {}
            }
        };
        // The rest of what is under way is sent again after it, in the same order: idempotence makes it once.
        drop(answers);
        if !failed.is_retriable() {
            return Err(failed);
        }
        connection = reconnect(lane, shared, under_way.front(), failed).await?;
    }
}

/// Waits for the first record; false when none will come: who has nothing to send needs no leader.
async fn has_something(lane: &Lane) -> bool {
    loop {
        {
            let queue = lane.queue.lock();
            if !queue.batches.is_empty() || queue.finished {
                return !queue.batches.is_empty();
            }
        }
        lane.changed.notified().await;
    }
}

fn is_done(lane: &Lane) -> bool {
    let queue = lane.queue.lock();
    queue.finished && queue.batches.is_empty()
}

/// Tells that a batch is stored, and frees its room.
fn settle(shared: &Shared, batch: Option<Sealed>, base_offset: i64) {
    let mut batch = batch.expect("an answer belongs to the oldest batch under way, because answers are ordered");
    batch.delivery.base_offset = base_offset;
    (shared.on_delivery)(&batch.delivery);
}

/// Encodes the oldest gathered batch.
fn seal(lane: &Lane, shared: &Shared, sequence: &mut i32) -> Option<Sealed> {
    let batch = lane.queue.lock().batches.pop_front()?;
    let producer = shared.identity.map(|(id, epoch)| ProducerPosition { id, epoch, sequence: *sequence });
    let data = records::encode(&batch.records, shared.options.compression, producer);
    *sequence = sequence_after(*sequence, batch.records.len() as i32);
    let delivery = Delivery { partition: lane.partition, base_offset: -1, queued_at: batch.queued_at };
    Some(Sealed { data, delivery, _room: batch.room })
}

/// The lane's leader, as the cluster told it at this time or later.
async fn leader(lane: &Lane, shared: &Shared, since: Instant) -> Result<Arc<Connection>, ClientError> {
    let topic = {
        // Whoever waits here finds what another lane was told meanwhile.
        let mut leaders = shared.leaders.lock().await;
        if leaders.asked < since {
            let asked = Instant::now();
            *leaders = Leaders { asked, topic: Arc::new(shared.client.topic(&shared.topic).await?) };
        }
        leaders.topic.clone()
    };
    let at = topic.partitions.binary_search_by_key(&lane.partition, |partition| partition.index);
    let leader = at.ok().and_then(|at| topic.partitions[at].leader);
    let no_leader = || ClientError::NoLeader { topic: shared.topic.clone(), partition: lane.partition };
    shared.client.broker(leader.ok_or_else(no_leader)?).await
}

/// Whether another node leads than the one that is waited for.
async fn is_led_elsewhere(lane: &Lane, shared: &Shared, connection: &Arc<Connection>) -> bool {
    let found = leader(lane, shared, Instant::now()).await;
    found.is_ok_and(|found| !Arc::ptr_eq(&found, connection))
}

/// Finds the leader again, as long as the oldest batch may still wait.
async fn reconnect(
    lane: &Lane,
    shared: &Shared,
    oldest: Option<&Sealed>,
    mut why: ClientError,
) -> Result<Arc<Connection>, ClientError> {
    let waited = oldest.and_then(|batch| batch.delivery.queued_at.first()).map_or_else(Instant::now, |since| *since);
    while waited.elapsed() < RETRY_FOR {
        shared.client.tries_again(&why);
        let failed = Instant::now();
        tokio::time::sleep(RETRY_PAUSE).await;
        match leader(lane, shared, failed).await {
            Ok(connection) => return Ok(connection),
            Err(again) if again.is_retriable() => why = again,
            Err(fatal) => return Err(fatal),
        }
    }
    Err(why)
}

/// Sends one batch; the offset of its first record, or −1 with acks=0.
async fn send(shared: &Shared, connection: &Arc<Connection>, partition: i32, data: Bytes) -> Result<i64, ClientError> {
    let partition_data = vec![message!(PartitionProduceData { index: partition, records: Some(data) })];
    let name = StrBytes::from(shared.topic.as_str());
    let request = message!(ProduceRequest {
        acks: shared.options.acks.code(),
        timeout_ms: ACK_TIMEOUT_MS,
        topic_data: vec![message!(TopicProduceData { name, partition_data })],
    });
    if shared.options.acks == RequiredAcks::None {
        connection.send_unanswered(&request, BY_NAME).await?;
        return Ok(-1);
    }
    stored_at(shared, partition, &connection.send_at_most(&request, BY_NAME).await?)
}

fn stored_at(shared: &Shared, partition: i32, response: &ProduceResponse) -> Result<i64, ClientError> {
    let attempt = || format!("produce to {}-{partition}", shared.topic);
    let answer = response.responses.iter().flat_map(|topic| &topic.partition_responses).next().ok_or_else(|| {
        ClientError::refused(attempt(), ErrorCode::UnknownServerError.code(), Some("the answer names no partition"))
    })?;
    if answer.error_code == ErrorCode::DuplicateSequenceNumber.code() {
        return Ok(answer.base_offset);
    }
    check(attempt, answer.error_code, answer.error_message.as_deref())?;
    Ok(answer.base_offset)
}
