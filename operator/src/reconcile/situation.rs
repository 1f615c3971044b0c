//! What was read, as the lifecycle sees it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod as KubePod};
use kube::ResourceExt;

use super::context::Memory;
use super::dereference::{Observed, claim_size, ordinal};
use super::identity::Identity;
use super::settings;
use crate::admin::{self, Answers, NodeAddress};
use crate::crd::{Pool as SpecPool, Rebalance};
use crate::lifecycle::{Claim, Node, Pod, Pool, Situation};
use crate::names;

/// The pools: those of the spec, then those that have been removed from it.
pub(super) fn all_pools(observed: &Observed) -> Vec<(SpecPool, i32)> {
    let wanted = observed.cluster.spec.pools.iter().map(|pool| (pool.clone(), pool.replicas));
    wanted.chain(observed.removed_pools().into_iter().map(|pool| (pool, 0))).collect()
}

/// Puts together what is observed. `hashes`: of the templates that the pools' pods should have.
pub(super) fn situation(
    observed: &Observed,
    identity: &Identity,
    answers: &Answers,
    hashes: &BTreeMap<String, String>,
    expandable: &BTreeMap<String, bool>,
    memory: &Memory,
) -> Situation {
    let owned = settings::owned(observed);
    let there = answers.settings.as_ref();
    let settings = there.map(|there| settings::changes(&observed.cluster.spec.config, &owned, there));
    let annotation = |pool: &str, name: &str| observed.sets.get(pool).and_then(|set| set.annotations().get(name));
    let pools: Vec<Pool> = all_pools(observed)
        .into_iter()
        .map(|(pool, wanted)| Pool {
            wanted,
            first_node_id: pool.first_node_id,
            current: observed.replicas(&pool.name),
            surplus_from: annotation(&pool.name, names::SURPLUS_FROM).and_then(|from| from.parse().ok()),
            fill: annotation(&pool.name, names::FILL_FROM).and_then(|fill| fill.parse().ok()),
            hash: hashes.get(&pool.name).cloned().unwrap_or_default(),
            size: pool.storage.size.clone(),
            template_size: observed.template_size(&pool.name),
            expandable: expandable.get(&pool.name).copied(),
            name: pool.name,
        })
        .collect();
    let brokers = answers.cluster.as_ref().filter(|answer| answer.cluster_id == identity.cluster_id);
    let brokers = brokers.and_then(admin::brokers);
    let mut nodes = expected(&pools);
    for id in brokers.iter().flat_map(|brokers| brokers.nodes.keys()) {
        if !nodes.contains_key(id)
            && let Some((pool, ordinal)) = place(&pools, *id)
        {
            nodes.insert(*id, empty(pool, ordinal));
        }
    }
    for pool in &pools {
        for pod in observed.pods.iter().filter(|pod| pod.labels().get(names::POOL) == Some(&pool.name)) {
            let Some(ordinal) = ordinal(&observed.name, &pool.name, &pod.name_any()) else { continue };
            let id = pool.node(ordinal);
            let report = answers.nodes.get(&id).map(admin::report);
            nodes.entry(id).or_insert_with(|| empty(pool, ordinal)).pod = Some(seen_pod(pod, report));
        }
        for claim in observed.claims.iter().filter(|claim| is_of(claim, pool, identity)) {
            let name = claim.name_any();
            let pod = name.strip_prefix(names::DATA_VOLUME).and_then(|rest| rest.strip_prefix('-'));
            let Some(ordinal) = pod.and_then(|pod| ordinal(&observed.name, &pool.name, pod)) else { continue };
            nodes.entry(pool.node(ordinal)).or_insert_with(|| empty(pool, ordinal)).claim = Some(seen_claim(claim));
        }
    }
    Situation {
        cluster_id: identity.cluster_id.clone(),
        pools,
        nodes,
        brokers,
        settings,
        voters: usize::try_from(observed.cluster.spec.metadata_voters).unwrap_or(1),
        deletion_policy: observed.cluster.spec.deletion_policy,
        rebalances: observed.cluster.spec.rebalance == Rebalance::OnScale,
        filled: memory.filled.clone(),
        formed: observed.cluster.status.as_ref().is_some_and(|status| status.metadata.is_some()),
    }
}

fn is_of(claim: &PersistentVolumeClaim, pool: &Pool, identity: &Identity) -> bool {
    claim.labels().get(names::POOL) == Some(&pool.name)
        && claim.annotations().get(names::CLUSTER_ID) == Some(&identity.cluster_id)
}

fn empty(pool: &Pool, ordinal: i32) -> Node {
    Node { pool: pool.name.clone(), ordinal, pod: None, claim: None }
}

/// The nodes that are to have pods.
fn expected(pools: &[Pool]) -> BTreeMap<i32, Node> {
    let of = |pool: &Pool| {
        let replicas = pool.current.unwrap_or(0).max(pool.wanted);
        (0..replicas).map(|ordinal| (pool.node(ordinal), empty(pool, ordinal))).collect::<Vec<_>>()
    };
    pools.iter().flat_map(of).collect()
}

/// The pool that an id must have come from: the one with the highest first id that is not above it.
fn place(pools: &[Pool], id: i32) -> Option<(&Pool, i32)> {
    let pool = pools.iter().filter(|pool| pool.first_node_id <= id).max_by_key(|pool| pool.first_node_id)?;
    Some((pool, id - pool.first_node_id))
}

fn is_marked(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(names::REPLACE_VOLUME).is_some_and(|value| value == "true")
}

fn seen_pod(pod: &KubePod, report: Option<crate::lifecycle::Report>) -> Pod {
    let status = pod.status.as_ref();
    let condition = |kind: &str| {
        let conditions = status.and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|it| it.type_ == kind && it.status == "True"))
    };
    Pod {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        resource_version: pod.resource_version().unwrap_or_default(),
        hash: pod.annotations().get(names::TEMPLATE_HASH).cloned(),
        running: is_running(pod),
        ready: condition("Ready"),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        replace_volume: is_marked(pod.annotations()),
        trouble: trouble(pod),
        report,
    }
}

/// Reasons of a container that waits, which don't go by themselves.
const TROUBLE: [&str; 6] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
];

/// Why a pod can't start: what its containers say, or that no machine takes it.
fn trouble(pod: &KubePod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let mut waiting = containers.filter_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref().filter(|reason| TROUBLE.contains(reason))?;
        // What the process said last tells more than that it is waited before it is started again.
        let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let said = ended.and_then(|ended| ended.message.clone()).or_else(|| waiting.message.clone());
        let code = ended.map(|ended| format!(" (exit code {})", ended.exit_code)).unwrap_or_default();
        Some(format!("{reason}{code}: {}", said.unwrap_or_default().trim()))
    });
    waiting.next()
}

/// Whether the broker's container runs now.
fn is_running(pod: &KubePod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let broker = statuses.and_then(|all| all.iter().find(|container| container.name == names::BROKER));
    broker.is_some_and(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()))
}

fn seen_claim(claim: &PersistentVolumeClaim) -> Claim {
    Claim {
        name: claim.name_any(),
        uid: claim.uid().unwrap_or_default(),
        size: claim_size(claim).unwrap_or_default(),
        terminating: claim.metadata.deletion_timestamp.is_some(),
        replace_volume: is_marked(claim.annotations()),
    }
}

/// Where the brokers that run are.
pub(super) fn addresses(observed: &Observed) -> Vec<NodeAddress> {
    let mut addresses = Vec::new();
    for (pool, _) in all_pools(observed) {
        for pod in observed.pods.iter().filter(|pod| pod.labels().get(names::POOL) == Some(&pool.name)) {
            let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).filter(|ip| !ip.is_empty());
            let (Some(ip), true) = (ip, is_running(pod)) else { continue };
            let Some(ordinal) = ordinal(&observed.name, &pool.name, &pod.name_any()) else { continue };
            addresses.push(NodeAddress { node: pool.node_id(ordinal), pod: pod.uid().unwrap_or_default(), ip });
        }
    }
    addresses
}
