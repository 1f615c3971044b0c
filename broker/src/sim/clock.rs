//! A machine's clocks: the runtime's paused time, and a wall clock that jumps.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::io::clock::Clock;

/// The wall clock at the beginning of each run, ms.
pub(super) const EPOCH_MS: i64 = 1_700_000_000_000;

pub(super) struct SimClock {
    start: Instant,
    /// How far the wall clock is off, ms.
    off_ms: AtomicI64,
}

impl SimClock {
    /// Begins now.
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), off_ms: AtomicI64::new(0) }
    }

    /// Sets how far the wall clock is off.
    pub(super) fn set_off(&self, ms: i64) {
        self.off_ms.store(ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn wall_ms(&self) -> i64 {
        EPOCH_MS + self.start.elapsed().as_millis() as i64 + self.off_ms.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}
