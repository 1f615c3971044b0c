//! Situations that are as they should be, to be spoiled by tests.

use std::collections::{BTreeMap, BTreeSet};

use crate::crd::DeletionPolicy;
use crate::lifecycle::{Brokers, Claim, Decision, Grant, Node, Pod, Pool, Registered, Report, Situation, Step, decide};

pub(super) const OLD: &str = "old";
pub(super) const NEW: &str = "new";

/// A pool `main` of so many nodes, all serving, the first three voting, node 0 leading.
pub(super) fn settled(replicas: i32) -> Situation {
    let pool = Pool {
        name: "main".to_owned(),
        wanted: replicas,
        first_node_id: 0,
        current: Some(replicas),
        surplus_from: None,
        fill: None,
        hash: NEW.to_owned(),
        size: "1Gi".to_owned(),
        template_size: Some("1Gi".to_owned()),
        expandable: None,
    };
    let brokers = Brokers {
        leader: 0,
        cluster_version: 1,
        nodes: (0..replicas).map(|id| (id, registered(id < 3))).collect(),
        grant: None,
        under_replicated: 0,
        offline: 0,
    };
    Situation {
        cluster_id: "c".to_owned(),
        pools: vec![pool],
        nodes: (0..replicas).map(|ordinal| (ordinal, node("main", ordinal, ordinal))).collect(),
        brokers: Some(brokers),
        settings: None,
        voters: usize::try_from(replicas.min(3)).expect("a few"),
        deletion_policy: DeletionPolicy::Retain,
        rebalances: false,
        filled: BTreeSet::new(),
        formed: true,
    }
}

pub(super) fn registered(votes: bool) -> Registered {
    Registered { registered: true, fenced: false, draining: false, replicas: 5, adding: 0, wants_vote: votes, votes }
}

/// A node that serves from an up-to-date pod.
pub(super) fn node(pool: &str, ordinal: i32, id: i32) -> Node {
    let name = format!("c-{pool}-{ordinal}");
    let pod = Pod {
        uid: format!("uid-{name}"),
        resource_version: "1".to_owned(),
        hash: Some(NEW.to_owned()),
        running: true,
        ready: true,
        terminating: false,
        replace_volume: false,
        trouble: None,
        report: Some(Report { node_id: id, cluster_id: "c".to_owned(), supported_version: 1 }),
        name: name.clone(),
    };
    let claim = Claim {
        name: format!("data-{name}"),
        uid: format!("uid-data-{name}"),
        size: "1Gi".to_owned(),
        terminating: false,
        replace_volume: false,
    };
    Node { pool: pool.to_owned(), ordinal, pod: Some(pod), claim: Some(claim) }
}

impl Situation {
    pub(super) fn pod(&mut self, id: i32) -> &mut Pod {
        self.nodes.get_mut(&id).and_then(|node| node.pod.as_mut()).expect("the node has a pod")
    }

    pub(super) fn claim(&mut self, id: i32) -> &mut Claim {
        self.nodes.get_mut(&id).and_then(|node| node.claim.as_mut()).expect("the node has a claim")
    }

    pub(super) fn known(&mut self, id: i32) -> &mut Registered {
        self.brokers.as_mut().and_then(|brokers| brokers.nodes.get_mut(&id)).expect("the node is known")
    }

    pub(super) fn raft(&mut self) -> &mut Brokers {
        self.brokers.as_mut().expect("there is a leader")
    }

    /// All pods are outdated.
    pub(super) fn outdated_all(mut self) -> Self {
        for node in self.nodes.values_mut() {
            if let Some(pod) = &mut node.pod {
                pod.hash = Some(OLD.to_owned());
            }
        }
        self
    }

    pub(super) fn granted(mut self, node: i32, leaders_left: u32) -> Self {
        self.raft().grant = Some(Grant { node, leaders_left });
        self
    }
}

pub(super) fn step(situation: &Situation) -> Option<Step> {
    decide(situation).step
}

/// What is told to be under way.
pub(super) fn words(decision: &Decision) -> &str {
    decision.operation.as_ref().map_or("", |operation| operation.step.as_str())
}

/// The names of the pods that a step evicts.
pub(super) fn evicted(step: Option<Step>) -> Vec<String> {
    match step {
        Some(Step::Evict(pod)) => vec![pod.name],
        Some(Step::ReplaceDead(pods)) => pods.into_iter().map(|pod| pod.name).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn sizes(situation: &Situation) -> BTreeMap<String, i32> {
    decide(situation).replicas
}
