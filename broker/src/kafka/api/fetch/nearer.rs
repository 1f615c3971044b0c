//! Which replica a consumer is sent to (KIP-392): one of its own rack that has what it asks for.

use crate::config::{BrokerSettings, ReplicaSelector};
use crate::ids::{NodeId, Offset};
use crate::metadata::Image;
use crate::stream::Partition;

/// Finds replicas in one consumer's rack.
pub(super) struct Nearer<'a> {
    image: &'a Image,
    here: NodeId,
    rack: &'a str,
}

impl<'a> Nearer<'a> {
    /// For a consumer in `rack`; `None` where it is to read from leaders.
    pub(super) fn of(image: &'a Image, settings: &BrokerSettings, here: NodeId, rack: &'a str) -> Option<Self> {
        let aware = settings.replica_selector() == ReplicaSelector::RackAware && !rack.is_empty();
        aware.then_some(Self { image, here, rack })
    }

    /// The replica to ask for records from `offset` on, where another than this leader is nearer: of those in the rack
    /// the one that has most.
    pub(super) fn replica(&self, leader: &Partition, offset: i64) -> Option<NodeId> {
        let offset = Offset::try_from(offset).ok()?;
        let in_rack = |node: NodeId| {
            let node = self.image.node(node).filter(|node| !node.fenced);
            node.is_some_and(|node| node.rack.as_deref() == Some(self.rack))
        };
        if in_rack(self.here) {
            return None;
        }
        let followers = leader.followers_with(offset).into_iter().filter(|(node, _)| in_rack(*node));
        followers.max_by_key(|(_, end)| *end).map(|(node, _)| node)
    }
}
