//! What is decided.

use std::collections::{BTreeMap, BTreeSet};

use super::situation::Fill;

/// What is decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// The replicas of each pool's StatefulSet.
    pub replicas: BTreeMap<String, i32>,
    /// From which ordinal on a pool's nodes are surplus: to be noted before their drains begin.
    pub surplus_from: BTreeMap<String, i32>,
    /// Which nodes of a pool are to be filled: to be noted before they are added, and no longer when it is done.
    pub fill: BTreeMap<String, Fill>,
    /// The one step to take now.
    pub step: Option<Step>,
    /// What is under way.
    pub operation: Option<Operation>,
    /// What only a person can put right.
    pub problems: Vec<Problem>,
    /// How many pods others may take down.
    pub max_unavailable: i32,
}

/// One step. Each is safe to repeat, and each names what it was decided on, so that it fails when that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Has claims ask for more.
    GrowClaims {
        /// Which.
        claims: Vec<ClaimRef>,
        /// How much.
        size: String,
    },
    /// Deletes a StatefulSet without its pods; it is made again with another template of claims.
    RecreateStatefulSet {
        /// Of this pool.
        pool: String,
    },
    /// Evicts pods whose brokers don't run.
    ReplaceDead(Vec<PodRef>),
    /// Asks for the cluster's grant to stop a node.
    PrepareStop(i32),
    /// Has another voter lead the Raft group.
    TransferRaftLeadership,
    /// Evicts a pod.
    Evict(PodRef),
    /// Deletes a claim.
    DeleteClaim(ClaimRef),
    /// Begins to empty a node.
    Drain(i32),
    /// Ends that.
    CancelDrain(i32),
    /// Has partitions move to these nodes, until they have their share.
    Fill(Vec<i32>),
    /// Has a node vote.
    Promote(i32),
    /// Has it vote no longer.
    Demote(i32),
    /// Takes a node out of the cluster.
    Remove(i32),
    /// Changes settings of running brokers.
    SetConfigs {
        /// To be set.
        values: BTreeMap<String, String>,
        /// Back to what brokers start with.
        reset: BTreeSet<String>,
    },
    /// Raises the cluster's version.
    SetClusterVersion(u32),
}

impl Step {
    /// The node that serves now and won't after this step.
    pub fn takes_down(&self) -> Option<i32> {
        match self {
            Self::Evict(pod) => Some(pod.node),
            Self::PrepareStop(node) => Some(*node),
            _ => None,
        }
    }
}

/// This very pod, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRef {
    /// Its node.
    pub node: i32,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// As it was seen; `None` when it may have changed meanwhile.
    pub resource_version: Option<String>,
}

/// This very claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRef {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// What is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operation {
    /// Its kind, a word.
    pub kind: &'static str,
    /// What is being done, or waited for.
    pub step: String,
    /// How far it is: done, of all.
    pub progress: Option<(usize, usize)>,
}

/// What only a person can put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A word for machines.
    pub reason: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// What one part of the lifecycle has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) operation: Operation,
    pub(super) step: Option<Step>,
    pub(super) problem: Option<Problem>,
}

/// Nothing, something that others need not wait for, or what is to be done before anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Say {
    /// Nothing to do.
    Nothing,
    /// Under way by itself: told, unless something else has to be.
    Under(Next),
    /// This, and nothing else now.
    Now(Next),
}

impl Say {
    /// A step.
    pub(super) fn step(kind: &'static str, words: impl Into<String>, step: Step) -> Self {
        let operation = Operation { kind, step: words.into(), progress: None };
        Self::Now(Next { operation, step: Some(step), problem: None })
    }

    /// Waits; nothing else may happen.
    pub(super) fn wait(kind: &'static str, words: impl Into<String>) -> Self {
        let operation = Operation { kind, step: words.into(), progress: None };
        Self::Now(Next { operation, step: None, problem: None })
    }

    /// Goes on by itself; other things may happen.
    pub(super) fn under_way(kind: &'static str, words: impl Into<String>) -> Self {
        let operation = Operation { kind, step: words.into(), progress: None };
        Self::Under(Next { operation, step: None, problem: None })
    }

    /// Can't go on; other things may happen.
    pub(super) fn problem(kind: &'static str, reason: &'static str, message: String) -> Self {
        let operation = Operation { kind, step: message.clone(), progress: None };
        Self::Under(Next { operation, step: None, problem: Some(Problem { reason, message }) })
    }

    /// With how far it is.
    pub(super) fn progress(mut self, done: usize, all: usize) -> Self {
        if let Self::Under(next) | Self::Now(next) = &mut self {
            next.operation.progress = Some((done, all));
        }
        self
    }

    /// The first that must be done now; otherwise what is under way first, with every problem's step kept.
    pub(super) fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Now(_) => self,
            Self::Nothing => other(),
            Self::Under(told) => match other() {
                Self::Now(Next { operation, step, problem }) => {
                    Self::Now(Next { operation, step, problem: told.problem.or(problem) })
                }
                Self::Under(Next { problem, .. }) => {
                    Self::Under(Next { problem: told.problem.or(problem), operation: told.operation, step: None })
                }
                Self::Nothing => Self::Under(told),
            },
        }
    }

    /// What it comes to.
    pub(super) fn found(self) -> Option<Next> {
        match self {
            Self::Nothing => None,
            Self::Under(next) | Self::Now(next) => Some(next),
        }
    }
}
