//! Bugs that are put into the planes on purpose, to see that the checker finds them. Each is a switch in the place
//! concerned, in test builds only.

use std::cell::Cell;

use crate::metadata::testing::WIPED_ELECTABLE;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    /// A log tells that an append is flushed when it is only appended.
    AckBeforeFlush,
    /// A follower does not cut what its leader does not have.
    NoTruncation,
    /// Those who are proposed to join the ISR don't count for the high watermark.
    CommittedIsrOnly,
    /// A proposal of an ISR that got no answer is taken for refused.
    LostReplyIsRefusal,
    /// Those who wait for an acknowledgement stay when the leader epoch ends.
    WaiterSurvivesEpoch,
    /// A node that registers with a new data folder stays in the ISRs.
    WipedElectable,
    /// Compaction takes records above the high watermark into account.
    CompactionAboveHighWatermark,
}

impl Plant {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::AckBeforeFlush,
        Self::NoTruncation,
        Self::CommittedIsrOnly,
        Self::LostReplyIsRefusal,
        Self::WaiterSurvivesEpoch,
        Self::WipedElectable,
        Self::CompactionAboveHighWatermark,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Plant>> = const { Cell::new(None) };
}

/// Whether this bug is planted in the run of this thread.
pub(crate) fn planted(plant: Plant) -> bool {
    PLANTED.get() == Some(plant)
}

/// Plants a bug, or none, in the runs of this thread from now on.
pub(super) fn plant(plant: Option<Plant>) {
    PLANTED.set(plant);
    // The metadata plane knows no other module.
    WIPED_ELECTABLE.set(plant == Some(Plant::WipedElectable));
}
