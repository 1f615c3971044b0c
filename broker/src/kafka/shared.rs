//! What all connections of a listener share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::limits::{Limits, RequestMemory};
use super::metrics::Metrics;

/// What all connections of a listener share.
pub(super) struct Shared<S> {
    /// What they serve.
    pub(super) service: S,
    /// Their bounds.
    pub(super) limits: Limits,
    /// The memory of their requests.
    pub(super) memory: RequestMemory,
    /// What they count.
    pub(super) metrics: Arc<Metrics>,
    /// Tells them to stop.
    pub(super) stop: Stop,
}

/// The word to stop, which is looked at often and given once.
#[derive(Debug, Default)]
pub(super) struct Stop {
    given: AtomicBool,
    told: Arc<Notify>,
}

impl Stop {
    /// Tells all connections.
    pub(super) fn give(&self) {
        self.given.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    /// Whether it was given.
    pub(super) fn is_given(&self) -> bool {
        self.given.load(Ordering::Acquire)
    }

    /// Ready once it is given, for those who ask before.
    pub(super) fn told(&self) -> OwnedNotified {
        Arc::clone(&self.told).notified_owned()
    }
}
