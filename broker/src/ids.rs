//! Newtypes for every identity, so that one can never be passed for another.
//!
//! None has a `Default`, and none is made from a bare number without a check.

use std::fmt;

use uuid::Uuid;

/// A number that is not a valid identity of the named kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{value} is not a valid {kind}")]
pub struct InvalidId {
    kind: &'static str,
    value: i64,
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $int:ty, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($int);

        impl $name {
            /// The smallest value.
            pub const FIRST: Self = Self(0);

            /// Wraps a constant; for values that are not known at compile time use `try_from`.
            ///
            /// # Panics
            /// When `value` is negative.
            pub const fn new(value: $int) -> Self {
                assert!(value >= 0, concat!("a ", $kind, " is never negative"));
                Self(value)
            }

            /// The bare number, for the wire.
            pub const fn get(self) -> $int {
                self.0
            }

            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl TryFrom<$int> for $name {
            type Error = InvalidId;

            fn try_from(value: $int) -> Result<Self, InvalidId> {
                if value < 0 {
                    return Err(InvalidId { kind: $kind, value: i64::from(value) });
                }
                Ok(Self(value))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A broker's id in its cluster: given by configuration, never guessed.
    NodeId, i32, "node id"
);
number!(
    /// One registration of a node: a restarted broker has a newer one.
    BrokerEpoch, i64, "broker epoch"
);
number!(
    /// One leadership of a partition (KIP-101).
    LeaderEpoch, i32, "leader epoch"
);
number!(
    /// One version of a partition's registration: leader, ISR, replicas.
    PartitionEpoch, i32, "partition epoch"
);
number!(
    /// The number of a partition in its topic.
    PartitionIndex, i32, "partition index"
);
number!(
    /// A record's position in its partition.
    Offset, i64, "offset"
);
number!(
    /// An idempotent or transactional producer (KIP-98).
    ProducerId, i64, "producer id"
);
number!(
    /// One incarnation of a producer id (KIP-98).
    ProducerEpoch, i16, "producer epoch"
);

impl Offset {
    /// This offset moved forward by `records`.
    #[must_use]
    pub const fn plus(self, records: u64) -> Self {
        Self(self.0 + records as i64)
    }

    /// Records from `earlier` (inclusive) to this offset (exclusive); 0 when `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        if self.0 > earlier.0 { (self.0 - earlier.0) as u64 } else { 0 }
    }
}

/// A topic's identity: a re-created topic of the same name has another (KIP-516).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(Uuid);

impl TopicId {
    /// Wraps the bytes of the wire; `None` for Kafka's reserved zero id.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        let id = Uuid::from_bytes(bytes);
        (!id.is_nil()).then_some(Self(id))
    }

    /// The bytes for the wire.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// Wraps a UUID; `None` for the reserved zero id.
    pub fn from_uuid(id: Uuid) -> Option<Self> {
        (!id.is_nil()).then_some(Self(id))
    }

    /// As a UUID, for files and messages that people read.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition's identity, independent of the topic's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition in it.
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
