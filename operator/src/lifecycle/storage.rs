//! Volumes: they grow, a lost one is replaced when a person says so, and those that are no longer used go if they may.

use std::cmp::Ordering;

use super::decision::{ClaimRef, Say, Step};
use super::roll::dead_reference;
use super::situation::{Claim, Pool, Situation};
use crate::crd::DeletionPolicy;
use crate::quantity;

const GROWTH: &str = "VolumeGrowth";
const REPLACEMENT: &str = "VolumeReplacement";

fn reference(claim: &Claim) -> ClaimRef {
    ClaimRef { name: claim.name.clone(), uid: claim.uid.clone() }
}

fn is_smaller(size: &str, wanted: &str) -> bool {
    quantity::compare(size, wanted) == Some(Ordering::Less)
}

/// Claims first, then the StatefulSet's template, so that pods that are added have volumes of the new size.
pub(super) fn grow(situation: &Situation) -> Say {
    let mut said = Say::Nothing;
    for pool in &situation.pools {
        said = said.or_else(|| grow_pool(situation, pool));
    }
    said
}

fn grow_pool(situation: &Situation, pool: &Pool) -> Say {
    let own = situation.nodes.values().filter(|node| node.pool == pool.name).filter_map(|node| node.claim.as_ref());
    let small: Vec<ClaimRef> =
        own.filter(|claim| !claim.terminating && is_smaller(&claim.size, &pool.size)).map(reference).collect();
    if !small.is_empty() {
        if pool.expandable == Some(false) {
            let message = format!(
                "The volumes of pool {} can't grow to {}: their storage class does not allow it (allowVolumeExpansion). Give \
                 the former size back, or add a pool with larger volumes and remove this one: it is drained first.",
                pool.name, pool.size
            );
            return Say::problem(GROWTH, "VolumeCannotGrow", message);
        }
        let words = format!("grows {} volumes of pool {} to {}", small.len(), pool.name, pool.size);
        return Say::step(GROWTH, words, Step::GrowClaims { claims: small, size: pool.size.clone() });
    }
    let differs = |size: &String| !quantity::same(size, &pool.size);
    // What is noted on it would be lost.
    if pool.template_size.as_ref().is_some_and(differs) && pool.fill.is_none() {
        let words = format!("makes the StatefulSet of pool {} anew, without touching its pods", pool.name);
        return Say::step(GROWTH, words, Step::RecreateStatefulSet { pool: pool.name.clone() });
    }
    Say::Nothing
}

/// A node whose volume is given up and whose broker does not run: there is nothing to move away from it. The cluster must
/// have a leader, which can tell that the others are there; one that is alone has none.
pub(super) fn replace_dead(situation: &Situation) -> Say {
    for id in situation.lost_volumes() {
        let node = &situation.nodes[&id];
        let Some(pod) = node.pod.as_ref().filter(|pod| !pod.running) else { continue };
        let alone = situation.nodes.len() == 1;
        let others_serve = situation.brokers.is_some() && situation.down().iter().all(|other| *other == id);
        if !alone && !others_serve {
            let message = format!(
                "The volume of node {id} is not replaced while other nodes are down, or nobody leads the metadata: it may \
                 hold the last copy of something. Bring the others back first."
            );
            return Say::problem(REPLACEMENT, "VolumeNeeded", message);
        }
        if let Some(claim) = node.claim.as_ref().filter(|claim| !claim.terminating) {
            let words = format!("gives up the volume of node {id}");
            return Say::step(REPLACEMENT, words, Step::DeleteClaim(reference(claim)));
        }
        let pods = vec![dead_reference(id, pod)];
        return Say::step(REPLACEMENT, format!("replaces {}", pod.name), Step::ReplaceDead(pods));
    }
    Say::Nothing
}

/// Volumes of nodes that are gone, under a policy that says so, and only while the cluster can say that they are.
pub(super) fn unused(situation: &Situation) -> Say {
    let Some(brokers) = &situation.brokers else { return Say::Nothing };
    if situation.deletion_policy != DeletionPolicy::Delete {
        return Say::Nothing;
    }
    let mut going = Say::Nothing;
    for (id, node) in &situation.nodes {
        let Some(claim) = &node.claim else { continue };
        let Some(pool) = situation.pool(&node.pool) else { continue };
        let used = node.ordinal < pool.wanted.max(pool.current.unwrap_or(i32::MAX));
        if used || node.pod.is_some() || brokers.nodes.contains_key(id) {
            continue;
        }
        if claim.terminating {
            going = Say::under_way("ScaleDown", format!("waits until the volume of node {id} is gone"));
            continue;
        }
        return Say::step("ScaleDown", format!("deletes the volume of node {id}"), Step::DeleteClaim(reference(claim)));
    }
    going
}
