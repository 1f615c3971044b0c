//! The Raft group as its leader sees it, for whoever is asked about it on any node.

use std::pin::Pin;

use super::RaftStatus;

/// What `QuorumView::describe` returns.
pub type DescribingQuorum<'a> = Pin<Box<dyn Future<Output = RaftStatus> + Send + 'a>>;

/// Only a leader knows how far the others are: the view asks it.
pub trait QuorumView: Send + Sync {
    /// The leader's view; this node's own, without the members' progress, where no leader answers in time.
    fn describe(&self) -> DescribingQuorum<'_>;
}
