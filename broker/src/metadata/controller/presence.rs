//! A node's presence in the cluster, from its own side: it registers, sends heartbeats, steps aside and leaves.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::ControllerOptions;
use crate::ids::{BrokerEpoch, NodeId};
use crate::metadata::command::Command;
use crate::metadata::heartbeat::{Heartbeat, HeartbeatLink, HeartbeatReply};
use crate::metadata::outcome::{Outcome, Refused};
use crate::metadata::topology::Node;
use crate::metadata::{MetadataPlane, ProposeError};

/// How long a registration from another data folder waits for the old one's session to end: longer than one lasts, also
/// when the controller changes meanwhile.
const REGISTER_WITHIN: Duration = Duration::from_secs(15);
/// Between attempts.
const RETRY: Duration = Duration::from_millis(200);

/// Why a node could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Apply refused it.
    #[error("the registration of node {node} was refused: {why}")]
    Refused {
        /// Which node.
        node: NodeId,
        /// Why.
        why: Refused,
    },
    /// It got no answer.
    #[error("the registration of node {node} failed: {why}")]
    Failed {
        /// Which node.
        node: NodeId,
        /// Why.
        why: ProposeError,
    },
}

/// Registers this node at start and returns its broker epoch. Every partition that it led before is elected anew. The
/// node's image should have caught up first: it is alive, and may lead, from here on.
///
/// Tries on while there is no metadata leader. While another data folder's registration is alive it waits for that
/// session to end, and is refused if it does not: another process runs with this node id.
///
/// `acked_may_be_lost`: it acknowledges before it flushes (`chronik.durability=os`) and its last stop was unclean.
pub async fn register_node(
    plane: &dyn MetadataPlane,
    node: Node,
    acked_may_be_lost: bool,
) -> Result<BrokerEpoch, RegisterError> {
    let id = node.id;
    let give_up = Instant::now() + REGISTER_WITHIN;
    loop {
        match plane.propose(Command::RegisterNode { node: node.clone(), acked_may_be_lost }).await {
            Ok(Outcome::Registered(epoch)) => return Ok(epoch),
            Ok(Outcome::Refused { why: Refused::NodeIdInUse, .. }) if Instant::now() < give_up => {}
            Ok(Outcome::Refused { why, .. }) => return Err(RegisterError::Refused { node: id, why }),
            Ok(other) => unreachable!("RegisterNode answers Registered or Refused, not {other:?}"),
            Err(why @ (ProposeError::TimedOut | ProposeError::LeaderChanged)) => {
                tracing::warn!(node = id.get(), %why, "not registered yet");
            }
            Err(why) => return Err(RegisterError::Failed { node: id, why }),
        }
        sleep(RETRY).await;
    }
}

/// This node's registration is not the current one any more: another process has taken its place, or it was
/// unregistered. The process must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "node {node} is not registered any more with broker epoch {epoch}: another process took its place, or it was removed"
)]
pub struct Superseded {
    /// Which node.
    pub node: NodeId,
    /// Its registration.
    pub epoch: BrokerEpoch,
}

/// Sends heartbeats for as long as the node is registered. A node that was fenced goes on: the controller unfences it
/// once it is heard and has caught up.
pub async fn keep_alive(
    plane: Arc<dyn MetadataPlane>,
    link: Arc<dyn HeartbeatLink>,
    node: &Node,
    epoch: BrokerEpoch,
    options: &ControllerOptions,
) -> Superseded {
    // Whom the last reply named, until somebody answers as the controller.
    let mut hint = None;
    let mut fenced = false;
    loop {
        let due = Instant::now() + options.heartbeat;
        if let Some(to) = hint.take().or_else(|| plane.leader()) {
            let applied = plane.image().index();
            let heartbeat = Heartbeat { node: node.id, directory: node.directory, epoch, applied };
            match timeout(options.suspect / 2, link.send(to, &heartbeat)).await {
                Ok(Ok(HeartbeatReply::Alive { fenced: now })) => {
                    if now != fenced {
                        tracing::warn!(fenced = now, "the controller's view of this node has changed");
                        fenced = now;
                    }
                }
                Ok(Ok(HeartbeatReply::NotLeader { leader })) => hint = leader.filter(|leader| *leader != to),
                Ok(Ok(HeartbeatReply::Superseded)) => return Superseded { node: node.id, epoch },
                Ok(Err(why)) => tracing::debug!(%why, "a heartbeat was lost"),
                Err(_) => tracing::debug!(to = to.get(), "a heartbeat got no reply in time"),
            }
        }
        tokio::time::sleep_until(due).await;
    }
}

/// Why a node could not say that it leaves. The others notice when its connections close.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    /// It got no outcome.
    #[error("{0}")]
    Propose(#[from] ProposeError),
    /// Apply refused it.
    #[error("{0}")]
    Refused(Refused),
    /// Not within the given time.
    #[error("no metadata leader answered in time")]
    TimedOut,
}

/// The first half of an orderly stop: leaders move away from this node as far as others can lead, and its image shows it
/// when this returns. It stays in sync, so nobody's writes wait for it. Nothing to do for a node that is alone.
pub async fn step_aside(
    plane: &dyn MetadataPlane,
    node: NodeId,
    epoch: BrokerEpoch,
    within: Duration,
) -> Result<(), LeaveError> {
    if is_alone(plane, node) { Ok(()) } else { insist(plane, Command::BeginStop { node, epoch }, within).await }
}

/// The second half, when it serves nobody any more: the node leaves every ISR at once, instead of holding writes up
/// until its silence is noticed. To be called when heartbeats have ended: they would bring it back.
pub async fn depart(
    plane: &dyn MetadataPlane,
    node: NodeId,
    epoch: BrokerEpoch,
    within: Duration,
) -> Result<(), LeaveError> {
    if is_alone(plane, node) { Ok(()) } else { insist(plane, Command::FenceNode { node, epoch }, within).await }
}

fn is_alone(plane: &dyn MetadataPlane, node: NodeId) -> bool {
    plane.image().nodes().all(|other| other.id == node || other.fenced)
}

async fn insist(plane: &dyn MetadataPlane, command: Command, within: Duration) -> Result<(), LeaveError> {
    let attempts = async {
        loop {
            match plane.propose(command.clone()).await {
                Ok(Outcome::Refused { why, .. }) => return Err(LeaveError::Refused(why)),
                Ok(_) => return Ok(()),
                Err(ProposeError::LeaderChanged) => sleep(RETRY).await,
                Err(why) => return Err(why.into()),
            }
        }
    };
    timeout(within, attempts).await.unwrap_or(Err(LeaveError::TimedOut))
}
