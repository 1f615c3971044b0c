//! WAL streaming's links: connections over which a leader pushes what it appends to its followers, and they tell what
//! they have flushed. They move frames; what frames mean for a replica is decided behind `replication`'s traits.
//!
//! Reading order: [`frame`] (what is said), [`codec`] (as bytes), `pipe` (over a stream), `handshake` (who may speak);
//! the follower's end: `receiver` (takes connections), `inbound` (one of them), `acks`; the leader's end: `senders`
//! (who follows), `lane` (keeps a connection), `outbound` (one of them), `conversations` (what is said in it),
//! `queue` (what is appended meanwhile).

mod acks;
pub mod codec;
mod conversations;
pub mod frame;
mod handshake;
mod inbound;
mod lane;
mod liveness;
mod metrics;
mod outbound;
mod pipe;
mod queue;
mod receiver;
mod senders;
mod tasks;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod throttle;

use tokio::sync::watch;
use uuid::Uuid;

pub use handshake::{IdentityError, Registered, Roster};
pub use metrics::LinkMetrics;
pub use pipe::LinkError;
pub use receiver::WalReceiver;
pub use senders::{SenderOptions, Senders};

use crate::ids::{BrokerEpoch, NodeId};
use frame::Identity;

/// Who this process is, on either end of a link.
#[derive(Debug, Clone)]
pub struct Myself {
    /// The cluster.
    pub cluster: String,
    /// The node that it answers as.
    pub node: NodeId,
    /// The identity of its data folder.
    pub directory: Uuid,
    /// Its registration: a process that was fenced registers anew.
    pub epoch: watch::Receiver<BrokerEpoch>,
}

impl Myself {
    /// As it is told to the other end.
    fn identity(&self) -> Identity {
        Identity { node: self.node, directory: self.directory, epoch: *self.epoch.borrow() }
    }
}

/// A follower whose connection ended, and that could not be reached again at once: probably its process is gone. The
/// controller decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerLost {
    /// Who.
    pub node: NodeId,
}
