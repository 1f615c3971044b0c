//! What the operator counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    name: &'static str,
}

/// What the operator counts.
#[derive(Debug, Default)]
pub struct Metrics {
    reconciliations: Counter,
    failures: Counter,
    applied: Family<Named, Counter>,
    steps: Family<Named, Counter>,
    leads: Gauge,
}

impl Metrics {
    /// A reconciliation has ended.
    pub fn reconciled(&self) {
        self.reconciliations.inc();
    }

    /// A reconciliation has failed.
    pub fn failed(&self) {
        self.failures.inc();
    }

    /// An object was written.
    pub fn applied(&self, kind: &'static str) {
        self.applied.get_or_create(&Named { name: kind }).inc();
    }

    /// A step was taken.
    pub fn stepped(&self, step: &'static str) {
        self.steps.get_or_create(&Named { name: step }).inc();
    }

    /// Whether this operator leads.
    pub fn leads(&self, leads: bool) {
        self.leads.set(i64::from(leads));
    }

    /// As collectors read it.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("chronik_operator");
        registry.register("reconciliations", "Reconciliations that ended well", self.reconciliations.clone());
        registry.register("reconcile_failures", "Reconciliations that failed", self.failures.clone());
        registry.register("applied", "Objects written, by kind", self.applied.clone());
        registry.register("steps", "Steps of operations, by name", self.steps.clone());
        registry.register("leader", "Whether this operator leads", self.leads.clone());
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}
