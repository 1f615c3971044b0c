//! What CEL can't see: other objects, and what is left of earlier specs. Each problem is a condition that says what to do;
//! nothing is changed while there is one, and correcting the spec is enough to go on.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::Api;

use super::ReconcileError;
use super::context::Context;
use super::dereference::Observed;
use super::error::Attempt;
use super::identity::Identity;
use crate::crd::Pool;
use crate::lifecycle::Problem;
use crate::names;

/// What keeps the cluster from being made, by what was read.
pub(super) fn problems(observed: &Observed, identity: &Identity) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(overlapping(observed));
    problems.extend(moved(observed));
    problems.extend(strangers(observed));
    problems.extend(foreign_volumes(observed, identity));
    problems.extend(other_shape(observed));
    problems
}

/// A pool that was removed keeps its ids until it is drained; one that was renamed is one that was removed.
fn overlapping(observed: &Observed) -> Vec<Problem> {
    let mut problems = Vec::new();
    for removed in observed.removed_pools() {
        let replicas = observed.replicas(&removed.name).unwrap_or(0);
        for pool in &observed.cluster.spec.pools {
            let apart = removed.first_node_id + replicas <= pool.first_node_id
                || pool.first_node_id + pool.replicas <= removed.first_node_id;
            if !apart {
                problems.push(Problem {
                    reason: "NodeIdsOverlap",
                    message: format!(
                        "Pool {} has node ids of pool {}, which is no longer in the spec and has {replicas} nodes still. A pool \
                         can't be renamed: put {} back, or give {} another firstNodeId.",
                        pool.name, removed.name, removed.name, pool.name
                    ),
                });
            }
        }
    }
    problems
}

/// The pool was removed and came back with other ids.
fn moved(observed: &Observed) -> Vec<Problem> {
    let former = |pool: &Pool| -> Option<Pool> {
        let set = observed.sets.get(&pool.name)?;
        serde_json::from_str(set.annotations().get(names::POOL_SPEC)?).ok()
    };
    let problem = |pool: &Pool| {
        let former = former(pool)?;
        (former.first_node_id != pool.first_node_id).then(|| Problem {
            reason: "NodeIdsMoved",
            message: format!(
                "Pool {} had the node ids from {} on, and its nodes have them still: set firstNodeId back to that.",
                pool.name, former.first_node_id
            ),
        })
    };
    observed.cluster.spec.pools.iter().filter_map(problem).collect()
}

fn strangers(observed: &Observed) -> Vec<Problem> {
    let problem = |(kind, name): &(crate::build::Kind, String)| Problem {
        reason: "ForeignObject",
        message: format!(
            "{} {name} is labelled as this cluster's and belongs to something else (or to an earlier resource of this name \
             that is being deleted). It is not touched: delete it, or give the cluster another name.",
            kind.api().2
        ),
    };
    observed.strangers.iter().map(problem).collect()
}

/// Volumes that the pods would find under their names, and that hold something else.
fn foreign_volumes(observed: &Observed, identity: &Identity) -> Vec<Problem> {
    let mut problems = Vec::new();
    for pool in &observed.cluster.spec.pools {
        let replicas = observed.replicas(&pool.name).unwrap_or(0).max(pool.replicas);
        for ordinal in 0..replicas {
            let name = names::claim(&names::pod(&observed.name, &pool.name, ordinal));
            let Some(claim) = observed.all_claims.get(&name) else { continue };
            let labelled = |label: &str, value: &str| claim.labels().get(label).map(String::as_str) == Some(value);
            let ours = labelled(names::INSTANCE, &observed.name)
                && labelled(names::POOL, &pool.name)
                && claim.annotations().get(names::CLUSTER_ID) == Some(&identity.cluster_id);
            let first = claim.annotations().get(names::FIRST_NODE_ID);
            if !ours {
                problems.push(foreign_volume(&name));
            } else if first.is_some_and(|first| *first != pool.first_node_id.to_string()) {
                problems.push(Problem {
                    reason: "NodeIdsMoved",
                    message: format!(
                        "Volume claim {name} holds the data of a node whose pool began with node id {}: set the firstNodeId of \
                         pool {} to that, or delete the claim if its data is not needed.",
                        first.map_or("", String::as_str),
                        pool.name
                    ),
                });
            }
        }
    }
    problems
}

fn foreign_volume(name: &str) -> Problem {
    Problem {
        reason: "ForeignVolume",
        message: format!(
            "Volume claim {name} belongs to something else, and a pod of this cluster would use it. It is not touched: delete \
             it if its data is not needed, or give the cluster or its pool another name."
        ),
    }
}

/// The volumes that are left of an earlier cluster belong to none of the pools: a new cluster beside them would have the
/// same id and none of the data.
fn other_shape(observed: &Observed) -> Option<Problem> {
    let new = observed.cluster.status.as_ref().is_none_or(|status| status.cluster_id.is_none());
    let pool_of = |claim: &PersistentVolumeClaim| claim.labels().get(names::POOL).cloned();
    let used = |pool: &Option<String>| observed.cluster.spec.pools.iter().any(|it| Some(&it.name) == pool.as_ref());
    let left: Vec<Option<String>> = observed.claims.iter().map(|claim| pool_of(claim)).collect();
    if !new || left.is_empty() || left.iter().any(used) {
        return None;
    }
    let mut pools: Vec<String> = left.into_iter().flatten().collect();
    pools.dedup();
    Some(Problem {
        reason: "VolumesOfOtherPools",
        message: format!(
            "An earlier cluster of this name has left volumes of pool {}, and the spec has no such pool. Name the pools as they \
             were to have the data back, or delete these claims.",
            pools.join(", ")
        ),
    })
}

/// Claims that the operator has not had made, under the names that pods to come would use. Only asked when there are such
/// pods.
pub(super) async fn unlabelled_volumes(context: &Context, observed: &Observed) -> Result<Vec<Problem>, ReconcileError> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &observed.namespace);
    let mut problems = Vec::new();
    for pool in &observed.cluster.spec.pools {
        for ordinal in observed.replicas(&pool.name).unwrap_or(0)..pool.replicas {
            let name = names::claim(&names::pod(&observed.name, &pool.name, ordinal));
            if observed.all_claims.contains_key(&name) {
                continue;
            }
            let found = api.get_opt(&name).await.attempt(|| format!("look for the claim {name}"))?;
            let ours = |claim: &PersistentVolumeClaim| {
                claim.labels().get(names::MANAGED_BY).map(String::as_str) == Some(names::MANAGER)
            };
            if found.is_some_and(|claim| !ours(&claim)) {
                problems.push(foreign_volume(&name));
            }
        }
    }
    Ok(problems)
}
