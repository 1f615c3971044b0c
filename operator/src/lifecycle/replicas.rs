//! How large each StatefulSet is: never smaller than a node that holds something.

use std::collections::BTreeMap;

use super::situation::{Pool, Situation};

/// The replicas of each pool, and from which ordinal on its nodes are surplus.
pub(super) fn sizes(situation: &Situation) -> (BTreeMap<String, i32>, BTreeMap<String, i32>) {
    let mut replicas = BTreeMap::new();
    let mut surplus = BTreeMap::new();
    for pool in &situation.pools {
        let size = pool.wanted.max(floor(situation, pool));
        replicas.insert(pool.name.clone(), size);
        if let Some(from) = surplus_from(situation, pool, size) {
            surplus.insert(pool.name.clone(), from);
        }
    }
    (replicas, surplus)
}

/// One more than the highest ordinal that must have a pod. While the cluster can't say who holds what, nothing shrinks.
fn floor(situation: &Situation, pool: &Pool) -> i32 {
    let present = situation.nodes.values().filter(|node| node.pool == pool.name);
    let known = pool.current.unwrap_or_else(|| {
        // The StatefulSet is gone, its pods are not.
        present.filter(|node| node.pod.is_some()).map(|node| node.ordinal + 1).max().unwrap_or(0)
    });
    let Some(brokers) = &situation.brokers else { return known };
    let registered = brokers.nodes.keys().filter_map(|id| situation.place(*id).filter(|(at, _)| at.name == pool.name));
    let highest = registered.map(|(_, ordinal)| ordinal + 1).max().unwrap_or(0).max(known);
    let releases = |ordinal: i32| situation.is_released(pool.node(ordinal));
    let held = (0..highest).rev().find(|ordinal| !releases(*ordinal));
    // A node that was released, and whose pod is gone already, needs none again.
    held.map_or(0, |ordinal| ordinal + 1)
}

/// Where the surplus begins; it stays noted until no drain from there on is left to be cancelled.
fn surplus_from(situation: &Situation, pool: &Pool, size: i32) -> Option<i32> {
    let noted = pool.surplus_from;
    if size > pool.wanted || pool.current.is_some_and(|current| current > pool.wanted) {
        return Some(noted.map_or(pool.wanted, |noted| noted.min(pool.wanted)));
    }
    noted.filter(|from| {
        situation.brokers.as_ref().is_none_or(|brokers| {
            brokers.nodes.iter().any(|(id, node)| {
                let here = situation.place(*id).is_some_and(|(at, ordinal)| at.name == pool.name && ordinal >= *from);
                here && node.draining
            })
        })
    })
}
