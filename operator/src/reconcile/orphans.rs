//! Deletes what this cluster owned and no longer wants; never StatefulSets or volumes.

use kube::api::{Api, DeleteParams, DynamicObject, Preconditions};

use super::ReconcileError;
use super::context::Context;
use super::dereference::Observed;
use super::error::{Attempt, has_changed};
use super::stores::resource;
use crate::build::{Kind, Object};

pub(super) async fn orphans(context: &Context, observed: &Observed, wanted: &[Object]) -> Result<(), ReconcileError> {
    for ((kind, name), live) in &observed.objects {
        let is_wanted = wanted.iter().any(|object| object.kind == *kind && object.name == *name);
        if *kind == Kind::StatefulSet || is_wanted || live.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let api: Api<DynamicObject> =
            Api::namespaced_with(context.client.clone(), &observed.namespace, &resource(*kind));
        let preconditions = Preconditions { uid: live.metadata.uid.clone(), resource_version: None };
        tracing::info!(
            cluster = observed.name,
            object = format!("{} {name}", kind.api().2),
            "deletes what is not wanted"
        );
        match api.delete(name, &DeleteParams::default().preconditions(preconditions)).await {
            Err(why) if has_changed(&why) => {}
            outcome => drop(outcome.attempt(|| format!("delete {} {name}", kind.api().2))?),
        }
    }
    Ok(())
}
