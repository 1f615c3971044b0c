//! What is decided once in a cluster's life: its id, its image, the nodes that form it. It is in the status before
//! anything else exists.

use kube::ResourceExt;
use uuid::Uuid;

use super::dereference::Observed;
use crate::build::InitialVoter;
use crate::crd::ChronikClusterSpec;
use crate::lifecycle::Problem;
use crate::names;

/// What was decided once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) cluster_id: String,
    /// The image that was chosen, for a spec that names none.
    pub(super) image: Option<String>,
    pub(super) initial_voters: Vec<i32>,
}

/// What the status holds; what it lacks is decided now. The id is that of volumes which an earlier resource of this name
/// left, so that it finds its data again.
pub(super) fn identity(observed: &Observed, default_image: &str) -> Result<Identity, Problem> {
    let spec = &observed.cluster.spec;
    let status = observed.cluster.status.clone().unwrap_or_default();
    let cluster_id = match status.cluster_id {
        Some(id) => id,
        None => retained_id(observed)?.unwrap_or_else(|| Uuid::new_v4().to_string()),
    };
    let image = status.image.or_else(|| spec.image.is_none().then(|| default_image.to_owned()));
    let initial_voters = if status.initial_voters.is_empty() { choose_voters(spec) } else { status.initial_voters };
    Ok(Identity { cluster_id, image, initial_voters })
}

fn retained_id(observed: &Observed) -> Result<Option<String>, Problem> {
    let ids = observed.claims.iter().filter_map(|claim| claim.annotations().get(names::CLUSTER_ID));
    let mut ids: Vec<&String> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    match ids[..] {
        [] => Ok(None),
        [id] => Ok(Some(id.clone())),
        _ => Err(Problem {
            reason: "VolumesOfSeveralClusters",
            message: format!(
                "The volumes that clusters of the name {} have left belong to several of them ({}). Delete the claims of all \
                 but one, or give the resource another name.",
                observed.name,
                ids.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", ")
            ),
        }),
    }
}

/// The first nodes of the pools, each pool in turn, so that voters are spread over them.
fn choose_voters(spec: &ChronikClusterSpec) -> Vec<i32> {
    let largest = spec.pools.iter().map(|pool| pool.replicas).max().unwrap_or(0);
    let in_turn = (0..largest).flat_map(|ordinal| {
        spec.pools.iter().filter(move |pool| ordinal < pool.replicas).map(move |pool| pool.node_id(ordinal))
    });
    in_turn.take(usize::try_from(spec.metadata_voters).unwrap_or(0)).collect()
}

/// The pods of the initial voters. All are named, even one whose pool is gone: brokers take 1, 3 or 5.
pub(super) fn initial_voters(observed: &Observed, ids: &[i32]) -> Vec<InitialVoter> {
    let mut pools = observed.cluster.spec.pools.clone();
    pools.extend(observed.removed_pools());
    let voter = |id: &i32| {
        let pool = pools.iter().filter(|pool| pool.first_node_id <= *id).max_by_key(|pool| pool.first_node_id);
        let pod = match pool {
            Some(pool) => names::pod(&observed.name, &pool.name, id - pool.first_node_id),
            None => format!("{}-gone-{id}", observed.name),
        };
        InitialVoter { node_id: *id, pod }
    };
    ids.iter().map(voter).collect()
}
