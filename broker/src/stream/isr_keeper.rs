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
                all.iter().for_each(|partition| partition.tick(now, lag_max));
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
        match plane.propose(Command::AlterPartition(proposal.clone())).await {
            Ok(outcome) => {
                // It was applied on this node's plane: its replicas follow.
                partitions.applied(plane.image().index()).await;
                if let Outcome::Refused(why) = outcome {
                    tracing::info!(topic = %partition.topic(), partition = %partition.index(), %why, "an ISR is not changed");
                    partition.withdraw(&proposal);
                }
                return;
            }
            Err(ProposeError::Stopping) => return,
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
