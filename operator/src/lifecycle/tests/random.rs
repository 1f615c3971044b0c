//! Whatever is observed: never two nodes down by the operator's hand, never a StatefulSet smaller than who holds something,
//! never a step on what belongs to somebody else.

use proptest::prelude::*;

use super::fixture::*;
use crate::lifecycle::{Fill, Grant, Node, Pool, Registered, Situation, Step, decide};

prop_compose! {
    fn any_registered()(
        flags in prop::array::uniform5(any::<bool>()),
        replicas in prop_oneof![Just(0_u32), Just(3)],
        adding in 0_u32..3,
    ) -> Registered {
        let [registered, fenced, draining, votes, settled] = flags;
        Registered {
            registered,
            fenced: registered && fenced && settled,
            draining: registered && draining,
            replicas: if registered { replicas } else { 0 },
            adding: if registered { adding.min(replicas) } else { 0 },
            wants_vote: votes,
            votes: votes == settled,
        }
    }
}

prop_compose! {
    fn any_node(id: i32)(
        has_pod in prop::bool::weighted(0.9),
        has_claim in prop::bool::weighted(0.9),
        outdated in any::<bool>(),
        state in 0..6,
        marked in prop::bool::weighted(0.1),
        answers in any::<bool>(),
        wrong in prop::bool::weighted(0.02),
    ) -> Node {
        let mut it = node("main", id, id);
        if let Some(pod) = &mut it.pod {
            pod.hash = Some(if outdated { OLD } else { NEW }.to_owned());
            pod.running = state != 0;
            pod.ready = state > 1;
            pod.terminating = state == 2;
            pod.replace_volume = marked;
            if !answers {
                pod.report = None;
            } else if wrong && let Some(report) = &mut pod.report {
                report.node_id += 1;
            }
        }
        it.pod = it.pod.filter(|_| has_pod);
        it.claim = it.claim.filter(|_| has_claim);
        it
    }
}

fn any_situation() -> impl Strategy<Value = Situation> {
    let nodes = (any_node(0), any_node(1), any_node(2), any_node(3), any_node(4));
    let known = prop::collection::btree_map(0..6_i32, any_registered(), 0..6);
    let fill = prop::option::of((0..6_i32, any::<bool>()));
    let numbers = (0..6_i32, prop::option::of(0..6_i32), prop::option::of(0..5_i32), 0..5_i32, 0..3_usize, fill);
    let cluster = (prop::bool::weighted(0.8), prop::option::of((0..5_i32, 0..2_u32)), prop_oneof![Just(0), Just(2)]);
    (nodes, known, numbers, cluster).prop_map(|(nodes, known, numbers, (led, grant, under_replicated))| {
        let (wanted, current, surplus_from, leader, voters, fill) = numbers;
        let fill = fill.map(|(from, begun)| Fill { from, begun });
        let mut situation = settled(5);
        let nodes = [nodes.0, nodes.1, nodes.2, nodes.3, nodes.4];
        situation.nodes = nodes.into_iter().map(|node| (node.ordinal, node)).collect();
        situation.pools = vec![Pool { wanted, current, surplus_from, fill, ..situation.pools[0].clone() }];
        situation.rebalances = fill.is_some();
        situation.voters = voters * 2 + 1;
        let brokers = situation.raft();
        brokers.leader = leader;
        brokers.nodes = known;
        brokers.under_replicated = under_replicated;
        brokers.grant = grant.map(|(node, leaders_left)| Grant { node, leaders_left });
        situation.brokers = situation.brokers.filter(|_| led);
        situation
    })
}

/// Whether a node serves, as far as anybody can tell.
fn serves(situation: &Situation, id: i32) -> bool {
    let known = situation.brokers.as_ref().and_then(|brokers| brokers.nodes.get(&id));
    let pod = situation.nodes.get(&id).and_then(|node| node.pod.as_ref());
    known.is_some_and(|known| known.registered && !known.fenced) && pod.is_some_and(|pod| pod.ready && !pod.terminating)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn never_two_nodes_down_by_the_operators_hand(situation in any_situation()) {
        let decision = decide(&situation);
        let Some(down) = decision.step.as_ref().and_then(Step::takes_down) else { return Ok(()) };
        let Some(brokers) = &situation.brokers else {
            // Without a leader nobody is served: only a pod that is not ready may go.
            let pod = situation.nodes[&down].pod.as_ref().expect("a pod that goes is there");
            prop_assert!(!pod.ready);
            return Ok(());
        };
        if !serves(&situation, down) {
            return Ok(());
        }
        // What is empty and about to be removed takes no part in anything.
        for other in brokers.nodes.keys().filter(|id| **id != down && situation.nodes.contains_key(id)) {
            prop_assert!(
                serves(&situation, *other) || situation.is_released(*other),
                "{down} goes while {other} is down: {:?}", decision
            );
        }
        if matches!(decision.step, Some(Step::Evict(_))) {
            prop_assert_eq!(brokers.grant, Some(Grant { node: down, leaders_left: 0 }), "who serves goes by a grant");
        } else {
            prop_assert_eq!(brokers.grant, None);
            prop_assert_eq!(brokers.under_replicated, 0);
        }
    }

    #[test]
    fn only_pods_without_a_running_broker_go_without_a_question(situation in any_situation()) {
        if let Some(Step::ReplaceDead(pods)) = decide(&situation).step {
            for pod in pods {
                let seen = situation.nodes[&pod.node].pod.as_ref().expect("a pod that goes is there");
                prop_assert!(!seen.running && pod.uid == seen.uid);
                prop_assert_eq!(pod.resource_version.as_ref(), Some(&seen.resource_version));
            }
        }
    }

    #[test]
    fn a_stateful_set_is_never_smaller_than_who_holds_something(situation in any_situation()) {
        let decision = decide(&situation);
        let pool = &situation.pools[0];
        let size = decision.replicas[&pool.name];
        prop_assert!(size >= pool.wanted);
        let Some(brokers) = &situation.brokers else {
            prop_assert!(size >= pool.current.unwrap_or(0), "with Raft out of reach nothing shrinks");
            return Ok(());
        };
        for (id, node) in &brokers.nodes {
            let Some((_, ordinal)) = situation.place(*id) else { continue };
            let holds = (node.registered && (!node.draining || node.replicas > 0)) || node.votes || node.wants_vote;
            prop_assert!(!holds || ordinal < size, "node {id} holds something, and would have no pod");
        }
    }

    #[test]
    fn nothing_is_done_to_what_belongs_to_nobody_known(situation in any_situation()) {
        let decision = decide(&situation);
        let Some(step) = decision.step else { return Ok(()) };
        let node = match &step {
            Step::PrepareStop(node) | Step::Drain(node) | Step::CancelDrain(node) | Step::Promote(node)
            | Step::Demote(node) | Step::Remove(node) => Some(*node),
            Step::Evict(pod) => Some(pod.node),
            _ => None,
        };
        prop_assert!(node.is_none_or(|node| situation.nodes.contains_key(&node)));
        match step {
            Step::Drain(node) => prop_assert!(!situation.is_wanted(node), "who is wanted is not drained"),
            Step::Fill(nodes) => {
                let joined = |id: &i32| situation.is_wanted(*id) && serves(&situation, *id);
                prop_assert!(nodes.iter().all(joined), "{nodes:?}");
            }
            Step::Remove(node) => {
                prop_assert!(situation.is_released(node) && situation.nodes[&node].pod.is_none());
            }
            Step::DeleteClaim(claim) => {
                let marked = situation.lost_volumes();
                let is_it = |node: &Node| node.claim.as_ref().is_some_and(|it| it.uid == claim.uid);
                let of = situation.nodes.iter().find(|(_, node)| is_it(node));
                prop_assert!(of.is_some_and(|(id, _)| marked.contains(id)), "a volume goes only when a person says so");
            }
            _ => {}
        }
    }

    #[test]
    fn a_wrong_identity_stops_everything(situation in any_situation()) {
        let wrong = situation.nodes.iter().any(|(id, node)| {
            node.pod.as_ref().and_then(|pod| pod.report.as_ref()).is_some_and(|report| report.node_id != *id)
        });
        if wrong {
            let decision = decide(&situation);
            prop_assert!(decision.step.is_none() && !decision.problems.is_empty() && decision.max_unavailable == 0);
        }
    }
}
