//! What happens next: pure, from what is observed and what is wanted.
//!
//! Nothing is remembered: each time all is decided anew from what *is*, so the operator may die at any step. At most one
//! step is taken at a time. Reading order: [`situation`], [`decide`], then [`storage`], [`roll`], [`settings`], [`scale`], [`fill`], [`voters`].

mod decision;
mod fill;
mod replicas;
mod roll;
mod scale;
mod settings;
mod situation;
mod storage;
#[cfg(test)]
mod tests;
mod voters;

pub use decision::{ClaimRef, Decision, Operation, PodRef, Problem, Step};
pub use situation::{Brokers, Claim, Fill, Grant, Node, Pod, Pool, Registered, Report, Settings, Situation};

use decision::Next;

/// Decides the one step that may be taken now, the sizes of the StatefulSets, and what is to be told.
pub fn decide(situation: &Situation) -> Decision {
    let (replicas, surplus_from) = replicas::sizes(situation);
    let mut decision = Decision { replicas, surplus_from, fill: fill::notes(situation), ..Decision::default() };
    decision.problems = wrong_identities(situation);
    let trusted = decision.problems.is_empty();
    // Growing a volume disturbs nobody: it comes first, whatever else is the matter.
    let mut next = storage::grow(situation);
    if trusted {
        next = next
            .or_else(|| roll::dead(situation))
            .or_else(|| roll::without_leader(situation))
            .or_else(|| storage::replace_dead(situation))
            .or_else(|| scale::cancelled(situation))
            .or_else(|| roll::roll(situation))
            .or_else(|| settings::change(situation))
            .or_else(|| scale::remove(situation))
            .or_else(|| scale::drain(situation))
            .or_else(|| voters::change(situation))
            .or_else(|| scale::shrink(situation))
            .or_else(|| scale::joining(situation))
            .or_else(|| roll::raise_version(situation))
            .or_else(|| storage::unused(situation))
            .or_else(|| fill::fill(situation, &decision.fill));
    }
    if let Some(Next { operation, step, problem }) = next.found() {
        decision.operation = Some(operation);
        decision.step = step;
        decision.problems.extend(problem);
    }
    decision.problems.extend(cannot_start(situation));
    decision.max_unavailable = i32::from(trusted && is_safe(situation));
    decision
}

/// Pods that can't start by themselves. Nothing waits for a person here: a corrected spec replaces them.
fn cannot_start(situation: &Situation) -> Option<Problem> {
    let mut pods = situation.nodes.values().filter_map(|node| {
        let pod = node.pod.as_ref().filter(|pod| !pod.terminating && !situation.is_outdated(node))?;
        Some((pod, pod.trouble.as_ref()?))
    });
    let (pod, trouble) = pods.next()?;
    let others = pods.count();
    let more = if others == 0 { String::new() } else { format!(", nor can {others} others") };
    Some(Problem {
        reason: "PodCannotStart",
        message: format!(
            "Pod {} can't start{more}: {trouble}. No other node is stopped meanwhile; correct the spec, and it is replaced.",
            pod.name
        ),
    })
}

/// Processes that are not what their pods should hold: somebody has mixed up volumes or names, and any step may hit the
/// wrong node.
fn wrong_identities(situation: &Situation) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (id, node) in &situation.nodes {
        let Some(pod) = &node.pod else { continue };
        let Some(report) = &pod.report else { continue };
        if report.node_id != *id || report.cluster_id != situation.cluster_id {
            problems.push(Problem {
                reason: "WrongNode",
                message: format!(
                    "Pod {} should be node {id} of cluster {}, and its process says that it is node {} of cluster {}. \
                     Nothing is stopped or moved until that is put right: look at the pod's volume, and who changed it.",
                    pod.name, situation.cluster_id, report.node_id, report.cluster_id
                ),
            });
        }
    }
    problems
}

/// Whether every node serves and every partition is whole.
fn is_safe(situation: &Situation) -> bool {
    let whole = |brokers: &Brokers| brokers.under_replicated == 0 && brokers.offline == 0;
    situation.brokers.as_ref().is_some_and(whole) && situation.down().is_empty()
}
