//! Who may lead a partition, and what its ISR and its eligible leaders become: rules 1, 8, 10 and 14 of the
//! replication design (KIP-966).
//!
//! Each function changes one registration and leaves `partition_epoch` to its caller.

use super::outcome::Refused;
use super::topology::PartitionRegistration;
use crate::ids::{BrokerEpoch, NodeId};

/// A node that is alive, as elections see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its current registration.
    pub epoch: BrokerEpoch,
    /// Whether it is about to stop: it leads only if nobody else can.
    pub stopping: bool,
}

/// The registration of a new partition: the first replica that is alive leads, all that are alive are in sync.
/// `None` when none is.
pub(super) fn first_registration(
    replicas: &[NodeId],
    alive: impl Fn(NodeId) -> Option<Candidate>,
) -> Option<PartitionRegistration> {
    let isr: Vec<NodeId> = replicas.iter().copied().filter(|&replica| alive(replica).is_some()).collect();
    let stays = |replica: &NodeId| alive(*replica).is_some_and(|candidate| !candidate.stopping);
    let leader = isr.iter().copied().find(stays).or_else(|| isr.first().copied())?;
    Some(PartitionRegistration {
        replicas: replicas.to_vec(),
        isr,
        elr: Vec::new(),
        leader: Some(leader),
        leader_broker_epoch: alive(leader).map(|candidate| candidate.epoch),
        leader_epoch: crate::ids::LeaderEpoch::FIRST,
        partition_epoch: crate::ids::PartitionEpoch::FIRST,
        last_leader: Some(leader),
        reassignment: None,
    })
}

/// Elects anew: a member of the ISR that is alive, else of the ELR, in the order of the replicas. Where both are empty
/// the last leader may, if it still has its data folder. Otherwise nobody leads.
///
/// A node that is stopping is elected only where there is no other, and keeps then what it has.
///
/// `minimum` is how many in-sync replicas acks=all needs. Does nothing when the same node leads on in the same
/// registration, or nobody led and nobody can.
pub(super) fn elect(
    partition: &mut PartitionRegistration,
    minimum: usize,
    alive: impl Fn(NodeId) -> Option<Candidate>,
) {
    let candidate = |eligible: &[NodeId]| {
        let candidates = || {
            let eligible = partition.replicas.iter().filter(|replica| eligible.contains(replica));
            eligible.filter_map(|&replica| alive(replica).map(|candidate| (replica, candidate)))
        };
        let staying = candidates().find(|(_, candidate)| !candidate.stopping);
        staying
            .or_else(|| candidates().find(|(replica, _)| partition.leader == Some(*replica)))
            .or_else(|| candidates().next())
    };
    let elected = candidate(&partition.isr).or_else(|| candidate(&partition.elr)).or_else(|| {
        let nobody_eligible = partition.isr.is_empty() && partition.elr.is_empty();
        candidate(partition.last_leader.as_slice()).filter(|_| nobody_eligible)
    });
    let elected = elected.map(|(leader, candidate)| (leader, candidate.epoch));
    if elected == partition.leader.zip(partition.leader_broker_epoch) {
        return;
    }
    lead(partition, elected);
    settle_eligible(partition, minimum);
}

/// Gives the leadership to the first replica, if it is alive, stays, and is in sync (KIP-460).
pub(super) fn elect_preferred(
    partition: &mut PartitionRegistration,
    minimum: usize,
    alive: impl Fn(NodeId) -> Option<Candidate>,
) -> Result<(), Refused> {
    let preferred = partition.replicas.first().copied().filter(|replica| partition.isr.contains(replica));
    let (preferred, candidate) = preferred
        .and_then(|replica| alive(replica).map(|candidate| (replica, candidate)))
        .ok_or(Refused::PreferredLeaderNotAvailable)?;
    if partition.leader == Some(preferred) {
        return Err(Refused::ElectionNotNeeded);
    }
    if candidate.stopping {
        return Err(Refused::PreferredLeaderNotAvailable);
    }
    lead(partition, Some((preferred, candidate.epoch)));
    settle_eligible(partition, minimum);
    Ok(())
}

/// Rule 11: where nobody leads, lets a replica lead whose log may lack acknowledged records: who led last if it is
/// alive, else the first that is. The others start over from what it has.
pub(super) fn elect_unclean(
    partition: &mut PartitionRegistration,
    alive: impl Fn(NodeId) -> Option<Candidate>,
) -> Result<(), Refused> {
    if partition.leader.is_some() {
        return Err(Refused::ElectionNotNeeded);
    }
    let last = partition.last_leader.filter(|last| partition.replicas.contains(last));
    let order = last.into_iter().chain(partition.replicas.iter().copied());
    let mut candidates = order.filter_map(|replica| alive(replica).map(|candidate| (replica, candidate.epoch)));
    let elected = candidates.next().ok_or(Refused::EligibleLeadersNotAvailable)?;
    partition.elr.clear();
    lead(partition, Some(elected));
    Ok(())
}

/// Begins a leadership, or the time without one. A leader from outside the ISR is the whole ISR.
fn lead(partition: &mut PartitionRegistration, elected: Option<(NodeId, BrokerEpoch)>) {
    partition.leader = elected.map(|(leader, _)| leader);
    partition.leader_broker_epoch = elected.map(|(_, epoch)| epoch);
    partition.leader_epoch = partition.leader_epoch.next();
    if let Some((leader, _)) = elected {
        partition.last_leader = Some(leader);
        if !partition.isr.contains(&leader) {
            partition.isr = vec![leader];
            partition.elr.retain(|&eligible| eligible != leader);
        }
    }
}

/// Whether the node is all that may lead.
pub(super) fn is_last_copy(partition: &PartitionRegistration, node: NodeId) -> bool {
    let mut eligible = partition.isr.iter().chain(&partition.elr).peekable();
    if eligible.peek().is_none() {
        return partition.last_leader == Some(node);
    }
    eligible.all(|&eligible| eligible == node)
}

/// Replaces the ISR. Members that leave stay eligible as leaders while the rest is below the minimum.
pub(super) fn replace_isr(partition: &mut PartitionRegistration, isr: Vec<NodeId>, minimum: usize) {
    let left: Vec<NodeId> = partition.isr.iter().copied().filter(|member| !isr.contains(member)).collect();
    partition.elr.retain(|eligible| !isr.contains(eligible));
    partition.isr = isr;
    partition.elr.extend(left);
    settle_eligible(partition, minimum);
}

/// Takes a node whose log may lack acknowledged records out of the ISR and the eligible leaders.
pub(super) fn disqualify(partition: &mut PartitionRegistration, node: NodeId) {
    partition.isr.retain(|&member| member != node);
    partition.elr.retain(|&eligible| eligible != node);
}

/// An ISR of the minimum size holds every acknowledged record, so nobody outside it needs to be eligible.
pub(super) fn settle_eligible(partition: &mut PartitionRegistration, minimum: usize) {
    if partition.isr.len() >= minimum {
        partition.elr.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LeaderEpoch;

    fn nodes(ids: &[i32]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId::new).collect()
    }

    fn alive(ids: &'static [i32]) -> impl Fn(NodeId) -> Option<Candidate> {
        stopping(ids, &[])
    }

    fn stopping(ids: &'static [i32], stopping: &'static [i32]) -> impl Fn(NodeId) -> Option<Candidate> {
        |node| {
            let epoch = BrokerEpoch::new(100 + i64::from(node.get()));
            ids.contains(&node.get()).then(|| Candidate { epoch, stopping: stopping.contains(&node.get()) })
        }
    }

    fn partition(isr: &[i32], elr: &[i32], leader: Option<i32>) -> PartitionRegistration {
        let mut partition = first_registration(&nodes(&[0, 1, 2]), alive(&[0, 1, 2])).expect("all are alive");
        partition.isr = nodes(isr);
        partition.elr = nodes(elr);
        partition.leader = leader.map(NodeId::new);
        partition.last_leader = partition.leader;
        partition
    }

    #[test]
    fn a_new_partition_is_led_by_its_first_replica_that_is_alive() {
        let partition = first_registration(&nodes(&[2, 0, 1]), alive(&[0, 1])).expect("two are alive");
        assert_eq!(partition.leader, Some(NodeId::new(0)));
        assert_eq!(partition.leader_broker_epoch, Some(BrokerEpoch::new(100)));
        assert_eq!(partition.isr, nodes(&[0, 1]));
        assert_eq!(partition.leader_epoch, LeaderEpoch::FIRST);
        assert_eq!(first_registration(&nodes(&[2]), alive(&[0, 1])), None);
    }

    #[test]
    fn rule_10_an_election_prefers_the_isr_then_the_elr_then_the_last_leader() {
        type Ids = &'static [i32];
        // (isr, elr, last leader, alive) → leader
        let cases: [(Ids, Ids, i32, Ids, Option<i32>); 6] = [
            (&[0, 1], &[2], 0, &[1, 2], Some(1)),
            (&[0], &[2], 0, &[1, 2], Some(2)),
            (&[0], &[], 0, &[1, 2], None),
            (&[], &[], 1, &[0, 1, 2], Some(1)),
            (&[], &[], 1, &[0, 2], None),
            (&[], &[2], 1, &[0, 1], None),
        ];
        for (isr, elr, last, alive_ids, leader) in cases {
            let mut partition = partition(isr, elr, Some(last));
            elect(&mut partition, 2, alive(alive_ids));
            assert_eq!(partition.leader, leader.map(NodeId::new), "{isr:?} {elr:?} {alive_ids:?}");
            assert_eq!(partition.leader_epoch, LeaderEpoch::new(1));
            if let Some(leader) = partition.leader {
                assert!(partition.isr.contains(&leader));
                assert!(!partition.elr.contains(&leader));
            }
        }
    }

    #[test]
    fn rule_10_a_leaver_is_eligible_only_while_the_rest_is_below_the_minimum() {
        let mut above = partition(&[0, 1, 2], &[], Some(0));
        replace_isr(&mut above, nodes(&[0, 1]), 2);
        assert_eq!(above.elr, nodes(&[]));
        replace_isr(&mut above, nodes(&[0]), 2);
        assert_eq!(above.elr, nodes(&[1]));
        replace_isr(&mut above, nodes(&[0, 2]), 2);
        assert_eq!(above.elr, nodes(&[]), "the minimum is reached again");
    }

    #[test]
    fn a_stopping_node_leads_only_what_nobody_else_can() {
        let mut moved = partition(&[0, 1, 2], &[], Some(0));
        elect(&mut moved, 2, stopping(&[0, 1, 2], &[0, 1]));
        assert_eq!(moved.leader, Some(NodeId::new(2)));
        let mut alone = partition(&[0], &[], Some(0));
        alone.leader_broker_epoch = Some(BrokerEpoch::new(100));
        let before = alone.clone();
        elect(&mut alone, 1, stopping(&[0, 1], &[0]));
        assert_eq!(alone, before, "it goes on in the same leadership");
        let mut both = partition(&[0, 1], &[], Some(1));
        both.leader_broker_epoch = Some(BrokerEpoch::new(101));
        let before = both.clone();
        elect(&mut both, 1, stopping(&[0, 1], &[0, 1]));
        assert_eq!(both, before, "it would only move to another that stops");
    }

    #[test]
    fn a_preferred_election_needs_the_first_replica_alive_and_in_sync() {
        let cases = [
            (partition(&[0, 1], &[], Some(1)), stopping(&[0, 1], &[]), Ok(())),
            (partition(&[0, 1], &[], Some(0)), stopping(&[0, 1], &[]), Err(Refused::ElectionNotNeeded)),
            (partition(&[1], &[0], Some(1)), stopping(&[0, 1], &[]), Err(Refused::PreferredLeaderNotAvailable)),
            (partition(&[0, 1], &[], Some(1)), stopping(&[0, 1], &[0]), Err(Refused::PreferredLeaderNotAvailable)),
        ];
        for (mut partition, alive, outcome) in cases {
            let before = partition.clone();
            assert_eq!(elect_preferred(&mut partition, 1, alive), outcome, "{before:?}");
            if outcome.is_ok() {
                assert_eq!(partition.leader, Some(NodeId::new(0)));
                assert_eq!(partition.leader_epoch, before.leader_epoch.next());
                assert_eq!(partition.isr, before.isr);
            } else {
                assert_eq!(partition, before);
            }
        }
    }

    #[test]
    fn rule_11_an_unclean_election_takes_who_led_last_and_only_where_nobody_leads() {
        let mut led = partition(&[0], &[], Some(0));
        assert_eq!(elect_unclean(&mut led, alive(&[0, 1])), Err(Refused::ElectionNotNeeded));
        let offline = |last: i32| {
            let mut offline = partition(&[], &[0], None);
            offline.last_leader = Some(NodeId::new(last));
            offline
        };
        assert_eq!(elect_unclean(&mut offline(0), alive(&[])), Err(Refused::EligibleLeadersNotAvailable));
        for (last, leader) in [(2, 2), (0, 1)] {
            let mut partition = offline(last);
            assert_eq!(elect_unclean(&mut partition, alive(&[1, 2])), Ok(()));
            assert_eq!(partition.leader, Some(NodeId::new(leader)));
            assert_eq!((partition.isr, partition.elr), (nodes(&[leader]), nodes(&[])));
        }
    }

    #[test]
    fn an_election_without_a_candidate_changes_nothing_twice() {
        let mut offline = partition(&[0], &[], None);
        let before = offline.clone();
        elect(&mut offline, 1, alive(&[1, 2]));
        assert_eq!(offline, before);
    }
}
