//! Volume claims: whether they go with the cluster, by its deletion policy; and which storage classes can grow.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::ReconcileError;
use super::context::{Context, Memory};
use super::dereference::{Observed, claim_size, is_owned};
use super::error::Attempt;
use crate::crd::DeletionPolicy;
use crate::{names, quantity};

/// The field manager of the claims' owner references.
const OWNER_MANAGER: &str = "chronik-operator-retention";

/// Has the claims of this cluster go with it, or stay, as the policy says.
pub(super) async fn follow_policy(
    context: &Context,
    observed: &Observed,
    cluster_id: &str,
) -> Result<(), ReconcileError> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &observed.namespace);
    let goes = observed.cluster.spec.deletion_policy == DeletionPolicy::Delete;
    for claim in &observed.claims {
        let ours = claim.annotations().get(names::CLUSTER_ID).map(String::as_str) == Some(cluster_id);
        if !ours || claim.metadata.deletion_timestamp.is_some() || is_owned(claim.as_ref(), &observed.uid) == goes {
            continue;
        }
        let name = claim.name_any();
        let owners = if goes {
            json!([{
                "apiVersion": "chronik.io/v1alpha1", "kind": "ChronikCluster",
                "name": observed.name, "uid": observed.uid,
            }])
        } else {
            json!([])
        };
        let wanted = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": name, "uid": claim.uid(), "ownerReferences": owners },
        });
        let params = PatchParams::apply(OWNER_MANAGER).force();
        api.patch(&name, &params, &Patch::Apply(&wanted))
            .await
            .attempt(|| format!("change the owner of claim {name}"))?;
    }
    Ok(())
}

/// Storage classes are asked about again after this time.
const ASKED_FOR: SignedDuration = SignedDuration::from_mins(5);

/// Whether the volumes of each pool can grow; asked only where some are to.
pub(super) async fn expandable(
    context: &Context,
    observed: &Observed,
    memory: &mut Memory,
    now: Timestamp,
) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    for pool in &observed.cluster.spec.pools {
        let grows = |claim: &&std::sync::Arc<PersistentVolumeClaim>| {
            claim.labels().get(names::POOL) == Some(&pool.name)
                && claim_size(claim).is_some_and(|size| !quantity::same(&size, &pool.storage.size))
        };
        let Some(claim) = observed.claims.iter().find(grows) else { continue };
        // The claim knows the class that it got by default.
        let Some(class) = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.clone()) else { continue };
        let known = memory.expandable.get(&class).filter(|(asked, _)| now.duration_since(*asked) < ASKED_FOR);
        if let Some((_, can)) = known {
            found.insert(pool.name.clone(), *can);
            continue;
        }
        match Api::<StorageClass>::all(context.client.clone()).get_opt(&class).await {
            Ok(answer) => {
                let can = answer.is_some_and(|class| class.allow_volume_expansion == Some(true));
                memory.expandable.insert(class, (now, can));
                found.insert(pool.name.clone(), can);
            }
            // Without the right to look (a Role of one namespace), the API server decides when claims are to grow.
            Err(why) => tracing::debug!(%why, class, "it is not known whether volumes of this class can grow"),
        }
    }
    found
}
