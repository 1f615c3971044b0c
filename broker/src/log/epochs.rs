//! A log's leader-epoch history (KIP-101): which epoch begins at which offset.

use crate::ids::{LeaderEpoch, Offset};

/// One leadership's first offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Its first offset.
    pub start: Offset,
}

/// Epochs in order; both epochs and offsets only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EpochHistory {
    entries: Vec<EpochStart>,
}

impl EpochHistory {
    /// From entries that were stored; `None` when they are out of order.
    pub fn from_entries(entries: Vec<EpochStart>) -> Option<Self> {
        let ordered = entries.windows(2).all(|pair| pair[0].epoch < pair[1].epoch && pair[0].start <= pair[1].start);
        ordered.then_some(Self { entries })
    }

    /// All entries.
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// Notes that `epoch` begins at `start`; entries it replaces had no records. An epoch that is known already
    /// changes nothing.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        if self.newest().is_some_and(|newest| newest.epoch >= epoch) {
            return;
        }
        self.entries.retain(|entry| entry.start < start);
        self.entries.push(EpochStart { epoch, start });
    }

    /// The newest epoch, with records or without.
    pub fn newest(&self) -> Option<EpochStart> {
        self.entries.last().copied()
    }

    /// The newest epoch with records below `log_end`.
    pub fn newest_with_records(&self, log_end: Offset) -> Option<LeaderEpoch> {
        self.entries.iter().rev().find(|entry| entry.start < log_end).map(|entry| entry.epoch)
    }

    /// The epoch of the record at `offset`.
    pub fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|entry| entry.start <= offset);
        after.checked_sub(1).map(|at| self.entries[at].epoch)
    }

    /// The largest epoch at or below `epoch` and where it ends (KIP-101, KIP-279). An epoch older than all known ones
    /// ends where the first known one begins. `None` for an epoch newer than all.
    pub fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        if self.newest()?.epoch == epoch {
            return Some((epoch, log_end));
        }
        let above = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let end = self.entries.get(above)?.start;
        let found = above.checked_sub(1).map_or(epoch, |at| self.entries[at].epoch);
        Some((found, end))
    }

    /// Drops epochs that begin at or behind the log's new end.
    pub fn truncate_end(&mut self, log_end: Offset) {
        self.entries.retain(|entry| entry.start < log_end);
    }

    /// Drops epochs that end at or before the log's new start; the one that holds it begins there now.
    pub fn truncate_start(&mut self, log_start: Offset) {
        let after = self.entries.partition_point(|entry| entry.start <= log_start);
        if let Some(holding) = after.checked_sub(1) {
            self.entries.drain(..holding);
            self.entries[0].start = log_start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(entries: &[(i32, i64)]) -> EpochHistory {
        let mut history = EpochHistory::default();
        for &(epoch, start) in entries {
            history.assign(LeaderEpoch::new(epoch), Offset::new(start));
        }
        history
    }

    fn end(history: &EpochHistory, epoch: i32) -> Option<(i32, i64)> {
        history.end_of(LeaderEpoch::new(epoch), Offset::new(90)).map(|(epoch, end)| (epoch.get(), end.get()))
    }

    #[test]
    fn an_epoch_ends_where_the_next_known_one_begins() {
        let history = history(&[(2, 10), (4, 30), (7, 50)]);
        let ends: Vec<_> = (1..=8).map(|epoch| end(&history, epoch)).collect();
        let known = |epoch, end| Some((epoch, end));
        let expected =
            [known(1, 10), known(2, 30), known(2, 30), known(4, 50), known(4, 50), known(4, 50), known(7, 90), None];
        assert_eq!(ends, expected);
    }

    #[test]
    fn an_empty_history_knows_no_epoch() {
        assert_eq!(end(&history(&[]), 0), None);
    }

    #[test]
    fn an_epoch_without_records_is_replaced() {
        let history = history(&[(1, 0), (2, 10), (3, 10)]);
        assert_eq!(history.entries().iter().map(|entry| entry.epoch.get()).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(history.newest_with_records(Offset::new(10)), Some(LeaderEpoch::new(1)));
    }

    #[test]
    fn truncation_drops_epochs_at_or_past_the_end() {
        let mut history = history(&[(1, 0), (2, 10), (3, 20)]);
        history.truncate_end(Offset::new(20));
        assert_eq!(history.newest().map(|entry| entry.epoch.get()), Some(2));
    }

    #[test]
    fn a_later_start_keeps_the_epoch_that_holds_it() {
        let mut history = history(&[(1, 0), (2, 10), (3, 20)]);
        history.truncate_start(Offset::new(15));
        assert_eq!(history.at(Offset::new(15)), Some(LeaderEpoch::new(2)));
        assert_eq!(history.at(Offset::new(14)), None);
    }
}
