//! Consumer groups: the classic protocol and committed offsets, with their state in `__consumer_offsets` on the data
//! plane. From the outside in: `GroupCoordinator` routes to the partition of a group, `actor` drives that partition's
//! `shard`, which holds `group`s and `offsets`; those decide, without I/O.

mod actor;
mod batch;
pub(crate) mod group;
mod loads;
pub mod metrics;
pub(crate) mod offsets;
mod offsets_topic;
pub mod options;
pub mod producer_ids;
mod record_reader;
pub(crate) mod records;
pub(crate) mod shard;
#[cfg(test)]
mod tests;
mod timers;
mod write;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::actor::{Actor, ShardHandle};
use self::group::Reply;
use self::loads::Loads;
use self::metrics::{GroupMetrics, PartitionLag};
pub use self::options::{GroupOptions, OFFSETS_TOPIC};
use self::shard::{ListedGroup, Request};
use crate::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex};
use crate::io::clock::Clock;
use crate::io::flood::Flood;
use crate::kafka::wire::ErrorCode;
use crate::metadata::{MetadataPlane, TopicChange};
use crate::stream::{LeadershipListener, Partition, Partitions};

/// Lines about the topic that is not created.
static NOT_CREATED: Flood = Flood::new("__consumer_offsets that is not created");

/// The groups that this node coordinates: those of the `__consumer_offsets` partitions that it leads.
pub struct GroupCoordinator {
    options: Arc<GroupOptions>,
    clock: Arc<dyn Clock>,
    metadata: Arc<dyn MetadataPlane>,
    partitions: Arc<Partitions>,
    new_id: fn() -> Uuid,
    runtime: Handle,
    tasks: TaskTracker,
    /// Nobody waits for other members any more.
    releasing: CancellationToken,
    stopping: CancellationToken,
    shards: RwLock<HashMap<PartitionIndex, ShardHandle>>,
    loads: Arc<Loads>,
}

impl GroupCoordinator {
    /// Follows the leaderships of `__consumer_offsets`. Called within the runtime that is to run the partitions' tasks.
    pub fn start(
        options: GroupOptions,
        clock: Arc<dyn Clock>,
        metadata: Arc<dyn MetadataPlane>,
        partitions: Arc<Partitions>,
    ) -> Arc<Self> {
        let coordinator = Arc::new(Self {
            options: Arc::new(options),
            loads: Loads::new(Arc::clone(&clock)),
            clock,
            metadata,
            partitions,
            new_id: Uuid::new_v4,
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            releasing: CancellationToken::new(),
            stopping: CancellationToken::new(),
            shards: RwLock::default(),
        });
        let follower = Arc::clone(&coordinator);
        coordinator.tasks.spawn(async move { follower.follow_topics().await });
        // The partitions that are led already load together.
        let _together = coordinator.loads.begin();
        coordinator.partitions.listen(OFFSETS_TOPIC, Arc::clone(&coordinator) as Arc<dyn LeadershipListener>);
        coordinator
    }

    /// The node is about to stop: members that wait for others, now or later, are answered with NOT_COORDINATOR. What is
    /// being written goes on.
    pub fn release(&self) {
        self.releasing.cancel();
    }

    /// Ends all tasks; requests that wait are answered with NOT_COORDINATOR.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.shards.write().clear();
        self.tasks.wait().await;
    }

    /// The settings.
    pub fn options(&self) -> &GroupOptions {
        &self.options
    }

    /// Which node coordinates a group; makes the offsets topic if there is none. `None` while it has no leader.
    pub(crate) async fn find(&self, group: &str) -> Option<NodeId> {
        if self.metadata.image().topic(OFFSETS_TOPIC).is_none() {
            if let Err(error) = offsets_topic::create(&*self.metadata, &self.options, self.new_id).await {
                if let Some(line) = NOT_CREATED.line() {
                    tracing::warn!(%error, left_out = line.left_out(), "could not create {OFFSETS_TOPIC}");
                }
                return None;
            }
            self.partitions.applied(self.metadata.image().index()).await;
        }
        let image = self.metadata.image();
        let topic = image.topic(OFFSETS_TOPIC)?;
        topic.partitions[offsets_topic::partition_of(group, topic.partitions.len())].leader
    }

    /// Asks the partition of a group. The error is the coordinator's: it is elsewhere, or still loading.
    pub(crate) async fn ask<T>(&self, group: &str, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, ErrorCode> {
        self.shard_of(group)?.ask(request).await
    }

    /// Like `ask`, for what waits for other members, maybe for minutes: until `release` at most.
    pub(crate) async fn ask_until_release<T>(
        &self,
        group: &str,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, ErrorCode> {
        tokio::select! {
            biased;
            () = self.releasing.cancelled() => Err(ErrorCode::NotCoordinator),
            answer = self.ask(group, request) => answer,
        }
    }

    /// Like `ask`, for what waits for the log: at most `offsets.commit.timeout.ms`. What was begun goes on.
    pub(crate) async fn ask_within_timeout<T>(
        &self,
        group: &str,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, ErrorCode> {
        let answer = tokio::time::timeout(self.options.commit_timeout, self.ask(group, request)).await;
        answer.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))
    }

    /// All groups of this node, by id.
    pub(crate) async fn list(&self) -> Result<Vec<ListedGroup>, ErrorCode> {
        let shards: Vec<_> = self.shards.read().values().cloned().collect();
        let mut groups = Vec::new();
        for shard in shards {
            match shard.ask(Request::List).await {
                Ok(of_shard) => groups.extend(of_shard),
                // It is led elsewhere by now, as are its groups.
                Err(ErrorCode::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(groups)
    }

    /// Figures of the partitions that are loaded.
    pub async fn metrics(&self) -> GroupMetrics {
        let shards: Vec<_> = self.shards.read().values().cloned().collect();
        let mut total = GroupMetrics::default();
        for shard in shards {
            // One that is loading or gone has no figures.
            let Ok(of_shard) = shard.ask(Request::Metrics).await else { continue };
            total.add(&of_shard);
            for (group, key, committed) in of_shard.offsets {
                let partition = self.partitions.by_name(&key.topic, key.partition);
                let end = partition.filter(|partition| partition.leading().is_some());
                let lag = end.map(|partition| {
                    let committed = Offset::try_from(committed).unwrap_or(Offset::FIRST);
                    partition.offsets().high_watermark.since(committed)
                });
                total.lags.push(PartitionLag { group, topic: key.topic, partition: key.partition, committed, lag });
            }
        }
        total
    }

    fn shard_of(&self, group: &str) -> Result<ShardHandle, ErrorCode> {
        let image = self.metadata.image();
        let partitions = image.topic(OFFSETS_TOPIC).map_or(0, |topic| topic.partitions.len());
        if partitions == 0 {
            return Err(ErrorCode::NotCoordinator);
        }
        let partition = PartitionIndex::new(offsets_topic::partition_of(group, partitions) as i32);
        self.shards.read().get(&partition).cloned().ok_or(ErrorCode::NotCoordinator)
    }

    /// Tells the partitions about deleted topics, whose offsets go with them.
    async fn follow_topics(&self) {
        let mut images = self.metadata.subscribe();
        let mut before = images.borrow_and_update().clone();
        loop {
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return },
                () = self.stopping.cancelled() => return,
            }
            let image = images.borrow_and_update().clone();
            let gone = image.changed_topics(&before).filter_map(|change| match change {
                TopicChange::Deleted(topic) => Some(topic.name.clone()),
                TopicChange::Created(_) | TopicChange::Changed { .. } => None,
            });
            let gone: Arc<[Arc<str>]> = gone.collect();
            if !gone.is_empty() {
                let shards: Vec<_> = self.shards.read().values().cloned().collect();
                for shard in shards {
                    shard.tell(Request::TopicsDeleted(gone.clone())).await;
                }
            }
            before = image;
        }
    }
}

impl LeadershipListener for GroupCoordinator {
    fn elected(&self, partition: &Arc<Partition>, epoch: LeaderEpoch) {
        if self.stopping.is_cancelled() {
            return;
        }
        let actor = Actor {
            partition: Arc::clone(partition),
            epoch,
            options: Arc::clone(&self.options),
            clock: Arc::clone(&self.clock),
            metadata: Arc::clone(&self.metadata),
            new_id: self.new_id,
        };
        let (handle, task) = actor.start(self.loads.begin());
        self.tasks.spawn_on(task, &self.runtime);
        // A former leadership's task ends with the handle that this one replaces.
        self.shards.write().insert(partition.index(), handle);
    }

    fn resigned(&self, _topic: &str, partition: PartitionIndex) {
        self.shards.write().remove(&partition);
    }
}
