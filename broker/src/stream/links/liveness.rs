//! When to say that one lives, and when to take the other for dead.

use std::time::Duration;

use tokio::time::Instant;

/// A link on which nothing was sent for so long carries a heartbeat.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(300);
/// A link on which nothing was heard for so long is closed: what a broken network swallowed is never sent again.
pub(super) const SILENT_AFTER: Duration = Duration::from_millis(1_500);
/// Dialling and the handshake, each.
pub(super) const HANDSHAKE_WITHIN: Duration = Duration::from_secs(2);

/// When something was last heard and sent on one link.
#[derive(Debug)]
pub(super) struct Liveness {
    heard: Instant,
    sent: Instant,
}

impl Liveness {
    /// Of a link that stands since `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { heard: now, sent: now }
    }

    /// Bytes arrived, or this end was the one that did not listen.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Bytes were written.
    pub(super) fn sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// Whether a heartbeat is due.
    pub(super) fn must_speak(&self, now: Instant) -> bool {
        now >= self.sent + HEARTBEAT_EVERY
    }

    /// Whether the other end is taken for dead.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        now >= self.heard + SILENT_AFTER
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Instant {
        (self.sent + HEARTBEAT_EVERY).min(self.heard + SILENT_AFTER)
    }
}

/// The pauses between attempts: short at first, for what heals by itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(1);

    /// How long to pause before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        let pause = Self::FIRST.saturating_mul(1 << self.attempts.min(16));
        self.attempts += 1;
        pause.min(Self::LONGEST)
    }

    /// Whether this is the first failure after a success: the one worth a line.
    pub(super) fn is_fresh(self) -> bool {
        self.attempts == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_due_after_silence_here_and_death_after_silence_there() {
        let start = Instant::now();
        let mut link = Liveness::new(start);
        assert_eq!(link.deadline(), start + HEARTBEAT_EVERY);
        let later = start + HEARTBEAT_EVERY;
        assert!(link.must_speak(later) && !link.is_silent(later));
        link.sent(later);
        assert!(!link.must_speak(later));
        let end = start + SILENT_AFTER;
        link.sent(end);
        assert!(link.is_silent(end));
        assert_eq!(link.deadline(), end);
        link.heard(end);
        assert!(!link.is_silent(end));
    }

    #[test]
    fn heartbeats_that_are_late_or_lost_do_not_close_a_link_at_once() {
        assert!(SILENT_AFTER >= HEARTBEAT_EVERY * 4);
    }

    #[test]
    fn pauses_grow_to_a_second() {
        let mut backoff = Backoff::default();
        assert!(backoff.is_fresh());
        let pauses: Vec<u128> = (0..8).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1_000, 1_000]);
        assert!(!backoff.is_fresh());
    }
}
