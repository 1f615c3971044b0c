//! Log lines that clients, or a full disk, can cause in any number: some are written, the others counted.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lines of one kind that are written within [`WINDOW`].
const LINES: u32 = 10;
/// After so long lines are written again.
const WINDOW: Duration = Duration::from_secs(10);

/// One kind of line. Whoever would write one asks it first.
#[derive(Debug)]
pub struct Flood {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the window began.
    since: Option<Instant>,
    written: u32,
    held_back: u64,
}

impl Flood {
    /// None written yet.
    pub const fn new() -> Self {
        Self { state: Mutex::new(State { since: None, written: 0, held_back: 0 }) }
    }

    /// A line that may be written now; `None` when it is to be left out.
    pub fn line(&self) -> Option<Line> {
        self.line_at(Instant::now())
    }

    fn line_at(&self, now: Instant) -> Option<Line> {
        let mut state = self.state.lock();
        if state.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
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
}

impl Default for Flood {
    fn default() -> Self {
        Self::new()
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
        let (flood, start) = (Flood::new(), Instant::now());
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
    fn what_happens_seldom_is_always_written() {
        let (flood, start) = (Flood::new(), Instant::now());
        for seconds in 0..1000 {
            assert_eq!(flood.line_at(start + Duration::from_secs(2 * seconds)), Some(Line { left_out: 0 }));
        }
    }
}
