//! Whether a node can stop, in words.

use super::proto::{IsSafeToStopResponse, Partition};
use crate::ids::{NodeId, TopicPartition};
use crate::metadata::{Image, QuorumSafety, is_safe_to_stop};

/// So many partitions are named at most.
const NAMED: usize = 1000;

/// What a stop of the node would do now.
pub fn answer(image: &Image, node: NodeId) -> IsSafeToStopResponse {
    let safety = is_safe_to_stop(image, node);
    let mut reasons = Vec::new();
    if !safety.blocking.is_empty() {
        let count = safety.blocking.len();
        reasons.push(format!("{count} partitions would have fewer in-sync replicas than min.insync.replicas"));
    }
    if safety.quorum == QuorumSafety::Lost {
        reasons.push("the metadata would lose its quorum: too few other voters are alive".to_owned());
    }
    let named = |partitions: &[TopicPartition]| -> Vec<Partition> {
        partitions.iter().take(NAMED).filter_map(|id| name(image, id)).collect()
    };
    IsSafeToStopResponse {
        safe: safety.is_safe(),
        reasons,
        blocking: named(&safety.blocking),
        unavoidable: named(&safety.unavoidable),
        quorum_unavoidable: safety.quorum == QuorumSafety::Unavoidable,
        truncated: safety.blocking.len().max(safety.unavoidable.len()) > NAMED,
    }
}

fn name(image: &Image, id: &TopicPartition) -> Option<Partition> {
    let topic = image.topic_by_id(id.topic)?.name.to_string();
    Some(Partition { topic, partition: id.partition.get() })
}
