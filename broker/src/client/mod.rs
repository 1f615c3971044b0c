//! A small Kafka client on the broker's own codec, for the command line: no librdkafka, no JVM.

pub mod admin;
pub mod assignor;
mod cluster;
mod connection;
pub mod consumer;
pub mod group;
pub mod producer;
pub mod records;
mod trouble;

pub use cluster::{Client, PartitionMetadata, TopicMetadata};
pub use connection::Connection;
pub use trouble::OnTrouble;

use crate::kafka::wire::ErrorCode;

/// Where a broker is looked for when nothing is said: where one on this machine serves by default.
pub const DEFAULT_BOOTSTRAP: &str = "localhost:9092";

/// What went wrong between this client and a broker.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("can't connect to {address}: {why}; is the broker running there? (--bootstrap HOST:PORT)")]
    Connect {
        /// To where.
        address: String,
        /// The system's reason.
        why: String,
    },
    /// No connection to a node, at the address that the cluster tells.
    #[error(
        "can't connect to {address}, as the cluster tells to reach node {node}: {why}; is its advertised_addr right?"
    )]
    Unreachable {
        /// Which node.
        node: i32,
        /// Its address.
        address: String,
        /// The system's reason.
        why: String,
    },
    /// The connection failed in use.
    #[error("the connection to {address} failed: {why}")]
    Connection {
        /// To where.
        address: String,
        /// The reason.
        why: String,
    },
    /// No answer yet.
    #[error("{address} has not answered {what} yet")]
    Unanswered {
        /// What was asked.
        what: &'static str,
        /// Whom.
        address: String,
    },
    /// No answer in time.
    #[error("{address} did not answer {what} in time")]
    TimedOut {
        /// What was asked.
        what: &'static str,
        /// Whom.
        address: String,
    },
    /// The broker does not speak this API at a version that this client knows.
    #[error("{address} does not support {api}")]
    Unsupported {
        /// Which request.
        api: &'static str,
        /// Whose.
        address: String,
    },
    /// The broker refused.
    #[error("{attempt}: {message}")]
    Refused {
        /// What was attempted.
        attempt: String,
        /// Kafka's error code.
        code: i16,
        /// What the broker said, or the code's name.
        message: String,
    },
    /// Bytes that are no record batches.
    #[error("{topic}-{partition} holds a batch that can't be read at offset {offset}: {why}")]
    Records {
        /// Of which topic.
        topic: String,
        /// Of which partition.
        partition: i32,
        /// Where.
        offset: i64,
        /// What is wrong.
        why: String,
    },
    /// A partition that has no leader.
    #[error("{topic}-{partition} has no leader now")]
    NoLeader {
        /// Its topic.
        topic: String,
        /// Its index.
        partition: i32,
    },
}

impl ClientError {
    /// A refusal by its code, with the broker's words when it has some.
    pub fn refused(attempt: impl Into<String>, code: i16, message: Option<&str>) -> Self {
        let message = match message {
            Some(words) if !words.is_empty() => words.to_owned(),
            _ => explain(code),
        };
        Self::Refused { attempt: attempt.into(), code, message }
    }

    /// There is no topic of this name.
    pub fn no_topic(name: &str) -> Self {
        Self::refused(format!("topic {name}"), ErrorCode::UnknownTopicOrPartition.code(), Some(NO_TOPIC))
    }

    /// There is no group of this name.
    pub fn no_group(name: &str) -> Self {
        Self::refused(format!("group {name}"), ErrorCode::GroupIdNotFound.code(), Some(NO_GROUP))
    }

    /// The same error, of a connection to an address that the cluster told.
    fn of_node(self, node: i32) -> Self {
        match self {
            Self::Connect { address, why } => Self::Unreachable { node, address, why },
            other => other,
        }
    }

    /// Whether this error is a refusal with that code.
    pub fn is(&self, wanted: ErrorCode) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted.code())
    }

    /// Whether a coordinator did nothing because it loads, or is none any more: the same succeeds when there is one.
    pub fn is_of_no_coordinator(&self) -> bool {
        const CODES: [ErrorCode; 3] =
            [ErrorCode::CoordinatorLoadInProgress, ErrorCode::CoordinatorNotAvailable, ErrorCode::NotCoordinator];
        CODES.iter().any(|code| self.is(*code))
    }

    /// Whether the same may succeed later, maybe at another broker.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connection { .. }
            | Self::Unanswered { .. }
            | Self::TimedOut { .. }
            | Self::NoLeader { .. }
            | Self::Connect { .. }
            | Self::Unreachable { .. } => true,
            Self::Refused { code, .. } => RETRIABLE.iter().any(|retriable| retriable.code() == *code),
            Self::Unsupported { .. } | Self::Records { .. } => false,
        }
    }
}

/// The codes that Kafka's clients retry, as far as these requests meet them.
const RETRIABLE: [ErrorCode; 15] = [
    ErrorCode::UnknownTopicOrPartition,
    ErrorCode::LeaderNotAvailable,
    ErrorCode::NotLeaderOrFollower,
    ErrorCode::RequestTimedOut,
    ErrorCode::ReplicaNotAvailable,
    ErrorCode::NetworkException,
    ErrorCode::CoordinatorLoadInProgress,
    ErrorCode::CoordinatorNotAvailable,
    ErrorCode::NotCoordinator,
    ErrorCode::NotEnoughReplicas,
    ErrorCode::NotEnoughReplicasAfterAppend,
    ErrorCode::KafkaStorageError,
    ErrorCode::FencedLeaderEpoch,
    ErrorCode::UnknownLeaderEpoch,
    ErrorCode::OffsetNotAvailable,
];

const NO_TOPIC: &str = "there is no such topic (see: chronik topic list)";
const NO_GROUP: &str = "there is no such group (see: chronik group list)";

/// Errors that users meet, in words that say what to do; others by their number.
fn explain(code: i16) -> String {
    const WORDS: [(ErrorCode, &str); 16] = [
        (ErrorCode::UnknownTopicOrPartition, "there is no such topic or partition (see: chronik topic list)"),
        (ErrorCode::TopicAlreadyExists, "the topic exists already"),
        (ErrorCode::InvalidTopicException, "not a valid topic name: 1 to 249 of letters, digits, '.', '_' and '-'"),
        (ErrorCode::InvalidPartitions, "not a valid number of partitions"),
        (ErrorCode::InvalidReplicationFactor, "not a valid replication factor (more than there are nodes?)"),
        (ErrorCode::MessageTooLarge, "larger than the topic's max.message.bytes"),
        (ErrorCode::NotEnoughReplicas, "fewer in-sync replicas than min.insync.replicas"),
        (ErrorCode::RequestTimedOut, "the broker gave up waiting"),
        (ErrorCode::NonEmptyGroup, "the group has members: stop them first"),
        (ErrorCode::GroupIdNotFound, NO_GROUP),
        (ErrorCode::InvalidConfig, "not a valid setting"),
        (ErrorCode::KafkaStorageError, "the broker's disk is full or failed"),
        (ErrorCode::UnknownMemberId, "the group has members, or this one was expelled"),
        (ErrorCode::CoordinatorNotAvailable, "the group's coordinator is not available now"),
        (ErrorCode::CoordinatorLoadInProgress, "the group's coordinator is still reading what it holds"),
        (ErrorCode::NotCoordinator, "the group's coordinator is moving to another node"),
    ];
    let words = WORDS.iter().find(|(known, _)| known.code() == code);
    words.map_or_else(|| format!("Kafka error {code}"), |(_, words)| (*words).to_owned())
}

/// Turns an error code of a question about a topic into a refusal: one that does not exist is told the same way always.
pub(crate) fn check_topic(
    name: &str,
    attempt: impl FnOnce() -> String,
    code: i16,
    message: Option<&str>,
) -> Result<(), ClientError> {
    if code == ErrorCode::UnknownTopicOrPartition.code() {
        return Err(ClientError::no_topic(name));
    }
    check(attempt, code, message)
}

/// The same of a question about a group.
pub(crate) fn check_group(
    name: &str,
    attempt: impl FnOnce() -> String,
    code: i16,
    message: Option<&str>,
) -> Result<(), ClientError> {
    if code == ErrorCode::GroupIdNotFound.code() {
        return Err(ClientError::no_group(name));
    }
    check(attempt, code, message)
}

/// Turns an error code into a refusal.
pub(crate) fn check(attempt: impl FnOnce() -> String, code: i16, message: Option<&str>) -> Result<(), ClientError> {
    if code == ErrorCode::None.code() { Ok(()) } else { Err(ClientError::refused(attempt(), code, message)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_does_not_exist_is_told_in_the_same_words_whatever_was_attempted() {
        let code = ErrorCode::UnknownTopicOrPartition.code();
        for words in [None, Some("This server does not host this topic-partition.")] {
            let error = check_topic("t", || "delete topic t".to_owned(), code, words).expect_err("it is an error");
            assert_eq!(error.to_string(), "topic t: there is no such topic (see: chronik topic list)");
            assert!(error.is(ErrorCode::UnknownTopicOrPartition) && error.is_retriable());
        }
    }

    #[test]
    fn an_address_that_the_cluster_told_is_not_blamed_on_the_bootstrap_flag() {
        let refused = ClientError::Connect { address: "inside:9092".to_owned(), why: "unknown host".to_owned() };
        assert!(refused.to_string().contains("--bootstrap"));
        let told = refused.of_node(3).to_string();
        assert!(told.contains("node 3") && told.contains("advertised_addr") && !told.contains("--bootstrap"), "{told}");
    }
}
