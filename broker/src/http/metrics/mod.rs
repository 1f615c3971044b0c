//! What a node counts, gathered when `/metrics` is asked. `docs/reference/metrics.md` lists it all; a test keeps it true.

mod cluster;
mod groups;
mod process;
mod storage;
mod write;

use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::coordinator::GroupCoordinator;
use crate::kafka::Broker;
use crate::kafka::metrics::Metrics;
use crate::node::Planes;

/// All metrics of a running node.
pub struct NodeMetrics {
    registry: Registry,
    groups: Arc<GroupCoordinator>,
    gathered_groups: groups::Gathered,
}

impl NodeMetrics {
    /// Reads from these services whenever it is asked.
    pub fn new(broker: &Arc<Broker>, planes: &Planes, kafka: &Metrics) -> Self {
        let gathered_groups = Arc::new(ArcSwap::default());
        let mut registry = Registry::default();
        kafka.register(registry.sub_registry_with_prefix("chronik"));
        planes.link_metrics.register(registry.sub_registry_with_prefix("chronik"));
        registry.register_collector(Box::new(cluster::ClusterCollector::new(broker)));
        registry.register_collector(Box::new(groups::GroupsCollector::new(&gathered_groups)));
        registry.register_collector(Box::new(storage::LogsCollector::new(&broker.logs)));
        registry.register_collector(Box::new(storage::WalCollector::new(&broker.wal)));
        registry.register_collector(Box::new(storage::RaftCollector::new(&planes.raft)));
        registry.register_collector(Box::new(process::ProcessCollector));
        Self { registry, groups: broker.groups.clone(), gathered_groups }
    }

    /// The metrics now, in OpenMetrics' text format.
    pub async fn text(&self) -> Result<String, std::fmt::Error> {
        self.gathered_groups.store(Arc::new(self.groups.metrics().await));
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    /// The names between backquotes in the first column of the tables.
    fn documented(page: &str) -> Vec<&str> {
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
    }

    #[test]
    fn the_page_names_each_metric_once() {
        let page = include_str!("../../../../docs/reference/metrics.md");
        let mut names = documented(page);
        assert!(names.len() > 30, "{names:?}");
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
