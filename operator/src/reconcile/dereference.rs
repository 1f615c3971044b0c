//! Everything that a reconciliation looks at in the cluster, read once.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::DynamicObject;

use super::{Context, ReconcileError};
use crate::build::Kind;
use crate::crd::{ChronikCluster, Pool};
use crate::names;

/// What there is.
pub(super) struct Observed {
    pub(super) cluster: Arc<ChronikCluster>,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    /// The objects that this cluster owns, by kind and name.
    pub(super) objects: BTreeMap<(Kind, String), Arc<DynamicObject>>,
    /// Cached objects that say they belong to a cluster of this name, and don't belong to this one.
    pub(super) strangers: Vec<(Kind, String)>,
    /// The StatefulSets that it owns, by pool.
    pub(super) sets: BTreeMap<String, StatefulSet>,
    /// Its pods.
    pub(super) pods: Vec<Arc<Pod>>,
    /// The claims that say they are its.
    pub(super) claims: Vec<Arc<PersistentVolumeClaim>>,
    /// All claims of the namespace that the operator has had made, whichever cluster's.
    pub(super) all_claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
}

/// Whether an object is controlled by this resource.
pub(super) fn is_owned(object: &impl ResourceExt, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.uid == uid)
}

pub(super) fn dereference(context: &Context, cluster: Arc<ChronikCluster>) -> Result<Observed, ReconcileError> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let uid = cluster.uid().unwrap_or_default();
    let mut objects = BTreeMap::new();
    let mut strangers = Vec::new();
    for kind in Kind::ALL {
        let here = |object: &DynamicObject| {
            object.namespace().as_deref() == Some(&namespace) && object.labels().get(names::INSTANCE) == Some(&name)
        };
        for object in context.stores.of(kind).state_filter(here) {
            if is_owned(object.as_ref(), &uid) {
                objects.insert((kind, object.name_any()), object);
            } else {
                strangers.push((kind, object.name_any()));
            }
        }
    }
    let sets = stateful_sets(&objects)?;
    let here = |found: Option<String>| found.as_deref() == Some(&namespace);
    let claims: Vec<_> = context.stores.claims.state_filter(|claim| here(claim.namespace()));
    let own = |claim: &&Arc<PersistentVolumeClaim>| claim.labels().get(names::INSTANCE) == Some(&name);
    let set_uids: Vec<String> = sets.values().filter_map(ResourceExt::uid).collect();
    let pods = context.stores.pods.state_filter(|pod| {
        let named = pod.labels().get(names::INSTANCE) == Some(&name) && here(pod.namespace());
        // A pod without a controller is one whose StatefulSet is being made anew.
        let controllers: Vec<_> = pod.owner_references().iter().filter(|it| it.controller == Some(true)).collect();
        named && controllers.iter().all(|it| set_uids.contains(&it.uid))
    });
    let own_claims = claims.iter().filter(own).cloned().collect();
    Ok(Observed {
        name,
        namespace,
        uid,
        strangers,
        sets,
        pods,
        claims: own_claims,
        all_claims: claims.into_iter().map(|claim| (claim.name_any(), claim)).collect(),
        objects,
        cluster,
    })
}

fn stateful_sets(
    objects: &BTreeMap<(Kind, String), Arc<DynamicObject>>,
) -> Result<BTreeMap<String, StatefulSet>, ReconcileError> {
    let mut sets = BTreeMap::new();
    for ((kind, name), object) in objects {
        if *kind != Kind::StatefulSet || object.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let unreadable = |source| ReconcileError::Unreadable { object: format!("StatefulSet {name}"), source };
        let value = serde_json::to_value(object.as_ref()).map_err(unreadable)?;
        let set: StatefulSet = serde_json::from_value(value).map_err(unreadable)?;
        if let Some(pool) = set.labels().get(names::POOL) {
            sets.insert(pool.clone(), set);
        }
    }
    Ok(sets)
}

impl Observed {
    /// The pools that have a StatefulSet and are not in the spec any more, as their spec was.
    pub(super) fn removed_pools(&self) -> Vec<Pool> {
        let in_spec = |name: &str| self.cluster.spec.pools.iter().any(|pool| pool.name == name);
        let removed = self.sets.iter().filter(|(name, _)| !in_spec(name));
        removed.filter_map(|(_, set)| serde_json::from_str(set.annotations().get(names::POOL_SPEC)?).ok()).collect()
    }

    /// The replicas of a pool's StatefulSet.
    pub(super) fn replicas(&self, pool: &str) -> Option<i32> {
        self.sets.get(pool).map(|set| set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1))
    }

    /// The size in a pool's template of claims.
    pub(super) fn template_size(&self, pool: &str) -> Option<String> {
        let spec = self.sets.get(pool)?.spec.as_ref()?;
        let template = spec.volume_claim_templates.as_ref()?.first()?;
        Some(requested(template.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")?))
    }
}

fn requested(quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> String {
    quantity.0.clone()
}

/// The size that a claim asks for.
pub(super) fn claim_size(claim: &PersistentVolumeClaim) -> Option<String> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.get("storage").map(requested)
}

/// The ordinal in the name of a pod.
pub(super) fn ordinal(cluster: &str, pool: &str, pod: &str) -> Option<i32> {
    let ordinal = pod.strip_prefix(&names::stateful_set(cluster, pool))?.strip_prefix('-')?;
    ordinal.parse().ok().filter(|number: &i32| number.to_string() == ordinal)
}
