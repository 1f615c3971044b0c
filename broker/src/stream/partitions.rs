//! All replicas of this node: they follow the metadata image.
//!
//! Requests look replicas up in an immutable map that is swapped as a whole: no lock, no allocation. One task applies
//! images; it does what differs from the one before.

mod offline;
mod streaming;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::sync::watch;

pub use self::offline::give_up_offline;
use super::news::News;
use super::{LeadershipListener, Partition, TopicSettings};
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, TopicId, TopicPartition};
use crate::log::{LogConfig, LogError, LogStore};
use crate::metadata::{ConfigResource, Image, PartitionRegistration, Topic, TopicChange};
use crate::wal::GroupCommitWal;

/// All replicas of this node.
pub struct Partitions {
    node: NodeId,
    pub(super) broker_epoch: BrokerEpoch,
    logs: Arc<LogStore>,
    wal: Arc<GroupCommitWal>,
    settings: Arc<dyn TopicSettings>,
    replicas: ArcSwap<Replicas>,
    following: Mutex<Following>,
    /// The image that the replicas are of.
    pub(super) image: ArcSwapOption<Image>,
    applied: watch::Sender<u64>,
    pub(super) news: Arc<News>,
}

/// What requests look up. Persistent maps: a change copies a few nodes, not ten thousand entries.
#[derive(Clone, Default)]
struct Replicas {
    by_id: imbl::OrdMap<TopicId, Arc<TopicReplicas>>,
    by_name: imbl::HashMap<Arc<str>, Arc<TopicReplicas>>,
    /// Those that are this node's, but found no room for their logs. They are tried again.
    offline: imbl::OrdSet<TopicPartition>,
}

/// The replicas of a topic by partition index; `None` where another node has them.
struct TopicReplicas {
    name: Arc<str>,
    partitions: Vec<Option<Arc<Partition>>>,
}

impl TopicReplicas {
    fn get(&self, partition: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(partition).ok()?)?.as_ref()
    }
}

/// What the one who applies images remembers.
#[derive(Default)]
struct Following {
    image: Option<Arc<Image>>,
    listeners: HashMap<Arc<str>, Vec<Arc<dyn LeadershipListener>>>,
}

/// What listeners are told once requests can see it.
enum Event {
    Elected(Arc<Partition>, LeaderEpoch),
    Resigned(Arc<Partition>),
}

impl Partitions {
    /// No replicas yet: `apply` brings them. Made after this process has registered: `broker_epoch` is its registration,
    /// and only leaderships given to that one are this process's to take.
    pub fn new(
        node: NodeId,
        broker_epoch: BrokerEpoch,
        logs: Arc<LogStore>,
        wal: Arc<GroupCommitWal>,
        settings: Arc<dyn TopicSettings>,
    ) -> Arc<Self> {
        Arc::new(Self {
            node,
            broker_epoch,
            logs,
            wal,
            settings,
            replicas: ArcSwap::default(),
            following: Mutex::default(),
            image: ArcSwapOption::empty(),
            news: Arc::default(),
            applied: watch::Sender::new(0),
        })
    }

    /// Tells leaderships of one topic to a coordinator: those that it has now at once, later ones as they come. The
    /// listener may look replicas up, but neither apply images nor listen.
    pub fn listen(&self, topic: &str, listener: Arc<dyn LeadershipListener>) {
        let mut following = self.following.lock();
        if let Some(replicas) = self.replicas.load().by_name.get(topic) {
            for partition in replicas.partitions.iter().flatten() {
                if let Some(epoch) = partition.leading() {
                    listener.elected(partition, epoch);
                }
            }
        }
        following.listeners.entry(topic.into()).or_default().push(listener);
    }

    /// Makes the replicas what the image says. Blocks on files: called from the one task that follows images.
    ///
    /// A replica that finds no room for its log stays offline, and the others go on; applying the same image again tries
    /// it again.
    ///
    /// An image from before this process registered is passed over: what it says of this node's replicas is older than
    /// what is on its disk, and a log that it does not know is not one to delete.
    pub fn apply(&self, image: &Arc<Image>) -> Result<(), LogError> {
        if image.node(self.node).is_none_or(|node| node.epoch < self.broker_epoch) {
            return Ok(());
        }
        let mut following = self.following.lock();
        let before = following.image.take();
        let replicas = Replicas::clone(&self.replicas.load());
        let mut changes = Changes { host: self, image, replicas, events: vec![], followers_changed: false };
        match &before {
            None => changes.start()?,
            Some(before) => changes.follow(before)?,
        }
        let Changes { replicas, events, followers_changed, .. } = changes;
        self.replicas.store(Arc::new(replicas));
        self.image.store(Some(Arc::clone(image)));
        if followers_changed || !events.is_empty() {
            self.news.leaderships_changed();
        }
        for event in events {
            following.tell(&event);
        }
        following.image = Some(Arc::clone(image));
        drop(following);
        self.applied.send_replace(image.index());
        Ok(())
    }

    /// Waits until the image of this Raft index is applied.
    pub async fn applied(&self, index: u64) {
        // It fails only when the sender is dropped, which `self` holds.
        let _ = self.applied.subscribe().wait_for(|applied| *applied >= index).await;
    }

    /// Whether a replica of this node could not be made, because there was no room.
    pub fn is_offline(&self, id: &TopicPartition) -> bool {
        self.replicas.load().offline.contains(id)
    }

    /// Whether any replica is offline, so that applying the image again may bring it up.
    pub fn has_offline(&self) -> bool {
        !self.replicas.load().offline.is_empty()
    }

    /// A replica by topic id.
    pub fn get(&self, id: &TopicPartition) -> Option<Arc<Partition>> {
        self.replicas.load().by_id.get(&id.topic)?.get(id.partition.get()).cloned()
    }

    /// A replica by topic name.
    pub fn by_name(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        self.replicas.load().by_name.get(topic)?.get(partition).cloned()
    }

    /// All replicas, by topic id and partition.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        let replicas = self.replicas.load();
        replicas.by_id.values().flat_map(|topic| topic.partitions.iter().flatten().cloned()).collect()
    }
}

impl Following {
    fn tell(&self, event: &Event) {
        let (Event::Elected(partition, _) | Event::Resigned(partition)) = event;
        for listener in self.listeners.get(partition.topic()).into_iter().flatten() {
            match event {
                Event::Elected(partition, epoch) => listener.elected(partition, *epoch),
                Event::Resigned(partition) => listener.resigned(partition.topic(), partition.index()),
            }
        }
    }
}

/// One image being applied.
struct Changes<'a> {
    host: &'a Partitions,
    image: &'a Image,
    replicas: Replicas,
    events: Vec<Event>,
    /// Whether a partition that this node goes on to lead has other replicas now.
    followers_changed: bool,
}

impl Changes<'_> {
    /// The first image: every topic is new. What was taken from this node while it was down is deleted, as it would have
    /// been at the time (rule 15): the metadata remembers the deletion of the topic, or knows who has the partition now.
    /// Logs that it knows nothing of are strays: it may as well be the metadata that is lost.
    fn start(&mut self) -> Result<(), LogError> {
        let deleted: HashSet<_> = self.image.deleted_topics().collect();
        for log in self.host.logs.logs() {
            let id = log.id();
            match self.image.partition(&id) {
                Some(registration) if self.hosts(registration) => {}
                None if !deleted.contains(&id.topic) => {
                    left_behind(&id, self.host.logs.set_aside(&id, "the metadata knows no such partition"))?;
                }
                registration => {
                    let why = if registration.is_some() { "moved to other nodes" } else { "its topic was deleted" };
                    let (topic, partition) = (log.topic(), id.partition);
                    tracing::info!(%topic, %partition, why, "deletes a replica removed while this node was down");
                    left_behind(&id, self.host.logs.delete(&id))?;
                }
            }
        }
        for topic in self.image.topics() {
            self.bring_up(topic, None)?;
        }
        Ok(())
    }

    /// A later image: what differs. Deletions come first, so that a topic made again under its name finds it free.
    fn follow(&mut self, before: &Image) -> Result<(), LogError> {
        let mut again: BTreeSet<TopicId> = self.replicas.offline.iter().map(|id| id.topic).collect();
        for change in self.image.changed_topics(before) {
            if let TopicChange::Deleted(topic) = change {
                self.take_down(topic)?;
            }
        }
        for change in self.image.changed_topics(before) {
            match change {
                TopicChange::Created(topic) => self.bring_up(topic, None)?,
                TopicChange::Changed { before, after } => {
                    again.remove(&after.id);
                    self.bring_up(after, Some(before))?;
                }
                TopicChange::Deleted(_) => {}
            }
        }
        // The replicas that found no room before this image are opened, once.
        for topic in again.into_iter().filter_map(|id| self.image.topic_by_id(id)) {
            self.bring_up(topic, Some(topic))?;
        }
        let mut all = false;
        for resource in self.image.changed_configs(before) {
            match resource {
                ConfigResource::Topic(name) => self.configure(name),
                ConfigResource::BrokerDefault => all = true,
                ConfigResource::Broker(node) => all |= *node == self.host.node,
                ConfigResource::Group(_) | ConfigResource::ClientMetrics(_) => {}
            }
        }
        if all {
            for topic in self.image.topics() {
                self.configure(&topic.name);
            }
        }
        Ok(())
    }

    /// Whether this node is a replica.
    fn hosts(&self, registration: &PartitionRegistration) -> bool {
        registration.replicas.contains(&self.host.node)
    }

    /// Whether this process leads: a leadership given to an earlier registration of this node is none of its own.
    fn leads(&self, registration: &PartitionRegistration) -> bool {
        registration.leader == Some(self.host.node) && registration.leader_broker_epoch == Some(self.host.broker_epoch)
    }

    /// Opens the replicas of a topic that are new, and gives each whose registration changed the newer one.
    fn bring_up(&mut self, topic: &Topic, before: Option<&Topic>) -> Result<(), LogError> {
        let known = self.replicas.by_id.get(&topic.id).cloned();
        let name = known.as_ref().map_or(&topic.name, |known| &known.name);
        let config = self.host.settings.log_config(self.image, name);
        let min_insync = self.host.settings.min_insync_replicas(self.image, name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (index, (id, registration)) in topic.indexed().enumerate() {
            let existing = known.as_ref().and_then(|known| known.partitions.get(index)?.as_ref());
            let was_offline = self.replicas.offline.remove(&id).is_some();
            // By value: an image that comes from a snapshot shares nothing with the one before.
            let unchanged = before.and_then(|before| before.partitions.get(index)) == Some(registration);
            if unchanged && !was_offline {
                partitions.push(existing.cloned());
                continue;
            }
            if !self.hosts(registration) {
                if let Some(existing) = existing {
                    self.close(existing)?;
                }
                partitions.push(None);
                continue;
            }
            let partition = match existing {
                Some(existing) => Some(Arc::clone(existing)),
                None => self.open(id, name, &config, was_offline)?,
            };
            if let Some(partition) = &partition {
                let before = before.and_then(|before| before.partitions.get(index));
                self.followers_changed |= before.is_some_and(|before| before.replicas != registration.replicas);
                self.register(partition, registration, min_insync)?;
            }
            partitions.push(partition);
        }
        let replicas = Arc::new(TopicReplicas { name: Arc::clone(name), partitions });
        self.replicas.by_id.insert(topic.id, Arc::clone(&replicas));
        self.replicas.by_name.insert(Arc::clone(name), replicas);
        Ok(())
    }

    /// Opens a replica's log, or makes it. `None` when it finds no room: then the replica is offline.
    fn open(
        &mut self,
        id: TopicPartition,
        name: &Arc<str>,
        config: &Arc<LogConfig>,
        was_offline: bool,
    ) -> Result<Option<Arc<Partition>>, LogError> {
        let log = match self.host.logs.open_or_create(name, id, Arc::clone(config)) {
            Err(error) if error.is_full() => {
                if !was_offline {
                    tracing::error!(topic = %name, partition = %id.partition, %error, "a replica is offline");
                }
                self.replicas.offline.insert(id);
                return Ok(None);
            }
            opened => opened?,
        };
        let (wal, news) = (Arc::clone(&self.host.wal), Arc::clone(&self.host.news));
        Ok(Some(Partition::new(id, Arc::clone(name), self.host.node, log, wal, news)))
    }

    fn register(
        &mut self,
        partition: &Arc<Partition>,
        registration: &PartitionRegistration,
        min_insync: usize,
    ) -> Result<(), LogError> {
        let led = partition.leading();
        let leads = self.leads(registration);
        let begun = partition.register(registration, leads, min_insync)?;
        if led.is_some() && (begun.is_some() || !leads) {
            self.events.push(Event::Resigned(Arc::clone(partition)));
        }
        if let Some(epoch) = begun {
            self.events.push(Event::Elected(Arc::clone(partition), epoch));
        }
        Ok(())
    }

    fn take_down(&mut self, topic: &Topic) -> Result<(), LogError> {
        let Some(replicas) = self.replicas.by_id.remove(&topic.id) else { return Ok(()) };
        self.replicas.by_name.remove(&replicas.name);
        for (id, _) in topic.indexed() {
            self.replicas.offline.remove(&id);
        }
        for partition in replicas.partitions.iter().flatten() {
            self.close(partition)?;
        }
        Ok(())
    }

    fn close(&mut self, partition: &Arc<Partition>) -> Result<(), LogError> {
        if partition.leading().is_some() {
            self.events.push(Event::Resigned(Arc::clone(partition)));
        }
        partition.resign();
        left_behind(&partition.id(), self.host.logs.delete(&partition.id()))
    }

    fn configure(&self, topic: &str) {
        let Some(replicas) = self.replicas.by_name.get(topic) else { return };
        let config = self.host.settings.log_config(self.image, topic);
        let min_insync = self.host.settings.min_insync_replicas(self.image, topic);
        for partition in replicas.partitions.iter().flatten() {
            let registration = self.image.partition(&partition.id());
            let minimum = registration.map_or(min_insync, |registration| registration.minimum_isr(min_insync));
            partition.configure(Arc::clone(&config), minimum);
        }
    }
}

/// What is no replica of this node any more, but has no room to be moved: it lies there, closed, until the next start.
fn left_behind(id: &TopicPartition, moved: Result<(), LogError>) -> Result<(), LogError> {
    match moved {
        Err(error) if error.is_full() => {
            tracing::warn!(partition = %id, %error, "a log that is to go stays where it is until the next start");
            Ok(())
        }
        moved => moved,
    }
}

#[cfg(test)]
mod tests;
