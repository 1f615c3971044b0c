//! Who is in sync: when a leader asks for followers to join or leave the ISR (rules 6, 7, 8 and 16). Pure.
//!
//! One proposal at a time. It ends when this node's image shows its outcome; until then the high watermark counts with
//! it (`Isr::propose`), because a lost answer may hide that it was committed.

use std::collections::VecDeque;
use std::time::Duration;

use smallvec::SmallVec;

use super::Isr;
use crate::ids::{BrokerEpoch, NodeId, Offset, PartitionEpoch};

/// An ISR as a leader asks for it: each member with the registration in which it qualified.
pub(super) type ProposedIsr = Vec<(NodeId, BrokerEpoch)>;

/// What is known of a follower beside what it has flushed.
#[derive(Debug, Clone, Copy)]
struct Follower {
    node: NodeId,
    /// The registration that it acknowledged in.
    epoch: Option<BrokerEpoch>,
    /// When it last had what the log had by then; `None` until the clock is first looked at.
    caught_up_at: Option<Duration>,
    /// It had no disk space: it has to reach this, where the log ended then, before it counts again.
    full_before: Option<Offset>,
}

/// The log's end at a time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    log_end: Offset,
}

/// How things stand when a leader decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing<'a> {
    /// Who has flushed what.
    pub(super) isr: &'a Isr,
    pub(super) log_end: Offset,
    pub(super) high_watermark: Offset,
    /// Where this leader epoch began.
    pub(super) epoch_start: Offset,
    /// `replica.lag.time.max.ms`.
    pub(super) lag_max: Duration,
}

/// The followers of one leadership.
#[derive(Debug)]
pub(super) struct Membership {
    leader: NodeId,
    followers: SmallVec<[Follower; 2]>,
    samples: VecDeque<Sample>,
    /// The registration that a proposal under way goes out from.
    proposed: Option<PartitionEpoch>,
    /// The leader had no disk space for what was produced last.
    leader_is_full: bool,
}

impl Membership {
    /// A new leadership: nobody has acknowledged anything, nobody lags yet.
    pub(super) fn new(leader: NodeId, replicas: &[NodeId]) -> Self {
        let mut new = Self {
            leader,
            followers: SmallVec::new(),
            samples: VecDeque::new(),
            proposed: None,
            leader_is_full: false,
        };
        new.commit(replicas);
        new
    }

    /// Takes a newer registration: the outcome of a proposal, or it overtook one.
    pub(super) fn commit(&mut self, replicas: &[NodeId]) {
        let known = std::mem::take(&mut self.followers);
        let followers = replicas.iter().filter(|node| **node != self.leader).map(|&node| {
            let new = Follower { node, epoch: None, caught_up_at: None, full_before: None };
            known.iter().find(|follower| follower.node == node).copied().unwrap_or(new)
        });
        self.followers = followers.collect();
        self.proposed = None;
    }

    /// A follower acknowledged what is below `end`. Returns whether it did so in another registration before: what it
    /// had then says nothing of now.
    pub(super) fn acked(&mut self, node: NodeId, epoch: BrokerEpoch, end: Offset) -> bool {
        let Some(follower) = self.follower_mut(node) else { return false };
        follower.full_before = follower.full_before.filter(|before| end < *before);
        let before = follower.epoch.replace(epoch);
        before.is_some_and(|before| before != epoch)
    }

    /// A follower has no disk space for what lies before `log_end`: it leaves at once (rule 16).
    pub(super) fn is_full(&mut self, node: NodeId, log_end: Offset) {
        if let Some(follower) = self.follower_mut(node) {
            follower.full_before = Some(log_end);
        }
    }

    /// Whether the leader itself has disk space: one without gives the partition up to followers that have all of it.
    pub(super) fn leader_is_full(&mut self, full: bool) {
        self.leader_is_full = full;
    }

    /// Looks at the clock: who has caught up by now.
    pub(super) fn tick(&mut self, now: Duration, standing: Standing<'_>) {
        self.samples.push_back(Sample { at: now, log_end: standing.log_end });
        while self.samples.get(1).is_some_and(|second| now.saturating_sub(second.at) >= standing.lag_max) {
            self.samples.pop_front();
        }
        for follower in &mut self.followers {
            let flushed_end = standing.isr.flushed_end(follower.node);
            let reached = self.samples.iter().rev().find(|sample| flushed_end.is_some_and(|end| end >= sample.log_end));
            let member = standing.isr.is_member(follower.node);
            // Who has just joined, or been found in the ISR by a new leader, has its time from now on.
            let known = follower.caught_up_at.filter(|_| member).unwrap_or(now);
            follower.caught_up_at = Some(reached.map_or(known, |sample| known.max(sample.at)));
        }
    }

    /// Whether a follower may join now, as far as the offsets say (rule 7).
    pub(super) fn may_join(&self, node: NodeId, standing: Standing<'_>) -> bool {
        let end = standing.isr.flushed_end(node);
        let reached = end.is_some_and(|end| end >= standing.high_watermark && end >= standing.epoch_start);
        let known = self.followers.iter().find(|follower| follower.node == node);
        reached && !standing.isr.is_member(node) && known.is_some_and(|follower| follower.full_before.is_none())
    }

    /// The ISR to ask for, if it is not the one there is. `alive` tells the current registration of a node that is not
    /// fenced.
    pub(super) fn wanted(
        &self,
        now: Duration,
        standing: Standing<'_>,
        alive: impl Fn(NodeId) -> Option<BrokerEpoch>,
    ) -> Option<ProposedIsr> {
        if self.proposed.is_some() {
            return None;
        }
        let isr = standing.isr;
        let mut wanted = Vec::new();
        for node in isr.replicas() {
            let Some(epoch) = alive(node) else { continue };
            let follower = self.followers.iter().find(|follower| follower.node == node);
            let stays = match follower {
                None => true,
                Some(follower) if isr.is_member(node) => {
                    follower.full_before.is_none() && !lags(follower, now, standing)
                }
                Some(follower) => follower.epoch == Some(epoch) && self.may_join(node, standing),
            };
            if stays {
                wanted.push((node, epoch));
            }
        }
        let leads = wanted.iter().any(|(node, _)| *node == self.leader);
        if leads && self.leader_is_full && self.all_have_everything(&wanted, standing) {
            wanted.retain(|(node, _)| *node != self.leader);
        }
        let changed = isr.replicas().any(|node| isr.is_member(node) != wanted.iter().any(|(it, _)| *it == node));
        (leads && changed).then_some(wanted)
    }

    /// Whether there are other members than the leader, and whichever of them leads next loses nothing that the leader has.
    fn all_have_everything(&self, members: &[(NodeId, BrokerEpoch)], standing: Standing<'_>) -> bool {
        let mut others = members.iter().map(|(node, _)| *node).filter(|node| *node != self.leader).peekable();
        others.peek().is_some() && others.all(|node| standing.isr.flushed_end(node) >= Some(standing.log_end))
    }

    /// An ISR was asked for, out of this registration.
    pub(super) fn propose(&mut self, from: PartitionEpoch) {
        assert!(self.proposed.is_none(), "one proposal at a time");
        self.proposed = Some(from);
    }

    /// Whether a proposal out of this registration is still without an outcome.
    pub(super) fn is_open(&self, from: PartitionEpoch) -> bool {
        self.proposed == Some(from)
    }

    /// A proposal was refused, and the image has reached that point: it never took effect.
    pub(super) fn withdraw(&mut self, from: PartitionEpoch) {
        if self.proposed == Some(from) {
            self.proposed = None;
        }
    }

    fn follower_mut(&mut self, node: NodeId) -> Option<&mut Follower> {
        self.followers.iter_mut().find(|follower| follower.node == node)
    }
}

/// Whether a follower has not reached, for so long, the log's end as it was that long ago (rule 7).
fn lags(follower: &Follower, now: Duration, standing: Standing<'_>) -> bool {
    follower.caught_up_at.is_some_and(|at| now.saturating_sub(at) > standing.lag_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG: Duration = Duration::from_secs(30);

    fn node(id: i32) -> NodeId {
        NodeId::new(id)
    }

    fn at(offset: i64) -> Offset {
        Offset::new(offset)
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[expect(clippy::unnecessary_wraps, reason = "as `wanted` asks for it")]
    fn alive(node: NodeId) -> Option<BrokerEpoch> {
        Some(BrokerEpoch::new(100 + i64::from(node.get())))
    }

    /// Node 0 leads 0, 1 and 2.
    struct Led {
        isr: Isr,
        membership: Membership,
        log_end: i64,
        high_watermark: i64,
        epoch_start: i64,
    }

    impl Led {
        fn new(members: &[i32]) -> Self {
            let replicas = [node(0), node(1), node(2)];
            let members: Vec<_> = members.iter().map(|&id| node(id)).collect();
            let isr = Isr::new(&replicas, &members, 1);
            let membership = Membership::new(node(0), &replicas);
            Self { isr, membership, log_end: 0, high_watermark: 0, epoch_start: 0 }
        }

        fn standing(&self) -> Standing<'_> {
            Standing {
                isr: &self.isr,
                log_end: at(self.log_end),
                high_watermark: at(self.high_watermark),
                epoch_start: at(self.epoch_start),
                lag_max: LAG,
            }
        }

        fn tick(&mut self, now: u64) {
            let standing = Standing {
                isr: &self.isr,
                log_end: at(self.log_end),
                high_watermark: at(self.high_watermark),
                epoch_start: at(self.epoch_start),
                lag_max: LAG,
            };
            self.membership.tick(seconds(now), standing);
        }

        fn ack(&mut self, id: i32, end: i64) {
            self.membership.acked(node(id), alive(node(id)).expect("alive"), at(end));
            self.isr.flushed(node(id), at(end));
        }

        fn wanted(&self, now: u64) -> Option<Vec<i32>> {
            let wanted = self.membership.wanted(seconds(now), self.standing(), alive)?;
            Some(wanted.into_iter().map(|(node, _)| node.get()).collect())
        }
    }

    #[test]
    fn rule_7_a_follower_joins_when_it_has_reached_the_high_watermark_and_this_epochs_start() {
        for (high_watermark, epoch_start, end, joins) in [(5, 3, 5, true), (5, 3, 4, false), (5, 8, 7, false)] {
            let mut led = Led::new(&[0]);
            (led.log_end, led.high_watermark, led.epoch_start) = (10, high_watermark, epoch_start);
            led.tick(0);
            led.ack(1, end);
            assert_eq!(led.wanted(0), joins.then(|| vec![0, 1]), "{high_watermark} {epoch_start} {end}");
        }
    }

    #[test]
    fn rule_7_a_follower_joins_in_its_current_registration_only() {
        let mut led = Led::new(&[0]);
        led.membership.acked(node(1), BrokerEpoch::new(7), at(0));
        led.isr.flushed(node(1), at(0));
        assert_eq!(led.wanted(0), None, "it has registered anew since");
        assert!(
            led.membership.acked(node(1), alive(node(1)).expect("alive"), at(0)),
            "what it had before is forgotten"
        );
        assert_eq!(led.wanted(0), Some(vec![0, 1]));
    }

    #[test]
    fn rule_7_an_idle_partition_never_shrinks() {
        let mut led = Led::new(&[0, 1, 2]);
        led.log_end = 10;
        led.tick(0);
        led.ack(1, 10);
        led.ack(2, 10);
        for now in (0..500).step_by(5) {
            led.tick(now);
            assert_eq!(led.wanted(now), None, "at {now} s");
        }
    }

    #[test]
    fn rule_7_one_that_stops_leaves_after_the_lag_time_and_a_trickler_does_too() {
        let mut led = Led::new(&[0, 1, 2]);
        led.tick(0);
        for now in 1..=40 {
            led.log_end += 100;
            led.ack(1, led.log_end - 50);
            led.ack(2, now as i64 * 10);
            led.tick(now);
            assert_eq!(led.wanted(now), (now > 33).then(|| vec![0, 1]), "at {now} s");
        }
    }

    #[test]
    fn rule_7_one_that_is_as_far_as_the_log_was_a_while_ago_stays() {
        let mut led = Led::new(&[0, 1, 2]);
        for now in 0..200 {
            led.log_end = 100 * now as i64;
            led.ack(1, led.log_end);
            led.ack(2, 100 * (now as i64 - 20).max(0));
            led.tick(now);
            assert_eq!(led.wanted(now), None, "at {now} s");
        }
    }

    #[test]
    fn rule_7_a_new_leader_gives_everybody_the_lag_time() {
        let mut led = Led::new(&[0, 1, 2]);
        led.log_end = 10;
        led.tick(1000);
        assert_eq!(led.wanted(1030), None);
        led.tick(1031);
        assert_eq!(led.wanted(1031), Some(vec![0]));
    }

    #[test]
    fn rule_16_one_without_disk_space_leaves_at_once() {
        let mut led = Led::new(&[0, 1, 2]);
        led.tick(0);
        led.log_end = 5;
        led.membership.is_full(node(2), at(5));
        assert_eq!(led.wanted(0), Some(vec![0, 1]));
        led.isr.commit(&[node(0), node(1), node(2)], &[node(0), node(1)]);
        led.ack(2, 4);
        assert_eq!(led.wanted(0), None, "nor does it join before it has what it could not take");
        led.ack(2, 5);
        assert_eq!(led.wanted(0), Some(vec![0, 1, 2]));
    }

    #[test]
    fn a_leader_without_disk_space_gives_up_to_followers_that_have_all_of_it() {
        let mut led = Led::new(&[0, 1]);
        led.tick(0);
        led.log_end = 5;
        led.ack(1, 4);
        led.membership.leader_is_full(true);
        assert_eq!(led.wanted(0), None, "the follower lacks something");
        led.ack(1, 5);
        assert_eq!(led.wanted(0), Some(vec![1]));
        led.ack(2, 5);
        assert_eq!(led.wanted(0), Some(vec![1, 2]));
        led.membership.leader_is_full(false);
        assert_eq!(led.wanted(0), Some(vec![0, 1, 2]), "there is room again");
        let mut alone = Led::new(&[0]);
        alone.membership.leader_is_full(true);
        assert_eq!(alone.wanted(0), None, "nobody else has it");
    }

    #[test]
    fn rule_8_one_proposal_at_a_time_ends_with_a_registration_or_its_refusal() {
        let mut led = Led::new(&[0]);
        led.ack(1, 0);
        let from = PartitionEpoch::new(4);
        led.membership.propose(from);
        assert_eq!(led.wanted(0), None);
        led.membership.withdraw(PartitionEpoch::new(3));
        assert!(led.membership.is_open(from), "that was another");
        led.membership.withdraw(from);
        assert_eq!(led.wanted(0), Some(vec![0, 1]));
        led.membership.propose(from);
        led.membership.commit(&[node(0), node(1), node(2)]);
        assert!(!led.membership.is_open(from));
        assert_eq!(led.wanted(0), Some(vec![0, 1]));
    }

    #[test]
    fn one_that_is_fenced_neither_stays_nor_joins() {
        let mut led = Led::new(&[0, 1]);
        led.ack(2, 0);
        let wanted = led.membership.wanted(seconds(0), led.standing(), |it| alive(it).filter(|_| it == node(0)));
        assert_eq!(wanted, Some(vec![(node(0), BrokerEpoch::new(100))]));
        assert_eq!(led.membership.wanted(seconds(0), led.standing(), |_| None), None, "a fenced leader asks nothing");
    }
}
