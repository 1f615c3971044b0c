//! A progress line on the terminal for what takes longer than two seconds: count, rate, remaining time.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is quicker shows nothing.
const SHOW_AFTER: Duration = Duration::from_secs(2);
/// How often a count is looked at, as records.
const LOOK_EVERY: u64 = 256;

/// Counts records; shows itself after two seconds when standard error is a terminal.
pub(super) struct Progress {
    started: Instant,
    total: Option<u64>,
    done: u64,
    bar: Option<ProgressBar>,
    enabled: bool,
}

impl Progress {
    /// Counts up to `total`, when that is known.
    pub(super) fn new(total: Option<u64>) -> Self {
        Self { started: Instant::now(), total, done: 0, bar: None, enabled: std::io::stderr().is_terminal() }
    }

    /// For output that goes to the same terminal: shows nothing.
    pub(super) fn hidden() -> Self {
        let mut progress = Self::new(None);
        progress.enabled = false;
        progress
    }

    /// One more is done.
    pub(super) fn tick(&mut self) {
        self.done += 1;
        if self.enabled && self.done.is_multiple_of(LOOK_EVERY) && self.started.elapsed() > SHOW_AFTER {
            self.bar.get_or_insert_with(|| bar(self.total, self.started)).set_position(self.done);
        }
    }

    /// How many are done.
    pub(super) fn done(&self) -> u64 {
        self.done
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(total: Option<u64>, started: Instant) -> ProgressBar {
    let (template, length) = match total {
        Some(_) => ("{wide_bar} {human_pos}/{human_len} {per_sec}, {eta} left", total),
        None => ("{spinner} {human_pos} records, {per_sec}, {elapsed}", None),
    };
    let style = ProgressStyle::with_template(template).expect("the template is valid, because it is a constant");
    ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr())
        .with_style(style)
        .with_elapsed(started.elapsed())
}
