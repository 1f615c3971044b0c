//! Heartbeats: how the controller knows which nodes are alive. The messages, and who takes and who carries them.

use std::pin::Pin;

use uuid::Uuid;

use crate::ids::{BrokerEpoch, NodeId};

/// A node tells the controller that it is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who.
    pub node: NodeId,
    /// The identity of its data folder.
    pub directory: Uuid,
    /// Its registration.
    pub epoch: BrokerEpoch,
    /// The Raft index that its image has reached.
    pub applied: u64,
}

/// What a heartbeat is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatReply {
    /// The controller has noted it.
    Alive {
        /// Whether the node is fenced all the same; the controller unfences it once its image has caught up.
        fenced: bool,
    },
    /// The asked node does not lead the metadata plane.
    NotLeader {
        /// Who does, as it knows.
        leader: Option<NodeId>,
    },
    /// The registration is not the node's current one: another process has taken its place, or the node was
    /// unregistered.
    Superseded,
}

/// Takes heartbeats: the controller of the node that leads the metadata plane. Any other node answers `NotLeader`.
pub trait HeartbeatSink: Send + Sync + 'static {
    /// Takes one from `heartbeat.node`, whose identity the transport has proven. Returns at once.
    fn heartbeat(&self, heartbeat: &Heartbeat) -> HeartbeatReply;
}

/// Why a heartbeat got no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no reply to a heartbeat from node {to}: {why}")]
pub struct HeartbeatLost {
    /// Who was asked.
    pub to: NodeId,
    /// What happened to it.
    pub why: String,
}

/// What `HeartbeatLink::send` returns.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<HeartbeatReply, HeartbeatLost>> + Send + 'a>>;

/// Carries heartbeats to other nodes' sinks; to this node's own, too. Implemented by `raft`.
pub trait HeartbeatLink: Send + Sync + 'static {
    /// Sends one to the node that is believed to lead. The caller bounds the time.
    fn send<'a>(&'a self, to: NodeId, heartbeat: &'a Heartbeat) -> Sending<'a>;
}
