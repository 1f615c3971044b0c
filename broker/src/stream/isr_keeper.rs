//! Keeps the ISRs of the partitions that this node leads: asks the metadata plane for the changes that their leaders
//! want (`membership`), and sees each through until its outcome is known here.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::{Partition, Partitions};
use crate::io::clock::Clock;
use crate::metadata::{AlterPartition, Command, MetadataPlane, Outcome, ProposeError};

/// Proposals under way at most; what more there is follows with the next look.
const MOST_PROPOSALS: usize = 1000;
/// How long after a proposal whose outcome is unknown the same is proposed again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How often at least it is looked who lags.
const LONGEST_TICK: Duration = Duration::from_secs(1);

/// Keeps the ISRs until it is dropped. `lag_max` is `replica.lag.time.max.ms`.
pub async fn keep_isrs(
    partitions: Arc<Partitions>,
    plane: Arc<dyn MetadataPlane>,
    clock: Arc<dyn Clock>,
    lag_max: Duration,
) {
    let mut under_way = FuturesUnordered::new();
    let mut ticks = tokio::time::interval((lag_max / 10).clamp(Duration::from_millis(10), LONGEST_TICK));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let look_at: Vec<Arc<Partition>> = tokio::select! {
            biased;
            Some(()) = under_way.next() => continue,
            () = partitions.news.candidates() => {
                let candidates = partitions.news.take_candidates();
                candidates.iter().filter_map(|id| partitions.get(id)).collect()
            }
            _ = ticks.tick() => {
                let all = partitions.all();
                let now = clock.monotonic();
                for partition in &all {
                    partition.tick(now, lag_max);
                }
                all
            }
        };
        for partition in look_at {
            if under_way.len() == MOST_PROPOSALS {
                break;
            }
            if let Some(proposal) = partitions.wanted_isr(&partition, clock.monotonic(), lag_max) {
                under_way.push(see_through(&partitions, partition, &*plane, proposal));
            }
        }
    }
}

/// Proposes until the outcome is known, and this node has applied it. A lost answer may hide that the command was
/// committed: so the same is proposed again, never another, and the image decides (rule 6).
async fn see_through(
    partitions: &Partitions,
    partition: Arc<Partition>,
    plane: &dyn MetadataPlane,
    proposal: AlterPartition,
) {
    while partition.is_open(&proposal) {
        let answered = plane.propose(Command::AlterPartition(proposal.clone()));
        #[cfg(test)]
        let answered = crate::sim::with_lost_answers(answered);
        match answered.await {
            Ok(Outcome::Refused { why, index }) => {
                partitions.applied(index).await;
                tracing::info!(topic = %partition.topic(), partition = %partition.index(), %why, "an ISR is not changed");
                partition.withdraw(&proposal);
                return;
            }
            Ok(_) => {
                // It was applied on this node's plane: its replicas follow.
                partitions.applied(plane.image().index()).await;
                return;
            }
            Err(ProposeError::Stopping) => return,
            #[cfg(test)]
            Err(_) if crate::sim::planted(crate::sim::Plant::LostReplyIsRefusal) => {
                partition.withdraw(&proposal);
                return;
            }
            Err(error) => {
                tracing::debug!(topic = %partition.topic(), partition = %partition.index(), %error, "an ISR is asked for again");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }
}

impl Partitions {
    /// The change of an ISR that its leader wants by now; under way from here on.
    pub(super) fn wanted_isr(&self, partition: &Partition, now: Duration, lag_max: Duration) -> Option<AlterPartition> {
        let image = self.image.load();
        partition.propose(now, lag_max, image.as_deref()?, self.broker_epoch)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::watch;

    use super::*;
    use crate::ids::{NodeId, TopicId};
    use crate::io::clock::SystemClock;
    use crate::metadata::testing::node;
    use crate::metadata::{Image, NewTopic, Proposal};
    use crate::stream::replication::{Extent, Leaders, Led};
    use crate::stream::testing::{NODE, Node};

    const FOLLOWER: NodeId = NodeId::new(1);
    const FOR_EVER: Duration = Duration::from_hours(1);

    /// Applies what is proposed, and loses the answers to the first of them.
    struct Forgetful {
        plane: Arc<dyn MetadataPlane>,
        lost: AtomicUsize,
    }

    impl MetadataPlane for Forgetful {
        fn image(&self) -> Arc<Image> {
            self.plane.image()
        }

        fn subscribe(&self) -> watch::Receiver<Arc<Image>> {
            self.plane.subscribe()
        }

        fn propose(&self, command: Command) -> Proposal<'_> {
            let answer = self.plane.propose(command);
            let left = self.lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if left.is_err() { answer } else { Box::pin(std::future::ready(Err(ProposeError::TimedOut))) }
        }

        fn leader(&self) -> Option<NodeId> {
            self.plane.leader()
        }
    }

    /// A topic on nodes 0 and 1, of which 1 is not in sync.
    fn without_follower() -> (Node, Led) {
        let here = Node::stepped();
        here.command(Command::RegisterNode { node: node(1), acked_may_be_lost: false });
        let id = TopicId::from_bytes([9; 16]).expect("not zero");
        let topic = NewTopic { name: "t".to_owned(), id, assignment: vec![vec![NODE, FOLLOWER]], configs: vec![] };
        here.command(Command::CreateTopic(topic));
        let epoch = here.plane.image().node(FOLLOWER).expect("registered").epoch;
        here.command(Command::FenceNode { node: FOLLOWER, epoch });
        here.command(Command::RegisterNode { node: node(1), acked_may_be_lost: false });
        let led = here.partitions.led_for(FOLLOWER)[0];
        (here, led)
    }

    fn isr(plane: &dyn MetadataPlane, led: Led) -> Vec<i32> {
        let image = plane.image();
        image.partition(&led.partition).expect("it was created").isr.iter().map(|node| node.get()).collect()
    }

    /// Applies images as they come.
    async fn follow(partitions: Arc<Partitions>, mut images: watch::Receiver<Arc<Image>>) {
        while images.changed().await.is_ok() {
            let image = images.borrow_and_update().clone();
            partitions.apply(&image).expect("the simulated disk has not failed");
        }
    }

    async fn until(plane: &dyn MetadataPlane, done: impl Fn() -> bool) {
        let mut images = plane.subscribe();
        while !done() {
            images.changed().await.expect("the plane is there");
        }
    }

    #[tokio::test]
    async fn a_follower_that_has_caught_up_joins_though_answers_are_lost() {
        for lost in [0, 1, 2] {
            let (here, led) = without_follower();
            let plane = Arc::new(Forgetful { plane: here.plane.clone(), lost: AtomicUsize::new(lost) });
            assert_eq!(isr(&*plane, led), [0]);
            let clock = Arc::new(SystemClock::start());
            let keeper = keep_isrs(here.partitions.clone(), plane.clone(), clock, FOR_EVER);
            let joined = async {
                let epoch = plane.image().node(FOLLOWER).expect("registered").epoch;
                here.partitions.acked(led, FOLLOWER, epoch, Extent::upto(crate::ids::Offset::FIRST));
                until(&*plane, || isr(&*plane, led) == [0, 1]).await;
            };
            tokio::select! {
                () = keeper => unreachable!("it goes on"),
                () = follow(here.partitions.clone(), plane.subscribe()) => unreachable!("so does the plane"),
                () = joined => {}
            }
        }
    }
}
