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
    let mut live = serde_json::to_value(live).map_err(unreadable)?;
    // What is listed, and not watched, does not say its kind: the cache that it is from does.
    for key in ["apiVersion", "kind"] {
        live[key] = object.value[key].clone();
    }
    Ok(covers(&live, &object.value))
}

fn foreign(what: &str) -> Problem {
    Problem {
        reason: "ForeignObject",
        message: format!(
            "{what} exists and belongs to something else. It is not touched: delete it, or give the cluster another name."
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_listed_without_its_kind_is_not_written_again() {
        let metadata = json!({ "name": "c", "annotations": { names::APPLIED: "1" } });
        let value = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "a": "1" } });
        let object = Object { kind: Kind::ConfigMap, name: "c".to_owned(), value };
        // Items of the API server's lists have neither apiVersion nor kind.
        let listed = |a: &str| {
            let item = json!({ "metadata": metadata, "data": { "a": a } });
            serde_json::from_value::<DynamicObject>(item).expect("an object")
        };
        assert!(is_as_it_should_be(&listed("1"), &object).expect("readable"));
        assert!(!is_as_it_should_be(&listed("2"), &object).expect("readable"));
    }
}
