//! How fast the catch-up lanes may go: what operators give to reassignments.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ids::NodeId;
use crate::stream::replication::Led;

/// Says which catch-up is held to a rate.
pub trait CatchUpRate: Send + Sync + 'static {
    /// Bytes per second that this node's throttled catch-up may take in sum, where this partition on its way to this
    /// follower is throttled; `None` where it isn't.
    fn bytes_per_second(&self, led: &Led, follower: NodeId) -> Option<u64>;
}

/// Nothing is throttled.
#[derive(Debug, Clone, Copy)]
pub struct Unthrottled;

impl CatchUpRate for Unthrottled {
    fn bytes_per_second(&self, _: &Led, _: NodeId) -> Option<u64> {
        None
    }
}

/// What the throttled lanes have taken: after each read, the next waits until the rate has paid for it.
#[derive(Debug)]
pub(super) struct Throttle {
    paid_until: Mutex<Instant>,
}

impl Throttle {
    pub(super) fn new(now: Instant) -> Self {
        Self { paid_until: Mutex::new(now) }
    }

    /// Takes bytes; says when more may be taken.
    pub(super) fn take(&self, bytes: usize, bytes_per_second: u64, now: Instant) -> Instant {
        let cost = Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64);
        let mut paid_until = self.paid_until.lock();
        *paid_until = (*paid_until).max(now) + cost.min(Duration::from_mins(1));
        *paid_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_paid_for_before_more_are_taken() {
        let start = Instant::now();
        let throttle = Throttle::new(start);
        let second = Duration::from_secs(1);
        assert_eq!(throttle.take(1_000, 1_000, start), start + second);
        assert_eq!(throttle.take(1_000, 1_000, start), start + 2 * second, "several lanes share the rate");
        let later = start + 10 * second;
        assert_eq!(throttle.take(500, 1_000, later), later + second / 2, "what was not taken is not saved up");
    }
}
