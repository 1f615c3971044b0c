//! One connection to a follower: pushes what its conversations have to say, and takes the follower's answers.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::conversations::{Conversations, Effects, READ_BYTES, ReadDue};
use super::frame::{Frame, Identity, Lane};
use super::lane::Context;
use super::liveness::{Liveness, SILENT_AFTER};
use super::metrics::LinkCounters;
use super::pipe::{FrameReader, FrameWriter, LinkError};
use super::queue::LiveQueue;
use super::throttle::bytes_per_second;
use crate::ids::{NodeId, TopicPartition};
use crate::io::blocking;
use crate::stream::replication::{CanonicalRecord, Deposed, Led};

/// Bytes of batches that a live lane may owe its follower; a partition that has more goes to the catch-up lane.
const LIVE_QUEUE_BYTES: usize = 32 << 20;
/// With so many bytes waiting for the socket, no more are taken from the queue or the log.
const ROUND_BYTES: usize = 2 << 20;

/// A connection whose two ends know each other.
pub(super) struct Link {
    pub(super) follower: Identity,
    pub(super) reader: FrameReader,
    pub(super) writer: FrameWriter,
}

/// What a lane is told while its connection stands.
#[derive(Debug, Clone)]
pub(super) enum Command {
    /// These, and no others, are led for the follower.
    Lead(Arc<BTreeMap<TopicPartition, Led>>),
    /// The other lane hands this over.
    Begin(Led),
}

/// One connection that stands.
pub(super) struct Outbound {
    context: Arc<Context>,
    lane: Lane,
    follower: NodeId,
    reader: FrameReader,
    writer: FrameWriter,
    counters: LinkCounters,
    liveness: Liveness,
    queue: Arc<LiveQueue>,
    talks: Conversations,
    reading: Option<Pin<Box<dyn Future<Output = Read> + Send>>>,
    /// The catch-up lane's throttle: no read before.
    read_after: Instant,
}

type Read = (ReadDue, Result<Vec<CanonicalRecord>, Deposed>);

impl Outbound {
    pub(super) fn new(context: Arc<Context>, lane: Lane, link: Link) -> Self {
        let queue = Arc::new(LiveQueue::new(LIVE_QUEUE_BYTES));
        let (leaders, numbers) = (Arc::clone(&context.leaders), Arc::clone(&context.numbers));
        let follower = link.follower.node;
        let now = Instant::now();
        Self {
            counters: context.metrics.of_follower(follower, lane),
            context,
            lane,
            follower,
            reader: link.reader,
            writer: link.writer,
            liveness: Liveness::new(now),
            talks: Conversations::new(lane, link.follower, leaders, numbers, Arc::clone(&queue)),
            queue,
            reading: None,
            read_after: now,
        }
    }

    /// Opens a session for a partition.
    pub(super) fn begin(&mut self, led: Led) {
        let mut effects = Effects::default();
        self.talks.begin(led, &mut effects);
        self.send(effects.frames);
    }

    /// Ends the session of a partition.
    pub(super) fn end(&mut self, partition: TopicPartition) {
        self.talks.end(partition);
    }

    /// Does what can be done at once, then waits for more. Returns what the other lane is to have. May be dropped
    /// without loss.
    ///
    /// # Errors
    /// The connection ended.
    pub(super) async fn turn(&mut self) -> Result<Vec<Led>, LinkError> {
        let switch = self.work(Instant::now())?;
        if !switch.is_empty() {
            return Ok(switch);
        }
        let deadline = self.deadline();
        tokio::select! {
            biased;
            read = finished(&mut self.reading) => return Ok(self.read(read)),
            written = self.writer.write(), if !self.writer.is_idle() => {
                written?;
                self.liveness.sent(Instant::now());
            }
            arrived = self.reader.more() => {
                arrived?;
                self.liveness.heard(Instant::now());
            }
            () = self.queue.added(), if self.writer.queued() < ROUND_BYTES => {}
            () = sleep_until(deadline) => {}
        }
        Ok(Vec::new())
    }

    /// What can be done without waiting.
    fn work(&mut self, now: Instant) -> Result<Vec<Led>, LinkError> {
        let mut effects = Effects::default();
        while let Some(frame) = self.reader.arrived()? {
            self.talks.heard(frame, now, &mut effects)?;
        }
        self.talks.wake(now, &mut effects);
        if self.writer.queued() < ROUND_BYTES {
            self.talks.tailed(self.queue.take(ROUND_BYTES), now, &mut effects);
            self.talks.take_progress(&mut effects);
        }
        self.send(effects.frames);
        if self.reading.is_none() && self.writer.queued() < ROUND_BYTES && now >= self.read_after {
            self.reading = self.talks.next_read().map(|due| self.start_read(due));
        }
        if self.liveness.is_silent(now) {
            return Err(LinkError::Silent(SILENT_AFTER));
        }
        if self.liveness.must_speak(now) {
            // What waits to be written speaks for itself.
            if self.writer.is_idle() {
                self.writer.push(&Frame::Heartbeat);
            }
            self.liveness.sent(now);
        }
        self.count();
        Ok(effects.switch)
    }

    fn start_read(&self, due: ReadDue) -> Pin<Box<dyn Future<Output = Read> + Send>> {
        let leaders = Arc::clone(&self.context.leaders);
        Box::pin(blocking(move || (due, leaders.read(due.led, due.from, READ_BYTES))))
    }

    fn read(&mut self, (due, records): Read) -> Vec<Led> {
        self.reading = None;
        let now = Instant::now();
        let bytes: usize = records.iter().flatten().map(|record| record.batch.len()).sum();
        if self.lane == Lane::CatchUp
            && let Some(rate) = bytes_per_second(&self.context.images.borrow(), &due.led.partition, self.follower)
        {
            self.read_after = self.context.throttle.take(bytes, rate, now);
        }
        let mut effects = Effects::default();
        self.talks.read(due, records, now, &mut effects);
        self.send(effects.frames);
        effects.switch
    }

    fn send(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            self.writer.push(&frame);
        }
    }

    fn deadline(&self) -> Instant {
        let wakes = self.talks.wake_at().into_iter();
        let reads = (self.reading.is_none() && self.read_after > Instant::now()).then_some(self.read_after);
        wakes.chain(reads).chain([self.liveness.deadline()]).min().expect("there is always the heartbeat")
    }

    fn count(&mut self) {
        self.counters.moved(self.writer.take_sent(), self.reader.take_received());
        self.counters.talked(self.talks.take_counts());
        self.counters.stands(self.talks.len(), self.talks.in_flight(), self.queue.bytes());
    }
}

/// Resolves when the read is done; never when there is none.
async fn finished(reading: &mut Option<Pin<Box<dyn Future<Output = Read> + Send>>>) -> Read {
    poll_fn(|context| match reading {
        Some(reading) => reading.as_mut().poll(context),
        None => std::task::Poll::Pending,
    })
    .await
}
