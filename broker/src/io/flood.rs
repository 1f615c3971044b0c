//! Log lines that clients, or a full disk, can cause in any number: some are written, the others counted.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Lines of one kind that are written within [`WINDOW`].
const LINES: u32 = 10;
/// After so long lines are written again.
const WINDOW: Duration = Duration::from_secs(10);

/// How often it is looked whether a flood is over.
const LOOK: Duration = Duration::from_secs(1);

/// Kinds with lines that were left out and not counted in the log yet.
static UNTOLD: Mutex<Vec<&'static Flood>> = Mutex::new(Vec::new());

/// One kind of line. Whoever would write one asks it first.
#[derive(Debug)]
pub struct Flood {
    kind: &'static str,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the window began.
    since: Option<Instant>,
    written: u32,
    held_back: u64,
    /// Whether it is among the untold.
    untold: bool,
}

impl State {
    fn is_over(&self, now: Instant) -> bool {
        self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW)
    }
}

impl Flood {
    /// None written yet. `kind` names the lines where only their number is told.
    pub const fn new(kind: &'static str) -> Self {
        Self { kind, state: Mutex::new(State { since: None, written: 0, held_back: 0, untold: false }) }
    }

    /// A line that may be written now; `None` when it is to be left out.
    pub fn line(&'static self) -> Option<Line> {
        let line = self.line_at(Instant::now());
        if line.is_none() && !std::mem::replace(&mut self.state.lock().untold, true) {
            UNTOLD.lock().push(self);
        }
        line
    }

    fn line_at(&self, now: Instant) -> Option<Line> {
        let mut state = self.state.lock();
        if state.is_over(now) {
            state.since = Some(now);
            state.written = 0;
        }
        if state.written == LINES {
            state.held_back += 1;
            return None;
        }
        state.written += 1;
        Some(Line { left_out: std::mem::take(&mut state.held_back) })
    }

    /// Once the flood is over: how many lines nobody has been told of.
    fn end_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        if !state.is_over(now) {
            return None;
        }
        state.untold = false;
        Some(std::mem::take(&mut state.held_back))
    }
}

/// Tells of each flood that has ended how many lines were left out, where no later line of its kind has said so; until
/// `stop`.
pub async fn tell_ends(stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        let now = Instant::now();
        UNTOLD.lock().retain(|flood| {
            let Some(left_out) = flood.end_at(now) else { return true };
            if left_out > 0 {
                tracing::warn!(left_out, "{}: more lines like those before were left out", flood.kind);
            }
            false
        });
    }
}

/// The right to write one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    left_out: u64,
}

impl Line {
    /// How many of its kind were left out since the one before: a field of the line, which has none when all were written.
    pub fn left_out(self) -> Option<u64> {
        (self.left_out > 0).then_some(self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_some_lines_a_window_and_a_count_of_the_others() {
        let (flood, start) = (Flood::new("kind"), Instant::now());
        let asked = |ms: u64| flood.line_at(start + Duration::from_millis(ms)).map(Line::left_out);
        for ms in 0..10 {
            assert_eq!(asked(ms), Some(None), "the first are written");
        }
        for ms in 10..9_999 {
            assert_eq!(asked(ms), None);
        }
        assert_eq!(asked(10_000), Some(Some(9_989)), "each is written or counted");
        assert_eq!(asked(10_001), Some(None), "and counted once");
    }

    #[test]
    fn a_flood_that_has_ended_is_counted_once() {
        let (flood, start) = (Flood::new("kind"), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        for ms in 0..110 {
            flood.line_at(at(ms));
        }
        assert_eq!(flood.end_at(at(9_999)), None, "it may go on");
        assert_eq!(flood.end_at(at(10_000)), Some(100));
        assert_eq!(flood.end_at(at(10_001)), Some(0));
        assert_eq!(flood.line_at(at(10_002)), Some(Line { left_out: 0 }));
    }

    #[test]
    fn what_happens_seldom_is_always_written() {
        let (flood, start) = (Flood::new("kind"), Instant::now());
        for seconds in 0..1000 {
            assert_eq!(flood.line_at(start + Duration::from_secs(2 * seconds)), Some(Line { left_out: 0 }));
        }
    }
}
