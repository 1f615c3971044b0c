//! More nodes, fewer nodes. A node leaves in this order, each decided from what is: drained (kept in Raft), without a vote,
//! its pod gone (see [`super::replicas`]), unregistered, its volume kept or deleted.

use super::decision::{Say, Step};
use super::situation::{Pool, Situation};

const DOWN: &str = "ScaleDown";
const UP: &str = "ScaleUp";

/// Registered nodes of a pool from an ordinal on: ordinal and id, the highest first.
fn registered_from<'a>(situation: &'a Situation, pool: &'a Pool, from: i32) -> Vec<(i32, i32)> {
    let Some(brokers) = &situation.brokers else { return Vec::new() };
    let here = |id: &i32| situation.place(*id).filter(|(at, ordinal)| at.name == pool.name && *ordinal >= from);
    let mut found: Vec<(i32, i32)> =
        brokers.nodes.keys().filter_map(|id| here(id).map(|(_, ordinal)| (ordinal, *id))).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

/// Drains that were begun for nodes that are wanted again. Drains that somebody else began are left alone.
pub(super) fn cancelled(situation: &Situation) -> Say {
    let Some(brokers) = &situation.brokers else { return Say::Nothing };
    for pool in &situation.pools {
        let Some(from) = pool.surplus_from else { continue };
        let again = registered_from(situation, pool, from)
            .into_iter()
            .find(|(ordinal, id)| *ordinal < pool.wanted && brokers.nodes[id].draining);
        if let Some((_, id)) = again {
            return Say::step(UP, format!("cancels the drain of node {id}"), Step::CancelDrain(id));
        }
    }
    Say::Nothing
}

/// Surplus nodes are emptied, the highest ordinals first: all of them are told at once, so that nothing moves twice.
pub(super) fn drain(situation: &Situation) -> Say {
    let Some(brokers) = &situation.brokers else { return Say::Nothing };
    let mut left = 0;
    let mut draining = Vec::new();
    for pool in &situation.pools {
        for (_, id) in registered_from(situation, pool, pool.wanted) {
            let node = brokers.nodes[&id];
            if node.registered && !node.draining {
                return Say::step(DOWN, format!("begins to drain node {id}"), Step::Drain(id));
            }
            if node.replicas > 0 {
                left += node.replicas;
                draining.push(id.to_string());
            }
        }
    }
    if draining.is_empty() {
        return Say::Nothing;
    }
    Say::under_way(DOWN, format!("drains node {}: {left} replicas are left", draining.join(", ")))
}

/// The StatefulSet is being made smaller, or a pod is on its way out: until it is gone its node is still to be removed.
pub(super) fn shrink(situation: &Situation) -> Say {
    let has_pods = |pool: &Pool| {
        let mut own = situation.nodes.values().filter(|node| node.pool == pool.name);
        own.any(|node| node.ordinal >= pool.wanted && node.pod.is_some())
    };
    let surplus =
        situation.pools.iter().find(|pool| pool.current.is_some_and(|current| current > pool.wanted) || has_pods(pool));
    match surplus {
        Some(pool) if situation.brokers.is_some() => {
            Say::under_way(DOWN, format!("removes the last pods of pool {}", pool.name))
        }
        _ => Say::Nothing,
    }
}

/// Nodes whose pods are gone for good are taken out of the cluster.
pub(super) fn remove(situation: &Situation) -> Say {
    let Some(brokers) = &situation.brokers else { return Say::Nothing };
    for pool in &situation.pools {
        let Some(current) = pool.current else { continue };
        for (_, id) in registered_from(situation, pool, current.max(pool.wanted)) {
            if !situation.is_released(id) || situation.nodes.get(&id).is_some_and(|node| node.pod.is_some()) {
                continue;
            }
            let node = brokers.nodes[&id];
            if node.registered && !node.fenced {
                return Say::wait(DOWN, format!("waits until the stop of node {id} is noticed"));
            }
            return Say::step(DOWN, format!("takes node {id} out of the cluster"), Step::Remove(id));
        }
    }
    Say::Nothing
}

/// Nodes that have been added and have not joined yet.
pub(super) fn joining(situation: &Situation) -> Say {
    let Some(brokers) = &situation.brokers else { return Say::Nothing };
    let all: i32 = situation.pools.iter().map(|pool| pool.wanted).sum();
    let joined = brokers.nodes.iter().filter(|(id, node)| node.registered && situation.is_wanted(**id)).count();
    let all = usize::try_from(all).unwrap_or(0);
    if joined >= all {
        return Say::Nothing;
    }
    Say::under_way(UP, format!("waits for {} nodes to join", all - joined)).progress(joined, all)
}
