//! Writes: commands under the operator's lease, where the caller has one, and their outcomes.

use std::time::Duration;

use tonic::Status;

use super::refusal::{not_proposed, refused};
use crate::ids::NodeId;
use crate::metadata::{Command, Image, MetadataPlane, Outcome, Refused};

/// How long a change of the Raft group may take until the caller is told that it goes on by itself.
const SEATED_WITHIN: Duration = Duration::from_secs(30);

/// Proposes and waits for the outcome. With an operator epoch the command is carried out only while that lease is the
/// current one: it is apply that compares, not this node, which may know less.
pub(super) async fn propose(
    metadata: &dyn MetadataPlane,
    attempt: &str,
    operator_epoch: Option<u64>,
    command: Command,
) -> Result<Outcome, Status> {
    match outcome(metadata, attempt, operator_epoch, command).await? {
        Ok(outcome) => Ok(outcome),
        Err(why) => Err(refused(attempt, why)),
    }
}

/// The same, for those who go on after a refusal.
pub(super) async fn outcome(
    metadata: &dyn MetadataPlane,
    attempt: &str,
    operator_epoch: Option<u64>,
    command: Command,
) -> Result<Result<Outcome, Refused>, Status> {
    let command = match operator_epoch {
        Some(epoch) => Command::UnderLease { epoch, command: Box::new(command) },
        None => command,
    };
    let outcome = metadata.propose(command).await.map_err(|why| not_proposed(attempt, &why))?;
    Ok(outcome.refused().map_or(Ok(outcome), Err))
}

/// Proposes a command on many partitions: one outcome for each.
pub(super) async fn propose_each(
    metadata: &dyn MetadataPlane,
    attempt: &str,
    operator_epoch: Option<u64>,
    command: Option<Command>,
) -> Result<Vec<Result<(), Refused>>, Status> {
    let Some(command) = command else { return Ok(vec![]) };
    match propose(metadata, attempt, operator_epoch, command).await? {
        Outcome::Partitions(outcomes) => Ok(outcomes),
        other => unreachable!("a command on many partitions is answered for each, not with {other:?}"),
    }
}

/// Waits until this node's image shows what Raft's leader does by itself after a command.
pub(super) async fn until(
    metadata: &dyn MetadataPlane,
    attempt: &str,
    shown: impl Fn(&Image) -> bool,
) -> Result<(), Status> {
    let mut images = metadata.subscribe();
    match tokio::time::timeout(SEATED_WITHIN, images.wait_for(|image| shown(image))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(Status::unavailable(format!("{attempt}: the node is stopping; ask another node"))),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "{attempt}: not finished within {} s; it goes on by itself (chronik cluster voters tells how far it is)",
            SEATED_WITHIN.as_secs()
        ))),
    }
}

/// A node id as it came over the wire.
pub(super) fn node_id(id: i32) -> Result<NodeId, Status> {
    NodeId::try_from(id).map_err(|why| Status::invalid_argument(why.to_string()))
}
