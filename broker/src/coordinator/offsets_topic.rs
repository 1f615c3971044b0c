//! `__consumer_offsets`: made when it is first needed, and which of its partitions has a group.

use uuid::Uuid;

use super::options::{GroupOptions, OFFSETS_TOPIC};
use crate::ids::TopicId;
use crate::metadata::placement::{PlacementError, place};
use crate::metadata::{Command, MetadataPlane, NewTopic, Outcome, ProposeError, Refused};

/// Why the topic could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum CreateError {
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error("the metadata plane refused: {0}")]
    Refused(Refused),
    #[error("the metadata plane answered {0:?}")]
    Unexpected(Outcome),
}

/// The partition of a group, as Kafka chooses it: Java's `String.hashCode`, made positive, modulo the partitions.
pub(super) fn partition_of(group: &str, partitions: usize) -> usize {
    let hash = group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // `Utils.abs`: the one number without a positive counterpart is 0.
    hash.checked_abs().unwrap_or(0) as usize % partitions
}

/// Makes the topic; that it exists already is as good.
pub(super) async fn create(
    metadata: &dyn MetadataPlane,
    options: &GroupOptions,
    new_id: fn() -> Uuid,
) -> Result<(), CreateError> {
    let image = metadata.image();
    // On a cluster that is still smaller than the replication factor the topic starts with what there is.
    let replicas = (options.offsets_topic_replication_factor as usize).min(image.nodes_for_replicas().count());
    let start = new_id().as_u128() as usize;
    let assignment = place(image.nodes_for_replicas(), options.offsets_topic_partitions as usize, replicas, start)?;
    let topic = NewTopic {
        name: OFFSETS_TOPIC.to_owned(),
        id: TopicId::from_uuid(new_id()).expect("a random id is not zero"),
        assignment,
        configs: [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            ("segment.bytes", options.offsets_topic_segment_bytes.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
    };
    match metadata.propose(Command::CreateTopic(topic)).await? {
        Outcome::Done | Outcome::Refused { why: Refused::TopicExists, .. } => Ok(()),
        Outcome::Refused { why, .. } => Err(CreateError::Refused(why)),
        outcome => Err(CreateError::Unexpected(outcome)),
    }
}

#[cfg(test)]
mod tests {
    use super::partition_of;

    #[test]
    fn groups_are_placed_as_java_hashes_them() {
        // String.hashCode of each, by Java: 0, 97, 96354, 3556498, −1106363674 ("length"), 1 << 31 (the last).
        for (group, partition) in [("", 0), ("a", 97 % 50), ("abc", 96354 % 50), ("test", 3_556_498 % 50)] {
            assert_eq!(partition_of(group, 50), partition, "{group}");
        }
        assert_eq!(partition_of("length", 50), 1_106_363_674 % 50);
        assert_eq!(partition_of("polygenelubricants", 50), 0);
    }
}
