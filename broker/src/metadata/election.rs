//! Who may lead a partition, and what its ISR and its eligible leaders become: rules 1, 8, 10 and 14 of the
//! replication design (KIP-966).
//!
//! Each function changes one registration and leaves `partition_epoch` to its caller.

use super::topology::PartitionRegistration;
use crate::ids::{BrokerEpoch, NodeId};

/// The registration of a new partition: the first replica that is alive leads, all that are alive are in sync.
/// `None` when none is.
pub(super) fn first_registration(
    replicas: &[NodeId],
    alive: impl Fn(NodeId) -> Option<BrokerEpoch>,
) -> Option<PartitionRegistration> {
    let isr: Vec<NodeId> = replicas.iter().copied().filter(|&replica| alive(replica).is_some()).collect();
    let leader = *isr.first()?;
    Some(PartitionRegistration {
        replicas: replicas.to_vec(),
        isr,
        elr: Vec::new(),
        leader: Some(leader),
        leader_broker_epoch: alive(leader),
        leader_epoch: crate::ids::LeaderEpoch::FIRST,
        partition_epoch: crate::ids::PartitionEpoch::FIRST,
        last_leader: Some(leader),
        reassignment: None,
    })
}

/// Elects anew: a member of the ISR that is alive, else of the ELR, in the order of the replicas. Where both are empty
/// the last leader may, if it still has its data folder. Otherwise nobody leads.
///
/// `minimum` is how many in-sync replicas acks=all needs. Does nothing when nobody led and nobody can.
pub(super) fn elect(
    partition: &mut PartitionRegistration,
    minimum: usize,
    alive: impl Fn(NodeId) -> Option<BrokerEpoch>,
) {
    let candidate = |eligible: &[NodeId]| {
        let mut candidates = partition.replicas.iter().filter(|replica| eligible.contains(replica));
        candidates.find_map(|&replica| alive(replica).map(|epoch| (replica, epoch)))
    };
    let elected = candidate(&partition.isr).or_else(|| candidate(&partition.elr)).or_else(|| {
        let nobody_eligible = partition.isr.is_empty() && partition.elr.is_empty();
        candidate(partition.last_leader.as_slice()).filter(|_| nobody_eligible)
    });
    if elected.is_none() && partition.leader.is_none() {
        return;
    }
    partition.leader = elected.map(|(leader, _)| leader);
    partition.leader_broker_epoch = elected.map(|(_, epoch)| epoch);
    partition.leader_epoch = partition.leader_epoch.next();
    if let Some((leader, _)) = elected {
        partition.last_leader = Some(leader);
        if !partition.isr.contains(&leader) {
            partition.isr = vec![leader];
            partition.elr.retain(|&eligible| eligible != leader);
        }
        settle_eligible(partition, minimum);
    }
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

    fn alive(ids: &'static [i32]) -> impl Fn(NodeId) -> Option<BrokerEpoch> {
        |node| ids.contains(&node.get()).then(|| BrokerEpoch::new(100 + i64::from(node.get())))
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
    fn an_election_without_a_candidate_changes_nothing_twice() {
        let mut offline = partition(&[0], &[], None);
        let before = offline.clone();
        elect(&mut offline, 1, alive(&[1, 2]));
        assert_eq!(offline, before);
    }
}
