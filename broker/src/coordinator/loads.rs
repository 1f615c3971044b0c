//! Tells of loads in one line. A start or a failover loads many partitions at once: to whoever reads the log that is one
//! event.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::io::clock::Clock;

/// The loads that are under way together.
#[derive(Debug, Default, PartialEq, Eq)]
struct UnderWay {
    loads: usize,
    /// When the first of them began.
    since: Duration,
    /// Those that are done, and the records that they read.
    partitions: usize,
    records: u64,
}

/// What loads that were under way together have done.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    partitions: usize,
    records: u64,
    took: Duration,
}

impl UnderWay {
    fn begin(&mut self, now: Duration) {
        if self.loads == 0 {
            *self = Self { since: now, ..Self::default() };
        }
        self.loads += 1;
    }

    fn loaded(&mut self, records: u64) {
        self.partitions += 1;
        self.records += records;
    }

    /// A load is over, whether it was done or not. With the last there is something to tell, unless there was nothing to
    /// load.
    fn end(&mut self, now: Duration) -> Option<Summary> {
        self.loads -= 1;
        let any = self.loads == 0 && self.records > 0;
        let took = now.saturating_sub(self.since);
        any.then_some(Summary { partitions: self.partitions, records: self.records, took })
    }
}

/// The loads of a node.
pub(super) struct Loads {
    clock: Arc<dyn Clock>,
    under_way: Mutex<UnderWay>,
}

impl Loads {
    /// None under way.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, under_way: Mutex::default() })
    }

    /// A load begins; it ends when what this returns is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Load {
        self.under_way.lock().begin(self.clock.monotonic());
        Load(Arc::clone(self))
    }
}

/// A load that is under way, or something that others belong to.
pub(super) struct Load(Arc<Loads>);

impl Load {
    /// It is done.
    pub(super) fn done(self, records: u64) {
        self.0.under_way.lock().loaded(records);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let summary = self.0.under_way.lock().end(self.0.clock.monotonic());
        if let Some(Summary { partitions, records, took }) = summary {
            tracing::info!(partitions, records, ms = took.as_millis() as u64, "loaded groups");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn loads_that_are_under_way_together_are_told_once() {
        let mut loads = UnderWay::default();
        for at in 0..50 {
            loads.begin(ms(at));
        }
        for at in 50..99 {
            loads.loaded(2);
            assert_eq!(loads.end(ms(at)), None);
        }
        loads.loaded(2);
        assert_eq!(loads.end(ms(99)), Some(Summary { partitions: 50, records: 100, took: ms(99) }));
        loads.begin(ms(200));
        loads.loaded(1);
        assert_eq!(loads.end(ms(205)), Some(Summary { partitions: 1, records: 1, took: ms(5) }), "begun anew");
    }

    #[test]
    fn a_load_that_failed_is_not_counted_and_one_of_nothing_is_not_told() {
        let mut loads = UnderWay::default();
        loads.begin(ms(0));
        loads.loaded(0);
        assert_eq!(loads.end(ms(1)), None);
        loads.begin(ms(2));
        loads.begin(ms(2));
        loads.loaded(3);
        assert_eq!(loads.end(ms(3)), None);
        assert_eq!(loads.end(ms(4)), Some(Summary { partitions: 1, records: 3, took: ms(2) }));
    }
}
