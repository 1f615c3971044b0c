//! What happened in a run, in order: compared when a seed runs twice, and its tail told when a run fails.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Bytes arrived, or the end, at a side of a connection.
    Arrived { wire: u64, side: usize },
    /// Worth telling.
    Note(String),
}

struct Inner {
    start: Instant,
    events: Vec<(Duration, Event)>,
}

/// The events of one run; clones are the same trace.
#[derive(Clone)]
pub(super) struct Trace(Arc<Mutex<Inner>>);

impl Trace {
    /// Begins now.
    pub(super) fn begin() -> Self {
        Self(Arc::new(Mutex::new(Inner { start: Instant::now(), events: Vec::new() })))
    }

    pub(super) fn add(&self, event: Event) {
        let mut inner = self.0.lock();
        let at = inner.start.elapsed();
        inner.events.push((at, event));
    }

    /// Notes what is worth telling.
    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        self.add(Event::Note(what.to_string()));
    }

    /// Simulated time since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.0.lock().start.elapsed()
    }

    /// All of them.
    pub(super) fn events(&self) -> Vec<(Duration, Event)> {
        self.0.lock().events.clone()
    }

    /// The last notes, a line each.
    pub(super) fn tail(&self, count: usize) -> String {
        let inner = self.0.lock();
        let notes = inner.events.iter().filter_map(|(at, event)| match event {
            Event::Note(what) => Some((at, what)),
            Event::Arrived { .. } => None,
        });
        let mut lines: Vec<String> =
            notes.rev().take(count).map(|(at, what)| format!("{:>10.3} {what}\n", at.as_secs_f64())).collect();
        lines.reverse();
        lines.concat()
    }
}

/// Notes something, as `format!` would write it.
macro_rules! note {
    ($trace:expr, $($what:tt)*) => { $trace.note(format_args!($($what)*)) };
}
pub(super) use note;
