//! The senders: for each node that follows this one, two lanes.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::frame::Lane;
use super::handshake::{Registered, Roster};
use super::lane::{Context, LaneTask};
use super::metrics::LinkMetrics;
use super::outbound::Command;
use super::tasks::propagate_panic;
use super::throttle::Throttle;
use super::{Myself, PeerLost};
use crate::ids::{NodeId, TopicPartition};
use crate::io::net::Network;
use crate::metadata::Image;
use crate::stream::replication::{Leaders, Led};

/// Reports of lost peers that are kept for a slow listener.
const LOST_KEPT: usize = 64;

/// What the senders are made of.
pub struct SenderOptions {
    /// Who sends.
    pub myself: Myself,
    /// Where connections come from.
    pub network: Arc<dyn Network>,
    /// This node's partitions.
    pub leaders: Arc<dyn Leaders>,
    /// Knows the followers, where they are, and what catch-up may take.
    pub images: watch::Receiver<Arc<Image>>,
    /// `CHRONIK_REPLICATION_FOLLOWERS`: where followers are, in place of what the images say; empty for none. The
    /// handshake tells who answers where.
    pub followers: Vec<String>,
    /// Where to count.
    pub metrics: LinkMetrics,
}

/// This node's lanes to its followers.
pub struct Senders {
    context: Arc<Context>,
    override_addresses: Option<Arc<[String]>>,
    followers: BTreeMap<NodeId, Follower>,
    running: JoinSet<()>,
}

/// One follower's lanes, which end with this.
struct Follower {
    registered: Registered,
    led: Arc<BTreeMap<TopicPartition, Led>>,
    lanes: [mpsc::UnboundedSender<Command>; 2],
    tasks: [AbortHandle; 2],
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Each lane holds the other's sender: neither would end by itself.
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Senders {
    /// Senders that do nothing until they are run.
    pub fn new(options: SenderOptions) -> Self {
        let SenderOptions { myself, network, leaders, images, followers, metrics } = options;
        let context = Context {
            myself,
            network,
            leaders,
            images,
            metrics,
            throttle: Throttle::new(Instant::now()),
            numbers: Arc::default(),
            lost: broadcast::Sender::new(LOST_KEPT),
        };
        Self {
            context: Arc::new(context),
            override_addresses: (!followers.is_empty()).then(|| followers.into()),
            followers: BTreeMap::new(),
            running: JoinSet::new(),
        }
    }

    /// Hears of followers whose connection ended and that can't be reached again.
    pub fn lost(&self) -> broadcast::Receiver<PeerLost> {
        self.context.lost.subscribe()
    }

    /// Runs until `stop`, which ends all connections.
    ///
    /// # Panics
    /// When a lane's task panics: that is a defect, and takes the process down.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut images = self.context.images.clone();
        let mut changes = self.context.leaders.changes();
        let mut roster = Roster::of(&images.borrow_and_update());
        loop {
            changes.mark_unchanged();
            self.follow(&roster);
            // Most images change nothing here.
            let roster_changed = async {
                while images.changed().await.is_ok() {
                    let newer = Roster::of(&images.borrow_and_update());
                    if newer != roster {
                        return newer;
                    }
                }
                std::future::pending().await
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(ended) = self.running.join_next() => drop(propagate_panic(ended)),
                newer = roster_changed => roster = newer,
                Ok(()) = changes.changed() => {}
            }
        }
    }

    /// Starts, tells and ends lanes, so that they are as roster and leaderships want them.
    fn follow(&mut self, roster: &Roster) {
        let myself = self.context.myself.node;
        // A follower that registers anew is another: its acknowledgements belong to its registration.
        self.followers.retain(|node, follower| roster.get(*node) == Some(&follower.registered));
        for (node, registered) in roster.iter().filter(|(node, _)| *node != myself) {
            let led: BTreeMap<_, _> =
                self.context.leaders.led_for(node).into_iter().map(|led| (led.partition, led)).collect();
            if led.is_empty() && !self.followers.contains_key(&node) {
                continue;
            }
            let registry = || registered.wal.clone().map(|address| Arc::from([address]));
            let Some(addresses) = self.override_addresses.clone().or_else(registry) else { continue };
            let (context, running) = (&self.context, &mut self.running);
            let follower = self
                .followers
                .entry(node)
                .or_insert_with(|| Follower::start(context, running, node, registered.clone(), addresses));
            follower.lead(led);
        }
    }
}

impl Follower {
    fn start(
        context: &Arc<Context>,
        running: &mut JoinSet<()>,
        node: NodeId,
        registered: Registered,
        addresses: Arc<[String]>,
    ) -> Self {
        let (live, of_live) = mpsc::unbounded_channel();
        let (catch_up, of_catch_up) = mpsc::unbounded_channel();
        let mut start = |lane, commands, other: &mpsc::UnboundedSender<Command>| {
            let task = LaneTask::new(Arc::clone(context), lane, node, Arc::clone(&addresses), commands, other.clone());
            running.spawn(task.run())
        };
        let tasks = [start(Lane::Live, of_live, &catch_up), start(Lane::CatchUp, of_catch_up, &live)];
        Self { registered, led: Arc::default(), lanes: [live, catch_up], tasks }
    }

    fn lead(&mut self, led: BTreeMap<TopicPartition, Led>) {
        if *self.led == led {
            return;
        }
        self.led = Arc::new(led);
        for lane in &self.lanes {
            // A lane that panicked is gone; `run` takes the process down for it.
            let _ = lane.send(Command::Lead(Arc::clone(&self.led)));
        }
    }
}
