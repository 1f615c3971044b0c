//! Replacing pods that are not what they should be, one node at a time; and raising the cluster's version afterwards.
//!
//! A node that serves is stopped in three steps, each decided from what is: the cluster grants the stop (one at a time, and
//! only while nothing is lost by it) and moves leaders away; the pod is evicted; the next one waits until the node is back
//! in every ISR.

use std::collections::BTreeSet;

use super::decision::{ClaimRef, PodRef, Say, Step};
use super::situation::{Brokers, Node, Pod, Situation};

pub(super) const ROLL: &str = "Roll";

fn reference(id: i32, pod: &Pod, as_seen: bool) -> PodRef {
    PodRef {
        node: id,
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        resource_version: as_seen.then(|| pod.resource_version.clone()),
    }
}

/// A pod that was seen without a running broker: evicting it stops nobody, provided it has not changed since.
pub(super) fn dead_reference(id: i32, pod: &Pod) -> PodRef {
    reference(id, pod, true)
}

/// Outdated pods without a running broker: replaced at once and together. They serve nobody, so nothing is waited for: a
/// bad first image, or a bad new one, heals when the spec is corrected.
pub(super) fn dead(situation: &Situation) -> Say {
    let dead = |(id, node): (&i32, &Node)| {
        let pod = node.pod.as_ref().filter(|pod| !pod.running && situation.is_outdated(node))?;
        Some(reference(*id, pod, true))
    };
    let pods: Vec<PodRef> = situation.nodes.iter().filter_map(dead).collect();
    if pods.is_empty() {
        return Say::Nothing;
    }
    let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
    let words = format!("replaces {}, whose brokers don't run", names.join(", "));
    progress(situation, Say::step(ROLL, words, Step::ReplaceDead(pods)))
}

/// Without a Raft leader nobody can say what is safe, and nobody is served either: outdated pods that are not ready are
/// replaced one by one, each when the one before runs. So a lost quorum heals by correcting the spec.
pub(super) fn without_leader(situation: &Situation) -> Say {
    if situation.brokers.is_some() {
        return Say::Nothing;
    }
    let outdated = situation.outdated();
    if outdated.is_empty() {
        let kind = if situation.formed { "Recover" } else { "Form" };
        return if situation.nodes.values().any(|node| node.pod.is_some())
            || situation.pools.iter().any(|p| p.wanted > 0)
        {
            Say::under_way(kind, "waits for a Raft leader: a majority of the voters must run")
        } else {
            Say::Nothing
        };
    }
    let in_between = |node: &&Node| node.pod.as_ref().is_none_or(|pod| pod.terminating || !pod.running);
    let expected = situation.nodes.values().filter(|node| {
        situation.pool(&node.pool).and_then(|pool| pool.current).is_some_and(|current| node.ordinal < current)
    });
    if let Some(waited) = expected.clone().find(in_between) {
        let words = format!("without a Raft leader; waits until pod {}-{} runs", waited.pool, waited.ordinal);
        return progress(situation, Say::wait(ROLL, words));
    }
    let unready = outdated.iter().find_map(|id| {
        let pod = situation.nodes[id].pod.as_ref().filter(|pod| !pod.ready)?;
        Some(reference(*id, pod, false))
    });
    let say = match unready {
        Some(pod) => {
            let words = format!("replaces {}, which is not ready, without a Raft leader", pod.name);
            Say::step(ROLL, words, Step::Evict(pod))
        }
        None => Say::wait(ROLL, "waits for a Raft leader: without one nobody can say which node may stop"),
    };
    progress(situation, say)
}

/// The next step of replacing outdated pods, and those whose volume is to be replaced.
pub(super) fn roll(situation: &Situation) -> Say {
    let Some(brokers) = &situation.brokers else { return Say::Nothing };
    let lost = situation.lost_volumes();
    let mut stopping = situation.outdated();
    stopping.extend(&lost);
    let kind = if lost.is_empty() { ROLL } else { "VolumeReplacement" };
    if let Some(grant) = brokers.grant {
        if !situation.nodes.contains_key(&grant.node) {
            return Say::wait(kind, format!("waits: node {} has the grant to stop", grant.node));
        }
        return progress(situation, granted(situation, brokers, kind, &stopping, &lost));
    }
    if stopping.is_empty() {
        return waits_for_nodes(situation);
    }
    progress(situation, begin(situation, brokers, kind, &stopping))
}

/// A stop is granted: evict, or wait until the node is back.
fn granted(
    situation: &Situation,
    brokers: &Brokers,
    kind: &'static str,
    stopping: &BTreeSet<i32>,
    lost: &BTreeSet<i32>,
) -> Say {
    let grant = brokers.grant.expect("the caller has seen the grant");
    let id = grant.node;
    let node = &situation.nodes[&id];
    let serving = node.pod.as_ref().filter(|pod| !pod.terminating && stopping.contains(&id));
    let Some(pod) = serving else {
        return Say::wait(kind, format!("waits until node {id} is back"));
    };
    // Whoever else went down after the grant was given: two at once would be one too many.
    if let Some(other) = situation.down().into_iter().find(|other| *other != id) {
        return Say::wait(kind, format!("waits: node {other} is down, too"));
    }
    if grant.leaders_left > 0 {
        return Say::wait(kind, format!("moves {} partition leaders away from node {id}", grant.leaders_left));
    }
    if brokers.leader == id && brokers.nodes.iter().any(|(other, node)| *other != id && node.votes && !node.fenced) {
        return Say::step(kind, format!("has another node than {id} lead the metadata"), Step::TransferRaftLeadership);
    }
    if lost.contains(&id)
        && let Some(claim) = node.claim.as_ref().filter(|claim| !claim.terminating)
    {
        let claim = ClaimRef { name: claim.name.clone(), uid: claim.uid.clone() };
        return Say::step(kind, format!("gives up the volume of node {id}"), Step::DeleteClaim(claim));
    }
    Say::step(kind, format!("evicts {}", pod.name), Step::Evict(reference(id, pod, false)))
}

/// Nothing is granted: ask for the next one, when all nodes are back.
fn begin(situation: &Situation, brokers: &Brokers, kind: &'static str, stopping: &BTreeSet<i32>) -> Say {
    let down = situation.down();
    // One that is outdated and does not take part is replaced without a grant: there is nothing to move away from it.
    let apart = stopping.iter().copied().find(|id| {
        let known = brokers.nodes.get(id);
        let takes_part = known.is_some_and(|known| known.registered && !known.fenced);
        !takes_part && brokers.leader != *id && situation.nodes[id].pod.as_ref().is_some_and(|pod| !pod.ready)
    });
    if let Some(id) = apart
        && down.iter().all(|other| *other == id)
        && let Some(pod) = &situation.nodes[&id].pod
    {
        return Say::step(
            kind,
            format!("replaces {}, which takes no part", pod.name),
            Step::Evict(reference(id, pod, false)),
        );
    }
    if let Some(first) = down.first() {
        return Say::wait(kind, format!("waits until node {first} is back"));
    }
    if brokers.under_replicated > 0 {
        return Say::wait(
            kind,
            format!("waits until {} partitions have all replicas in sync", brokers.under_replicated),
        );
    }
    // The Raft leader last: each other stop leaves it where it is.
    let registered = stopping.iter().copied().filter(|id| brokers.nodes.get(id).is_some_and(|node| node.registered));
    match registered.max_by_key(|id| (brokers.leader != *id, *id)) {
        Some(id) => Say::step(kind, format!("prepares node {id} for its stop"), Step::PrepareStop(id)),
        None => Say::wait(kind, "waits until the outdated nodes have joined the cluster"),
    }
}

/// Nothing to replace: but nothing else that takes nodes down, or moves data, begins while one is missing.
fn waits_for_nodes(situation: &Situation) -> Say {
    match situation.down().first() {
        Some(id) => Say::under_way("Recover", format!("waits until node {id} is back")),
        None => Say::Nothing,
    }
}

fn progress(situation: &Situation, say: Say) -> Say {
    let pods = situation.nodes.values().filter(|node| node.pod.is_some()).count();
    let outdated = situation.outdated().len();
    if outdated == 0 { say } else { say.progress(pods - outdated, pods) }
}

/// Once every node runs what it should, the cluster writes what all of them understand. Until then a half-done upgrade can
/// be rolled back.
pub(super) fn raise_version(situation: &Situation) -> Say {
    let Some(brokers) = &situation.brokers else { return Say::Nothing };
    if !situation.outdated().is_empty() || !situation.down().is_empty() {
        return Say::Nothing;
    }
    let supported = brokers.nodes.keys().map(|id| {
        let report = situation.nodes.get(id)?.pod.as_ref()?.report.as_ref()?;
        Some(report.supported_version)
    });
    let Some(lowest) = supported.collect::<Option<Vec<u32>>>().and_then(|all| all.into_iter().min()) else {
        return Say::Nothing;
    };
    if lowest <= brokers.cluster_version {
        return Say::Nothing;
    }
    let words = format!("raises the cluster's version from {} to {lowest}", brokers.cluster_version);
    Say::step("Upgrade", words, Step::SetClusterVersion(lowest))
}
