//! When a connection has had its time: what it waits for and since when comes in; its end, or when to look again, comes
//! out.

use tokio::time::Instant;

use super::end::End;
use super::limits::Limits;

/// A request that has arrived in part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receiving {
    pub(super) since: Instant,
    /// Its length, bytes; 0 while that is not known.
    pub(super) len: usize,
    /// Bytes of it that are there.
    pub(super) arrived: usize,
    /// Whether others wait for the memory that it was promised; `None` when it was promised none.
    pub(super) contended: Option<bool>,
}

/// A large request that waits for something to happen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) since: Instant,
    /// Whether it may be cut short. One that may not, because it waits for the disk, has more time.
    pub(super) cancellable: bool,
    /// Whether others wait for its memory.
    pub(super) contended: bool,
}

/// Responses that the client does not take as fast as they come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unsent {
    pub(super) since: Instant,
    /// What there was to send then, bytes.
    pub(super) bytes: usize,
    /// How much of that is left.
    pub(super) left: usize,
}

/// What a connection waits for.
#[derive(Debug, Default)]
pub(super) struct Waits {
    pub(super) receiving: Option<Receiving>,
    pub(super) waiting: Option<Waiting>,
    pub(super) unsent: Option<Unsent>,
    /// Whether others wait for the memory of what is unsent; `None` when it holds none.
    pub(super) unsent_contended: Option<bool>,
    /// Since when nothing at all is under way.
    pub(super) idle_since: Option<Instant>,
}

/// A time at which the connection ends.
struct Deadline {
    at: Instant,
    /// For those that matter only while others wait: whether they do.
    contended: Option<bool>,
    end: End,
}

impl Waits {
    /// The connection's end, when something has taken too long; otherwise when to look again, when time can end it.
    pub(super) fn judge(&self, limits: &Limits, now: Instant) -> Result<Option<Instant>, End> {
        let mut next = None;
        for deadline in self.deadlines(limits).into_iter().flatten() {
            let Deadline { at, contended, end } = deadline;
            if at <= now && contended != Some(false) {
                return Err(end);
            }
            // While nobody waits, others may come: that is looked at once per grace.
            let look = if contended.is_some() { at.max(now + limits.contended_grace) } else { at };
            next = Some(next.map_or(look, |next: Instant| next.min(look)));
        }
        Ok(next)
    }

    fn deadlines(&self, limits: &Limits) -> [Option<Deadline>; 6] {
        let always = |at: Instant, end: End| Deadline { at, contended: None, end };
        let contended = |at: Instant, contended: bool, end: End| Deadline { at, contended: Some(contended), end };
        [
            self.receiving.map(|it| always(it.since + limits.transfer_time(it.len), End::SlowRequest)),
            self.receiving.and_then(|it| {
                let at = it.since + limits.contended_time(it.arrived);
                Some(contended(at, it.contended?, End::SlowRequest))
            }),
            self.waiting.map(|it| {
                let grace = if it.cancellable { limits.contended_grace } else { limits.transfer_grace };
                contended(it.since + grace, it.contended, End::Hoarding)
            }),
            self.unsent.map(|it| always(it.since + limits.transfer_time(it.bytes), End::SlowReader)),
            self.unsent.zip(self.unsent_contended).map(|(it, by_others)| {
                contended(it.since + limits.contended_reader_time(it.bytes - it.left), by_others, End::SlowReader)
            }),
            limits.max_idle.zip(self.idle_since).map(|(max, since)| always(since + max, End::Idle)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// One byte a millisecond is the slowest.
    fn limits() -> Limits {
        Limits {
            transfer_grace: 30 * SECOND,
            contended_grace: SECOND,
            contended_reader_grace: 2 * SECOND,
            min_bytes_per_second: 1000,
            max_idle: Some(600 * SECOND),
            ..Limits::default()
        }
    }

    /// Since when it waits, for the tests' sums.
    fn start() -> Instant {
        Instant::now()
    }

    fn ends(waits: &Waits, at: Instant) -> Option<String> {
        waits.judge(&limits(), at).err().map(|end| end.to_string())
    }

    #[test]
    fn a_reader_of_contended_memory_has_a_grace_and_what_it_took_earns_more() {
        let since = start();
        let reader = |left, contended| Waits {
            unsent: Some(Unsent { since, bytes: 10_000, left }),
            unsent_contended: contended,
            ..Waits::default()
        };
        let slow = Some(End::SlowReader.to_string());
        assert_eq!(ends(&reader(10_000, Some(true)), since + 2 * SECOND), slow, "it took nothing");
        assert_eq!(ends(&reader(7_000, Some(true)), since + 4 * SECOND), None, "3,000 bytes earn 3 s");
        assert_eq!(ends(&reader(7_000, Some(true)), since + 5 * SECOND), slow);
        for contended in [None, Some(false)] {
            assert_eq!(ends(&reader(10_000, contended), since + 39 * SECOND), None, "nobody waits for it");
            assert_eq!(ends(&reader(10_000, contended), since + 40 * SECOND), slow, "30 s, and 10 s for its bytes");
        }
    }

    #[test]
    fn while_nobody_waits_for_memory_it_is_looked_at_once_per_grace() {
        let since = start();
        let unsent = Some(Unsent { since, bytes: 10_000, left: 10_000 });
        let held = Waits { unsent, unsent_contended: Some(false), ..Waits::default() };
        let next = |now| held.judge(&limits(), now).expect("nobody waits");
        assert_eq!(next(since), Some(since + 2 * SECOND), "the first look is at its deadline");
        assert_eq!(next(since + 5 * SECOND), Some(since + 6 * SECOND));
        let free = Waits { unsent, ..Waits::default() };
        assert_eq!(free.judge(&limits(), since).expect("it has time"), Some(since + 40 * SECOND));
    }

    #[test]
    fn a_request_that_arrives_has_its_time() {
        let since = start();
        let request = |contended| Waits {
            receiving: Some(Receiving { since, len: 5000, arrived: 2000, contended }),
            ..Waits::default()
        };
        assert_eq!(ends(&request(Some(true)), since + 2 * SECOND), None);
        assert!(ends(&request(Some(true)), since + 3 * SECOND).is_some(), "1 s, and 2 s for what has arrived");
        assert_eq!(ends(&request(Some(false)), since + 34 * SECOND), None);
        assert!(ends(&request(None), since + 35 * SECOND).is_some(), "30 s, and 5 s for its length");
    }

    #[test]
    fn a_large_request_that_waits_gives_way_to_others() {
        let since = start();
        let waits = |cancellable, contended| Waits {
            waiting: Some(Waiting { since, cancellable, contended }),
            ..Waits::default()
        };
        assert!(ends(&waits(true, true), since + SECOND).is_some());
        assert_eq!(ends(&waits(false, true), since + 29 * SECOND), None, "it may wait for the disk");
        assert!(ends(&waits(false, true), since + 30 * SECOND).is_some());
        assert_eq!(ends(&waits(true, false), since + 3600 * SECOND), None);
    }

    #[test]
    fn only_idleness_and_what_is_under_way_take_time() {
        let since = start();
        assert_eq!(Waits::default().judge(&limits(), since).expect("nothing is under way"), None);
        let idle = Waits { idle_since: Some(since), ..Waits::default() };
        assert_eq!(idle.judge(&limits(), since).expect("not yet"), Some(since + 600 * SECOND));
        assert_eq!(ends(&idle, since + 600 * SECOND), Some(End::Idle.to_string()));
        let ever = Limits { max_idle: None, ..limits() };
        assert_eq!(idle.judge(&ever, since + 600 * SECOND).expect("it may idle"), None);
    }
}
