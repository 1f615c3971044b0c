//! The controller's driver: runs while this node leads the metadata plane, afresh in each term.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ControllerOptions;
use super::duties::{Controller, Duty, Effect};
use super::sessions::Dialled;
use crate::ids::{BrokerEpoch, NodeId};
use crate::metadata::command::Command;
use crate::metadata::heartbeat::{Heartbeat, HeartbeatReply, HeartbeatSink};
use crate::metadata::outcome::Outcome;
use crate::metadata::topology::Node;
use crate::metadata::{MetadataPlane, ProposeError};

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(50);

/// What `Dialler::dial` returns.
pub type Dialling<'a> = Pin<Box<dyn Future<Output = Dialled> + Send + 'a>>;

/// Finds out whether a node's process is alive, by a question that only the process can answer: a connection that the
/// kernel accepts for a process that is stuck proves nothing.
pub trait Dialler: Send + Sync + 'static {
    /// Dials it at its registered address, anew: not over a connection that may be dead. The caller bounds the time.
    fn dial<'a>(&'a self, node: &'a Node) -> Dialling<'a>;
}

/// This node's controller: it works while the node leads the metadata plane, and otherwise says who does.
pub struct ControllerService {
    own: NodeId,
    plane: Arc<dyn MetadataPlane>,
    options: ControllerOptions,
    started: Instant,
    controller: Mutex<Option<Controller>>,
    wake: Notify,
    unclean_elections: AtomicU64,
}

/// What a task brought.
enum Ended {
    Dialled(NodeId, BrokerEpoch, Dialled),
    Proposed(Duty, Box<Command>, Result<Outcome, ProposeError>),
}

impl HeartbeatSink for ControllerService {
    fn heartbeat(&self, heartbeat: &Heartbeat) -> HeartbeatReply {
        match self.controller.lock().as_mut() {
            Some(controller) => {
                self.wake.notify_one();
                controller.heartbeat(heartbeat, self.now())
            }
            None => HeartbeatReply::NotLeader { leader: self.plane.leader().filter(|leader| *leader != self.own) },
        }
    }
}

impl ControllerService {
    /// A controller that does not work yet.
    pub fn new(own: NodeId, plane: Arc<dyn MetadataPlane>, options: ControllerOptions) -> Arc<Self> {
        Arc::new(Self {
            own,
            plane,
            options,
            started: Instant::now(),
            controller: Mutex::new(None),
            wake: Notify::new(),
            unclean_elections: AtomicU64::new(0),
        })
    }

    /// How many leaders this node's controller had elected uncleanly (rule 11).
    pub fn unclean_elections(&self) -> u64 {
        self.unclean_elections.load(Ordering::Relaxed)
    }

    /// A connection to the node closed: it may be dead. Without effect unless this node leads.
    pub fn lost(&self, node: NodeId) {
        if let Some(controller) = self.controller.lock().as_mut() {
            controller.lost(node);
            self.wake.notify_one();
        }
    }

    /// Works whenever this node leads; ends when the metadata plane does. `leadership`: the term while this node leads.
    /// `lost`: nodes whose connections closed.
    pub async fn run(
        &self,
        mut leadership: watch::Receiver<Option<u64>>,
        mut lost: broadcast::Receiver<NodeId>,
        dialler: Arc<dyn Dialler>,
    ) {
        loop {
            let term = *leadership.borrow_and_update();
            if let Some(term) = term {
                tracing::info!(term, "controls the cluster");
                *self.controller.lock() =
                    Some(Controller::new(self.own, self.options.clone(), self.plane.image(), self.now()));
                let ended = self.lead(term, &mut leadership, &mut lost, &dialler).await;
                *self.controller.lock() = None;
                if ended.is_none() {
                    return;
                }
            } else if leadership.changed().await.is_err() {
                return;
            }
        }
    }

    /// One term. `None` when the metadata plane has ended.
    async fn lead(
        &self,
        term: u64,
        leadership: &mut watch::Receiver<Option<u64>>,
        lost: &mut broadcast::Receiver<NodeId>,
        dialler: &Arc<dyn Dialler>,
    ) -> Option<()> {
        let mut images = self.plane.subscribe();
        // There may be a newer one than that which the term began with.
        images.mark_changed();
        let mut tasks = JoinSet::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                changed = leadership.changed() => {
                    changed.ok()?;
                    if *leadership.borrow() != Some(term) {
                        return Some(());
                    }
                }
                changed = images.changed() => {
                    changed.ok()?;
                    let image = Arc::clone(&images.borrow_and_update());
                    self.with(|controller, now| controller.follow(image, now));
                }
                Some(ended) = tasks.join_next() => {
                    self.take(ended.expect("no task panics, and none is aborted while the set is alive"));
                }
                node = lost.recv() => match node {
                    Ok(node) => self.with(|controller, _| controller.lost(node)),
                    // Sessions notice those that were missed.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                () = self.wake.notified() => {}
                _ = tick.tick() => {}
            }
            for effect in self.with(Controller::look) {
                self.carry_out(effect, &mut tasks, dialler);
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Controller, Duration) -> T) -> T {
        let mut controller = self.controller.lock();
        act(controller.as_mut().expect("it is there for the whole term, because only `run` takes it away"), self.now())
    }

    fn carry_out(&self, effect: Effect, tasks: &mut JoinSet<Ended>, dialler: &Arc<dyn Dialler>) {
        match effect {
            Effect::Dial(node) => {
                let (dialler, within) = (Arc::clone(dialler), self.options.dial());
                tasks.spawn(async move {
                    let dialled = tokio::time::timeout(within, dialler.dial(&node)).await;
                    Ended::Dialled(node.id, node.epoch, dialled.unwrap_or(Dialled::Silent))
                });
            }
            Effect::Propose(duty, command) => {
                let plane = Arc::clone(&self.plane);
                tasks.spawn(async move {
                    let outcome = plane.propose(command.clone()).await;
                    Ended::Proposed(duty, Box::new(command), outcome)
                });
            }
        }
    }

    fn take(&self, ended: Ended) {
        match ended {
            Ended::Dialled(node, epoch, dialled) => {
                tracing::debug!(node = node.get(), ?dialled, "dialled a node");
                self.with(|controller, now| controller.dialled(node, epoch, dialled, now));
            }
            Ended::Proposed(duty, command, outcome) => {
                self.tell(duty, &command, &outcome);
                // The image that shows the outcome comes first: otherwise the duty would seem to be there still.
                self.with(|controller, now| {
                    controller.follow(self.plane.image(), now);
                    controller.proposed(duty);
                });
            }
        }
    }

    /// Says what the controller had done.
    fn tell(&self, duty: Duty, command: &Command, outcome: &Result<Outcome, ProposeError>) {
        match (duty, command, outcome) {
            (Duty::Fence(node), _, Ok(Outcome::Done)) => tracing::warn!(node = node.get(), "fenced a node"),
            (Duty::Unfence(node), _, Ok(Outcome::Done)) => tracing::info!(node = node.get(), "unfenced a node"),
            (Duty::EndStop(node), _, Ok(Outcome::Done)) => {
                tracing::warn!(node = node.get(), "a node did not stop in time; its stop is off");
            }
            (Duty::Unclean, Command::ElectLeaders { partitions, .. }, Ok(Outcome::Partitions(results))) => {
                for (partition, _) in partitions.iter().zip(results).filter(|(_, result)| result.is_ok()) {
                    self.unclean_elections.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%partition, "unclean leader election: acknowledged records may be lost");
                }
            }
            (_, _, Ok(outcome)) => tracing::debug!(?duty, ?outcome, "a duty is done"),
            (_, _, Err(why)) => tracing::warn!(?duty, %why, "a duty has no outcome; it is done again if needed"),
        }
    }
}
