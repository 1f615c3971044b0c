//! Who waits for which proposal, and what becomes of it.
//!
//! A proposal carries its id in the log's entry, and the node that made it finds it again when it applies that entry:
//! whatever happened to the messages between the nodes. One that was made for a term is lost for good once an entry of
//! a later term is applied, because all that survive of a term come before.

use std::collections::BTreeMap;
use std::time::Duration;

/// Names a proposal in the whole cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProposalId {
    /// Drawn by each process at its start.
    pub process: u64,
    /// Counts the proposals of that process.
    pub number: u64,
}

impl ProposalId {
    /// As the context of an entry.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.process) << 64 | u128::from(self.number)).to_be_bytes()
    }

    /// The id in an entry's context; `None` where there is none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let whole = u128::from_be_bytes(bytes.try_into().ok()?);
        Some(Self { process: (whole >> 64) as u64, number: whole as u64 })
    }
}

struct Waiter<W> {
    /// The term for which the proposal was made.
    term: u64,
    since: Duration,
    who: W,
}

/// The waiters of one process.
pub struct Proposals<W> {
    process: u64,
    by_number: BTreeMap<u64, Waiter<W>>,
    /// The term of the last entry applied: nothing of an earlier one can follow.
    applied_term: u64,
}

impl<W> Proposals<W> {
    /// Nobody waits yet. `applied_term` is the term of the last entry applied.
    pub fn new(process: u64, applied_term: u64) -> Self {
        Self { process, by_number: BTreeMap::new(), applied_term }
    }

    /// From now on `who` waits for the proposal `number` of this process, made for `term`. Gives it back when nothing
    /// of that term can be applied any more.
    pub fn wait(&mut self, number: u64, term: u64, now: Duration, who: W) -> Result<(), W> {
        if term < self.applied_term {
            return Err(who);
        }
        let before = self.by_number.insert(number, Waiter { term, since: now, who });
        assert!(before.is_none(), "a proposal's number is never used twice: {number}");
        Ok(())
    }

    /// Nobody waits for it any more: it was not taken.
    pub fn forget(&mut self, number: u64) -> Option<W> {
        self.by_number.remove(&number).map(|waiter| waiter.who)
    }

    /// An entry of `term` is about to be applied: what waits for an earlier term is lost, and returned.
    pub fn enter(&mut self, term: u64) -> Vec<W> {
        if term <= self.applied_term {
            return Vec::new();
        }
        self.applied_term = term;
        self.by_number.extract_if(.., |_, waiter| waiter.term < term).map(|(_, waiter)| waiter.who).collect()
    }

    /// The entry with this context is applied: who waited for it, and since when.
    pub fn applied(&mut self, context: &[u8]) -> Option<(W, Duration)> {
        let id = ProposalId::from_bytes(context).filter(|id| id.process == self.process)?;
        self.by_number.remove(&id.number).map(|waiter| (waiter.who, waiter.since))
    }

    /// A snapshot of `term` replaced the log: what became of anything waited for is not known here.
    pub fn replaced(&mut self, term: u64) -> Vec<W> {
        self.applied_term = self.applied_term.max(term);
        std::mem::take(&mut self.by_number).into_values().map(|waiter| waiter.who).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn context(process: u64, number: u64) -> [u8; 16] {
        ProposalId { process, number }.to_bytes()
    }

    #[test]
    fn an_id_survives_its_bytes_and_nothing_else_is_one() {
        let id = ProposalId { process: u64::MAX - 1, number: 7 };
        assert_eq!(ProposalId::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!(ProposalId::from_bytes(&[]), None);
        assert_eq!(ProposalId::from_bytes(&[0; 17]), None);
    }

    #[test]
    fn a_proposal_is_found_by_its_id_and_only_in_its_own_process() {
        let mut proposals = Proposals::new(1, 0);
        proposals.wait(5, 2, NOW, "a").expect("of the current term");
        assert_eq!(proposals.applied(&context(2, 5)), None, "another process's");
        assert_eq!(proposals.applied(&context(1, 6)), None);
        assert_eq!(proposals.applied(&context(1, 5)), Some(("a", NOW)));
        assert_eq!(proposals.applied(&context(1, 5)), None, "answered once");
    }

    #[test]
    fn what_waits_for_an_earlier_term_is_lost_when_a_later_one_is_applied() {
        let mut proposals = Proposals::new(1, 2);
        for (number, term) in [(1, 2), (2, 3), (3, 4)] {
            proposals.wait(number, term, NOW, number).expect("of the current term");
        }
        assert_eq!(proposals.enter(2), Vec::<u64>::new());
        assert_eq!(proposals.enter(4), [1, 2]);
        assert_eq!(proposals.wait(4, 3, NOW, 4), Err(4), "nothing of term 3 can be applied any more");
        assert_eq!(proposals.forget(3), Some(3));
    }

    #[test]
    fn a_snapshot_leaves_everything_unknown() {
        let mut proposals = Proposals::new(1, 2);
        proposals.wait(1, 2, NOW, "a").expect("of the current term");
        assert_eq!(proposals.replaced(5), ["a"]);
        assert_eq!(proposals.wait(2, 4, NOW, "b"), Err("b"));
    }
}
