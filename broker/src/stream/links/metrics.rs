//! What links count. `docs/reference/metrics.md` says what each means.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::conversations::Counts;
use super::frame::Lane;
use crate::ids::NodeId;

/// One connection of WAL streaming.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLink {
    peer: i32,
    lane: &'static str,
    /// `follower`: the peer follows this node. `leader`: this node follows the peer.
    peer_is: &'static str,
}

/// All links' counters.
#[derive(Debug, Clone, Default)]
pub struct LinkMetrics {
    up: Family<ByLink, Gauge>,
    closed: Family<ByLink, Counter>,
    sent_bytes: Family<ByLink, Counter>,
    received_bytes: Family<ByLink, Counter>,
    sessions: Family<ByLink, Counter>,
    rejects: Family<ByLink, Counter>,
    overflows: Family<ByLink, Counter>,
    batches: Family<ByLink, Counter>,
    batch_bytes: Family<ByLink, Counter>,
    partitions: Family<ByLink, Gauge>,
    in_flight: Family<ByLink, Gauge>,
    queued_bytes: Family<ByLink, Gauge>,
}

impl LinkMetrics {
    /// Registers all under the registry's prefix.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("replication");
        registry.register("links_up", "Connections of WAL streaming that stand", self.up.clone());
        registry.register("links_closed", "Connections of WAL streaming that ended", self.closed.clone());
        registry.register_with_unit("sent", "Bytes written to a link", Unit::Bytes, self.sent_bytes.clone());
        registry.register_with_unit("received", "Bytes read from a link", Unit::Bytes, self.received_bytes.clone());
        registry.register("sessions", "Sessions opened with a follower", self.sessions.clone());
        registry.register("rejects", "Sessions that a follower refused or ended", self.rejects.clone());
        registry.register("overflows", "Partitions sent from the live lane to the other", self.overflows.clone());
        registry.register("batches", "Batches sent to a follower", self.batches.clone());
        registry.register_with_unit(
            "batch",
            "Bytes of batches sent to a follower",
            Unit::Bytes,
            self.batch_bytes.clone(),
        );
        registry.register("partitions", "Partitions on a lane", self.partitions.clone());
        registry.register("in_flight_records", "Records sent and not acknowledged", self.in_flight.clone());
        let help = "Bytes appended and not sent";
        registry.register_with_unit("queued", help, Unit::Bytes, self.queued_bytes.clone());
    }

    /// The counters of a link to a follower, which stands from now on.
    pub(super) fn of_follower(&self, peer: NodeId, lane: Lane) -> LinkCounters {
        self.link(ByLink { peer: peer.get(), lane: lane.name(), peer_is: "follower" })
    }

    /// The counters of a link from a leader, which stands from now on.
    pub(super) fn of_leader(&self, peer: NodeId, lane: Lane) -> LinkCounters {
        self.link(ByLink { peer: peer.get(), lane: lane.name(), peer_is: "leader" })
    }

    fn link(&self, link: ByLink) -> LinkCounters {
        let up = self.up.get_or_create_owned(&link);
        up.inc();
        LinkCounters {
            up,
            closed: self.closed.get_or_create_owned(&link),
            sent_bytes: self.sent_bytes.get_or_create_owned(&link),
            received_bytes: self.received_bytes.get_or_create_owned(&link),
            sessions: self.sessions.get_or_create_owned(&link),
            rejects: self.rejects.get_or_create_owned(&link),
            overflows: self.overflows.get_or_create_owned(&link),
            batches: self.batches.get_or_create_owned(&link),
            batch_bytes: self.batch_bytes.get_or_create_owned(&link),
            partitions: self.partitions.get_or_create_owned(&link),
            in_flight: self.in_flight.get_or_create_owned(&link),
            queued_bytes: self.queued_bytes.get_or_create_owned(&link),
        }
    }
}

/// One link's, while it stands.
#[derive(Debug)]
pub(super) struct LinkCounters {
    up: Gauge,
    closed: Counter,
    sent_bytes: Counter,
    received_bytes: Counter,
    sessions: Counter,
    rejects: Counter,
    overflows: Counter,
    batches: Counter,
    batch_bytes: Counter,
    partitions: Gauge,
    in_flight: Gauge,
    queued_bytes: Gauge,
}

impl LinkCounters {
    /// Adds what went over it.
    pub(super) fn moved(&self, sent: u64, received: u64) {
        self.sent_bytes.inc_by(sent);
        self.received_bytes.inc_by(received);
    }

    /// Adds what its conversations counted.
    pub(super) fn talked(&self, counts: Counts) {
        self.sessions.inc_by(counts.sessions);
        self.rejects.inc_by(counts.rejects);
        self.overflows.inc_by(counts.overflows);
        self.batches.inc_by(counts.batches);
        self.batch_bytes.inc_by(counts.batch_bytes);
    }

    /// Shows where it is.
    pub(super) fn stands(&self, partitions: usize, in_flight: u64, queued_bytes: usize) {
        self.partitions.set(partitions as i64);
        self.in_flight.set(in_flight as i64);
        self.queued_bytes.set(queued_bytes as i64);
    }
}

impl Drop for LinkCounters {
    fn drop(&mut self) {
        self.up.dec();
        self.closed.inc();
        self.stands(0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_appear_under_their_documented_names() {
        let metrics = LinkMetrics::default();
        let mut registry = Registry::with_prefix("chronik");
        metrics.register(&mut registry);
        let link = metrics.of_follower(NodeId::new(2), Lane::Live);
        drop(metrics.of_leader(NodeId::new(3), Lane::CatchUp));
        link.moved(10, 20);
        link.stands(1, 2, 3);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let to_follower = "{peer=\"2\",lane=\"live\",peer_is=\"follower\"}";
        let from_leader = "{peer=\"3\",lane=\"catch_up\",peer_is=\"leader\"}";
        for line in [
            format!("chronik_replication_links_up{to_follower} 1"),
            format!("chronik_replication_links_up{from_leader} 0"),
            format!("chronik_replication_links_closed_total{from_leader} 1"),
            format!("chronik_replication_sent_bytes_total{to_follower} 10"),
            format!("chronik_replication_received_bytes_total{to_follower} 20"),
            format!("chronik_replication_batch_bytes_total{to_follower} 0"),
            format!("chronik_replication_queued_bytes{to_follower} 3"),
        ] {
            assert!(text.contains(&line), "{line} in\n{text}");
        }
        let page = include_str!("../../../../docs/reference/metrics.md");
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        for name in names {
            assert!(page.contains(&format!("`{name}")), "{name} is not documented");
        }
    }
}
