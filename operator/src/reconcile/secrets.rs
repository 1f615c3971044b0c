//! The Secrets: what they hold now, and what they should hold.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::Api;

use super::ReconcileError;
use super::context::Context;
use super::dereference::{Observed, is_owned};
use super::error::Attempt;
use crate::admin::Credentials;
use crate::build::{self, Desired, Kind, Object};
use crate::certificates::{self, Authorities, Data, ROTATE};
use crate::names;

/// The authority, and with what the operator proves itself.
pub(super) struct Trust {
    pub(super) authorities: Authorities,
    pub(super) credentials: Credentials,
    /// The Secrets of both, the authority's first.
    pub(super) objects: Vec<Object>,
}

/// A Secret as it is: from the cache, or, where that has none, from the API server. A cache that is late must not make a
/// new authority.
async fn read(context: &Context, observed: &Observed, name: &str) -> Result<Option<Secret>, ReconcileError> {
    if let Some(object) = observed.objects.get(&(Kind::Secret, name.to_owned())) {
        let unreadable = |source| ReconcileError::Unreadable { object: format!("Secret {name}"), source };
        let value = serde_json::to_value(object.as_ref()).map_err(unreadable)?;
        return serde_json::from_value(value).map(Some).map_err(unreadable);
    }
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &observed.namespace);
    let found = api.get_opt(name).await.attempt(|| format!("look for the Secret {name}"))?;
    Ok(found.filter(|secret| is_owned(secret, &observed.uid)))
}

fn data(secret: Option<&Secret>) -> Option<Data> {
    let data = secret?.data.as_ref()?;
    Some(data.iter().map(|(key, value)| (key.clone(), value.0.clone())).collect())
}

/// Whether a person asks for another authority, by another value than that of the last time.
fn asks_for_rotation(secret: &Secret, held: &Data) -> Option<String> {
    let asked = secret.annotations().get(ROTATE)?;
    let done = held.get(ROTATED).map(|done| String::from_utf8_lossy(done).into_owned());
    (done.as_ref() != Some(asked)).then(|| asked.clone())
}

/// In the authority's Secret: the annotation's value that was followed last.
const ROTATED: &str = "rotated";

/// The authority and the operator's certificate: makes what is missing or due.
pub(super) async fn trust(
    context: &Context,
    observed: &Observed,
    desired: &Desired,
    now: Timestamp,
) -> Result<Trust, ReconcileError> {
    let authority_name = names::authority_secret(&observed.name);
    let secret = read(context, observed, &authority_name).await?;
    let held = data(secret.as_ref());
    let asked = secret.as_ref().zip(held.as_ref()).and_then(|(secret, held)| asks_for_rotation(secret, held));
    let mut authorities = Authorities::of(held.as_ref(), &desired.cluster_id, now, asked.is_some())?;
    if let Some(asked) = asked {
        // One that is under way already answers the request.
        authorities.note(ROTATED, asked.into_bytes());
    }
    let operator_name = names::operator_secret(&observed.name);
    let held = data(read(context, observed, &operator_name).await?.as_ref());
    let operator = certificates::operator_certificate(&authorities, &desired.cluster_id, held.as_ref(), now)?;
    let credentials = Credentials {
        cluster_id: desired.cluster_id.clone(),
        authorities: operator[certificates::CA].clone(),
        certificate: operator[certificates::CERTIFICATE].clone(),
        key: operator[certificates::KEY].clone(),
    };
    let objects = vec![
        build::secret(desired, &authority_name, authorities.data()),
        build::secret(desired, &operator_name, &operator),
    ];
    Ok(Trust { authorities, credentials, objects })
}

/// The Secrets of the pools: a certificate for each pod that there is to be.
pub(super) async fn of_pools(
    context: &Context,
    observed: &Observed,
    desired: &Desired,
    authorities: &Authorities,
    now: Timestamp,
) -> Result<Vec<Object>, ReconcileError> {
    let mut objects = Vec::new();
    for pool in &desired.pools {
        let name = names::pool_secret(&observed.name, &pool.pool.name);
        let held = data(read(context, observed, &name).await?.as_ref());
        let pods: Vec<(String, i32)> = (0..pool.replicas)
            .map(|ordinal| (names::pod(&observed.name, &pool.pool.name, ordinal), pool.pool.node_id(ordinal)))
            .collect();
        let wanted = certificates::node_certificates(authorities, &desired.cluster_id, &pods, held.as_ref(), now)?;
        objects.push(build::secret(desired, &name, &wanted));
    }
    Ok(objects)
}

/// The credentials that are in use: of a cluster that can't be changed now, because something is wrong with its spec.
pub(super) fn present_credentials(observed: &Observed, cluster_id: &str) -> Option<Credentials> {
    let object = observed.objects.get(&(Kind::Secret, names::operator_secret(&observed.name)))?;
    let secret: Secret = serde_json::from_value(serde_json::to_value(object.as_ref()).ok()?).ok()?;
    let held: BTreeMap<String, Vec<u8>> = data(Some(&secret))?;
    Some(Credentials {
        cluster_id: cluster_id.to_owned(),
        authorities: held.get(certificates::CA)?.clone(),
        certificate: held.get(certificates::CERTIFICATE)?.clone(),
        key: held.get(certificates::KEY)?.clone(),
    })
}
