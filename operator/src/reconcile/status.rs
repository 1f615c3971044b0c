//! What the resource's status says.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::identity::Identity;
use crate::admin::Answers;
use crate::crd::{
    ChronikCluster, ChronikClusterStatus, DATA_SAFE, MetadataStatus, NodeStatus, OperationStatus, READY, RECONCILING,
    STALLED,
};
use crate::lifecycle::{Decision, Problem, Situation};

/// All that a status is made of.
pub(super) struct Told<'a> {
    pub(super) cluster: &'a ChronikCluster,
    pub(super) identity: Option<&'a Identity>,
    pub(super) situation: Option<&'a Situation>,
    pub(super) answers: &'a Answers,
    pub(super) decision: &'a Decision,
    pub(super) unavoidable: Vec<String>,
    pub(super) bootstrap_servers: String,
    pub(super) image_in_use: Option<String>,
    pub(super) default_image: &'a str,
    pub(super) now: Timestamp,
}

pub(super) fn status(told: &Told<'_>) -> ChronikClusterStatus {
    let before = told.cluster.status.clone().unwrap_or_default();
    let wanted = told.cluster.spec.replicas();
    let nodes = told.situation.map_or_else(Vec::new, |situation| nodes(situation, told.answers));
    let ready = nodes.iter().filter(|node| node.ready && is_wanted(told.situation, node.node_id)).count();
    let conditions = conditions(told, ready, usize::try_from(wanted).unwrap_or(0));
    let identity = told.identity;
    let chosen = told.cluster.spec.image.is_none().then(|| identity.and_then(|it| it.image.clone())).flatten();
    ChronikClusterStatus {
        observed_generation: told.cluster.metadata.generation,
        conditions: conditions.into_iter().map(|condition| dated(condition, &before, told.now)).collect(),
        ready: Some(format!("{ready}/{wanted}")),
        cluster_id: identity.map(|it| it.cluster_id.clone()).or(before.cluster_id),
        bootstrap_servers: Some(told.bootstrap_servers.clone()),
        // What was known last stays: that a cluster was formed is not forgotten when nobody answers.
        metadata: metadata(told.answers).or_else(|| before.metadata.map(|it| MetadataStatus { leader: None, ..it })),
        version: version(&nodes).or(before.version),
        nodes,
        operation: operation(told),
        upgrade_available: chosen
            .filter(|_| told.image_in_use.as_deref() != Some(told.default_image))
            .map(|_| told.default_image.to_owned()),
        image: identity.map_or(before.image, |it| it.image.clone()),
        initial_voters: identity.map_or(before.initial_voters, |it| it.initial_voters.clone()),
    }
}

fn is_wanted(situation: Option<&Situation>, node: i32) -> bool {
    situation.is_some_and(|situation| situation.is_wanted(node))
}

fn nodes(situation: &Situation, answers: &Answers) -> Vec<NodeStatus> {
    let known = |id: i32| answers.cluster.as_ref().and_then(|cluster| cluster.nodes.iter().find(|node| node.id == id));
    let nodes = situation.nodes.iter().filter_map(|(id, node)| {
        let pod = node.pod.as_ref()?;
        let known = known(*id);
        let brokers = situation.brokers.as_ref().and_then(|brokers| brokers.nodes.get(id));
        Some(NodeStatus {
            node_id: *id,
            pod: pod.name.clone(),
            ready: pod.ready && !pod.terminating,
            voter: brokers.is_some_and(|node| node.votes),
            version: answers.nodes.get(id).map(|node| node.version.clone()).or(known.map(|node| node.version.clone())),
            leaders: known.map_or(0, |node| node.leaders as i32),
            under_replicated: known.map_or(0, |node| node.out_of_sync as i32),
        })
    });
    nodes.collect()
}

fn metadata(answers: &Answers) -> Option<MetadataStatus> {
    let cluster = answers.cluster.as_ref()?;
    let raft = cluster.raft.as_ref()?;
    let brokers = crate::admin::brokers(cluster)?;
    Some(MetadataStatus {
        leader: raft.leader,
        term: raft.term as i64,
        voters: brokers.nodes.iter().filter(|(_, node)| node.votes).map(|(id, _)| *id).collect(),
        cluster_version: cluster.cluster_version as i32,
    })
}

/// The lowest version that a node runs: numbers are compared as numbers.
fn version(nodes: &[NodeStatus]) -> Option<String> {
    let numbers =
        |version: &str| -> Vec<u64> { version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0)).collect() };
    nodes.iter().filter_map(|node| node.version.clone()).min_by_key(|version| numbers(version))
}

fn operation(told: &Told<'_>) -> Option<OperationStatus> {
    let operation = told.decision.operation.as_ref()?;
    Some(OperationStatus {
        kind: operation.kind.to_owned(),
        step: operation.step.clone(),
        progress: operation.progress.map(|(done, all)| format!("{done}/{all}")),
        unavoidable: told.unavoidable.clone(),
    })
}

/// A condition before it has a date.
struct Undated {
    kind: &'static str,
    status: &'static str,
    reason: String,
    message: String,
}

fn is(kind: &'static str, holds: bool, reason: &str, message: impl Into<String>) -> Undated {
    let status = if holds { "True" } else { "False" };
    Undated { kind, status, reason: reason.to_owned(), message: message.into() }
}

fn conditions(told: &Told<'_>, ready: usize, wanted: usize) -> Vec<Undated> {
    let problem: Option<&Problem> = told.decision.problems.first();
    let operation = told.decision.operation.as_ref();
    let led = told.situation.is_some_and(|situation| situation.brokers.is_some());
    let ready = match (problem, operation) {
        _ if told.situation.is_none() => {
            is(READY, false, problem.map_or("Starting", |it| it.reason), "The cluster is not made yet.")
        }
        _ if !led => is(READY, false, "NoLeader", "No node leads the metadata: a majority of the voters must run."),
        _ if ready < wanted => is(READY, false, "NodesMissing", format!("{ready} of {wanted} nodes are ready.")),
        // kstatus: what is being changed is not ready yet.
        (_, Some(operation)) => is(READY, false, operation.kind, operation.step.clone()),
        (Some(problem), None) => is(READY, false, problem.reason, problem.message.clone()),
        (None, None) => is(READY, true, "Serving", format!("All {wanted} nodes are ready.")),
    };
    let reconciling = match operation {
        Some(operation) if problem.is_none() => is(RECONCILING, true, operation.kind, operation.step.clone()),
        None if problem.is_none() && ready.status == "False" => {
            is(RECONCILING, true, "Starting", "The nodes are being started.")
        }
        _ => is(RECONCILING, false, "Settled", "Nothing is under way."),
    };
    let stalled = match problem {
        Some(problem) => is(STALLED, true, problem.reason, problem.message.clone()),
        None => is(STALLED, false, "Nothing", "Nothing needs anybody's attention."),
    };
    vec![ready, reconciling, stalled, data_safe(told)]
}

fn data_safe(told: &Told<'_>) -> Undated {
    let Some(brokers) = told.situation.and_then(|situation| situation.brokers.as_ref()) else {
        let message = "No node leads the metadata, so nobody can say.".to_owned();
        return Undated { kind: DATA_SAFE, status: "Unknown", reason: "NoLeader".to_owned(), message };
    };
    if brokers.offline > 0 {
        return is(DATA_SAFE, false, "PartitionsOffline", format!("{} partitions have no leader.", brokers.offline));
    }
    if brokers.under_replicated > 0 {
        let message = format!("{} partitions have fewer replicas in sync than they should.", brokers.under_replicated);
        return is(DATA_SAFE, false, "UnderReplicated", message);
    }
    is(DATA_SAFE, true, "InSync", "Every partition has all its replicas in sync.")
}

/// The date is that of the last change of the status.
fn dated(condition: Undated, before: &ChronikClusterStatus, now: Timestamp) -> Condition {
    let known = before.conditions.iter().find(|it| it.type_ == condition.kind && it.status == condition.status);
    Condition {
        last_transition_time: known.map_or(Time(now), |it| it.last_transition_time.clone()),
        message: condition.message,
        observed_generation: None,
        reason: condition.reason,
        status: condition.status.to_owned(),
        type_: condition.kind.to_owned(),
    }
}
