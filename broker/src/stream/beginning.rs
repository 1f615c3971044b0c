//! Where a session begins: a follower's log compared with its leader's by their leader-epoch histories (rule 3;
//! KIP-101, KIP-279). Pure.

use super::replication::{Elected, FollowerState};
use crate::ids::Offset;
use crate::log::EpochHistory;

/// What the leader offers: its history, of records on its disk, and where that begins and ends.
#[derive(Debug)]
pub(super) struct Offer {
    /// Epochs that begin below `end`.
    pub(super) epochs: EpochHistory,
    /// The leader's first offset, or that of the batch that holds it.
    pub(super) start: Offset,
    /// Everything below is committed.
    pub(super) high_watermark: Offset,
    /// One past the last record on the leader's disk.
    pub(super) end: Offset,
    /// Whether the follower is in the ISR, or eligible as a leader beside it: it has all that is committed.
    pub(super) eligible: bool,
}

/// Compares: the follower keeps what lies below the end of the newest epoch that both know, as far as both have it.
///
/// What lies below the leader's high watermark is committed, and what lies below the follower's start: retention and
/// `DeleteRecords` go no further. An eligible follower keeps that much of its log in any case, though the records that
/// would tell so may all be deleted, and epochs forgotten of which compaction has left nothing: else its end would fall
/// below records that were acknowledged, and it might be elected so.
pub(super) fn beginning(offer: &Offer, follower: &FollowerState) -> Elected {
    let mut truncate_to = common_end(offer, follower);
    if offer.eligible {
        let committed = offer.high_watermark.max(follower.log_start).min(follower.flushed_end);
        truncate_to = truncate_to.max(committed.min(offer.end));
    }
    Elected { epochs: offer.epochs.entries().to_vec(), truncate_to, start_at: truncate_to.max(offer.start) }
}

/// Where the logs part. Nothing is in common where no epoch is.
fn common_end(offer: &Offer, follower: &FollowerState) -> Offset {
    let mut end = follower.flushed_end;
    #[cfg(test)]
    if crate::sim::planted(crate::sim::Plant::NoTruncation) {
        return end.min(offer.end);
    }
    for entry in follower.epochs.iter().rev() {
        let known = offer.epochs.entries().iter().any(|it| it.epoch == entry.epoch);
        if let Some((_, leaders_end)) = offer.epochs.end_of(entry.epoch, offer.end).filter(|_| known) {
            return end.min(leaders_end);
        }
        end = end.min(entry.start);
    }
    Offset::FIRST
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::LeaderEpoch;
    use crate::log::EpochStart;

    fn entries(epochs: &[(i32, i64)]) -> Vec<EpochStart> {
        let entry =
            |&(epoch, start): &(i32, i64)| EpochStart { epoch: LeaderEpoch::new(epoch), start: Offset::new(start) };
        epochs.iter().map(entry).collect()
    }

    fn offer(epochs: &[(i32, i64)], start: i64, end: i64) -> Offer {
        let epochs = EpochHistory::from_entries(entries(epochs)).expect("in order");
        let (start, end) = (Offset::new(start), Offset::new(end));
        Offer { epochs, start, high_watermark: start, end, eligible: false }
    }

    fn follower(epochs: &[(i32, i64)], end: i64) -> FollowerState {
        FollowerState { epochs: entries(epochs), log_start: Offset::FIRST, flushed_end: Offset::new(end) }
    }

    #[test]
    fn rule_3_a_follower_keeps_what_lies_below_the_end_of_the_last_epoch_that_both_share() {
        type Epochs = &'static [(i32, i64)];
        // (leader's epochs, start, end) and (follower's epochs, end) → (truncate to, start at)
        type Case = ((Epochs, i64, i64), (Epochs, i64), (i64, i64));
        let cases: [Case; 11] = [
            ((&[], 0, 0), (&[], 0), (0, 0)),
            ((&[(0, 0)], 0, 9), (&[], 0), (0, 0)),
            ((&[(0, 0)], 0, 9), (&[(0, 0)], 5), (5, 5)),
            ((&[(0, 0)], 0, 9), (&[(0, 0)], 12), (9, 9)),
            ((&[(0, 0), (2, 5)], 0, 9), (&[(0, 0)], 7), (5, 5)),
            ((&[(0, 0), (2, 5)], 0, 9), (&[(0, 0), (1, 3)], 7), (3, 3)),
            ((&[(0, 0), (1, 3), (3, 6)], 0, 9), (&[(0, 0), (1, 3), (2, 8)], 20), (6, 6)),
            ((&[(4, 60)], 60, 90), (&[(4, 40)], 55), (55, 60)),
            ((&[(4, 60)], 60, 90), (&[(3, 0)], 80), (0, 60)),
            ((&[(4, 60)], 60, 90), (&[(3, 0), (4, 50)], 80), (80, 80)),
            ((&[(5, 0)], 0, 3), (&[(1, 0), (2, 4)], 9), (0, 0)),
        ];
        for ((epochs, start, end), (others, flushed_end), expected) in cases {
            let elected = beginning(&offer(epochs, start, end), &follower(others, flushed_end));
            let found = (elected.truncate_to.get(), elected.start_at.get());
            assert_eq!(found, expected, "{epochs:?} {others:?} {flushed_end}");
        }
    }

    #[test]
    fn rule_3_an_eligible_follower_keeps_what_both_know_to_be_committed() {
        type Epochs = &'static [(i32, i64)];
        // (leader's epochs, start, end) and (follower's epochs, start, end) → truncate to, eligible or not
        type Case = ((Epochs, i64, i64), (Epochs, i64, i64), (i64, i64));
        let cases: [Case; 8] = [
            ((&[(0, 0)], 0, 9), (&[], 0, 0), (0, 0)),
            // Its records are all deleted.
            ((&[(0, 0)], 0, 9), (&[], 9, 9), (9, 0)),
            ((&[(0, 0), (2, 5)], 0, 12), (&[], 9, 9), (9, 0)),
            // The leader's are.
            ((&[], 9, 9), (&[(0, 0)], 0, 9), (9, 0)),
            ((&[(3, 9)], 9, 12), (&[(0, 0)], 0, 9), (9, 0)),
            ((&[(3, 9)], 9, 12), (&[(0, 0), (1, 9)], 0, 11), (9, 0)),
            // Records tell more.
            ((&[(0, 0), (2, 5)], 3, 9), (&[(0, 1), (1, 6)], 1, 8), (5, 5)),
            ((&[(0, 0)], 0, 9), (&[(0, 4)], 4, 7), (7, 7)),
        ];
        for ((epochs, start, end), (others, log_start, flushed_end), expected) in cases {
            let offer = offer(epochs, start, end);
            let state = FollowerState { log_start: Offset::new(log_start), ..follower(others, flushed_end) };
            let other = beginning(&offer, &state).truncate_to.get();
            let eligible = beginning(&Offer { eligible: true, ..offer }, &state).truncate_to.get();
            assert_eq!((eligible, other), expected, "{epochs:?} {others:?} {log_start} {flushed_end}");
        }
    }

    #[test]
    fn rule_3_an_eligible_follower_keeps_what_is_committed_in_an_epoch_that_its_leader_has_forgotten() {
        // Of epoch 1 compaction has left the leader nothing.
        let mut offer = offer(&[(0, 0), (2, 5)], 0, 9);
        offer.high_watermark = Offset::new(5);
        let state = follower(&[(0, 0), (1, 2)], 5);
        let kept = [false, true].map(|eligible| {
            offer.eligible = eligible;
            beginning(&offer, &state).truncate_to.get()
        });
        assert_eq!(kept, [2, 5]);
    }

    /// Records as epochs, one by offset: what histories are made of.
    fn history(records: &[i32]) -> Vec<(i32, i64)> {
        let mut epochs: Vec<(i32, i64)> = Vec::new();
        for (offset, epoch) in records.iter().enumerate() {
            if epochs.last().is_none_or(|last| last.0 < *epoch) {
                epochs.push((*epoch, offset as i64));
            }
        }
        epochs
    }

    proptest! {
        /// Logs that grew as Raft's leaderships allow (records of one epoch at one offset are the same) share all that
        /// lies below the beginning, and no more than that is kept.
        #[test]
        fn what_is_kept_is_what_both_have(
            common in prop::collection::vec(0..3_i32, 0..6),
            leaders in prop::collection::vec(3..6_i32, 0..6),
            followers in prop::collection::vec(3..6_i32, 0..6),
        ) {
            let grow = |own: &[i32], parity: i32| {
                let mut records = common.clone();
                records.sort_unstable();
                let mut own: Vec<i32> = own.iter().map(|epoch| 2 * epoch + parity).collect();
                own.sort_unstable();
                records.extend(own);
                records
            };
            let (leader, follower_log) = (grow(&leaders, 0), grow(&followers, 1));
            let offer = offer(&history(&leader), 0, leader.len() as i64);
            let state = follower(&history(&follower_log), follower_log.len() as i64);
            let kept = beginning(&offer, &state).truncate_to.get() as usize;
            prop_assert!(kept <= leader.len() && kept <= follower_log.len());
            prop_assert_eq!(&leader[..kept], &follower_log[..kept]);
            prop_assert_eq!(kept, common.len(), "nothing of what both have is sent again");
        }

        #[test]
        fn any_state_from_the_network_is_taken_without_panic(
            epochs in prop::collection::vec((0..9_i32, 0..99_i64), 0..9),
            log_start in 0..99_i64,
            end in 0..99_i64,
            eligible: bool,
        ) {
            let offer = Offer { eligible, ..offer(&[(1, 10), (4, 20)], 10, 30) };
            let state = FollowerState { log_start: Offset::new(log_start), ..follower(&epochs, end) };
            let elected = beginning(&offer, &state);
            prop_assert!(elected.start_at >= offer.start && elected.start_at <= offer.end);
        }
    }
}
