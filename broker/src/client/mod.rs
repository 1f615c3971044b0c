//! A small Kafka client on the broker's own codec, for the command line: no librdkafka, no JVM.

pub mod admin;
pub mod assignor;
mod cluster;
mod connection;
pub mod consumer;
pub mod group;
pub mod producer;
pub mod records;

pub use cluster::{Client, PartitionMetadata, TopicMetadata};
pub use connection::Connection;

use crate::kafka::wire::ErrorCode;

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
    /// The connection failed in use.
    #[error("the connection to {address} failed: {why}")]
    Connection {
        /// To where.
        address: String,
        /// The reason.
        why: String,
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

    /// Whether this error is a refusal with that code.
    pub fn is(&self, wanted: ErrorCode) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted.code())
    }

    /// Whether the same may succeed later, maybe at another broker.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connection { .. } | Self::TimedOut { .. } | Self::NoLeader { .. } | Self::Connect { .. } => true,
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

/// Errors that users meet, in words that say what to do; others by their number.
fn explain(code: i16) -> String {
    const WORDS: [(ErrorCode, &str); 14] = [
        (ErrorCode::UnknownTopicOrPartition, "no such topic or partition (see: chronik topic list)"),
        (ErrorCode::TopicAlreadyExists, "the topic exists already"),
        (ErrorCode::InvalidTopicException, "not a valid topic name: 1 to 249 of letters, digits, '.', '_' and '-'"),
        (ErrorCode::InvalidPartitions, "not a valid number of partitions"),
        (ErrorCode::InvalidReplicationFactor, "not a valid replication factor (more than there are nodes?)"),
        (ErrorCode::MessageTooLarge, "larger than the topic's max.message.bytes"),
        (ErrorCode::NotEnoughReplicas, "fewer in-sync replicas than min.insync.replicas"),
        (ErrorCode::RequestTimedOut, "the broker gave up waiting"),
        (ErrorCode::NonEmptyGroup, "the group has members: stop them first"),
        (ErrorCode::GroupIdNotFound, "no such group (see: chronik group list)"),
        (ErrorCode::InvalidConfig, "not a valid setting"),
        (ErrorCode::KafkaStorageError, "the broker's disk is full or failed"),
        (ErrorCode::UnknownMemberId, "the group has members, or this one was expelled"),
        (ErrorCode::CoordinatorNotAvailable, "the group's coordinator is not available now"),
    ];
    let words = WORDS.iter().find(|(known, _)| known.code() == code);
    words.map_or_else(|| format!("Kafka error {code}"), |(_, words)| (*words).to_owned())
}

/// Turns an error code into a refusal.
pub(crate) fn check(attempt: impl FnOnce() -> String, code: i16, message: Option<&str>) -> Result<(), ClientError> {
    if code == ErrorCode::None.code() { Ok(()) } else { Err(ClientError::refused(attempt(), code, message)) }
}
