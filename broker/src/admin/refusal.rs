//! Errors as gRPC statuses, with a sentence that a person can act on.

use tonic::{Code, Status};

use crate::metadata::{MembershipError, ProposeError, Refused};

/// Why a write got no outcome; `attempt` says which: "drain node 3".
pub(super) fn not_proposed(attempt: &str, why: &ProposeError) -> Status {
    let (code, advice) = match why {
        ProposeError::TimedOut => (
            Code::DeadlineExceeded,
            "a majority of the voters must be up (chronik cluster voters); it may take effect yet: look before you repeat it",
        ),
        ProposeError::LeaderChanged => (Code::Unavailable, "repeat it"),
        ProposeError::TooLarge { .. } => (Code::InvalidArgument, "ask for less at a time"),
        ProposeError::Stopping => (Code::Unavailable, "ask another node"),
    };
    Status::new(code, format!("{attempt}: {why}; {advice}"))
}

/// Why a write was refused.
pub(super) fn refused(attempt: &str, why: Refused) -> Status {
    let (code, advice) = match why {
        Refused::UnknownTopic | Refused::UnknownPartition => (Code::NotFound, "see: chronik topic list"),
        Refused::UnknownNode => (Code::NotFound, "see: chronik cluster nodes"),
        Refused::UnknownMember => (Code::NotFound, "see: chronik cluster voters"),
        Refused::NotDraining => (Code::NotFound, "see: chronik cluster status"),
        Refused::NoReassignment => (Code::NotFound, "see: chronik cluster reassign"),
        Refused::InvalidAssignment => {
            (Code::InvalidArgument, "name registered nodes, each once, at least one of them alive")
        }
        Refused::StaleOperatorLease => (Code::PermissionDenied, "acquire the lease anew before anything else"),
        Refused::StaleBrokerEpoch | Refused::PartitionEpochChanged | Refused::PartitionCountChanged => {
            (Code::Aborted, "it changed meanwhile: look again and repeat")
        }
        Refused::AnotherStop => (Code::FailedPrecondition, "wait until that node is back or its grant has ended"),
        Refused::UnsafeStop => {
            (Code::FailedPrecondition, "wait until all replicas are in sync: chronik cluster status tells")
        }
        Refused::NodeAlive => (Code::FailedPrecondition, "stop it first"),
        Refused::NodeNotEmpty => (Code::FailedPrecondition, "drain it first: chronik cluster drain"),
        Refused::TooFewNodes => {
            (Code::FailedPrecondition, "add a node, or lower the replication factor of the largest topics")
        }
        Refused::LastVoter => (Code::FailedPrecondition, "promote another node first: chronik cluster voters promote"),
        Refused::MemberLeaving => (Code::FailedPrecondition, "wait until it has left"),
        Refused::NotEnoughInSync => (Code::FailedPrecondition, "wait until its replicas are in sync"),
        Refused::ClusterVersionTooOld => (Code::FailedPrecondition, "raise the cluster's version first"),
        Refused::UnsupportedClusterVersion => {
            (Code::FailedPrecondition, "upgrade every node first; the version never goes back")
        }
        other => return Status::failed_precondition(format!("{attempt}: {other}")),
    };
    Status::new(code, format!("{attempt}: {why}; {advice}"))
}

/// Why the Raft group did not change.
pub(super) fn not_changed(attempt: &str, why: &MembershipError) -> Status {
    let (code, advice) = match why {
        MembershipError::Propose(why) => return not_proposed(attempt, why),
        MembershipError::Refused(why) => return refused(attempt, *why),
        MembershipError::UnknownMember(_) => (Code::NotFound, "see: chronik cluster voters"),
        MembershipError::NotAVoter(_) => (Code::FailedPrecondition, "promote it first: chronik cluster voters promote"),
        MembershipError::Unfinished(_) => (Code::DeadlineExceeded, "chronik cluster voters tells how far it is"),
        MembershipError::NoLeader => (Code::Unavailable, "a majority of the voters must be up: chronik cluster voters"),
        MembershipError::Stopping => (Code::Unavailable, "ask another node"),
    };
    Status::new(code, format!("{attempt}: {why}; {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_was_attempted_why_and_what_to_do() {
        let status = refused("drain node 3", Refused::TooFewNodes);
        let words = "drain node 3: too few nodes would be left for a topic's replicas; add a node, or lower the \
                     replication factor of the largest topics";
        assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, words));
    }

    /// An operator that was succeeded must know it from everything that it may mend by waiting.
    #[test]
    fn a_stale_operator_is_told_apart() {
        for (why, code) in [
            (Refused::StaleOperatorLease, Code::PermissionDenied),
            (Refused::UnknownNode, Code::NotFound),
            (Refused::UnsafeStop, Code::FailedPrecondition),
            (Refused::PartitionEpochChanged, Code::Aborted),
            (Refused::InvalidAssignment, Code::InvalidArgument),
        ] {
            assert_eq!(refused("it", why).code(), code, "{why}");
        }
        assert_eq!(not_proposed("it", &ProposeError::TimedOut).code(), Code::DeadlineExceeded);
        assert_eq!(not_changed("it", &MembershipError::NoLeader).code(), Code::Unavailable);
    }
}
