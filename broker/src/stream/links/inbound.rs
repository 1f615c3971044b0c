//! One connection from a leader: passes its frames to this node's replicas, and their answers back.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::acks::Acks;
use super::frame::{Conversation, Frame};
use super::liveness::{Liveness, SILENT_AFTER};
use super::metrics::LinkCounters;
use super::pipe::{FrameReader, FrameWriter, LinkError};
use super::tasks::propagate_panic;
use crate::ids::{NodeId, TopicPartition};
use crate::io::blocking;
use crate::stream::replication::{AckSink, CanonicalRecord, Elected, Followers, Reject, Session};
use crate::wal::Admission;

/// While so many replicas are being truncated, no further frame is read.
const MAX_TRUNCATIONS: usize = 32;
/// While so many bytes of answers wait to be sent, no further frame is read.
const MAX_ANSWERS: usize = 4 << 20;

/// One connection that stands.
pub(super) struct Inbound {
    leader: NodeId,
    followers: Arc<dyn Followers>,
    reader: FrameReader,
    writer: FrameWriter,
    counters: LinkCounters,
    liveness: Liveness,
    acks: Arc<Acks>,
    truncations: JoinSet<(Conversation, Result<(), Reject>)>,
    admitting: Option<Admitting>,
    /// Sessions that ended on this side: what was under way in them is not answered one by one.
    over: BTreeMap<TopicPartition, Session>,
}

/// A batch that waits for room in the WAL.
struct Admitting {
    about: Conversation,
    record: CanonicalRecord,
    room: Pin<Box<dyn Future<Output = Admission> + Send>>,
}

impl Inbound {
    pub(super) fn new(
        leader: NodeId,
        followers: Arc<dyn Followers>,
        reader: FrameReader,
        writer: FrameWriter,
        counters: LinkCounters,
    ) -> Self {
        Self {
            leader,
            followers,
            reader,
            writer,
            counters,
            liveness: Liveness::new(Instant::now()),
            acks: Arc::default(),
            truncations: JoinSet::new(),
            admitting: None,
            over: BTreeMap::new(),
        }
    }

    /// Serves until the connection ends, and says why it did.
    pub(super) async fn serve(mut self) -> LinkError {
        loop {
            if let Err(why) = self.turn().await {
                return why;
            }
        }
    }

    /// Does what can be done at once, then waits for more.
    async fn turn(&mut self) -> Result<(), LinkError> {
        while self.listens() {
            let Some(frame) = self.reader.arrived()? else { break };
            self.heard(frame)?;
        }
        self.keep_alive(Instant::now())?;
        self.counters.moved(self.writer.take_sent(), self.reader.take_received());
        let listens = self.listens();
        tokio::select! {
            biased;
            room = admitted(&mut self.admitting) => self.admitted(room),
            Some(ended) = self.truncations.join_next() => {
                if let Some((about, done)) = propagate_panic(ended) {
                    self.answer(about, done.map(|()| Frame::Ready(about)));
                }
            }
            () = self.acks.added(), if self.writer.queued() < MAX_ANSWERS => self.tell(),
            written = self.writer.write(), if !self.writer.is_idle() => {
                written?;
                self.liveness.sent(Instant::now());
            }
            arrived = self.reader.more(), if listens => {
                arrived?;
                self.liveness.heard(Instant::now());
            }
            () = sleep_until(self.liveness.deadline()) => {}
        }
        Ok(())
    }

    /// Whether another frame may be taken.
    fn listens(&self) -> bool {
        self.admitting.is_none() && self.truncations.len() < MAX_TRUNCATIONS && self.writer.queued() < MAX_ANSWERS
    }

    fn keep_alive(&mut self, now: Instant) -> Result<(), LinkError> {
        if self.liveness.must_speak(now) {
            // What waits to be written speaks for itself.
            if self.writer.is_idle() {
                self.writer.push(&Frame::Heartbeat);
            }
            self.liveness.sent(now);
        }
        if self.liveness.is_silent(now) {
            if self.listens() {
                return Err(LinkError::Silent(SILENT_AFTER));
            }
            self.liveness.heard(now);
        }
        Ok(())
    }

    fn heard(&mut self, frame: Frame) -> Result<(), LinkError> {
        match frame {
            Frame::Greet(about) => self.greeted(about),
            Frame::Elected(about, elected) => self.elected(about, elected),
            Frame::Append(about, record) => self.append(about, record),
            Frame::Progress(moved) => {
                for it in moved {
                    if !self.is_over(it.about) {
                        let taken = self.followers.progress(it.about.partition, it.about.session, it.marks);
                        self.refused(it.about, taken);
                    }
                }
            }
            Frame::Heartbeat => {}
            other => return Err(LinkError::Unexpected(other.name())),
        }
        Ok(())
    }

    fn greeted(&mut self, about: Conversation) {
        self.over.remove(&about.partition);
        let acks: Arc<dyn AckSink> = self.acks.clone();
        let acks: Weak<dyn AckSink> = Arc::downgrade(&acks);
        let state = self.followers.greet(about.partition, self.leader, about.session, acks);
        self.answer(about, state.map(|state| Frame::State(about, state)));
    }

    /// Truncation is synced before Ready, which takes a while: the other partitions go on meanwhile.
    fn elected(&mut self, about: Conversation, elected: Elected) {
        let followers = Arc::clone(&self.followers);
        let truncate = move || (about, followers.elected(about.partition, about.session, &elected));
        self.truncations.spawn(blocking(truncate));
    }

    fn append(&mut self, about: Conversation, record: CanonicalRecord) {
        if self.is_over(about) {
            return;
        }
        let (followers, bytes) = (Arc::clone(&self.followers), record.batch.len());
        let mut room = Box::pin(async move { followers.admit(bytes).await });
        match room.as_mut().now_or_never() {
            Some(admission) => self.append_admitted(about, record, admission),
            None => self.admitting = Some(Admitting { about, record, room }),
        }
    }

    fn admitted(&mut self, room: Admission) {
        let Admitting { about, record, .. } = self.admitting.take().expect("it was waited for");
        self.append_admitted(about, record, room);
        // Nothing was heard meanwhile because nothing was read.
        self.liveness.heard(Instant::now());
    }

    fn append_admitted(&mut self, about: Conversation, record: CanonicalRecord, room: Admission) {
        let appended = self.followers.append(about.partition, about.session, record, room);
        self.refused(about, appended);
    }

    fn is_over(&self, about: Conversation) -> bool {
        self.over.get(&about.partition) == Some(&about.session)
    }

    /// Sends the answer, or why there is none.
    fn answer(&mut self, about: Conversation, answer: Result<Frame, Reject>) {
        match answer {
            Ok(frame) => self.writer.push(&frame),
            Err(why) => self.refused(about, Err(why)),
        }
    }

    fn refused(&mut self, about: Conversation, done: Result<(), Reject>) {
        if let Err(why) = done {
            self.over.insert(about.partition, about.session);
            self.writer.push(&Frame::Reject(about, why));
        }
    }

    /// What the replicas have flushed, all in one.
    fn tell(&mut self) {
        for frame in self.acks.take() {
            if let Frame::Reject(about, _) = &frame {
                self.over.insert(about.partition, about.session);
            }
            self.writer.push(&frame);
        }
    }
}

/// Resolves when the batch that waits has room; never when none waits.
async fn admitted(admitting: &mut Option<Admitting>) -> Admission {
    poll_fn(|context| match admitting {
        Some(admitting) => admitting.room.as_mut().poll(context),
        None => std::task::Poll::Pending,
    })
    .await
}
