//! What the front counts. `/metrics` shows it; names and meanings are documented where they are registered.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::api::{APIS, Api};

/// Upper bounds of latency, in seconds: from the cost of a cached answer to a long poll's wait.
const LATENCY_SECONDS: [f64; 14] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Requests by API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByApi {
    api: &'static str,
}

/// Connections by the reason of their end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: Reason,
}

/// Why a connection ended or was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The client closed it.
    Client,
    /// It failed.
    Network,
    /// It was idle for `connections.max.idle.ms`.
    Idle,
    /// A request arrived, or responses were taken, too slowly.
    Slow,
    /// It sent what is not a request, or one that this broker does not serve.
    BadRequest,
    /// A handler gave up on it, as Kafka does with acks=0 and an error.
    Handler,
    /// The node is stopping.
    Shutdown,
    /// `max.connections`.
    MaxConnections,
    /// `max.connections.per.ip`.
    MaxConnectionsPerIp,
}

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        let name = match self {
            Self::Client => "client",
            Self::Network => "network",
            Self::Idle => "idle",
            Self::Slow => "slow",
            Self::BadRequest => "bad_request",
            Self::Handler => "handler",
            Self::Shutdown => "shutdown",
            Self::MaxConnections => "max_connections",
            Self::MaxConnectionsPerIp => "max_connections_per_ip",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

/// The front's counters.
pub struct Metrics {
    latency: Family<ByApi, Histogram, fn() -> Histogram>,
    /// `latency` by the place of an API in the table: no look-up by name on the hot path. Filled on first use.
    latency_by_place: Vec<OnceLock<Histogram>>,
    ended: Family<ByReason, Counter>,
    rejected: Family<ByReason, Counter>,
    /// Open connections.
    pub connections: Gauge,
    /// Connections let in.
    pub accepted: Counter,
    /// Bytes read from clients.
    pub received_bytes: Counter,
    /// Bytes written to clients.
    pub sent_bytes: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            latency: Family::new_with_constructor(|| Histogram::new(LATENCY_SECONDS)),
            latency_by_place: APIS.iter().map(|_| OnceLock::new()).collect(),
            ended: Family::default(),
            rejected: Family::default(),
            connections: Gauge::default(),
            accepted: Counter::default(),
            received_bytes: Counter::<u64, AtomicU64>::default(),
            sent_bytes: Counter::<u64, AtomicU64>::default(),
        }
    }
}

impl Metrics {
    /// Registers all under the registry's prefix.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("kafka");
        registry.register_with_unit(
            "request_latency",
            "From a request's last byte to its response, queueing behind earlier ones included",
            Unit::Seconds,
            self.latency.clone(),
        );
        registry.register("connections", "Open client connections", self.connections.clone());
        registry.register("connections_accepted", "Client connections let in", self.accepted.clone());
        registry.register("connections_rejected", "Client connections turned away, by limit", self.rejected.clone());
        registry.register("connections_closed", "Client connections ended, by reason", self.ended.clone());
        registry.register_with_unit("received", "Bytes read from clients", Unit::Bytes, self.received_bytes.clone());
        registry.register_with_unit("sent", "Bytes written to clients", Unit::Bytes, self.sent_bytes.clone());
    }

    /// A request was answered (or needed no answer).
    pub fn answered(&self, api: &'static Api, after: Duration) {
        let histogram = self.latency_by_place[api.index]
            .get_or_init(|| self.latency.get_or_create(&ByApi { api: api.name() }).clone());
        histogram.observe(after.as_secs_f64());
    }

    /// A connection ended.
    pub fn ended(&self, reason: Reason) {
        self.ended.get_or_create(&ByReason { reason }).inc();
    }

    /// A connection was not let in.
    pub fn rejected(&self, reason: Reason) {
        self.rejected.get_or_create(&ByReason { reason }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_appear_under_their_documented_names() {
        let metrics = Metrics::default();
        let mut registry = Registry::with_prefix("chronik");
        metrics.register(&mut registry);
        metrics.answered(&APIS[0], Duration::from_millis(3));
        metrics.rejected(Reason::MaxConnections);
        metrics.ended(Reason::Slow);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let api = APIS[0].name();
        for line in [
            &format!("chronik_kafka_request_latency_seconds_count{{api=\"{api}\"}} 1"),
            "chronik_kafka_connections 0",
            "chronik_kafka_connections_rejected_total{reason=\"max_connections\"} 1",
            "chronik_kafka_connections_closed_total{reason=\"slow\"} 1",
            "chronik_kafka_received_bytes_total 0",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
