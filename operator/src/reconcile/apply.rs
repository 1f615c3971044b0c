//! Writes what is not as it should be: server-side apply under the operator's own field manager. What something else owns is
//! never touched, whatever its name.

use kube::ResourceExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams};

use super::ReconcileError;
use super::compare::covers;
use super::context::Context;
use super::dereference::{Observed, is_owned};
use super::error::Attempt;
use super::stores::resource;
use crate::build::{Kind, Object};
use crate::lifecycle::Problem;
use crate::names;

/// Applies one object; a problem when something else has its name.
pub(super) async fn apply(
    context: &Context,
    observed: &Observed,
    object: &Object,
) -> Result<Option<Problem>, ReconcileError> {
    let Object { kind, name, value } = object;
    let cached = observed.objects.get(&(*kind, name.clone()));
    if let Some(live) = cached {
        // One that is going is made again when it is gone.
        if live.metadata.deletion_timestamp.is_some() || is_as_it_should_be(live, object)? {
            return Ok(None);
        }
    }
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &observed.namespace, &resource(*kind));
    let described = || format!("{} {name}", kind.api().2);
    let live = match cached {
        Some(live) => Some(live.as_ref().clone()),
        None => api.get_opt(name).await.attempt(|| format!("look for {}", described()))?,
    };
    let mut wanted = value.clone();
    if let Some(live) = live {
        if !is_owned(&live, &observed.uid) {
            return Ok(Some(foreign(&described())));
        }
        if *kind == Kind::Secret {
            // What was decided on an older one is not written over a newer one: it may hold other keys.
            wanted["metadata"]["resourceVersion"] = serde_json::json!(live.metadata.resource_version);
        }
    }
    tracing::info!(cluster = observed.name, namespace = observed.namespace, object = described(), "applies");
    let params = PatchParams::apply(names::MANAGER).force();
    api.patch(name, &params, &Patch::Apply(&wanted)).await.attempt(|| format!("apply {}", described()))?;
    context.metrics.applied(kind.api().2);
    Ok(None)
}

fn is_as_it_should_be(live: &DynamicObject, object: &Object) -> Result<bool, ReconcileError> {
    let applied = &object.value["metadata"]["annotations"][names::APPLIED];
    if live.annotations().get(names::APPLIED).map(String::as_str) != applied.as_str() {
        return Ok(false);
    }
    let unreadable = |source| ReconcileError::Unreadable { object: object.name.clone(), source };
    Ok(covers(&serde_json::to_value(live).map_err(unreadable)?, &object.value))
}

fn foreign(what: &str) -> Problem {
    Problem {
        reason: "ForeignObject",
        message: format!(
            "{what} exists and belongs to something else. It is not touched: delete it, or give the cluster another name."
        ),
    }
}
