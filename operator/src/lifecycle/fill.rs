//! Nodes that were added are filled, where `spec.rebalance` is `OnScale`: once, when all of them have joined.
//!
//! What is still to be filled is noted on the StatefulSet in the same write that makes it larger, and stays there until
//! the moves are done. Who is filled twice, because an operator died in between, gets nothing the second time.

use std::collections::BTreeMap;

use super::decision::{Say, Step};
use super::situation::{Fill, Pool, Situation};

const KIND: &str = "ScaleUp";

/// What is to be noted on each pool's StatefulSet.
pub(super) fn notes(situation: &Situation) -> BTreeMap<String, Fill> {
    let noted = |pool: &Pool| Some((pool.name.clone(), note(situation, pool)?));
    situation.pools.iter().filter_map(noted).collect()
}

/// From which ordinal on a pool's nodes are to be filled, and whether that was begun. A pool of a cluster that is still
/// forming has nothing to be moved; one that is made smaller leaves the rest to its drains.
fn note(situation: &Situation, pool: &Pool) -> Option<Fill> {
    if !situation.rebalances || !situation.formed {
        return None;
    }
    if let Some(from) = added_from(situation, pool) {
        let from = pool.fill.map_or(from, |fill| fill.from.min(from));
        return Some(Fill { from, begun: false });
    }
    let fill = pool.fill.filter(|fill| fill.from < pool.wanted)?;
    let begun = fill.begun || is_begun(situation, pool, fill);
    let done = begun && situation.brokers.is_some() && arriving(situation, ids(pool, fill)) == 0;
    (!done).then_some(Fill { begun, ..fill })
}

/// The lowest ordinal that is being added now: one beyond the StatefulSet's size that never joined, or one whose drain is
/// to be cancelled.
fn added_from(situation: &Situation, pool: &Pool) -> Option<i32> {
    let joined = |id| match &situation.brokers {
        Some(_) => situation.registration(id).is_some_and(|node| node.registered),
        // While nobody can say who has joined: who has a volume was there before.
        None => situation.nodes.get(&id).is_some_and(|node| node.claim.is_some()),
    };
    let new = (pool.current.unwrap_or(0)..pool.wanted).find(|ordinal| !joined(pool.node(*ordinal)));
    let drained = |ordinal: &i32| is_drained(situation, pool.node(*ordinal));
    let again = pool.surplus_from.and_then(|from| (from..pool.wanted).find(drained));
    new.into_iter().chain(again).min()
}

fn ids(pool: &Pool, fill: Fill) -> impl Iterator<Item = i32> {
    (fill.from..pool.wanted).map(|ordinal| pool.node(ordinal))
}

/// How many replicas are on their way to these nodes. What else moves in the cluster is somebody else's.
fn arriving(situation: &Situation, nodes: impl Iterator<Item = i32>) -> u32 {
    nodes.filter_map(|id| situation.registration(id)).map(|node| node.adding).sum()
}

/// What is being drained is not to be filled.
fn is_drained(situation: &Situation, id: i32) -> bool {
    situation.registration(id).is_some_and(|node| node.draining)
}

/// Whether all nodes of a note were filled by this operator, which has not noted it yet.
fn is_begun(situation: &Situation, pool: &Pool, fill: Fill) -> bool {
    situation.brokers.is_some() && ids(pool, fill).all(|id| situation.filled.contains(&id) || is_drained(situation, id))
}

/// Fills all nodes that are noted, at once, when the last of them serves.
pub(super) fn fill(situation: &Situation, notes: &BTreeMap<String, Fill>) -> Say {
    let Some(brokers) = &situation.brokers else { return Say::Nothing };
    let noted = situation.pools.iter().filter_map(|pool| notes.get(&pool.name).map(|fill| (pool, *fill)));
    let (mut nodes, mut begun) = (Vec::new(), Vec::new());
    for (pool, fill) in noted {
        let wanted = ids(pool, fill).filter(|id| !is_drained(situation, *id));
        if fill.begun { begun.extend(wanted) } else { nodes.extend(wanted) }
    }
    let listed = |nodes: &[i32]| nodes.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
    if !nodes.is_empty() {
        let serves = |id: &i32| brokers.nodes.contains_key(id) && !situation.is_down(*id);
        if !nodes.iter().all(serves) {
            return Say::under_way(KIND, format!("waits for nodes {}, which are to get partitions", listed(&nodes)));
        }
        let words = format!("has nodes {} take their share of partitions", listed(&nodes));
        return Say::step(KIND, words, Step::Fill(nodes));
    }
    if begun.is_empty() {
        return Say::Nothing;
    }
    let arriving = arriving(situation, begun.iter().copied());
    Say::under_way(KIND, format!("moves partitions to nodes {}: {arriving} are on their way", listed(&begun)))
}
