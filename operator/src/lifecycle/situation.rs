//! What is observed of a cluster, as far as decisions depend on it.

use std::collections::{BTreeMap, BTreeSet};

use crate::crd::DeletionPolicy;

/// What is observed, and what is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Situation {
    /// The id that every node must report.
    pub cluster_id: String,
    /// The pools of the spec, and those that have a StatefulSet still.
    pub pools: Vec<Pool>,
    /// The nodes that have a pod, a claim or a place in the cluster, and belong to one of the pools. By id.
    pub nodes: BTreeMap<i32, Node>,
    /// What the cluster says of itself; `None` while it can't: no Raft leader, or nobody to ask.
    pub brokers: Option<Brokers>,
    /// The settings of running brokers that are not what the spec says; `None` while nobody can say.
    pub settings: Option<Settings>,
    /// How many nodes are to vote.
    pub voters: usize,
    /// What becomes of volumes of nodes that are removed.
    pub deletion_policy: DeletionPolicy,
    /// Whether nodes that are added get their share of partitions.
    pub rebalances: bool,
    /// Nodes that this operator has had filled, which may not be noted yet.
    pub filled: BTreeSet<i32>,
    /// Whether the cluster was ever seen with a Raft leader.
    pub formed: bool,
}

/// Settings of running brokers that are to change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// To be set.
    pub values: BTreeMap<String, String>,
    /// Set by the operator before, and no longer in the spec.
    pub reset: BTreeSet<String>,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// How many nodes the spec asks for; 0 when the pool was removed from it.
    pub wanted: i32,
    /// The id of its first node.
    pub first_node_id: i32,
    /// The replicas of its StatefulSet; `None` without one.
    pub current: Option<i32>,
    /// Nodes from this ordinal on are, or were, to be drained: noted on the StatefulSet before the first drain began.
    pub surplus_from: Option<i32>,
    /// Nodes that are to be filled, or are being filled: noted on the StatefulSet when they were added.
    pub fill: Option<Fill>,
    /// The hash of the template that pods should have.
    pub hash: String,
    /// The size that volumes should have.
    pub size: String,
    /// The size in the StatefulSet's template of claims.
    pub template_size: Option<String>,
    /// Whether its volumes can grow; `None` when their storage class is not known.
    pub expandable: Option<bool>,
}

/// Nodes of a pool that are to get their share of partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// From this ordinal on.
    pub from: i32,
    /// Whether the brokers have planned the moves: it is asked for once.
    pub begun: bool,
}

impl std::fmt::Display for Fill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.from, if self.begun { BEGUN } else { "" })
    }
}

/// What follows the ordinal in a note of a fill that was begun.
const BEGUN: &str = ",begun";

impl std::str::FromStr for Fill {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let begun = text.strip_suffix(BEGUN);
        Ok(Self { from: begun.unwrap_or(text).parse()?, begun: begun.is_some() })
    }
}

impl Pool {
    /// The node at an ordinal.
    pub fn node(&self, ordinal: i32) -> i32 {
        self.first_node_id + ordinal
    }
}

/// A node: its pod, its volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its pool.
    pub pool: String,
    /// Its place in the pool.
    pub ordinal: i32,
    /// Its pod.
    pub pod: Option<Pod>,
    /// Its volume's claim.
    pub claim: Option<Claim>,
}

/// A pod.
#[expect(clippy::struct_excessive_bools, reason = "each is something else that is seen")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// This very pod.
    pub uid: String,
    /// As it was seen.
    pub resource_version: String,
    /// The hash of the template that it was made from.
    pub hash: Option<String>,
    /// Whether its broker's process runs.
    pub running: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it is on its way out.
    pub terminating: bool,
    /// Whether a person has said that its volume is lost.
    pub replace_volume: bool,
    /// Why it can't start, where Kubernetes says so.
    pub trouble: Option<String>,
    /// What its process says it is.
    pub report: Option<Report>,
}

/// What a process says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its id.
    pub node_id: i32,
    /// Its cluster.
    pub cluster_id: String,
    /// The newest cluster version that it understands.
    pub supported_version: u32,
}

/// A volume's claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// This very claim.
    pub uid: String,
    /// The size that it asks for.
    pub size: String,
    /// Whether it is on its way out.
    pub terminating: bool,
    /// Whether a person has said that the volume is lost.
    pub replace_volume: bool,
}

/// What the cluster says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brokers {
    /// The leader of the Raft group.
    pub leader: i32,
    /// The version of what nodes write to each other.
    pub cluster_version: u32,
    /// The nodes that are registered or have a place in the Raft group. By id.
    pub nodes: BTreeMap<i32, Registered>,
    /// The stop that is granted.
    pub grant: Option<Grant>,
    /// Partitions that have fewer in sync than replicas.
    pub under_replicated: u32,
    /// Partitions without a leader.
    pub offline: u32,
}

/// A node, as the cluster knows it.
#[expect(clippy::struct_excessive_bools, reason = "each is something else that is known")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    /// Whether it is registered, and not only in the Raft group.
    pub registered: bool,
    /// Taken for dead.
    pub fenced: bool,
    /// Being emptied.
    pub draining: bool,
    /// Replicas that it holds.
    pub replicas: u32,
    /// Of these, those that are on their way to it.
    pub adding: u32,
    /// Whether it is to vote.
    pub wants_vote: bool,
    /// Whether it votes.
    pub votes: bool,
}

/// The stop that is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// To this node.
    pub node: i32,
    /// Partitions that it leads still.
    pub leaders_left: u32,
}

impl Situation {
    /// The pool of a node.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name == name)
    }

    /// The pool and ordinal that an id belongs to: by the nodes that are known, else by the ranges that the pools have or
    /// had.
    pub fn place(&self, id: i32) -> Option<(&Pool, i32)> {
        if let Some(node) = self.nodes.get(&id) {
            return Some((self.pool(&node.pool)?, node.ordinal));
        }
        None
    }

    /// Whether the spec wants a node.
    pub fn is_wanted(&self, id: i32) -> bool {
        self.place(id).is_some_and(|(pool, ordinal)| ordinal < pool.wanted)
    }

    /// A node as the cluster knows it; `None` while it does not, or can't say.
    pub fn registration(&self, id: i32) -> Option<&Registered> {
        self.brokers.as_ref()?.nodes.get(&id)
    }

    /// Whether it is noted that a node is to be filled, and not yet that this was begun.
    pub fn is_to_be_filled(&self, id: i32) -> bool {
        let noted = |(pool, ordinal): (&Pool, i32)| pool.fill.is_some_and(|fill| !fill.begun && ordinal >= fill.from);
        self.place(id).is_some_and(noted)
    }

    /// Whether a pod's template is not what it should be.
    pub fn is_outdated(&self, node: &Node) -> bool {
        let wanted = self.pool(&node.pool).map(|pool| pool.hash.as_str());
        node.pod.as_ref().is_some_and(|pod| !pod.terminating && pod.hash.as_deref() != wanted)
    }

    /// The nodes whose pods are outdated.
    pub fn outdated(&self) -> BTreeSet<i32> {
        self.nodes.iter().filter(|(_, node)| self.is_outdated(node)).map(|(id, _)| *id).collect()
    }

    /// The nodes whose volume a person has given up, as long as the volume, or a pod with it, is there.
    pub fn lost_volumes(&self) -> BTreeSet<i32> {
        let lost = |node: &Node| {
            let by_pod = node.pod.as_ref().is_some_and(|pod| pod.replace_volume && !pod.terminating);
            let by_claim = node.claim.as_ref().is_some_and(|claim| claim.replace_volume);
            by_pod || (by_claim && node.pod.as_ref().is_some_and(|pod| !pod.terminating))
        };
        self.nodes.iter().filter(|(_, node)| lost(node)).map(|(id, _)| *id).collect()
    }

    /// A node of the cluster that does not serve: its pod is missing, going, or not ready, or its broker is taken for dead.
    /// A node that never joined is none.
    pub fn is_down(&self, id: i32) -> bool {
        let Some(known) = self.registration(id) else { return false };
        let serves = |pod: &Pod| pod.running && pod.ready && !pod.terminating;
        !known.registered || known.fenced || !self.nodes.get(&id).and_then(|node| node.pod.as_ref()).is_some_and(serves)
    }

    /// All of the cluster's nodes that are down, those that are being removed aside: they hold nothing any more.
    pub fn down(&self) -> BTreeSet<i32> {
        let nodes = self.brokers.iter().flat_map(|brokers| brokers.nodes.keys().copied());
        nodes.filter(|id| self.nodes.contains_key(id) && self.is_down(*id) && !self.is_released(*id)).collect()
    }

    /// Whether a node has given up all that it had: drained to nothing and without a vote, by a fresh look.
    pub fn is_released(&self, id: i32) -> bool {
        let Some(brokers) = &self.brokers else { return false };
        let Some(node) = brokers.nodes.get(&id) else { return true };
        let drained = !node.registered || (node.draining && node.replicas == 0);
        drained && !node.votes && !node.wants_vote && brokers.leader != id
    }
}
