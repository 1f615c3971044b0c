//! What all reconciliations share, and the little that is remembered of each cluster: connections, and when to look again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use kube::Client;
use kube::runtime::events::Recorder;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::stores::Stores;
use crate::admin::Links;
use crate::metrics::Metrics;

/// How the operator was started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The brokers' image for clusters that name none.
    pub default_image: String,
    /// The operator's name, for people: its pod's.
    pub holder: String,
    /// The port of the brokers' admin service.
    pub admin_port: u16,
}

/// What all reconciliations share.
pub struct Context {
    pub(super) client: Client,
    pub(super) stores: Stores,
    pub(super) settings: Settings,
    pub(super) recorder: Recorder,
    /// Rung when a broker says that another operator has taken over.
    pub(super) succeeded: Arc<Notify>,
    pub(super) metrics: Arc<Metrics>,
    clusters: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<Memory>>>>,
}

/// A cluster's namespace and name.
type Key = (String, String);

/// What is remembered of a cluster. Nothing of it is needed: after a restart it comes back by itself.
#[derive(Default)]
pub(super) struct Memory {
    /// The resource that this is about: another one of the same name is another cluster.
    pub(super) uid: String,
    pub(super) links: Option<Links>,
    /// Consecutive failures.
    pub(super) failures: u32,
    /// Nodes that were filled, until that is noted on their StatefulSets.
    pub(super) filled: BTreeSet<i32>,
    /// The racks of machines, and when they were asked for.
    pub(super) racks: HashMap<String, (Timestamp, Option<String>)>,
    /// Whether storage classes' answers are known: class → whether its volumes can grow.
    pub(super) expandable: HashMap<String, (Timestamp, bool)>,
}

impl Context {
    /// For all clusters that `stores` are about.
    pub fn new(
        client: Client,
        stores: Stores,
        settings: Settings,
        recorder: Recorder,
        succeeded: Arc<Notify>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { client, stores, settings, recorder, succeeded, metrics, clusters: Mutex::default() }
    }

    /// What is remembered of a cluster.
    pub(super) fn memory(&self, namespace: &str, name: &str) -> Arc<tokio::sync::Mutex<Memory>> {
        self.clusters.lock().entry((namespace.to_owned(), name.to_owned())).or_default().clone()
    }

    /// Forgets a cluster that is gone.
    pub(super) fn forget(&self, namespace: &str, name: &str) {
        self.clusters.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }
}
