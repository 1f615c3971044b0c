//! A Produce request whose records are appended: it waits until all its partitions are settled, or time is up.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::time::{Instant, Sleep};

use super::respond::{Outcome, respond};
use crate::kafka::RequestContext;
use crate::kafka::service::Answer;
use crate::kafka::wire::fields::TopicRef;
use crate::stream::{AckWaiter, PartitionError};

/// How one appended partition ended.
#[derive(Debug)]
pub(super) enum Settlement {
    /// Not yet.
    Waiting,
    /// Acknowledged.
    Acknowledged,
    /// It never will be.
    Failed(PartitionError),
}

/// Counts a request's appended partitions down: the task that waits is woken once, by the last of them.
pub(super) struct Countdown {
    /// Those not settled yet, and one more while the request is still being appended.
    remaining: AtomicU32,
    settlements: Mutex<SmallVec<[Settlement; 2]>>,
    waker: AtomicWaker,
}

impl Countdown {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { remaining: AtomicU32::new(1), settlements: Mutex::default(), waker: AtomicWaker::new() })
    }

    /// A slot for one more append.
    pub(super) fn add(&self) -> u32 {
        self.remaining.fetch_add(1, Ordering::Relaxed);
        let mut settlements = self.settlements.lock();
        settlements.push(Settlement::Waiting);
        settlements.len() as u32 - 1
    }

    /// Every append has its slot.
    fn all_added(&self) {
        self.count_down();
    }

    fn count_down(&self) {
        let before = self.remaining.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "each slot is settled once");
        if before == 1 {
            self.waker.wake();
        }
    }

    fn is_settled(&self) -> bool {
        self.remaining.load(Ordering::Acquire) == 0
    }

    /// How each slot ended. A slot settled later finds its place gone, and is ignored.
    fn take(&self) -> SmallVec<[Settlement; 2]> {
        std::mem::take(&mut *self.settlements.lock())
    }
}

impl AckWaiter for Countdown {
    fn settled(&self, slot: u32, outcome: Result<(), PartitionError>) {
        if let Some(settlement) = self.settlements.lock().get_mut(slot as usize) {
            *settlement = outcome.map_or_else(Settlement::Failed, |()| Settlement::Acknowledged);
        }
        self.count_down();
    }
}

/// What is answered, and when.
pub(super) struct Appended {
    pub(super) context: RequestContext,
    /// The topics, each with how many of `outcomes` are its own.
    pub(super) topics: SmallVec<[(TopicRef, usize); 1]>,
    pub(super) outcomes: SmallVec<[Outcome; 1]>,
    pub(super) countdown: Arc<Countdown>,
    /// How long to wait for acknowledgements; `None` when the client wants no answer (acks=0).
    pub(super) patience: Option<Duration>,
}

/// The answer of a Produce request, once all its partitions are settled or the time is up.
pub struct Pending {
    /// Taken by the answer.
    appended: Option<Appended>,
    deadline: Instant,
    /// Made when it is first waited for: a request that is answered in order behind others seldom needs one.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pending {
    pub(super) fn new(appended: Appended) -> Self {
        appended.countdown.all_added();
        let deadline = Instant::now() + appended.patience.unwrap_or_default();
        Self { appended: Some(appended), deadline, timer: None }
    }
}

impl Future for Pending {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Answer> {
        let this = &mut *self;
        let appended = this.appended.as_ref().expect("an answered request is not polled again");
        if appended.patience.is_some() && !appended.countdown.is_settled() {
            appended.countdown.waker.register(task.waker());
            let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(this.deadline)));
            // Whoever settled between the first look and the registration woke nobody: look again.
            if !appended.countdown.is_settled() && timer.as_mut().poll(task).is_pending() {
                return Poll::Pending;
            }
        }
        let appended = this.appended.take().expect("checked above");
        let settlements = appended.countdown.take();
        Poll::Ready(respond(appended, settlements))
    }
}
