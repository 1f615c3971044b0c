//! What is watched: every object that the operator keeps, cached, without what it has no use for.

use std::collections::BTreeMap;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, NamespaceResourceScope};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::ReconcileError;
use crate::build::Kind;
use crate::crd::ChronikCluster;
use crate::names;

/// Where clusters are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    All,
    /// In one namespace.
    Namespace(String),
}

impl Scope {
    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match self {
            Self::All => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }

    fn dynamic(&self, client: &Client, resource: &ApiResource) -> Api<DynamicObject> {
        match self {
            Self::All => Api::all_with(client.clone(), resource),
            Self::Namespace(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        }
    }
}

/// How objects of a kind are asked for.
pub(super) fn resource(kind: Kind) -> ApiResource {
    let (group, version, kind, plural) = kind.api();
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// The caches.
pub struct Stores {
    objects: BTreeMap<Kind, Store<DynamicObject>>,
    pub(super) pods: Store<Pod>,
    pub(super) claims: Store<PersistentVolumeClaim>,
    /// Set once all are filled. Of several who wait for one cache only the last is woken, so one waits for all of them.
    filled: OnceCell<()>,
}

/// What has changed: the clusters that it concerns.
pub(super) type Triggers = BoxStream<'static, ObjectRef<ChronikCluster>>;

impl Stores {
    /// Begins to watch. The triggers must be polled: they fill the caches.
    pub fn watch(client: &Client, scope: &Scope) -> (Self, Vec<Triggers>) {
        let mut triggers = Vec::new();
        let mut objects = BTreeMap::new();
        for kind in Kind::ALL {
            let resource = resource(kind);
            let writer = reflector::store::Writer::new(resource.clone());
            objects.insert(kind, writer.as_reader());
            let api = scope.dynamic(client, &resource);
            triggers.push(watched(watcher(api, ours()), writer));
        }
        let (pods, writer) = reflector::store();
        triggers.push(watched(watcher(scope.api::<Pod>(client), ours()), writer));
        let (claims, writer) = reflector::store();
        triggers.push(watched(watcher(scope.api::<PersistentVolumeClaim>(client), ours()), writer));
        (Self { objects, pods, claims, filled: OnceCell::new() }, triggers)
    }

    /// The clusters, as they are watched.
    pub fn clusters(
        client: &Client,
        scope: &Scope,
    ) -> (Store<ChronikCluster>, impl Stream<Item = Result<ChronikCluster, watcher::Error>> + Send + use<>) {
        let (store, writer) = reflector::store();
        let stream = watcher(scope.api::<ChronikCluster>(client), watcher::Config::default())
            .default_backoff()
            .modify(|cluster| cluster.managed_fields_mut().clear())
            .reflect(writer)
            .touched_objects();
        (store, stream)
    }

    /// Resolves when all caches are filled.
    pub(super) async fn ready(&self) -> Result<(), ReconcileError> {
        self.filled.get_or_try_init(|| self.fill()).await.map(|&()| ())
    }

    async fn fill(&self) -> Result<(), ReconcileError> {
        for store in self.objects.values() {
            store.wait_until_ready().await.map_err(|_| ReconcileError::Ended)?;
        }
        self.pods.wait_until_ready().await.map_err(|_| ReconcileError::Ended)?;
        self.claims.wait_until_ready().await.map_err(|_| ReconcileError::Ended)
    }

    /// The cached objects of a kind.
    pub(super) fn of(&self, kind: Kind) -> &Store<DynamicObject> {
        &self.objects[&kind]
    }
}

/// What the operator made, or had made.
fn ours() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", names::MANAGED_BY, names::MANAGER))
}

fn watched<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    writer: reflector::store::Writer<K>,
) -> Triggers
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone + Send + Sync,
{
    events
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .touched_objects()
        .filter_map(|touched| {
            let concerned = match touched {
                Ok(object) => cluster_of(&object),
                Err(why) => {
                    tracing::warn!(%why, "a watch failed; it begins anew");
                    None
                }
            };
            std::future::ready(concerned)
        })
        .boxed()
}

/// The cluster that an object belongs to, by its label.
fn cluster_of(object: &impl ResourceExt) -> Option<ObjectRef<ChronikCluster>> {
    let name = object.labels().get(names::INSTANCE)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    /// An operator that starts finds many clusters before its caches are filled.
    #[tokio::test]
    async fn all_who_wait_for_the_caches_go_on_once_they_are_filled() {
        let (pods, mut pods_writer) = reflector::store();
        let (claims, mut claims_writer) = reflector::store();
        let stores = Arc::new(Stores { objects: BTreeMap::new(), pods, claims, filled: OnceCell::new() });
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let stores = Arc::clone(&stores);
            waiting.spawn(async move { stores.ready().await.is_ok() });
        }
        tokio::task::yield_now().await;
        pods_writer.apply_watcher_event(&watcher::Event::Init);
        pods_writer.apply_watcher_event(&watcher::Event::InitDone);
        tokio::task::yield_now().await;
        claims_writer.apply_watcher_event(&watcher::Event::Init);
        claims_writer.apply_watcher_event(&watcher::Event::InitDone);
        let all = tokio::time::timeout(Duration::from_secs(5), waiting.join_all()).await;
        assert_eq!(all.expect("nobody waits for ever"), [true; 8]);
    }
}
