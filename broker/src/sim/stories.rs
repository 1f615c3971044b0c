//! Stories: faults that follow on each other, and wait for what came of the one before. Each brings about one kind of
//! history that faults drawn by themselves meet rarely: the rules of the replication design that deal with it would
//! else hardly be tried.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep};

use super::nemesis::Nemesis;
use super::network::{METADATA_PORT, WAL_PORT};
use super::scenario::{Cleanup, Scenario};
use super::trace::note;
use crate::ids::{NodeId, TopicPartition};
use crate::metadata::{Command, ElectionKind, MetadataPlane as _, Move, PartitionRegistration, Seat};

/// What a run tells, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Story {
    /// A replica joins an ISR, of which its leader does not hear, and cannot hold the next records; then the leader goes
    /// (rule 6).
    UnheardJoin,
    /// A leader that reaches nobody fills its log, is deposed, and leads again (rules 3 and 9).
    LeadsAgain,
    /// A leader that reaches nobody goes on until its log is due for compaction; then it is deposed.
    CleansAlone,
    /// Of the two replicas that may lead one loses its disk, then the other one goes (rule 10).
    EligibleWiped,
}

/// How often it is looked whether something has happened.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// What an undisturbed cluster does at once is done within this.
const SOON: Duration = Duration::from_secs(3);
/// A node that was wiped serves again, and votes if it did, within this.
const BACK_WITHIN: Duration = Duration::from_secs(15);

impl Story {
    pub(super) const ALL: [Self; 4] = [Self::UnheardJoin, Self::LeadsAgain, Self::CleansAlone, Self::EligibleWiped];

    /// Makes a run such that the story can happen in it.
    pub(super) fn shape(self, scenario: &mut Scenario, rng: &mut SmallRng) {
        match self {
            Self::UnheardJoin | Self::EligibleWiped => scenario.lag_max_ms = 1_000,
            // Those that hear nothing are to stay in sync for a while.
            Self::LeadsAgain => scenario.lag_max_ms = if rng.random_bool(0.7) { 10_000 } else { 3_000 },
            Self::CleansAlone => {
                scenario.lag_max_ms = 10_000;
                // Few records come with a key of before, so that those that should not have gone are missed.
                scenario.keys = 200;
                scenario.topics.truncate(1);
                let topic = &mut scenario.topics[0];
                (topic.partitions, topic.cleanup, topic.segment_ms) = (1, Cleanup::Compaction, Some(400));
            }
        }
    }
}

impl Nemesis {
    /// Tells a story until then.
    pub(super) async fn tell(&self, story: Story, end: Instant) {
        while Instant::now() < end {
            sleep(self.pause(0, 500)).await;
            note!(self.cluster.world.trace, "story: {story:?}");
            let told = match story {
                Story::UnheardJoin => self.unheard_join().await,
                Story::LeadsAgain => self.leads_again().await,
                Story::CleansAlone => self.cleans_alone().await,
                Story::EligibleWiped => self.eligible_wiped().await,
            };
            note!(self.cluster.world.trace, "story: {}", if told.is_some() { "told" } else { "could not go on" });
            self.cluster.world.net.heal();
        }
    }

    async fn unheard_join(&self) -> Option<()> {
        let (id, partition) = self.whole().await?;
        let leader = partition.leader?;
        let controller = self.controller()?;
        let others: Vec<_> = partition.replicas.iter().copied().filter(|node| *node != leader).collect();
        if controller == leader {
            // It hears of everything first.
            return self.hand_over(id, self.one_of(&others)).await;
        }
        // Mostly the one that leads next.
        let late = if self.cluster.chance(70) { others[0] } else { self.one_of(&others) };
        self.part(leader, late);
        self.until(id, self.lag_max() + SOON, |now| now.leader == Some(leader) && !now.isr.contains(&late)).await?;
        sleep(self.pause(0, 300)).await;
        let net = &self.cluster.world.net;
        let early = self.cluster.chance(30);
        if early {
            net.cut_port(controller.get(), leader.get(), METADATA_PORT);
        }
        net.heal_port(leader.get(), late.get(), WAL_PORT);
        self.until(id, SOON, |now| now.leader == Some(leader) && now.isr.contains(&late)).await?;
        net.cut_port(controller.get(), leader.get(), METADATA_PORT);
        self.part(leader, late);
        sleep(self.pause(100, 1_000)).await;
        self.kill(leader);
        for other in others.into_iter().filter(|node| *node != late) {
            if self.cluster.chance(30) {
                self.kill(other);
            }
        }
        sleep(self.pause(0, 3_000)).await;
        Some(())
    }

    async fn leads_again(&self) -> Option<()> {
        let (id, leader) = self.deposed_after(self.pause(100, 2_500)).await?;
        sleep(self.pause(0, 1_000)).await;
        self.cluster.world.net.heal();
        let next = self.until(id, SOON + SOON, |now| now.isr.contains(&leader)).await?.leader?;
        sleep(self.pause(0, 500)).await;
        if self.cluster.chance(70) {
            self.hand_over(id, leader).await?;
        } else {
            self.kill(next);
        }
        sleep(self.pause(0, 2_000)).await;
        Some(())
    }

    async fn cleans_alone(&self) -> Option<()> {
        // Compaction keeps to what a checkpoint vouches for, which is written every five seconds.
        self.deposed_after(self.pause(5_500, 9_000)).await?;
        sleep(self.pause(0, 500)).await;
        Some(())
    }

    /// Cuts a leader from its followers, and has another one lead after so long: the partition, and who led it.
    async fn deposed_after(&self, alone: Duration) -> Option<(TopicPartition, NodeId)> {
        let (id, partition) = self.whole().await?;
        let leader = partition.leader?;
        let others: Vec<_> = partition.replicas.iter().copied().filter(|node| *node != leader).collect();
        for other in &others {
            self.part(leader, *other);
        }
        sleep(alone).await;
        match self.cluster.rng.below(4) {
            0 => self.kill(leader),
            1 => self.isolate(leader.get()),
            _ => self.hand_over(id, self.one_of(&others)).await?,
        }
        self.until(id, SOON + SOON, |now| now.leader.is_some_and(|it| it != leader)).await?;
        Some((id, leader))
    }

    async fn eligible_wiped(&self) -> Option<()> {
        let (id, partition) = self.whole().await?;
        let leader = partition.leader?;
        let mut others: Vec<_> = partition.replicas.iter().copied().filter(|node| *node != leader).collect();
        let wiped = self.one_of(&others);
        others.retain(|node| *node != wiped);
        for other in others {
            self.part(leader, other);
        }
        self.until(id, self.lag_max() + SOON, |now| now.leader == Some(leader) && now.isr.len() == 2).await?;
        let machine = self.cluster.machines.get(wiped.get() as usize)?;
        let image = self.cluster.image()?;
        let (voted, directory) = (image.seat_of(wiped)? == Seat::Voter, image.node(wiped)?.directory);
        if !self.may_wipe() {
            return None;
        }
        // It is to have nothing of what it had.
        self.part(leader, wiped);
        machine.wipe();
        machine.restart_in(self.cluster.rng.below(500));
        let give_up = Instant::now() + BACK_WITHIN;
        let is_back = || {
            let image = self.cluster.image()?;
            let node = image.node(wiped)?;
            let votes = image.seat_of(wiped)? == Seat::Voter;
            (!node.fenced && node.directory != directory && votes == voted).then_some(())
        };
        while is_back().is_none() && Instant::now() < give_up {
            sleep(LOOK_EVERY).await;
        }
        sleep(self.pause(0, 500)).await;
        self.kill(leader);
        sleep(self.pause(1_500, 3_000)).await;
        Some(())
    }

    fn pause(&self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(least_ms + self.cluster.rng.below(most_ms - least_ms))
    }

    fn lag_max(&self) -> Duration {
        Duration::from_millis(self.cluster.world.scenario.lag_max_ms)
    }

    fn one_of(&self, nodes: &[NodeId]) -> NodeId {
        nodes[self.cluster.rng.below(nodes.len() as u64) as usize]
    }

    /// Nothing goes between two nodes' logs any more.
    fn part(&self, one: NodeId, other: NodeId) {
        self.cluster.world.net.cut_port(one.get(), other.get(), WAL_PORT);
        self.cluster.world.net.cut_port(other.get(), one.get(), WAL_PORT);
    }

    /// For longer than it takes to be found dead.
    fn kill(&self, node: NodeId) {
        let machine = &self.cluster.machines[node.get() as usize];
        machine.kill(self.cluster.chance(50));
        machine.restart_in(1_000 + self.cluster.rng.below(4_000));
    }

    /// Who leads the metadata plane, as the node with the newest image says.
    fn controller(&self) -> Option<NodeId> {
        self.cluster.serving().iter().max_by_key(|node| node.raft.image().index())?.raft.leader()
    }

    /// A partition of three replicas all of which are in sync, once there is one.
    async fn whole(&self) -> Option<(TopicPartition, Arc<PartitionRegistration>)> {
        let give_up = Instant::now() + SOON;
        loop {
            let partitions = self.cluster.partitions();
            let image = self.cluster.image();
            let found: Vec<_> = partitions
                .iter()
                .filter_map(|(id, _)| Some((*id, image.as_ref()?.partition(id)?.clone())))
                .filter(|(_, partition)| partition.replicas.len() == 3 && partition.isr.len() == 3)
                .filter(|(_, partition)| partition.leader.is_some())
                .collect();
            if !found.is_empty() {
                return Some(found[self.cluster.rng.below(found.len() as u64) as usize].clone());
            }
            if Instant::now() > give_up {
                return None;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The first registration of the partition of which this is true.
    async fn until(
        &self,
        id: TopicPartition,
        within: Duration,
        is_so: impl Fn(&PartitionRegistration) -> bool,
    ) -> Option<Arc<PartitionRegistration>> {
        let give_up = Instant::now() + within;
        while Instant::now() < give_up {
            let image = self.cluster.image();
            if let Some(partition) = image.as_ref().and_then(|image| image.partition(&id)).filter(|now| is_so(now)) {
                return Some(partition.clone());
            }
            sleep(LOOK_EVERY).await;
        }
        None
    }

    /// Has another replica lead, as an administrator does: it becomes the preferred one.
    async fn hand_over(&self, id: TopicPartition, to: NodeId) -> Option<()> {
        let mut target = self.cluster.image()?.partition(&id)?.replicas.clone();
        target.sort_by_key(|node| *node != to);
        let order = Move { partition: id, target: target.clone(), partition_epoch: None };
        self.cluster.propose(Command::BeginReassignment(vec![order])).await?;
        self.until(id, SOON, |now| now.reassignment.is_none() && now.replicas == target).await?;
        self.cluster.propose(Command::ElectLeaders { kind: ElectionKind::Preferred, partitions: vec![id] }).await?;
        self.until(id, SOON, |now| now.leader == Some(to)).await.map(drop)
    }
}
