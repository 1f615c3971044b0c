//! Producing: records are batched per partition while earlier batches are on their way, and never reordered.
//!
//! With acks=all the producer is idempotent (KIP-98): batches that are sent again are stored once.

mod lane;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use kafka_wire::InitProducerIdRequest;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::cluster::retry;
use super::records::NewRecord;
use super::{Client, ClientError, TopicMetadata, check};
use crate::ids::{InvalidId, ProducerEpoch, ProducerId};
use crate::kafka::wire::ErrorCode;
use crate::log::Compression;
use crate::message;
use lane::Lane;

/// Bytes of records that may wait for their acknowledgement.
const BUFFER_BYTES: usize = 32 << 20;

/// Which acknowledgement a producer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredAcks {
    /// None at all: what is lost is lost.
    None,
    /// The leader's.
    Leader,
    /// Every in-sync replica's, idempotent.
    All,
}

impl RequiredAcks {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// How a producer sends.
#[derive(Debug, Clone, Copy)]
pub struct ProducerOptions {
    /// Which acknowledgement it waits for.
    pub acks: RequiredAcks,
    /// How batches are compressed.
    pub compression: Compression,
    /// Bytes of records in one batch, about, before compression.
    pub batch_bytes: usize,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self { acks: RequiredAcks::All, compression: Compression::None, batch_bytes: 256 << 10 }
    }
}

/// An acknowledged batch.
#[derive(Debug)]
pub struct Delivery {
    /// Its partition.
    pub partition: i32,
    /// Offset of its first record; −1 with acks=0.
    pub base_offset: i64,
    /// When each of its records was given to the producer.
    pub queued_at: Vec<Instant>,
}

/// Told about each acknowledged batch.
pub type OnDelivery = Arc<dyn Fn(&Delivery) + Send + Sync>;

/// What all lanes of a producer share.
struct Shared {
    client: Arc<Client>,
    topic: String,
    options: ProducerOptions,
    identity: Option<(ProducerId, ProducerEpoch)>,
    room: Arc<Semaphore>,
    failure: Mutex<Option<ClientError>>,
    on_delivery: OnDelivery,
    /// When the producer was opened: what it knew of the leaders then is where every lane begins.
    opened: Instant,
    leaders: tokio::sync::Mutex<Leaders>,
}

/// A topic's leaders, as they were told last. One lane asks for all: an answer tells of every partition.
struct Leaders {
    /// When they were asked for.
    asked: Instant,
    topic: Arc<TopicMetadata>,
}

/// A producer to one topic.
pub struct Producer {
    shared: Arc<Shared>,
    lanes: Vec<Arc<Lane>>,
    tasks: JoinSet<()>,
    /// The partition that records without a key go to until its batch is full.
    sticky: AtomicUsize,
}

impl Producer {
    /// A producer to a topic, which is made if the broker does so by itself.
    pub async fn open(
        client: Arc<Client>,
        topic: &str,
        options: ProducerOptions,
        on_delivery: OnDelivery,
    ) -> Result<Self, ClientError> {
        let opened = Instant::now();
        let metadata = Arc::new(client.topic_or_create(topic).await?);
        let identity = match options.acks {
            RequiredAcks::All => Some(producer_id(&client).await?),
            RequiredAcks::None | RequiredAcks::Leader => None,
        };
        let shared = Arc::new(Shared {
            client,
            topic: topic.to_owned(),
            options,
            identity,
            room: Arc::new(Semaphore::new(BUFFER_BYTES)),
            failure: Mutex::default(),
            on_delivery,
            opened,
            leaders: tokio::sync::Mutex::new(Leaders { asked: opened, topic: metadata.clone() }),
        });
        let lanes: Vec<_> = metadata.partitions.iter().map(|partition| Lane::new(partition.index)).collect();
        let mut tasks = JoinSet::new();
        for lane in &lanes {
            tasks.spawn(lane::run(lane.clone(), shared.clone()));
        }
        Ok(Self { shared, lanes, tasks, sticky: AtomicUsize::new(0) })
    }

    /// How many partitions the topic has.
    pub fn partitions(&self) -> usize {
        self.lanes.len()
    }

    /// Queues a record, to the partition of its key; waits while the buffer is full. Fails with what made an earlier
    /// record fail.
    pub async fn send(&self, record: NewRecord) -> Result<(), ClientError> {
        let size = record.size().min(BUFFER_BYTES) as u32;
        let permit = self.shared.room.clone().acquire_many_owned(size).await;
        if let Some(failure) = self.shared.failure.lock().clone() {
            return Err(failure);
        }
        let permit = permit.expect("the buffer's semaphore is never closed, because only the producer has it");
        let lane = match &record.key {
            Some(key) => partition_of(key, self.lanes.len()),
            None => self.sticky.load(Ordering::Relaxed) % self.lanes.len(),
        };
        let filled = self.lanes[lane].push(record, permit, self.shared.options.batch_bytes);
        if filled {
            self.sticky.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits until everything is acknowledged; fails with the first failure.
    pub async fn close(mut self) -> Result<(), ClientError> {
        for lane in &self.lanes {
            lane.finish();
        }
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(why) = ended
                && why.is_panic()
            {
                std::panic::resume_unwind(why.into_panic());
            }
        }
        self.shared.failure.lock().take().map_or(Ok(()), Err)
    }
}

async fn producer_id(client: &Arc<Client>) -> Result<(ProducerId, ProducerEpoch), ClientError> {
    let request = message!(InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: i32::MAX });
    retry(client, || async {
        let response = client.any().await?.send(&request).await?;
        check(|| "get a producer id".to_owned(), response.error_code, None)?;
        let invalid = |why: InvalidId| {
            ClientError::refused("get a producer id", ErrorCode::UnknownServerError.code(), Some(&why.to_string()))
        };
        let id = ProducerId::try_from(response.producer_id).map_err(invalid)?;
        Ok((id, ProducerEpoch::try_from(response.producer_epoch).map_err(invalid)?))
    })
    .await
}

/// The partition that Java's producer chooses for a key.
fn partition_of(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partitions
}

/// Murmur2 with Kafka's seed.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| (tail << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that Apache Kafka's own tests of `Utils.murmur2` name.
    #[test]
    fn keys_hash_as_in_java() {
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }
}
