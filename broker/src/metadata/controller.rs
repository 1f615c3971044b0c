//! The controller proposes what the cluster should do; it never decides alone: apply does.
//!
//! For now it registers this node. Failure detection, elections and reassignment run here on the Raft leader once
//! there are several nodes.

use super::{Command, MetadataPlane, Node, Outcome, ProposeError, Refused};
use crate::ids::BrokerEpoch;

/// Why a node could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Apply refused it.
    #[error("the registration of node {node} was refused: {why}")]
    Refused {
        /// Which node.
        node: crate::ids::NodeId,
        /// Why.
        why: Refused,
    },
    /// It got no answer.
    #[error("the registration of node {node} failed: {why}")]
    Failed {
        /// Which node.
        node: crate::ids::NodeId,
        /// Why.
        why: ProposeError,
    },
}

/// Registers this node at start and returns its broker epoch. Every partition that it led before is elected anew.
///
/// `acked_may_be_lost`: it acknowledges before it flushes (`chronik.durability=os`) and its last stop was unclean.
pub async fn register_node(
    plane: &dyn MetadataPlane,
    node: Node,
    acked_may_be_lost: bool,
) -> Result<BrokerEpoch, RegisterError> {
    let id = node.id;
    match plane.propose(Command::RegisterNode { node, acked_may_be_lost }).await {
        Ok(Outcome::Registered(epoch)) => Ok(epoch),
        Ok(Outcome::Refused { why, .. }) => Err(RegisterError::Refused { node: id, why }),
        Ok(other) => unreachable!("RegisterNode answers Registered or Refused, not {other:?}"),
        Err(why) => Err(RegisterError::Failed { node: id, why }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::testing::{InstantPlane, node};

    #[tokio::test]
    async fn a_registration_answers_a_newer_broker_epoch_each_time() {
        let plane = InstantPlane::new();
        let first = register_node(plane.as_ref(), node(0), false).await.expect("the same data folder");
        let second = register_node(plane.as_ref(), node(0), false).await.expect("the same data folder");
        assert!(second > first);
    }

    #[tokio::test]
    async fn a_second_process_with_the_same_node_id_is_refused_and_says_so() {
        let plane = InstantPlane::new();
        let other = Node { directory: uuid::Uuid::from_u128(7), ..node(0) };
        let error = register_node(plane.as_ref(), other, false).await.expect_err("node 0 is alive");
        let text = "the registration of node 0 was refused: the node id is in use by another data folder";
        assert_eq!(error.to_string(), text);
    }
}
