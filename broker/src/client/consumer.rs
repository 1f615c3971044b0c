//! Fetching: one Fetch under way at each leader, positions kept here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kafka_wire::fetch_request::{FetchPartition, FetchTopic};
use kafka_wire::fetch_response::PartitionData;
use kafka_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::{FetchRequest, FetchResponse, ListOffsetsRequest};
use kafka_wire_core::StrBytes;
use tokio::time::Instant;

use super::cluster::{RETRY_FOR, RETRY_PAUSE, retry};
use super::records::{self, Record};
use super::{Client, ClientError, check};
use crate::kafka::wire::ErrorCode;
use crate::message;

/// The newest Fetch version that names topics instead of giving their ids.
const BY_NAME: i16 = 12;
/// How long a broker may wait for data, ms.
const MAX_WAIT_MS: i32 = 500;
/// After so long without an answer it is looked whether other nodes lead meanwhile.
const LOOK_AFTER: Duration = Duration::from_secs(3);
/// Bytes of one answer, about.
const MAX_BYTES: i32 = 16 << 20;
/// Bytes of one partition in an answer, about.
const PARTITION_MAX_BYTES: i32 = 1 << 20;

/// A topic's partition by name.
pub type Place = (String, i32);

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first record.
    Earliest,
    /// After the last record.
    Latest,
    /// At the first record of a time, ms since the Unix epoch; after the last one when there is none.
    Timestamp(i64),
}

impl Start {
    fn timestamp(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest => -1,
            Self::Timestamp(ms) => ms,
        }
    }
}

/// Records of one partition, in order.
#[derive(Debug)]
pub struct Polled {
    /// Whence.
    pub place: Place,
    /// What: may be empty, when only markers were passed.
    pub records: Vec<Record>,
    /// Where the next fetch begins.
    pub next_offset: i64,
    /// The partition's high watermark.
    pub high_watermark: i64,
}

type Answer = (i32, Result<FetchResponse, ClientError>);

/// Reads partitions from positions.
pub struct Consumer {
    client: Arc<Client>,
    positions: BTreeMap<Place, i64>,
    /// What begins anew when its position has been deleted.
    reset: Start,
    leaders: HashMap<Place, i32>,
    under_way: FuturesUnordered<BoxFuture<'static, Answer>>,
    busy: Vec<i32>,
    /// Whose positions have been deleted: they begin anew before the next fetch.
    gone: Vec<Place>,
    /// Whether the next fetch comes after a pause, because something was not there that may come.
    paused: bool,
    /// When it is looked whether other nodes lead.
    look_at: Instant,
    /// Since when a partition has had no leader.
    leaderless_since: Option<Instant>,
    /// Whether it is an error when that lasts.
    gives_up: bool,
}

impl Consumer {
    /// A consumer of nothing yet; `reset` is where it begins again when a position is gone.
    pub fn new(client: Arc<Client>, reset: Start) -> Self {
        Self {
            client,
            positions: BTreeMap::new(),
            reset,
            leaders: HashMap::new(),
            under_way: FuturesUnordered::new(),
            busy: Vec::new(),
            gone: Vec::new(),
            paused: false,
            look_at: Instant::now() + LOOK_AFTER,
            leaderless_since: None,
            gives_up: false,
        }
    }

    /// From now on a partition that stays without a leader is an error; else it is waited for.
    pub fn give_up(&mut self) {
        self.gives_up = true;
    }

    /// Reads these partitions from these offsets from now on, and no others.
    pub fn assign(&mut self, positions: BTreeMap<Place, i64>) {
        self.positions = positions;
        self.gone.clear();
        self.forget();
    }

    /// What is being read, and from where next.
    pub fn positions(&self) -> &BTreeMap<Place, i64> {
        &self.positions
    }

    /// Drops fetches that are under way and what is known of leaders.
    fn forget(&mut self) {
        self.leaders.clear();
        self.under_way.clear();
        self.busy.clear();
    }

    /// Waits for the next answers and gives what they brought: maybe nothing. Can be dropped without loss: between an
    /// answer and its records' return nothing is awaited.
    pub async fn poll(&mut self) -> Result<Vec<Polled>, ClientError> {
        self.recover().await?;
        self.find_leaders().await?;
        self.ask();
        let Ok(answered) = tokio::time::timeout_at(self.look_at, self.under_way.next()).await else {
            self.look_at = Instant::now() + LOOK_AFTER;
            self.look().await?;
            return Ok(Vec::new());
        };
        self.look_at = Instant::now() + LOOK_AFTER;
        let Some((leader, answer)) = answered else {
            self.paused = true;
            return Ok(Vec::new());
        };
        self.busy.retain(|busy| *busy != leader);
        match answer {
            Ok(response) => self.take(response),
            Err(why) if why.is_retriable() => {
                self.client.tries_again(&why);
                self.forget();
                self.paused = true;
                Ok(Vec::new())
            }
            Err(why) => Err(why),
        }
    }

    /// Does what the last answers made necessary.
    async fn recover(&mut self) -> Result<(), ClientError> {
        if self.paused {
            tokio::time::sleep(RETRY_PAUSE).await;
            self.paused = false;
        }
        while let Some(place) = self.gone.last() {
            let start = offset_at(&self.client, place, self.reset).await?;
            let place = self.gone.pop().expect("it was the last one above");
            self.positions.insert(place, start);
        }
        Ok(())
    }

    async fn find_leaders(&mut self) -> Result<(), ClientError> {
        if self.positions.keys().all(|place| self.leaders.contains_key(place)) {
            return Ok(());
        }
        let mut topics: Vec<String> = self.positions.keys().map(|(topic, _)| topic.clone()).collect();
        topics.dedup();
        for topic in topics {
            self.leaders.extend(leaders_of(&self.client, &topic).await?);
        }
        self.mind_the_leaderless()
    }

    /// Whoever waits learns what is waited for.
    fn mind_the_leaderless(&mut self) -> Result<(), ClientError> {
        let leaderless = self.positions.keys().find(|place| !self.leaders.contains_key(*place));
        let Some((topic, partition)) = leaderless else {
            self.leaderless_since = None;
            return Ok(());
        };
        let why = ClientError::NoLeader { topic: topic.clone(), partition: *partition };
        let since = *self.leaderless_since.get_or_insert_with(Instant::now);
        if self.gives_up && since.elapsed() > RETRY_FOR {
            return Err(why);
        }
        self.client.tries_again(&why);
        Ok(())
    }

    /// Nobody has answered for a while: where other nodes lead meanwhile, they are asked.
    async fn look(&mut self) -> Result<(), ClientError> {
        let topics: BTreeSet<String> = self.leaders.keys().map(|(topic, _)| topic.clone()).collect();
        for topic in topics {
            let now = leaders_of(&self.client, &topic).await?;
            if now.iter().any(|(place, leader)| self.leaders.get(place).is_some_and(|known| known != leader)) {
                self.forget();
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends a Fetch to each leader that has none under way.
    fn ask(&mut self) {
        let mut wanted: BTreeMap<i32, BTreeMap<&str, Vec<FetchPartition>>> = BTreeMap::new();
        for (place, offset) in &self.positions {
            let Some(leader) = self.leaders.get(place).filter(|leader| !self.busy.contains(leader)) else { continue };
            let partition = message!(FetchPartition {
                partition: place.1,
                fetch_offset: *offset,
                partition_max_bytes: PARTITION_MAX_BYTES,
            });
            wanted.entry(*leader).or_default().entry(place.0.as_str()).or_default().push(partition);
        }
        for (leader, topics) in wanted {
            let topic = |(name, partitions)| message!(FetchTopic { topic: StrBytes::from(name), partitions });
            let request = message!(FetchRequest {
                max_wait_ms: MAX_WAIT_MS,
                min_bytes: 1,
                max_bytes: MAX_BYTES,
                session_epoch: -1,
                topics: topics.into_iter().map(topic).collect::<Vec<_>>(),
            });
            let client = self.client.clone();
            let fetch = async move {
                let answer = match client.broker(leader).await {
                    Ok(connection) => connection.send_at_most(&request, BY_NAME).await,
                    Err(why) => Err(why),
                };
                (leader, answer)
            };
            self.busy.push(leader);
            self.under_way.push(fetch.boxed());
        }
    }

    fn take(&mut self, response: FetchResponse) -> Result<Vec<Polled>, ClientError> {
        check(|| "fetch".to_owned(), response.error_code, None)?;
        let mut polled = Vec::new();
        for topic in response.responses {
            for answer in topic.partitions {
                let place = (topic.topic.as_str().to_owned(), answer.partition_index);
                polled.extend(self.take_partition(place, answer)?);
            }
        }
        Ok(polled)
    }

    fn take_partition(&mut self, place: Place, answer: PartitionData) -> Result<Option<Polled>, ClientError> {
        let Some(&position) = self.positions.get(&place) else { return Ok(None) };
        if answer.error_code == ErrorCode::OffsetOutOfRange.code() {
            self.gone.push(place);
            return Ok(None);
        }
        let refused = check(|| format!("fetch {}-{}", place.0, place.1), answer.error_code, None);
        match refused {
            Ok(()) => {}
            // The broker can't read its disk: asking again would only wait for an operator.
            Err(why) if why.is_retriable() && answer.error_code != ErrorCode::KafkaStorageError.code() => {
                self.client.tries_again(&why);
                self.leaders.remove(&place);
                self.paused = true;
                return Ok(None);
            }
            Err(why) => return Err(why),
        }
        let (records, next_offset) = read_records(&place, position, answer.records.unwrap_or_default())?;
        self.positions.insert(place.clone(), next_offset);
        Ok(Some(Polled { place, records, next_offset, high_watermark: answer.high_watermark }))
    }
}

/// Who leads a topic's partitions; those that nobody leads are missing.
async fn leaders_of(client: &Client, topic: &str) -> Result<Vec<(Place, i32)>, ClientError> {
    let metadata = retry(client, || client.topic(topic)).await?;
    let led = metadata.partitions.iter().filter_map(|it| Some(((topic.to_owned(), it.index), it.leader?)));
    Ok(led.collect())
}

/// The records from `position` on, without transaction markers; and where the next fetch begins.
fn read_records(place: &Place, position: i64, mut data: bytes::Bytes) -> Result<(Vec<Record>, i64), ClientError> {
    let mut found = Vec::new();
    let mut next = position;
    let broken = |offset: i64, why: records::BatchError| ClientError::Records {
        topic: place.0.clone(),
        partition: place.1,
        offset,
        why: why.to_string(),
    };
    loop {
        match records::next_batch(&mut data) {
            Ok(None) => break,
            // The last batch of an answer may be cut: the next fetch begins with it.
            Err(why) if why.is_truncated() && next > position => break,
            Err(why) => return Err(broken(next, why)),
            Ok(Some((header, packed))) => {
                if !header.is_control() {
                    let records = records::decode(&header, &packed).map_err(|why| broken(header.base_offset, why))?;
                    found.extend(records.into_iter().filter(|record| record.offset >= position));
                }
                next = next.max(header.last_offset().saturating_add(1));
            }
        }
    }
    Ok((found, next))
}

/// A partition's offset at a start.
pub async fn offset_at(client: &Arc<Client>, place: &Place, start: Start) -> Result<i64, ClientError> {
    let offsets = offsets_at(client, std::slice::from_ref(place), start).await?;
    Ok(offsets.get(place).copied().unwrap_or(0))
}

/// Partitions' offsets at a start.
pub async fn offsets_at(
    client: &Arc<Client>,
    places: &[Place],
    start: Start,
) -> Result<BTreeMap<Place, i64>, ClientError> {
    let mut offsets = retry(client, || list_offsets(client, places, start)).await?;
    let without: Vec<Place> =
        offsets.iter().filter(|(_, offset)| **offset < 0).map(|(place, _)| place.clone()).collect();
    if !without.is_empty() {
        offsets.extend(retry(client, || list_offsets(client, &without, Start::Latest)).await?);
    }
    Ok(offsets)
}

async fn list_offsets(
    client: &Arc<Client>,
    places: &[Place],
    start: Start,
) -> Result<BTreeMap<Place, i64>, ClientError> {
    let mut by_leader: BTreeMap<i32, BTreeMap<&str, Vec<ListOffsetsPartition>>> = BTreeMap::new();
    let mut leaders: HashMap<&str, HashMap<i32, i32>> = HashMap::new();
    for (topic, partition) in places {
        if !leaders.contains_key(topic.as_str()) {
            let metadata = client.topic(topic).await?;
            let known = metadata.partitions.iter().filter_map(|p| p.leader.map(|leader| (p.index, leader))).collect();
            leaders.insert(topic, known);
        }
        let leader = leaders[topic.as_str()].get(partition);
        let leader = leader.ok_or_else(|| ClientError::NoLeader { topic: topic.clone(), partition: *partition })?;
        let asked = message!(ListOffsetsPartition { partition_index: *partition, timestamp: start.timestamp() });
        by_leader.entry(*leader).or_default().entry(topic).or_default().push(asked);
    }
    let mut offsets = BTreeMap::new();
    for (leader, topics) in by_leader {
        let topic = |(name, partitions)| message!(ListOffsetsTopic { name: StrBytes::from(name), partitions });
        let topics = topics.into_iter().map(topic).collect::<Vec<_>>();
        let request = message!(ListOffsetsRequest { replica_id: -1, topics });
        let response = client.broker(leader).await?.send(&request).await?;
        for topic in response.topics {
            for answer in topic.partitions {
                let name = topic.name.as_str();
                check(|| format!("offsets of {name}-{}", answer.partition_index), answer.error_code, None)?;
                offsets.insert((name.to_owned(), answer.partition_index), answer.offset);
            }
        }
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use kafka_wire::fetch_response::FetchableTopicResponse;

    use super::*;
    use crate::client::records::{NewRecord, encode};
    use crate::log::Compression;

    fn answer(partition_index: i32, error: ErrorCode, records: Option<bytes::Bytes>) -> PartitionData {
        message!(PartitionData { partition_index, error_code: error.code(), records })
    }

    /// What an answer brought is given at once, though some of its partitions need another request first.
    #[test]
    fn records_do_not_wait_for_partitions_that_begin_anew() {
        let place = |partition| ("t".to_owned(), partition);
        let mut consumer = Consumer::new(Client::of_nobody(), Start::Earliest);
        consumer.assign((0..3).map(|partition| (place(partition), 0)).collect());
        let records = encode(&[NewRecord::default()], Compression::None, None);
        let partitions = vec![
            answer(0, ErrorCode::None, Some(records)),
            answer(1, ErrorCode::OffsetOutOfRange, None),
            answer(2, ErrorCode::NotLeaderOrFollower, None),
        ];
        let topic = message!(FetchableTopicResponse { topic: StrBytes::from("t"), partitions });
        let polled = consumer.take(message!(FetchResponse { responses: vec![topic] })).expect("nothing is fatal");
        assert_eq!(polled.len(), 1);
        assert_eq!((&polled[0].place, polled[0].records.len()), (&place(0), 1));
        assert_eq!(consumer.positions()[&place(0)], 1);
        assert_eq!((consumer.gone, consumer.paused), (vec![place(1)], true));
    }

    /// What a broker has lost is reported, not asked for over and over.
    #[test]
    fn records_that_the_broker_cannot_read_end_the_fetching() {
        for error in [ErrorCode::KafkaStorageError, ErrorCode::CorruptMessage] {
            let mut consumer = Consumer::new(Client::of_nobody(), Start::Earliest);
            consumer.assign(BTreeMap::from([(("t".to_owned(), 0), 0)]));
            let partitions = vec![answer(0, error, None)];
            let topic = message!(FetchableTopicResponse { topic: StrBytes::from("t"), partitions });
            let failed = consumer.take(message!(FetchResponse { responses: vec![topic] }));
            assert!(failed.expect_err("reported").to_string().contains("t-0"));
        }
    }
}
