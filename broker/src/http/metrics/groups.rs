//! Consumer groups, by the names that dashboards of Kafka's lag know (kafka_exporter's).

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};

use super::write::{counter, gauge, gauges};
use crate::coordinator::metrics::GroupMetrics;

/// What the coordinator answered last.
pub(super) type Gathered = Arc<ArcSwap<GroupMetrics>>;

/// Shows what was gathered for this scrape.
#[derive(Debug)]
pub(super) struct GroupsCollector(Gathered);

impl GroupsCollector {
    pub(super) fn new(gathered: &Gathered) -> Self {
        Self(gathered.clone())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByGroup {
    consumergroup: String,
    topic: String,
    partition: i32,
}

impl Collector for GroupsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let groups = self.0.load();
        let encoder = &mut encoder;
        let states = [
            ("Empty", groups.states.empty),
            ("PreparingRebalance", groups.states.preparing_rebalance),
            ("CompletingRebalance", groups.states.completing_rebalance),
            ("Stable", groups.states.stable),
            ("Dead", groups.states.dead),
        ];
        let by_state = states.into_iter().map(|(state, count)| (ByState { state }, count as f64));
        gauges(encoder, ("chronik_groups", "Consumer groups coordinated here, by state"), by_state)?;
        gauge(encoder, ("chronik_group_members", "Members of these groups"), groups.members as f64)?;
        let rebalances = ("chronik_group_rebalances", "Rebalances completed since the coordinator loaded");
        counter(encoder, rebalances, groups.completed_rebalances as f64)?;
        let commits = ("chronik_group_offset_commits", "Offsets committed since the coordinator loaded");
        counter(encoder, commits, groups.commits as f64)?;
        let labels = |lag: &crate::coordinator::metrics::PartitionLag| ByGroup {
            consumergroup: lag.group.to_string(),
            topic: lag.topic.to_string(),
            partition: lag.partition,
        };
        let committed = groups.lags.iter().map(|lag| (labels(lag), lag.committed as f64));
        gauges(encoder, ("kafka_consumergroup_current_offset", "A group's committed offset"), committed)?;
        let behind = groups.lags.iter().filter_map(|lag| Some((labels(lag), lag.lag? as f64)));
        gauges(encoder, ("kafka_consumergroup_lag", "Records between it and the high watermark"), behind)
    }
}
