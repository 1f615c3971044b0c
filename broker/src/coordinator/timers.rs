//! One queue for all timers of a coordinator partition, driven by the time that is passed in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// What a timer is for. At most one timer of each is set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Timer {
    /// A member's session ends unless it is heard of.
    Session(Arc<str>, Arc<str>),
    /// A group stops waiting for joins.
    Join(Arc<str>),
    /// The same, of a group that was empty: it may wait on, for this long at most.
    InitialJoin(Arc<str>, Duration),
    /// A group stops waiting for the SyncGroup requests of this generation.
    Sync(Arc<str>, i32),
    /// Expired offsets and unused groups are looked for.
    Expiry,
}

/// The identity of a timer: a group has one join timer, of either kind, and one sync timer, of any generation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Slot {
    Session(Arc<str>, Arc<str>),
    Join(Arc<str>),
    Sync(Arc<str>),
    Expiry,
}

impl Timer {
    fn slot(&self) -> Slot {
        match self {
            Self::Session(group, member) => Slot::Session(group.clone(), member.clone()),
            Self::Join(group) | Self::InitialJoin(group, _) => Slot::Join(group.clone()),
            Self::Sync(group, _) => Slot::Sync(group.clone()),
            Self::Expiry => Slot::Expiry,
        }
    }
}

/// The timers, by deadline; equal deadlines fire in the order they were set.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_deadline: BTreeMap<(Duration, u64), Timer>,
    by_slot: HashMap<Slot, (Duration, u64)>,
    set: u64,
}

impl Timers {
    /// Sets a timer, in place of the one for the same purpose.
    pub(crate) fn set(&mut self, timer: Timer, deadline: Duration) {
        self.set += 1;
        let at = (deadline, self.set);
        if let Some(before) = self.by_slot.insert(timer.slot(), at) {
            self.by_deadline.remove(&before);
        }
        self.by_deadline.insert(at, timer);
        debug_assert_eq!(self.by_slot.len(), self.by_deadline.len());
    }

    /// Forgets a member's session.
    pub(crate) fn cancel_session(&mut self, group: &Arc<str>, member: &Arc<str>) {
        self.cancel(&Slot::Session(group.clone(), member.clone()));
    }

    /// A group no longer waits for joins.
    pub(crate) fn cancel_join(&mut self, group: &Arc<str>) {
        self.cancel(&Slot::Join(group.clone()));
    }

    /// A group no longer waits for SyncGroup requests.
    pub(crate) fn cancel_sync(&mut self, group: &Arc<str>) {
        self.cancel(&Slot::Sync(group.clone()));
    }

    fn cancel(&mut self, slot: &Slot) {
        if let Some(at) = self.by_slot.remove(slot) {
            self.by_deadline.remove(&at);
        }
    }

    /// When the next one is due.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.by_deadline.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Takes the next one that is due.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<Timer> {
        let entry = self.by_deadline.first_entry()?;
        if entry.key().0 > now {
            return None;
        }
        let timer = entry.remove();
        self.by_slot.remove(&timer.slot());
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn fires_by_deadline_then_by_the_order_of_setting() {
        let group: Arc<str> = "g".into();
        let mut timers = Timers::default();
        timers.set(Timer::Expiry, ms(30));
        timers.set(Timer::Sync(group.clone(), 1), ms(10));
        timers.set(Timer::Join(group.clone()), ms(10));
        assert_eq!(timers.next_deadline(), Some(ms(10)));
        assert_eq!(timers.pop_due(ms(9)), None);
        assert_eq!(timers.pop_due(ms(10)), Some(Timer::Sync(group.clone(), 1)));
        assert_eq!(timers.pop_due(ms(10)), Some(Timer::Join(group)));
        assert_eq!(timers.pop_due(ms(10)), None);
        assert_eq!(timers.pop_due(ms(99)), Some(Timer::Expiry));
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn setting_again_replaces_also_across_kinds_of_the_same_purpose() {
        let group: Arc<str> = "g".into();
        let mut timers = Timers::default();
        timers.set(Timer::InitialJoin(group.clone(), ms(5)), ms(10));
        timers.set(Timer::Join(group.clone()), ms(20));
        assert_eq!(timers.pop_due(ms(15)), None);
        assert_eq!(timers.pop_due(ms(20)), Some(Timer::Join(group.clone())));
        timers.set(Timer::Session(group.clone(), "m".into()), ms(1));
        timers.cancel_session(&group, &"m".into());
        assert_eq!(timers.pop_due(ms(99)), None);
    }
}
