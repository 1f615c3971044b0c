//! What the admin APIs share: the planes that they read and propose to, and how a request is refused.

use std::time::Duration;

use super::Broker;
use super::wire::{ErrorCode, StrBytes};
use crate::config::Settings;
use crate::metadata::{Command, MetadataPlane, Outcome, ProposeError, Refused};

/// How long a change may take whose request has no timeout of its own.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// What the admin APIs decide with.
#[derive(Clone, Copy)]
pub(super) struct Admin<'a> {
    /// The metadata plane.
    pub metadata: &'a dyn MetadataPlane,
    /// Static and dynamic settings.
    pub settings: &'a Settings,
}

impl<'a> Admin<'a> {
    /// That of a node.
    pub(super) fn of(broker: &'a Broker) -> Self {
        Self { metadata: &*broker.metadata, settings: &broker.settings }
    }

    /// Proposes a change and waits for it, no longer than until `deadline`.
    pub(super) async fn propose(&self, command: Command, deadline: Deadline) -> Result<(), Refusal> {
        self.outcome(command, deadline).await.map(drop)
    }

    /// Proposes a change of many partitions and waits for it: one outcome for each, in the command's order. Nothing is
    /// proposed where the command names none.
    pub(super) async fn propose_each(
        &self,
        command: Command,
        deadline: Deadline,
    ) -> Result<Vec<Result<(), Refusal>>, Refusal> {
        let count = partitions_of(&command);
        if count == 0 {
            return Ok(vec![]);
        }
        match self.outcome(command, deadline).await? {
            Outcome::Partitions(outcomes) => {
                assert_eq!(outcomes.len(), count, "apply answers each partition of a command");
                Ok(outcomes.into_iter().map(|outcome| outcome.map_err(Refusal::from)).collect())
            }
            other => unreachable!("a command on many partitions is answered for each, not with {other:?}"),
        }
    }

    async fn outcome(&self, command: Command, deadline: Deadline) -> Result<Outcome, Refusal> {
        match tokio::time::timeout_at(deadline.0, self.metadata.propose(command)).await {
            Err(_) => Err(Refusal::bare(ErrorCode::RequestTimedOut)),
            Ok(Err(error)) => Err(Refusal::from(error)),
            Ok(Ok(outcome)) => outcome.refused().map_or(Ok(outcome), |refused| Err(Refusal::from(refused))),
        }
    }
}

/// How many partitions a command of many names.
fn partitions_of(command: &Command) -> usize {
    match command {
        Command::BeginReassignment(moves) => moves.len(),
        Command::CancelReassignment(partitions) | Command::ElectLeaders { partitions, .. } => partitions.len(),
        other => unreachable!("{other:?} is no command on many partitions"),
    }
}

/// Until when a client waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(tokio::time::Instant);

impl Deadline {
    /// The time that a request gives from now on. Nothing is tried for a request that gives none, as in Kafka.
    pub(super) fn of_request(timeout_ms: i32) -> Result<Self, Refusal> {
        match u64::try_from(timeout_ms) {
            Ok(timeout) if timeout > 0 => Ok(Self::after(Duration::from_millis(timeout))),
            _ => Err(Refusal::bare(ErrorCode::RequestTimedOut)),
        }
    }

    /// So much from now on.
    pub(super) fn after(time: Duration) -> Self {
        Self(tokio::time::Instant::now() + time)
    }

    /// Waits until this node's replicas are what its newest image says, so that the client that got its answer finds
    /// what it asked for.
    pub(super) async fn applied(self, broker: &Broker) {
        let index = broker.metadata.image().index();
        // Late replicas are no error: clients ask again.
        let _ = tokio::time::timeout_at(self.0, broker.partitions.applied(index)).await;
    }
}

/// Why something was refused, as a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The error's code.
    pub code: ErrorCode,
    /// What a person can act on.
    pub message: Option<String>,
}

impl Refusal {
    /// With a message.
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()) }
    }

    /// Without a message, where Kafka has none.
    pub(super) const fn bare(code: ErrorCode) -> Self {
        Self { code, message: None }
    }

    /// The message for the wire.
    pub(super) fn text(&self) -> Option<StrBytes> {
        self.message.as_deref().map(StrBytes::from)
    }
}

/// The code and the message of an outcome, for responses that have both.
pub(super) fn code_and_text(outcome: &Result<(), Refusal>) -> (i16, Option<StrBytes>) {
    match outcome {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(refusal) => (refusal.code.code(), refusal.text()),
    }
}

impl From<ProposeError> for Refusal {
    fn from(error: ProposeError) -> Self {
        let code = match error {
            ProposeError::TimedOut => return Self::bare(ErrorCode::RequestTimedOut),
            ProposeError::TooLarge { .. } => ErrorCode::PolicyViolation,
            // Clients look for the controller again, and retry.
            ProposeError::LeaderChanged | ProposeError::Stopping => ErrorCode::NotController,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::TopicExists => ErrorCode::TopicAlreadyExists,
            Refused::UnknownTopic | Refused::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            Refused::PartitionCountChanged => ErrorCode::InvalidPartitions,
            Refused::InvalidAssignment | Refused::NotEnoughInSync => ErrorCode::InvalidReplicaAssignment,
            Refused::StaleBrokerEpoch => ErrorCode::StaleBrokerEpoch,
            Refused::UnknownNode => ErrorCode::BrokerIdNotRegistered,
            Refused::ElectionNotNeeded => ErrorCode::ElectionNotNeeded,
            Refused::PreferredLeaderNotAvailable => ErrorCode::PreferredLeaderNotAvailable,
            Refused::EligibleLeadersNotAvailable => ErrorCode::EligibleLeadersNotAvailable,
            Refused::NoReassignment => ErrorCode::NoReassignmentInProgress,
            _ => ErrorCode::InvalidRequest,
        };
        Self::new(code, refused.to_string())
    }
}
