//! When a node stands for election: its timeout in each term, drawn from its own seed, and what it does when the leader
//! was seen dead.

use super::core::{ELECTION_TICKS, HEARTBEAT_TICKS};

/// The election timeout of `term`, in ticks: between one and two times the least. raft-rs draws its own from the
/// thread's generator; this one is the same whenever a run is repeated.
pub(super) fn timeout_ticks(seed: u64, term: u64) -> usize {
    ELECTION_TICKS + (mix(seed ^ mix(term)) % ELECTION_TICKS as u64) as usize
}

/// SplitMix64's finalizer (Steele, Lea, Flood 2014): near-by numbers become far-off ones.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The campaigns of a voter after it has seen the leader dead: the first voter at once, the next a little later, so that
/// they don't split the votes; and again, because the others grant no vote before they have seen the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidacy {
    ticks_to_next: usize,
    campaigns_left: u32,
}

impl Candidacy {
    /// For the voter at `rank` among those that are left, in the order of their ids.
    pub(super) fn at_rank(rank: usize) -> Self {
        Self { ticks_to_next: rank * HEARTBEAT_TICKS, campaigns_left: 5 }
    }

    /// Whether to campaign now; `None` when it is over.
    pub(super) fn due(&mut self) -> Option<bool> {
        if self.campaigns_left == 0 {
            return None;
        }
        if self.ticks_to_next > 0 {
            return Some(false);
        }
        self.ticks_to_next = HEARTBEAT_TICKS;
        self.campaigns_left -= 1;
        Some(true)
    }

    /// Time moves on.
    pub(super) fn tick(&mut self) {
        self.ticks_to_next = self.ticks_to_next.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn timeouts_lie_between_one_and_two_times_the_least_and_differ() {
        let of = |seed| (0..200).map(|term| timeout_ticks(seed, term)).collect::<Vec<_>>();
        assert!(of(1).iter().all(|ticks| (ELECTION_TICKS..2 * ELECTION_TICKS).contains(ticks)));
        assert_eq!(of(1).iter().collect::<BTreeSet<_>>().len(), ELECTION_TICKS);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn the_first_campaigns_at_once_and_the_next_a_little_later() {
        let mut first = Candidacy::at_rank(0);
        assert_eq!((first.due(), first.due()), (Some(true), Some(false)));
        let mut second = Candidacy::at_rank(1);
        assert_eq!(second.due(), Some(false));
        for _ in 0..HEARTBEAT_TICKS {
            second.tick();
        }
        assert_eq!(second.due(), Some(true));
    }

    #[test]
    fn it_ends() {
        let mut candidacy = Candidacy::at_rank(0);
        let campaigns = (0..1000).map_while(|_| {
            candidacy.tick();
            candidacy.due()
        });
        assert_eq!(campaigns.filter(|due| *due).count(), 5);
    }
}
