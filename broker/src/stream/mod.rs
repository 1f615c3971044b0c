//! The data plane: partitions, their leadership, ISR and high watermark.
//!
//! `Partitions` follows the metadata image: it opens and deletes logs, and tells each partition who leads it. A
//! `Partition` appends as the leader, moves its high watermark, and calls those who wait for acknowledgements or data;
//! as a follower it obeys its leader. `replication` is the border to the links that carry records between the two.
//!
//! What decides is apart from what acts: `isr` (the high watermark), `membership` (who joins and leaves the ISR),
//! `beginning` (where a follower's log parts from its leader's), `follower` (whom a follower obeys), `tails` (who is
//! sent what, and when).

mod beginning;
mod error;
mod follower;
mod isr;
mod isr_keeper;
pub mod links;
mod membership;
mod news;
mod partition;
mod partitions;
pub mod replication;
mod tails;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod waiters;

use std::sync::Arc;

pub use error::PartitionError;
pub use isr::Isr;
pub use isr_keeper::keep_isrs;
pub use partition::{Accepted, Acks, Partition};
pub use partitions::{Partitions, give_up_offline};
pub use waiters::{AckWaiter, DataWaiter};

use crate::ids::{LeaderEpoch, PartitionIndex};
use crate::log::LogConfig;
use crate::metadata::Image;

/// Told about the leaderships of this node, in order: for coordinators.
pub trait LeadershipListener: Send + Sync {
    /// This node leads the partition now.
    fn elected(&self, partition: &Arc<Partition>, epoch: LeaderEpoch);
    /// This node leads it no more (or the topic was deleted).
    fn resigned(&self, topic: &str, partition: PartitionIndex);
}

/// Effective settings of a topic: the dynamic ones over the brokers' over Kafka's defaults.
pub trait TopicSettings: Send + Sync {
    /// What its logs need.
    fn log_config(&self, image: &Image, topic: &str) -> Arc<LogConfig>;
    /// `min.insync.replicas`.
    fn min_insync_replicas(&self, image: &Image, topic: &str) -> usize;
}
