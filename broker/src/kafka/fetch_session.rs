//! Fetch sessions (KIP-227): the broker remembers what a client fetches, requests carry what changed, responses only the
//! partitions that have something to say.
//!
//! A session's epoch counts its requests. It is taken when the request comes and checked again when the answer is
//! ready: a client that gave up on a request and sent another must not get two answers of one session mixed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::wire::fetch::{FetchPartition, FetchRequest, PartitionData};
use super::wire::fields::TopicRef;
use super::wire::{ErrorCode, StrBytes};

/// A session that was idle for so long may be replaced by any other; one that exists for so long, by a larger one.
const EVICTION_AGE: Duration = Duration::from_mins(2);
/// Partitions that all sessions may remember: a bound on memory. Beyond it clients go on without sessions.
const MAX_PARTITIONS: usize = 250_000;
/// The epoch of a request that opens a session.
const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request without a session, or that closes one.
const FINAL_EPOCH: i32 = -1;
/// First version with topic ids.
const TOPIC_IDS: i16 = 13;

/// What is fetched, in the order of the answer.
type Answers = Vec<(TopicRef, PartitionData)>;

/// The sessions of this broker.
pub struct FetchSessions {
    slots: usize,
    cache: Mutex<HashMap<i32, Entry>>,
}

struct Entry {
    session: Arc<Mutex<Session>>,
    created: Duration,
    used: Duration,
    /// Partitions, as of the last request.
    size: usize,
}

/// What a request asks for, with its session considered.
#[derive(Debug)]
pub struct FetchContext {
    /// What to read, in this order.
    pub partitions: Vec<FetchPartition>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Everything is in the request and in the answer.
    Sessionless,
    /// The same, and a session starts with it.
    Full,
    /// What the session remembers.
    Incremental { id: i32, session: Arc<Mutex<Session>>, epoch: i32 },
}

impl FetchSessions {
    /// At most so many (`max.incremental.fetch.session.cache.slots`).
    pub fn new(slots: usize) -> Self {
        Self { slots, cache: Mutex::default() }
    }

    /// Takes a request into its session. `now` is monotonic.
    pub fn begin(&self, version: i16, request: &mut FetchRequest, now: Duration) -> Result<FetchContext, ErrorCode> {
        let partitions = std::mem::take(&mut request.partitions);
        if matches!(request.session_epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            if request.session_id != 0 {
                self.cache.lock().remove(&request.session_id);
            }
            let kind = if request.session_epoch == FINAL_EPOCH { Kind::Sessionless } else { Kind::Full };
            return Ok(FetchContext { partitions, kind });
        }
        let mut cache = self.cache.lock();
        let entry = cache.get_mut(&request.session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let mut session = entry.session.lock();
        if session.epoch != request.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != (version >= TOPIC_IDS) {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        session.update(partitions, &request.forgotten);
        session.epoch = next_epoch(session.epoch);
        let size = session.cached.len();
        if size == 0 {
            drop(session);
            cache.remove(&request.session_id);
            return Ok(FetchContext { partitions: Vec::new(), kind: Kind::Sessionless });
        }
        entry.used = now;
        entry.size = size;
        let partitions = session.cached.values().map(|cached| cached.fetch.clone()).collect();
        let epoch = session.epoch;
        drop(session);
        let session = Arc::clone(&entry.session);
        if total(&cache) > MAX_PARTITIONS {
            cache.remove(&request.session_id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        Ok(FetchContext { partitions, kind: Kind::Incremental { id: request.session_id, session, epoch } })
    }

    /// What is sent of what was read, and under which session id. `draw` draws session ids.
    pub fn finish(
        &self,
        version: i16,
        context: FetchContext,
        answers: Answers,
        now: Duration,
        draw: impl FnMut() -> i32,
    ) -> Result<(i32, Answers), ErrorCode> {
        match context.kind {
            Kind::Sessionless => Ok((0, answers)),
            Kind::Full => {
                let id = self.open(version, context.partitions, &answers, now, draw);
                Ok((id, answers))
            }
            Kind::Incremental { id, session, epoch } => {
                let mut session = session.lock();
                if session.epoch != epoch {
                    return Err(ErrorCode::InvalidFetchSessionEpoch);
                }
                Ok((id, session.news(answers)))
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.cache.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Starts a session that has sent these answers. 0 when there is no room: the client goes on without one.
    fn open(
        &self,
        version: i16,
        partitions: Vec<FetchPartition>,
        answers: &Answers,
        now: Duration,
        mut draw: impl FnMut() -> i32,
    ) -> i32 {
        let mut cache = self.cache.lock();
        if !make_room(&mut cache, self.slots, partitions.len(), now)
            || total(&cache) + partitions.len() > MAX_PARTITIONS
        {
            return 0;
        }
        let id = loop {
            let id = draw();
            if id > 0 && !cache.contains_key(&id) {
                break id;
            }
        };
        let session = Session::new(version >= TOPIC_IDS, partitions, answers);
        let size = session.cached.len();
        cache.insert(id, Entry { session: Arc::new(Mutex::new(session)), created: now, used: now, size });
        id
    }
}

/// Makes room for a session of `size` partitions: at the cost of one that nobody uses any more, else of the smallest of
/// those that have been there for a while, if the new one is larger.
fn make_room(cache: &mut HashMap<i32, Entry>, slots: usize, size: usize, now: Duration) -> bool {
    if cache.len() < slots {
        return true;
    }
    let oldest = cache.iter().min_by_key(|(id, entry)| (entry.used, **id)).map(|(id, entry)| (*id, entry.used));
    if let Some((id, _)) = oldest.filter(|(_, used)| now.saturating_sub(*used) > EVICTION_AGE) {
        cache.remove(&id);
        return true;
    }
    let smallest = cache
        .iter()
        .filter(|(_, entry)| now.saturating_sub(entry.created) > EVICTION_AGE)
        .min_by_key(|(id, entry)| (entry.size, **id))
        .map(|(id, entry)| (*id, entry.size));
    match smallest {
        Some((id, smallest)) if smallest < size => cache.remove(&id).is_some(),
        _ => false,
    }
}

/// Partitions that the sessions remember.
fn total(cache: &HashMap<i32, Entry>) -> usize {
    cache.values().map(|entry| entry.size).sum()
}

/// The epoch after this one; it wraps around without the two that mean something else.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

/// A partition as a session knows it.
#[derive(Debug)]
struct Cached {
    fetch: FetchPartition,
    /// The high watermark that the client was told last, −1 for none or an error.
    high_watermark: i64,
    /// The log start that the client was told last.
    log_start: i64,
}

/// What one client fetches.
#[derive(Debug)]
struct Session {
    /// Whether its requests name topics by id.
    by_id: bool,
    /// The epoch of its next request.
    epoch: i32,
    /// By place: partitions that had data move to the end, so that all get their turn under `max_bytes`.
    cached: BTreeMap<u64, Cached>,
    places: HashMap<(TopicRef, i32), u64>,
    next_place: u64,
}

impl Session {
    fn new(by_id: bool, partitions: Vec<FetchPartition>, answers: &Answers) -> Self {
        let mut session = Self {
            by_id,
            epoch: next_epoch(INITIAL_EPOCH),
            cached: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
        };
        session.update(partitions, &[]);
        for (topic, answer) in answers {
            if let Some(place) = session.places.get(&(topic.clone(), answer.index)) {
                let cached = session.cached.get_mut(place).expect("each place holds a partition");
                cached.high_watermark = answer.high_watermark;
                cached.log_start = answer.log_start_offset;
            }
        }
        session
    }

    /// Takes what a request changes. Partitions keep their places.
    fn update(&mut self, partitions: Vec<FetchPartition>, forgotten: &[(TopicRef, i32)]) {
        for fetch in partitions {
            let fetch = FetchPartition { topic: own(&fetch.topic), ..fetch };
            let key = (fetch.topic.clone(), fetch.index);
            if let Some(place) = self.places.get(&key) {
                self.cached.get_mut(place).expect("each place holds a partition").fetch = fetch;
            } else {
                self.put(key, Cached { fetch, high_watermark: -1, log_start: -1 });
            }
        }
        for key in forgotten {
            if let Some(place) = self.places.remove(key) {
                self.cached.remove(&place);
            }
        }
    }

    /// Gives a partition the last place.
    fn put(&mut self, key: (TopicRef, i32), cached: Cached) {
        self.cached.insert(self.next_place, cached);
        self.places.insert(key, self.next_place);
        self.next_place += 1;
    }

    /// What the client has not been told yet.
    fn news(&mut self, answers: Answers) -> Answers {
        let mut news = Answers::new();
        for (topic, answer) in answers {
            let key = (topic, answer.index);
            let Some(&place) = self.places.get(&key) else { continue };
            let cached = self.cached.get_mut(&place).expect("each place holds a partition");
            let has_records = !answer.records.is_empty();
            if !cached.tell(&answer) && !has_records {
                continue;
            }
            if has_records {
                let cached = self.cached.remove(&place).expect("it was there above");
                self.put(key.clone(), cached);
            }
            news.push((key.0, answer));
        }
        news
    }
}

impl Cached {
    /// Whether an answer without records has news; notes that they are told. After an error everything is news.
    fn tell(&mut self, answer: &PartitionData) -> bool {
        let odd = answer.error != ErrorCode::None || answer.diverging_epoch.is_some();
        let elsewhere = answer.preferred_read_replica.is_some();
        let news = odd
            || elsewhere
            || self.high_watermark != answer.high_watermark
            || self.log_start != answer.log_start_offset;
        self.high_watermark = if odd { -1 } else { answer.high_watermark };
        self.log_start = answer.log_start_offset;
        news
    }
}

/// A copy that does not pin the read buffer that the request came in.
fn own(topic: &TopicRef) -> TopicRef {
    match topic {
        TopicRef::Name(name) => TopicRef::Name(StrBytes::from(name.as_str())),
        TopicRef::Id(id) => TopicRef::Id(*id),
    }
}

#[cfg(test)]
mod tests;
