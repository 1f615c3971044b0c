//! A link from a leader to a follower, for one partition, that takes one step at a time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::node::Member;
use crate::ids::{BrokerEpoch, NodeId, Offset, TopicPartition};
use crate::stream::Partitions;
use crate::stream::replication::{
    AckSink, CanonicalRecord, Elected, Extent, FollowerState, Followers, Leaders, Led, Marks, Reject, Session, Tail,
};
use crate::wal::Admission;

/// Sessions are numbered over all links: of one leadership they only grow.
static SESSIONS: AtomicU64 = AtomicU64::new(0);

type Flushed = VecDeque<(Session, Extent)>;

/// What the follower's node sends back.
#[derive(Default)]
pub(super) struct Acks(Mutex<(Flushed, Option<Reject>)>);

impl AckSink for Acks {
    fn flushed(&self, _partition: TopicPartition, session: Session, extent: Extent) {
        self.0.lock().0.push_back((session, extent));
    }

    fn rejected(&self, _partition: TopicPartition, _session: Session, why: Reject) {
        self.0.lock().1 = Some(why);
    }
}

/// What the leader appends meanwhile.
#[derive(Default)]
struct Queue(Mutex<VecDeque<CanonicalRecord>>);

impl Tail for Queue {
    fn appended(&self, _led: Led, record: CanonicalRecord) {
        self.0.lock().push_back(record);
    }

    fn moved(&self, _led: Led, _marks: Marks) {}
}

enum Stage {
    Closed,
    Greeted(FollowerState),
    Elected(Elected),
    /// Records before `tail_from` are read, those behind it come from the tail.
    Streaming {
        next: Offset,
        tail_from: Option<Offset>,
    },
    Over(Option<Reject>),
}

pub(super) struct Link {
    pub(super) led: Led,
    leader: NodeId,
    follower: NodeId,
    leaders: Arc<Partitions>,
    follower_epoch: BrokerEpoch,
    session: Session,
    stage: Stage,
    acks: Arc<Acks>,
    queue: Arc<Queue>,
    /// Which part of a step is next: records, acknowledgements, marks.
    turn: u32,
}

impl Link {
    pub(super) fn new(led: Led, leader: &Member, follower: &Member) -> Self {
        Self {
            led,
            leader: leader.id(),
            follower: follower.id(),
            leaders: Arc::clone(leader.partitions().expect("it leads, so it runs")),
            follower_epoch: follower.epoch,
            session: Session { epoch: led.epoch, number: SESSIONS.fetch_add(1, Ordering::Relaxed) },
            stage: Stage::Closed,
            acks: Arc::default(),
            queue: Arc::default(),
            turn: 0,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over(_))
    }

    /// The connection is lost, or the session ended.
    pub(super) fn cut(self) {
        self.leaders.untail(self.led, self.follower);
        let why = if let Stage::Over(why) = &self.stage { why.as_ref() } else { None };
        self.leaders.lost(self.led, self.follower, why);
    }

    pub(super) fn step(&mut self, members: &[Member]) {
        let Some(followers) = members[self.follower.get() as usize].partitions() else { return };
        let refused = self.acks.0.lock().1.take();
        if let Some(why) = refused {
            self.stage = Stage::Over(Some(why));
            return;
        }
        let partition = self.led.partition;
        let next = match &self.stage {
            Stage::Closed => {
                let acks: Weak<dyn AckSink> = Arc::downgrade(&(Arc::clone(&self.acks) as Arc<dyn AckSink>));
                match followers.greet(partition, self.leader, self.session, acks) {
                    Ok(state) => Stage::Greeted(state),
                    Err(why) => Stage::Over(Some(why)),
                }
            }
            Stage::Greeted(state) => match self.leaders.elect(self.led, self.follower, state) {
                Ok(elected) => Stage::Elected(elected),
                Err(_) => Stage::Over(None),
            },
            Stage::Elected(elected) => {
                let session = self.session;
                let follower = &members[self.follower.get() as usize];
                match follower.blocking(|followers| followers.elected(partition, session, elected)) {
                    Some(Ok(())) => Stage::Streaming { next: elected.start_at, tail_from: None },
                    Some(Err(why)) => Stage::Over(Some(why)),
                    None => Stage::Over(None),
                }
            }
            Stage::Streaming { next, tail_from } => {
                self.turn += 1;
                match self.turn % 3 {
                    0 => self.stream(followers, *next, *tail_from),
                    1 => self.acknowledge(*next, *tail_from),
                    _ => self.mark(followers, *next, *tail_from),
                }
            }
            Stage::Over(_) => return,
        };
        self.stage = next;
    }

    fn stream(&self, followers: &Partitions, next: Offset, tail_from: Option<Offset>) -> Stage {
        let records = match tail_from {
            Some(from) if next >= from => self.queue.0.lock().pop_front().into_iter().collect(),
            _ => match self.leaders.read(self.led, next, 200) {
                Ok(records) => records,
                Err(_) => return Stage::Over(None),
            },
        };
        if records.is_empty() && tail_from.is_none() {
            let tail = Arc::clone(&self.queue) as Arc<dyn Tail>;
            return match self.leaders.tail(self.led, self.follower, tail) {
                Ok(from) => Stage::Streaming { next, tail_from: Some(from) },
                Err(_) => Stage::Over(None),
            };
        }
        let mut next = next;
        for record in records {
            next = record.end;
            let appended = followers.append(self.led.partition, self.session, record, Admission::unbounded());
            if let Err(why) = appended {
                return Stage::Over(Some(why));
            }
        }
        Stage::Streaming { next, tail_from }
    }

    /// One acknowledgement arrives; those of other sessions are dropped.
    fn acknowledge(&self, next: Offset, tail_from: Option<Offset>) -> Stage {
        let ack = self.acks.0.lock().0.pop_front();
        if let Some((_, extent)) = ack.filter(|(session, _)| *session == self.session) {
            self.leaders.acked(self.led, self.follower, self.follower_epoch, extent);
        }
        Stage::Streaming { next, tail_from }
    }

    fn mark(&self, followers: &Partitions, next: Offset, tail_from: Option<Offset>) -> Stage {
        let Ok(marks) = self.leaders.marks(self.led) else { return Stage::Over(None) };
        match followers.progress(self.led.partition, self.session, marks) {
            Ok(()) => Stage::Streaming { next, tail_from },
            Err(why) => Stage::Over(Some(why)),
        }
    }
}
