//! Tells background work to end early: the node stops, or what is worked on is deleted.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Whether the node stops; and a way to wait that ends when it does.
#[derive(Default)]
pub(super) struct Stop {
    stopping: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// The node stops.
    pub(super) fn stop(&self) {
        *self.stopping.lock() = true;
        self.changed.notify_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.stopping.lock()
    }

    /// Has those who rest look again whether they are still to go on.
    pub(super) fn look_again(&self) {
        let _stopping = self.stopping.lock();
        self.changed.notify_all();
    }

    /// Waits for a time, but no longer than the node runs and `goes_on` says so. Blocks.
    pub(super) fn rest(&self, time: Duration, goes_on: impl Fn() -> bool) {
        let mut stopping = self.stopping.lock();
        self.changed.wait_while_for(&mut stopping, |stopping| !*stopping && goes_on(), time);
    }
}
