//! Figures of the group coordinator, for `/metrics`.

use std::sync::Arc;

use super::group::GroupState;
use super::offsets::OffsetKey;

/// Figures of one coordinator partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ShardMetrics {
    pub states: GroupsByState,
    pub members: u64,
    pub offset_count: u64,
    pub completed_rebalances: u64,
    pub commits: u64,
    /// Every committed offset: group, partition, offset.
    pub offsets: Vec<(Arc<str>, OffsetKey, i64)>,
}

impl ShardMetrics {
    pub(super) fn count(&mut self, state: GroupState, members: usize, offsets: usize) {
        let of_state = match state {
            GroupState::Empty => &mut self.states.empty,
            GroupState::PreparingRebalance => &mut self.states.preparing_rebalance,
            GroupState::CompletingRebalance => &mut self.states.completing_rebalance,
            GroupState::Stable => &mut self.states.stable,
            GroupState::Dead => &mut self.states.dead,
        };
        *of_state += 1;
        self.members += members as u64;
        self.offset_count += offsets as u64;
    }
}

/// How many groups are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupsByState {
    /// Without members.
    pub empty: u64,
    /// Waiting for joins.
    pub preparing_rebalance: u64,
    /// Waiting for the assignment.
    pub completing_rebalance: u64,
    /// Consuming.
    pub stable: u64,
    /// Being deleted.
    pub dead: u64,
}

/// Figures of all groups that this node coordinates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupMetrics {
    /// Groups.
    pub states: GroupsByState,
    /// Members of all groups.
    pub members: u64,
    /// Committed offsets of all groups.
    pub offsets: u64,
    /// Generations that were started since the coordinator loaded.
    pub completed_rebalances: u64,
    /// Offsets that were committed since the coordinator loaded.
    pub commits: u64,
    /// How far each group is behind.
    pub lags: Vec<PartitionLag>,
}

/// How far a group is behind on one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// The group.
    pub group: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The committed offset.
    pub committed: i64,
    /// Records between it and the high watermark; `None` when another node leads the partition.
    pub lag: Option<u64>,
}

impl GroupMetrics {
    pub(super) fn add(&mut self, of_shard: &ShardMetrics) {
        self.states.empty += of_shard.states.empty;
        self.states.preparing_rebalance += of_shard.states.preparing_rebalance;
        self.states.completing_rebalance += of_shard.states.completing_rebalance;
        self.states.stable += of_shard.states.stable;
        self.states.dead += of_shard.states.dead;
        self.members += of_shard.members;
        self.offsets += of_shard.offset_count;
        self.completed_rebalances += of_shard.completed_rebalances;
        self.commits += of_shard.commits;
    }
}
