//! How fast the catch-up lanes may go: what operators give to reassignments.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ids::{NodeId, TopicPartition};
use crate::metadata::Image;

/// Bytes per second that this node's throttled catch-up may take in sum, where this partition on its way to this follower
/// is throttled: where a reassignment adds it. `None` where it isn't: a replica that fell behind is never held back.
pub(super) fn bytes_per_second(image: &Image, partition: &TopicPartition, follower: NodeId) -> Option<u64> {
    let rate = image.reassignment_throttle()?;
    image.partition(partition)?.adding().any(|node| node == follower).then_some(rate)
}

/// What the throttled lanes have taken: after each read, the next waits until the rate has paid for it.
#[derive(Debug)]
pub(super) struct Throttle {
    paid_until: Mutex<Instant>,
}

impl Throttle {
    pub(super) fn new(now: Instant) -> Self {
        Self { paid_until: Mutex::new(now) }
    }

    /// Takes bytes; says when more may be taken.
    pub(super) fn take(&self, bytes: usize, bytes_per_second: u64, now: Instant) -> Instant {
        let cost = Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64);
        let mut paid_until = self.paid_until.lock();
        *paid_until = (*paid_until).max(now) + cost.min(Duration::from_mins(1));
        *paid_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{PartitionIndex, TopicId};
    use crate::metadata::testing::node;
    use crate::metadata::{Command, Move, NewTopic, State};

    #[test]
    fn what_a_reassignment_adds_is_held_to_the_clusters_rate_and_nothing_else() {
        let [one, two, added] = [1, 2, 3].map(NodeId::new);
        let mut state = State::new(Image::empty("c"));
        let id = TopicId::from_bytes([9; 16]).expect("not zero");
        let topic = NewTopic { name: "t".to_owned(), id, assignment: vec![vec![one, two]], configs: vec![] };
        let partition = TopicPartition { topic: id, partition: PartitionIndex::try_from(0).expect("not negative") };
        let registered = [1, 2, 3].map(|id| Command::RegisterNode { node: node(id), acked_may_be_lost: false });
        let moved = Move { partition, target: vec![one, added], partition_epoch: None };
        let commands = registered.into_iter().chain([
            Command::CreateTopic(topic),
            Command::SetThrottle(Some(1 << 20)),
            Command::BeginReassignment(vec![moved]),
        ]);
        for (index, command) in (1..).zip(commands) {
            state.apply(index, command);
        }
        let rate = |state: &State, follower| bytes_per_second(&state.image(), &partition, follower);
        assert_eq!([two, added].map(|follower| rate(&state, follower)), [None, Some(1 << 20)]);
        state.apply(9, Command::SetThrottle(None));
        assert_eq!(rate(&state, added), None);
    }

    #[test]
    fn bytes_are_paid_for_before_more_are_taken() {
        let start = Instant::now();
        let throttle = Throttle::new(start);
        let second = Duration::from_secs(1);
        assert_eq!(throttle.take(1_000, 1_000, start), start + second);
        assert_eq!(throttle.take(1_000, 1_000, start), start + 2 * second, "several lanes share the rate");
        let later = start + 10 * second;
        assert_eq!(throttle.take(500, 1_000, later), later + second / 2, "what was not taken is not saved up");
    }
}
