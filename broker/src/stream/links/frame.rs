//! What the two ends of a link say to each other.
//!
//! ```text
//! leader                                            follower
//! Hello(version, cluster, node, directory, epoch, to, lane) →
//!                        ← HelloAck(node, directory, epoch), or Refused(reason) and the end
//! Greet(partition, session)                         →
//!                        ← State(epoch history, log start, flushed end)
//! Elected(epoch history, truncate to, start at)     →
//!                        ← Ready
//! Append(record) …       →
//! Progress(marks) …      →   one frame per round, all partitions
//!                        ← Ack(log start, flushed end) …   one frame per commit round, all partitions
//!                        ← Reject(why)          ends the session
//! Heartbeat              ↔
//! ```
//!
//! `codec` makes bytes of it; what it means is decided behind `replication::{Leaders, Followers}`.

use std::fmt;

use uuid::Uuid;

use crate::ids::{BrokerEpoch, NodeId, TopicPartition};
use crate::stream::replication::{CanonicalRecord, Elected, Extent, FollowerState, Marks, Reject, Session};

/// The version of everything below. Another one is refused with a reason.
pub const VERSION: u16 = 1;

/// Which of the two connections between a leader and a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Carries what is appended, as it is appended.
    Live,
    /// Carries what followers missed, so that a lagging partition never delays a live one.
    CatchUp,
}

impl Lane {
    /// Its name, for messages and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::CatchUp => "catch_up",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A node as it names itself; checked against the roster and the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub node: NodeId,
    /// The identity of its data folder.
    pub directory: Uuid,
    /// Its registration.
    pub epoch: BrokerEpoch,
}

/// The leader's opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Its cluster.
    pub cluster: String,
    /// Who it is.
    pub from: Identity,
    /// Whom it means to reach.
    pub to: NodeId,
    /// What the connection is for.
    pub lane: Lane,
}

/// Names a conversation about a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversation {
    /// The partition.
    pub partition: TopicPartition,
    /// The session.
    pub session: Session,
}

/// How far a follower has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flushed {
    /// In which conversation.
    pub about: Conversation,
    /// What is on its disk.
    pub extent: Extent,
}

/// Where a leader's marks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// In which conversation.
    pub about: Conversation,
    /// The marks.
    pub marks: Marks,
}

/// One message on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// First from the leader.
    Hello(Hello),
    /// First from the follower: who answers.
    HelloAck(Identity),
    /// Instead of it: why this link is not wanted. The sender closes behind it.
    Refused(String),
    /// The leader opens a session.
    Greet(Conversation),
    /// What the follower has.
    State(Conversation, FollowerState),
    /// Where the session begins.
    Elected(Conversation, Elected),
    /// The follower is there, durably.
    Ready(Conversation),
    /// One batch.
    Append(Conversation, CanonicalRecord),
    /// What is on the follower's disk.
    Ack(Vec<Flushed>),
    /// The leader's marks.
    Progress(Vec<Moved>),
    /// "I live."
    Heartbeat,
    /// The session is over on the follower's side.
    Reject(Conversation, Reject),
}

impl Frame {
    /// Its name, for messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::HelloAck(_) => "HelloAck",
            Self::Refused(_) => "Refused",
            Self::Greet(_) => "Greet",
            Self::State(..) => "State",
            Self::Elected(..) => "Elected",
            Self::Ready(_) => "Ready",
            Self::Append(..) => "Append",
            Self::Ack(_) => "Ack",
            Self::Progress(_) => "Progress",
            Self::Heartbeat => "Heartbeat",
            Self::Reject(..) => "Reject",
        }
    }
}
