//! The controller: runs on the node that leads the metadata plane, and proposes what the cluster should do. It never
//! decides alone: apply does, by what is true when the command's turn comes.
//!
//! Reading order: [`sessions`] (which nodes are alive), [`moves`] (where replicas go), [`duties`] (all that is to be done,
//! from what is known: [`duties::Controller`]), [`driver`] (time, heartbeats and proposals around it). The other end, on
//! every node: [`presence`].

use std::time::Duration;

pub mod driver;
pub mod duties;
pub mod moves;
pub mod presence;
pub mod sessions;
#[cfg(test)]
mod tests;

pub use driver::{ControllerService, Dialler, Dialling};
pub use duties::Controller;
pub use presence::{LeaveError, RegisterError, Superseded, depart, keep_alive, register_node, step_aside};
pub use sessions::Dialled;

/// The controller's times and measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerOptions {
    /// How often nodes send heartbeats.
    pub heartbeat: Duration,
    /// A node that was silent for so long is fenced, unless it answers when it is dialled.
    pub session: Duration,
    /// A node that was silent for so long is dialled.
    pub suspect: Duration,
    /// A node that was silent for so long is fenced even if it answers when it is dialled: it can't reach the controller.
    pub silence: Duration,
    /// A stop that was granted, or begun, and did not happen ends after so long.
    pub stop: Duration,
    /// How often leaders are given back to preferred replicas (`leader.imbalance.check.interval.seconds`); `None` for
    /// never (`auto.leader.rebalance.enable=false`).
    pub balance: Option<Duration>,
    /// Partitions that are moved away from drained nodes at a time.
    pub moves: usize,
    /// `unclean.leader.election.enable` of topics that don't say otherwise.
    pub unclean: bool,
}

impl ControllerOptions {
    /// How long a node that is dialled may take to answer: it is known before the session ends.
    fn dial(&self) -> Duration {
        self.session.saturating_sub(self.suspect) / 2
    }
}

impl Default for ControllerOptions {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(200),
            session: Duration::from_millis(1500),
            suspect: Duration::from_millis(750),
            silence: Duration::from_secs(6),
            stop: Duration::from_mins(5),
            balance: Some(Duration::from_mins(5)),
            moves: 20,
            unclean: false,
        }
    }
}
