//! The metadata plane's replicated state: commands → state (pure), the image that handlers read, the controller.
//! Does no I/O: `raft/` replicates and stores.
//!
//! Reading order: [`topology`] (what there is), [`command`] (what may change it) and [`outcome`], [`state`] (how), [`image`] (who
//! reads it), [`membership`] (the nodes of the metadata plane itself), [`codec`] and [`snapshot`] (as bytes), [`safety`],
//! [`placement`] and [`fill`] (what is decided before), [`heartbeat`] and [`controller`] (who proposes).

use std::pin::Pin;
use std::sync::Arc;

use crate::ids::NodeId;

#[cfg(test)]
mod cluster_tests;
pub mod codec;
pub mod command;
pub mod controller;
mod election;
pub mod fill;
pub mod heartbeat;
pub mod image;
pub mod membership;
#[cfg(test)]
pub(crate) mod one_member;
pub mod outcome;
pub mod placement;
mod proto;
pub mod quorum;
pub mod safety;
pub mod snapshot;
pub mod state;
#[cfg(test)]
mod state_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod topology;

pub use command::{AlterPartition, Command, ConfigChange, ElectionKind, Move, NewTopic};
pub use heartbeat::{Heartbeat, HeartbeatLink, HeartbeatReply, HeartbeatSink};
pub use image::{Image, TopicChange};
pub use membership::{Member, Members, Membership, MembershipError, PeerStatus, RaftRole, RaftStatus, Seat, Target};
pub use outcome::{Outcome, Refused};
pub use safety::{QuorumSafety, StopSafety, is_safe_to_stop};
pub use state::State;
pub use topology::{
    ClusterVersion, ConfigResource, Drain, Endpoint, Node, OperatorLease, PartitionRegistration, Reassignment,
    StopGrant, Topic,
};

/// Why a proposal got no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// No leader could be reached in time; the command may or may not take effect.
    #[error("no metadata leader answered in time")]
    TimedOut,
    /// Another leader took over first; the command took no effect and never will.
    #[error("the metadata leader changed before the command was committed")]
    LeaderChanged,
    /// The command, as bytes, is larger than an entry of the metadata log may be.
    #[error("the command has {bytes} bytes, more than the {limit} that the metadata log takes")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest size.
        limit: usize,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// What `MetadataPlane::propose` returns.
pub type Proposal<'a> = Pin<Box<dyn Future<Output = Result<Outcome, ProposeError>> + Send + 'a>>;

/// What handlers hold: reads the image, proposes commands. Implemented by `raft::RaftNode`.
pub trait MetadataPlane: Send + Sync {
    /// The newest image of this node.
    fn image(&self) -> Arc<Image>;
    /// Sees the newest image whenever there is one; images in between may be skipped (`Image::changed_topics` tells
    /// what differs).
    fn subscribe(&self) -> tokio::sync::watch::Receiver<Arc<Image>>;
    /// Proposes; resolves when the command is applied here.
    fn propose(&self, command: Command) -> Proposal<'_>;
    /// Which node leads the metadata plane, as this one knows.
    fn leader(&self) -> Option<NodeId>;
}
