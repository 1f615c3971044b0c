//! A leader's conversations with one follower on one lane: what to say next, without any I/O of its own.
//!
//! ```text
//! begin → Greeted → (State: elect) → Elected → (Ready) → Reading → Streaming
//! ```
//!
//! On the live lane the tail is taken at Ready, and only the little between where the session begins and where the tail
//! does is read. Where it is much, or the lane's queue overflows, the partition goes to the catch-up lane, which reads
//! until there is little left, and sends it back. Either way begins with a new Greet: a partition is on one lane at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use super::codec::MAX_ENTRIES;
use super::frame::{Conversation, Flushed, Frame, Identity, Lane, Moved};
use super::liveness::Backoff;
use super::pipe::LinkError;
use super::queue::{LiveQueue, Taken};
use crate::ids::{Offset, TopicPartition};
use crate::stream::replication::{CanonicalRecord, Deposed, FollowerState, Leaders, Led, Marks, Reject, Session};

/// Bytes that one read asks for.
pub(super) const READ_BYTES: usize = 1 << 20;
/// The live lane reads no more than this for one partition: the catch-up lane does.
const LIVE_READ_BYTES: usize = 4 << 20;
/// Less than this at the end of a log is left to the live lane.
const NEARLY_THERE: usize = READ_BYTES / 4;

/// Numbers the sessions of this process. Its leaderships are its own (replication.md, rule 14), so that the numbers of
/// one leadership only grow.
#[derive(Debug, Default)]
pub(super) struct SessionNumbers(AtomicU64);

impl SessionNumbers {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// What is to be done after a step.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// To be sent, in order.
    pub(super) frames: Vec<Frame>,
    /// To be begun on the other lane.
    pub(super) switch: Vec<Led>,
}

/// A read that is due: `Leaders::read` with these, and `Conversations::read` with what comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReadDue {
    pub(super) led: Led,
    session: Session,
    pub(super) from: Offset,
}

/// What the conversations count.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) sessions: u64,
    pub(super) batches: u64,
    pub(super) batch_bytes: u64,
    pub(super) rejects: u64,
    pub(super) overflows: u64,
}

/// All conversations of a connection. Dropped with it: then the follower is lost to each.
pub(super) struct Conversations {
    lane: Lane,
    follower: Identity,
    leaders: Arc<dyn Leaders>,
    numbers: Arc<SessionNumbers>,
    queue: Arc<LiveQueue>,
    talks: BTreeMap<TopicPartition, Talk>,
    /// Those that rest, by when they end it.
    resting: BTreeSet<(Instant, TopicPartition)>,
    /// Those that read.
    reading: BTreeSet<TopicPartition>,
    /// The newest marks that are not told yet.
    marks: BTreeMap<TopicPartition, Marks>,
    /// Whose turn it was to read.
    last_read: Option<TopicPartition>,
    /// Records sent and not acknowledged.
    in_flight: u64,
    counts: Counts,
}

struct Talk {
    led: Led,
    session: Session,
    phase: Phase,
    /// One past what the follower acknowledged in this session.
    acked: Offset,
    backoff: Backoff,
}

enum Phase {
    /// Refused; greeted again then.
    Resting { until: Instant },
    /// Waits for State.
    Greeted,
    /// Waits for Ready.
    Elected { start_at: Offset },
    /// Sends what is in the log.
    Reading(Reading),
    /// Sends what is appended.
    Streaming { position: Offset },
}

struct Reading {
    position: Offset,
    /// Where the tail began; `None` on the catch-up lane.
    tail_from: Option<Offset>,
    bytes: usize,
    /// What the tail told meanwhile.
    pending: VecDeque<CanonicalRecord>,
}

impl Conversations {
    pub(super) fn new(
        lane: Lane,
        follower: Identity,
        leaders: Arc<dyn Leaders>,
        numbers: Arc<SessionNumbers>,
        queue: Arc<LiveQueue>,
    ) -> Self {
        Self {
            lane,
            follower,
            leaders,
            numbers,
            queue,
            talks: BTreeMap::new(),
            resting: BTreeSet::new(),
            reading: BTreeSet::new(),
            marks: BTreeMap::new(),
            last_read: None,
            in_flight: 0,
            counts: Counts::default(),
        }
    }

    /// Opens a session.
    pub(super) fn begin(&mut self, led: Led, effects: &mut Effects) {
        self.end(led.partition);
        self.greet(led, Backoff::default(), effects);
    }

    fn greet(&mut self, led: Led, backoff: Backoff, effects: &mut Effects) {
        let session = Session { epoch: led.epoch, number: self.numbers.next() };
        self.counts.sessions += 1;
        self.talks.insert(led.partition, Talk { led, session, phase: Phase::Greeted, acked: Offset::FIRST, backoff });
        effects.frames.push(Frame::Greet(Conversation { partition: led.partition, session }));
    }

    /// Stops talking about a partition.
    pub(super) fn end(&mut self, partition: TopicPartition) -> Option<Led> {
        let talk = self.talks.remove(&partition)?;
        self.marks.remove(&partition);
        self.in_flight -= talk.in_flight();
        match &talk.phase {
            Phase::Resting { until } => {
                self.resting.remove(&(*until, partition));
            }
            Phase::Reading(reading) => {
                self.reading.remove(&partition);
                self.queue.release(reading.pending.iter().map(|record| record.batch.len()).sum());
            }
            Phase::Greeted | Phase::Elected { .. } | Phase::Streaming { .. } => {}
        }
        if talk.is_tailing() {
            self.leaders.untail(talk.led, self.follower.node);
        }
        Some(talk.led)
    }

    /// Takes a frame of the follower.
    ///
    /// # Errors
    /// The follower says what it can't: the link is closed.
    pub(super) fn heard(&mut self, frame: Frame, now: Instant, effects: &mut Effects) -> Result<(), LinkError> {
        match frame {
            Frame::State(about, state) => self.state(about, &state, now, effects),
            Frame::Ready(about) => self.ready(about, now),
            Frame::Ack(acks) => return acks.into_iter().try_for_each(|ack| self.acked(ack)),
            Frame::Reject(about, why) => self.rejected(about, &why, now),
            Frame::Heartbeat => {}
            other => return Err(LinkError::Unexpected(other.name())),
        }
        Ok(())
    }

    /// The talk that a frame is about. A frame of an earlier session is one that was under way when this one began.
    fn current(&mut self, about: Conversation) -> Option<&mut Talk> {
        self.talks.get_mut(&about.partition).filter(|talk| talk.session == about.session)
    }

    fn state(&mut self, about: Conversation, state: &FollowerState, now: Instant, effects: &mut Effects) {
        let (leaders, follower) = (Arc::clone(&self.leaders), self.follower.node);
        let Some(talk) = self.current(about).filter(|talk| matches!(talk.phase, Phase::Greeted)) else { return };
        match leaders.elect(talk.led, follower, state) {
            Ok(elected) => {
                talk.phase = Phase::Elected { start_at: elected.start_at };
                effects.frames.push(Frame::Elected(about, elected));
            }
            Err(Deposed) => self.rest(about.partition, now),
        }
    }

    fn ready(&mut self, about: Conversation, now: Instant) {
        let (lane, follower) = (self.lane, self.follower.node);
        let (leaders, queue) = (Arc::clone(&self.leaders), Arc::clone(&self.queue));
        let Some(talk) = self.current(about) else { return };
        let Phase::Elected { start_at } = talk.phase else { return };
        let tail_from = match lane {
            Lane::Live => leaders.tail(talk.led, follower, queue).map(Some),
            Lane::CatchUp => Ok(None),
        };
        let tail_from = tail_from.and_then(|tail_from| Ok((tail_from, leaders.marks(talk.led)?)));
        let Ok((tail_from, marks)) = tail_from else { return self.rest(about.partition, now) };
        talk.phase = Phase::begin(start_at, tail_from);
        talk.acked = start_at;
        if matches!(talk.phase, Phase::Reading(_)) {
            self.reading.insert(about.partition);
        }
        self.marks.insert(about.partition, marks);
    }

    fn acked(&mut self, Flushed { about, extent }: Flushed) -> Result<(), LinkError> {
        let end = extent.flushed_end;
        let Some(talk) = self.current(about) else { return Ok(()) };
        let Some(position) = talk.position() else { return Err(LinkError::Unexpected("Ack")) };
        if end > position {
            return Err(LinkError::AckBeyondSent);
        }
        let newly = end.since(talk.acked);
        let counted = matches!(talk.phase, Phase::Reading(_) | Phase::Streaming { .. });
        if counted {
            talk.acked = talk.acked.max(end);
        }
        if counted && newly > 0 {
            // The session does what it is for: the next refusal is a new one.
            talk.backoff = Backoff::default();
        }
        let led = talk.led;
        self.in_flight -= if counted { newly } else { 0 };
        self.leaders.acked(led, self.follower.node, self.follower.epoch, extent);
        Ok(())
    }

    fn rejected(&mut self, about: Conversation, why: &Reject, now: Instant) {
        let Some(led) = self.current(about).map(|talk| talk.led) else { return };
        self.counts.rejects += 1;
        tracing::debug!(partition = %about.partition, follower = %self.follower.node, lane = %self.lane, "session rejected: {why}");
        self.rest(about.partition, now);
        self.leaders.lost(led, self.follower.node, Some(why));
    }

    /// Ends a session, to open another one after a pause.
    fn rest(&mut self, partition: TopicPartition, now: Instant) {
        let mut backoff = self.talks.get(&partition).map_or_else(Backoff::default, |talk| talk.backoff);
        let Some(led) = self.end(partition) else { return };
        let until = now + backoff.next();
        self.resting.insert((until, partition));
        let phase = Phase::Resting { until };
        let session = Session { epoch: led.epoch, number: 0 };
        self.talks.insert(partition, Talk { led, session, phase, acked: Offset::FIRST, backoff });
    }

    /// Greets those that have rested.
    pub(super) fn wake(&mut self, now: Instant, effects: &mut Effects) {
        while self.wake_at().is_some_and(|until| until <= now) {
            let (_, partition) = self.resting.pop_first().expect("the first one is due");
            let talk = &self.talks[&partition];
            let (led, backoff) = (talk.led, talk.backoff);
            self.greet(led, backoff, effects);
        }
    }

    /// When `wake` has something to do.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.resting.first().map(|(until, _)| *until)
    }

    /// Takes what the queue held.
    pub(super) fn tailed(&mut self, taken: Taken, now: Instant, effects: &mut Effects) {
        for (led, record) in taken.records {
            self.appended(led, record, now, effects);
        }
        for (led, marks) in taken.marks {
            if self.talks.get(&led.partition).is_some_and(|talk| talk.led == led && talk.is_ready()) {
                self.marks.insert(led.partition, marks);
            }
        }
        for partition in taken.overflown {
            if self.talks.get(&partition).is_some_and(Talk::is_tailing) {
                self.counts.overflows += 1;
                effects.switch.extend(self.end(partition));
            }
        }
    }

    fn appended(&mut self, led: Led, record: CanonicalRecord, now: Instant, effects: &mut Effects) {
        let bytes = record.batch.len();
        let talk = self.talks.get_mut(&led.partition).filter(|talk| talk.led == led);
        match talk.map(|talk| &mut talk.phase) {
            Some(Phase::Reading(reading)) if record.end > reading.position => {
                // Released when it is sent.
                reading.pending.push_back(record);
                return;
            }
            Some(Phase::Streaming { position }) if record.previous == *position => {
                self.send(led.partition, record, effects);
            }
            Some(Phase::Streaming { position }) if record.end > *position => {
                tracing::error!(partition = %led.partition, at = %position, got = %record.previous, "the tail has a gap");
                self.rest(led.partition, now);
            }
            // Of an earlier session, or read already.
            _ => {}
        }
        self.queue.release(bytes);
    }

    fn send(&mut self, partition: TopicPartition, record: CanonicalRecord, effects: &mut Effects) {
        let talk = self.talks.get_mut(&partition).expect("its caller has looked it up");
        let position = talk.phase.sending().expect("records are sent only while reading and streaming");
        assert_eq!(record.previous, *position, "records are sent in order, without gaps");
        *position = record.end;
        self.in_flight += record.end.since(record.previous);
        self.counts.batches += 1;
        self.counts.batch_bytes += record.batch.len() as u64;
        effects.frames.push(Frame::Append(Conversation { partition, session: talk.session }, record));
    }

    /// The next read, each partition in its turn. `read` is called with what comes of it before this is asked again.
    pub(super) fn next_read(&mut self) -> Option<ReadDue> {
        let after = self.last_read.map_or(Bound::Unbounded, Bound::Excluded);
        let mut later = self.reading.range((after, Bound::Unbounded));
        let partition = *later.next().or_else(|| self.reading.first())?;
        self.last_read = Some(partition);
        let talk = &self.talks[&partition];
        let from = talk.position().expect("who reads has a position");
        Some(ReadDue { led: talk.led, session: talk.session, from })
    }

    /// Takes what was read.
    pub(super) fn read(
        &mut self,
        due: ReadDue,
        records: Result<Vec<CanonicalRecord>, Deposed>,
        now: Instant,
        effects: &mut Effects,
    ) {
        let about = Conversation { partition: due.led.partition, session: due.session };
        let Some(talk) = self.current(about) else { return };
        let Phase::Reading(reading) = &talk.phase else { return };
        let follows = reading.position == due.from;
        let Some(records) = records.ok().filter(|records| follows && is_contiguous(due.from, records)) else {
            return self.rest(about.partition, now);
        };
        let bytes: usize = records.iter().map(|record| record.batch.len()).sum();
        for record in records {
            self.send(about.partition, record, effects);
        }
        match self.lane {
            Lane::Live => self.after_live_read(about.partition, bytes, now, effects),
            Lane::CatchUp => self.after_catch_up_read(about.partition, bytes, now, effects),
        }
    }

    /// Joins what was read with what the tail told meanwhile.
    fn after_live_read(&mut self, partition: TopicPartition, bytes: usize, now: Instant, effects: &mut Effects) {
        let Some(Phase::Reading(reading)) = self.talks.get_mut(&partition).map(|talk| &mut talk.phase) else { return };
        reading.bytes += bytes;
        let tail_from = reading.tail_from.expect("the live lane tails what it reads");
        if reading.position < tail_from {
            if bytes == 0 {
                // What the tail stands on is not there: the log was cut.
                self.rest(partition, now);
            } else if reading.bytes > LIVE_READ_BYTES {
                effects.switch.extend(self.end(partition));
            }
            return;
        }
        let (position, pending) = (reading.position, std::mem::take(&mut reading.pending));
        let talk = self.talks.get_mut(&partition).expect("it was just there");
        talk.phase = Phase::Streaming { position };
        let led = talk.led;
        self.reading.remove(&partition);
        for record in pending {
            self.appended(led, record, now, effects);
        }
    }

    fn after_catch_up_read(&mut self, partition: TopicPartition, bytes: usize, now: Instant, effects: &mut Effects) {
        let Some(talk) = self.talks.get(&partition) else { return };
        match self.leaders.marks(talk.led) {
            Err(Deposed) => self.rest(partition, now),
            Ok(_) if bytes < NEARLY_THERE => effects.switch.extend(self.end(partition)),
            Ok(marks) => drop(self.marks.insert(partition, marks)),
        }
    }

    /// Tells the marks that have moved.
    pub(super) fn take_progress(&mut self, effects: &mut Effects) {
        if self.marks.is_empty() {
            return;
        }
        let session = |partition: &TopicPartition| self.talks.get(partition).map(|talk| talk.session);
        let moved = std::mem::take(&mut self.marks).into_iter().filter_map(|(partition, marks)| {
            Some(Moved { about: Conversation { partition, session: session(&partition)? }, marks })
        });
        let moved: Vec<_> = moved.collect();
        effects.frames.extend(moved.chunks(MAX_ENTRIES).map(|chunk| Frame::Progress(chunk.to_vec())));
    }

    /// How many partitions are on this lane.
    pub(super) fn len(&self) -> usize {
        self.talks.len()
    }

    /// Records sent and not acknowledged.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// What was counted since last asked.
    pub(super) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }
}

impl Drop for Conversations {
    fn drop(&mut self) {
        while let Some((partition, _)) = self.talks.first_key_value() {
            let partition = *partition;
            let led = self.end(partition).expect("it is the first");
            self.leaders.lost(led, self.follower.node, None);
        }
    }
}

impl Talk {
    /// How far the follower may acknowledge.
    fn position(&self) -> Option<Offset> {
        match &self.phase {
            Phase::Resting { .. } | Phase::Greeted => None,
            Phase::Elected { start_at } => Some(*start_at),
            Phase::Reading(reading) => Some(reading.position),
            Phase::Streaming { position } => Some(*position),
        }
    }

    fn in_flight(&self) -> u64 {
        if self.is_ready() { self.position().map_or(0, |position| position.since(self.acked)) } else { 0 }
    }

    fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Reading(_) | Phase::Streaming { .. })
    }

    fn is_tailing(&self) -> bool {
        match &self.phase {
            Phase::Reading(reading) => reading.tail_from.is_some(),
            Phase::Streaming { .. } => true,
            _ => false,
        }
    }
}

impl Phase {
    fn begin(start_at: Offset, tail_from: Option<Offset>) -> Self {
        if tail_from == Some(start_at) {
            return Self::Streaming { position: start_at };
        }
        Self::Reading(Reading { position: start_at, tail_from, bytes: 0, pending: VecDeque::new() })
    }

    /// The position, while records are sent.
    fn sending(&mut self) -> Option<&mut Offset> {
        match self {
            Self::Reading(reading) => Some(&mut reading.position),
            Self::Streaming { position } => Some(position),
            _ => None,
        }
    }
}

/// Whether records follow each other from `from` on.
fn is_contiguous(from: Offset, records: &[CanonicalRecord]) -> bool {
    let mut position = from;
    records.iter().all(|record| std::mem::replace(&mut position, record.end) == record.previous)
}

#[cfg(test)]
#[path = "conversations_tests.rs"]
mod tests;
