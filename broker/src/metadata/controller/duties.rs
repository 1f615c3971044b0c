//! All that a controller does, from what it knows: images, heartbeats, closed connections and time come in, nodes to dial and
//! commands to propose come out. Pure.
//!
//! A command that is proposed may come too late, or twice: each names what it presupposes, and apply checks it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::ControllerOptions;
use super::moves::next_moves;
use super::sessions::{Dialled, Sessions, Verdict};
use crate::ids::{BrokerEpoch, NodeId, TopicPartition};
use crate::metadata::command::{Command, ElectionKind};
use crate::metadata::heartbeat::{Heartbeat, HeartbeatReply};
use crate::metadata::image::{Image, TopicChange};
use crate::metadata::state::may_complete;
use crate::metadata::topology::{ConfigResource, Node, PartitionRegistration, Topic};

/// How often moves, stops and offline partitions are looked after.
const LOOK: Duration = Duration::from_millis(50);
/// How often drains are planned.
const PLAN: Duration = Duration::from_millis(200);
/// Partitions in one election at most.
const ELECTION: usize = 1000;

/// The setting that allows unclean elections.
const UNCLEAN_LEADER_ELECTION: &str = "unclean.leader.election.enable";

/// What a command is proposed for: one at a time for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duty {
    /// A node is dead.
    Fence(NodeId),
    /// A node is heard again.
    Unfence(NodeId),
    /// A node did not stop in time.
    EndStop(NodeId),
    /// The added replicas are in sync.
    Complete(TopicPartition),
    /// Drained nodes hold replicas.
    Drain,
    /// Leaders are not the preferred ones.
    Balance,
    /// Partitions without a leader whose topics prefer loss to waiting.
    Unclean,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Dial this node, and tell `dialled` what came of it.
    Dial(Node),
    /// Propose this command, and tell `proposed` when it has ended, whatever came of it.
    Propose(Duty, Command),
}

/// A stop that is on: a grant, or a node that is stopping. Another one starts the time anew.
type Stop = (BrokerEpoch, Option<u64>);

/// The controller of one term.
#[derive(Debug)]
pub struct Controller {
    options: ControllerOptions,
    image: Arc<Image>,
    sessions: Sessions,
    /// Partitions that are being reassigned, and those that nobody leads.
    moving: BTreeSet<TopicPartition>,
    leaderless: BTreeSet<TopicPartition>,
    /// Since when each stop is seen.
    stops: BTreeMap<NodeId, (Stop, Duration)>,
    /// Under way.
    proposed: BTreeSet<Duty>,
    next_look: Duration,
    next_plan: Duration,
    /// The index of the image by which drains were planned last.
    planned: Option<u64>,
    next_balance: Duration,
}

impl Controller {
    /// Begins afresh: nothing of an earlier term counts.
    pub fn new(own: NodeId, options: ControllerOptions, image: Arc<Image>, now: Duration) -> Self {
        let mut controller = Self {
            sessions: Sessions::new(own, &image, now),
            moving: BTreeSet::new(),
            leaderless: BTreeSet::new(),
            stops: BTreeMap::new(),
            proposed: BTreeSet::new(),
            next_look: now,
            next_plan: now,
            planned: None,
            next_balance: now + options.balance.unwrap_or_default(),
            options,
            image: Arc::clone(&image),
        };
        for (id, partition) in image.partitions() {
            controller.note(id, partition);
        }
        controller
    }

    /// Takes another image.
    pub fn follow(&mut self, image: Arc<Image>, now: Duration) {
        let before = std::mem::replace(&mut self.image, Arc::clone(&image));
        for change in image.changed_topics(&before) {
            match change {
                TopicChange::Created(topic) => self.note_changes(topic, None),
                TopicChange::Changed { before, after } => self.note_changes(after, Some(before)),
                TopicChange::Deleted(topic) => self.forget(topic),
            }
        }
        self.sessions.follow(&image, now);
    }

    /// Takes a heartbeat.
    pub fn heartbeat(&mut self, heartbeat: &Heartbeat, now: Duration) -> HeartbeatReply {
        self.sessions.heard(heartbeat, &self.image, now)
    }

    /// A connection of the node closed.
    pub fn lost(&mut self, node: NodeId) {
        self.sessions.lost(node);
    }

    /// A node was dialled.
    pub fn dialled(&mut self, node: NodeId, epoch: BrokerEpoch, result: Dialled, now: Duration) {
        self.sessions.dialled(node, epoch, result, now);
    }

    /// A proposal has ended. If its cause is still there, it is proposed again.
    pub fn proposed(&mut self, duty: Duty) {
        self.proposed.remove(&duty);
    }

    /// What is to be done now. To be asked after each input, and every [`LOOK`].
    pub fn look(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        for verdict in self.sessions.verdicts(&self.options, now) {
            match verdict {
                Verdict::Dial(node, _) => effects.extend(self.image.node(node).cloned().map(Effect::Dial)),
                Verdict::Fence(node, epoch) => {
                    self.propose(&mut effects, Duty::Fence(node), Command::FenceNode { node, epoch });
                }
                Verdict::Unfence(node, epoch) => {
                    self.propose(&mut effects, Duty::Unfence(node), Command::UnfenceNode { node, epoch });
                }
            }
        }
        if now >= self.next_look {
            self.next_look = now + LOOK;
            self.complete_moves(&mut effects);
            self.end_stops(&mut effects, now);
            self.elect_uncleanly(&mut effects);
        }
        if now >= self.next_plan && self.planned != Some(self.image.index()) {
            self.next_plan = now + PLAN;
            self.plan_drains(&mut effects);
        }
        if self.options.balance.is_some() && now >= self.next_balance {
            self.next_balance = now + self.options.balance.unwrap_or_default();
            self.balance(&mut effects);
        }
        effects
    }

    fn propose(&mut self, effects: &mut Vec<Effect>, duty: Duty, command: Command) {
        if self.proposed.insert(duty) {
            effects.push(Effect::Propose(duty, command));
        }
    }

    fn complete_moves(&mut self, effects: &mut Vec<Effect>) {
        let ready = |id: &TopicPartition| {
            let topic = self.image.topic_by_id(id.topic)?;
            let partition = topic.partitions.get(id.partition.get() as usize)?;
            let min_insync = self.image.min_insync_replicas(&topic.name);
            may_complete(partition, min_insync).then_some((*id, partition.partition_epoch))
        };
        let ready: Vec<_> = self.moving.iter().filter_map(ready).collect();
        for (partition, partition_epoch) in ready {
            let command = Command::CompleteReassignment { partition, partition_epoch };
            self.propose(effects, Duty::Complete(partition), command);
        }
    }

    fn end_stops(&mut self, effects: &mut Vec<Effect>, now: Duration) {
        let granted = self.image.stop_grant();
        let grant_of = |node: NodeId| granted.filter(|grant| grant.node == node).map(|grant| grant.granted_at);
        let on = self.image.nodes().filter(|node| (node.stopping && !node.fenced) || grant_of(node.id).is_some());
        let on: BTreeMap<NodeId, Stop> = on.map(|node| (node.id, (node.epoch, grant_of(node.id)))).collect();
        self.stops.retain(|node, (stop, _)| on.get(node) == Some(stop));
        for (node, stop) in on {
            let (_, since) = *self.stops.entry(node).or_insert((stop, now));
            if now.saturating_sub(since) >= self.options.stop {
                self.propose(effects, Duty::EndStop(node), Command::EndStop { node, epoch: stop.0 });
            }
        }
    }

    fn elect_uncleanly(&mut self, effects: &mut Vec<Effect>) {
        let allowed = |id: &&TopicPartition| {
            let topic = self.image.topic_by_id(id.topic);
            let partition = self.image.partition(id);
            let somebody = partition.is_some_and(|partition| {
                partition.replicas.iter().any(|node| self.image.node(*node).is_some_and(|node| !node.fenced))
            });
            somebody && topic.is_some_and(|topic| self.unclean(&topic.name))
        };
        let partitions: Vec<_> = self.leaderless.iter().filter(allowed).take(ELECTION).copied().collect();
        if !partitions.is_empty() {
            let command = Command::ElectLeaders { kind: ElectionKind::Unclean, partitions };
            self.propose(effects, Duty::Unclean, command);
        }
    }

    /// Rule 11: off, unless somebody turned it on.
    fn unclean(&self, topic: &Arc<str>) -> bool {
        let setting = |resource| self.image.config(&resource, UNCLEAN_LEADER_ELECTION).map(|value| value == "true");
        setting(ConfigResource::Topic(Arc::clone(topic)))
            .or_else(|| setting(ConfigResource::BrokerDefault))
            .unwrap_or(self.options.unclean)
    }

    fn plan_drains(&mut self, effects: &mut Vec<Effect>) {
        if self.image.drains().next().is_none() || self.proposed.contains(&Duty::Drain) {
            return;
        }
        self.planned = Some(self.image.index());
        let moves = next_moves(&self.image, self.options.moves);
        if !moves.is_empty() {
            self.propose(effects, Duty::Drain, Command::BeginReassignment(moves));
        }
    }

    fn balance(&mut self, effects: &mut Vec<Effect>) {
        let partitions: Vec<_> = self
            .image
            .partitions()
            .filter(|(_, partition)| self.preferred_could_lead(partition))
            .map(|(id, _)| id)
            .take(ELECTION)
            .collect();
        if !partitions.is_empty() {
            let command = Command::ElectLeaders { kind: ElectionKind::Preferred, partitions };
            self.propose(effects, Duty::Balance, command);
        }
    }

    fn preferred_could_lead(&self, partition: &PartitionRegistration) -> bool {
        let Some(preferred) = partition.replicas.first() else { return false };
        let stays = |node: &Node| !node.fenced && !node.stopping && self.image.drain(node.id).is_none();
        partition.leader != Some(*preferred)
            && partition.isr.contains(preferred)
            && self.image.node(*preferred).is_some_and(stays)
    }

    fn note_changes(&mut self, after: &Topic, before: Option<&Arc<Topic>>) {
        for (id, partition) in after.indexed() {
            let index = id.partition.get() as usize;
            if before.and_then(|before| before.partitions.get(index)) != Some(partition) {
                self.note(id, partition);
            }
        }
    }

    fn note(&mut self, id: TopicPartition, partition: &PartitionRegistration) {
        let mut keep = |set: fn(&mut Self) -> &mut BTreeSet<TopicPartition>, member: bool| {
            if member { set(self).insert(id) } else { set(self).remove(&id) }
        };
        keep(|it| &mut it.moving, partition.reassignment.is_some());
        keep(|it| &mut it.leaderless, partition.leader.is_none());
    }

    fn forget(&mut self, topic: &Topic) {
        for (id, _) in topic.indexed() {
            self.moving.remove(&id);
            self.leaderless.remove(&id);
        }
    }
}
