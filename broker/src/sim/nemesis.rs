//! What goes wrong, and what administrators do meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;

use super::cluster::Cluster;
use super::network::Latency;
use super::scenario::{Cleanup, Fault, TopicPlan};
use super::trace::note;
use super::voters::{Order, Voters};
use crate::ids::{NodeId, Offset, TopicPartition};
use crate::log::LogOffsets;
use crate::metadata::{Command, ConfigResource, ElectionKind, Move, Outcome};

/// The faults of a run.
pub(super) struct Nemesis {
    pub(super) cluster: Arc<Cluster>,
    /// A second disk that is lost may take what the first one had.
    may_wipe: AtomicBool,
    voters: Mutex<Voters>,
}

impl Nemesis {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        let scenario = &cluster.world.scenario;
        let voters = Mutex::new(Voters::new(scenario.nodes, scenario.voters));
        Self { cluster, may_wipe: AtomicBool::new(true), voters }
    }

    /// Faults of all kinds, and the run's story, if it has one.
    pub(super) async fn run(self: Arc<Self>, for_ms: u64) {
        let end = tokio::time::Instant::now() + Duration::from_millis(for_ms);
        let story = self.cluster.world.scenario.story;
        let told = async {
            if let Some(story) = story {
                self.tell(story, end).await;
            }
        };
        tokio::join!(biased; self.clone().any_faults(end), told);
    }

    /// One fault after the other. Those that take their time are begun, and go on beside.
    async fn any_faults(self: Arc<Self>, end: tokio::time::Instant) {
        let scenario = self.cluster.world.scenario.clone();
        if scenario.faults.is_empty() {
            return;
        }
        while tokio::time::Instant::now() < end {
            sleep(Duration::from_millis(self.cluster.rng.below(scenario.fault_every_ms))).await;
            let fault = scenario.faults[self.cluster.rng.below(scenario.faults.len() as u64) as usize];
            note!(self.cluster.world.trace, "fault: {fault:?}");
            self.begin(fault);
            if self.cluster.chance(30) {
                self.cluster.look_at_replicas();
            }
        }
    }

    fn begin(self: &Arc<Self>, fault: Fault) {
        let cluster = &self.cluster;
        let rng = &cluster.rng;
        match fault {
            Fault::Kill | Fault::PowerLoss => {
                let machine = cluster.any();
                machine.kill(fault == Fault::PowerLoss);
                machine.restart_in(rng.below(4_000));
            }
            Fault::PowerLossOfAll => {
                for machine in &cluster.machines {
                    machine.kill(true);
                    machine.restart_in(rng.below(2_000));
                }
            }
            Fault::TornWrite => cluster.any().crash_at(1 + rng.below(60)),
            Fault::Stop => cluster.any().stop(),
            Fault::Wipe => self.wipe(),
            Fault::Cut | Fault::OneWayCut => {
                let (one, other) = (cluster.any().id, cluster.any().id);
                if one != other {
                    cluster.world.net.cut(one, other);
                    if fault == Fault::Cut {
                        cluster.world.net.cut(other, one);
                    }
                    self.later(4_000, |nemesis| nemesis.cluster.world.net.heal());
                }
            }
            Fault::Isolate => {
                self.isolate(cluster.any().id);
                self.later(4_000, |nemesis| nemesis.cluster.world.net.heal());
            }
            Fault::LateMessages => {
                let usual = cluster.world.scenario.latency;
                cluster.world.net.set_latency(Latency { late_of: 20, ..usual });
                self.later(2_000, move |nemesis| nemesis.cluster.world.net.set_latency(usual));
            }
            Fault::SlowDisk => {
                let (machine, usual) = (cluster.any().clone(), cluster.world.scenario.disk_us);
                machine.set_round_us(50_000 + rng.below(1_000_000));
                self.later(3_000, move |_| machine.set_round_us(usual));
            }
            Fault::FullDisk => {
                let machine = cluster.any().clone();
                machine.set_room(Some(rng.below(20_000)));
                self.later(3_000, move |_| machine.set_room(None));
            }
            Fault::ClockJump => cluster.any().set_clock_off(rng.below(3_000_000) as i64 - 1_500_000),
            Fault::Reassign
            | Fault::CancelReassignments
            | Fault::Drain
            | Fault::Voters
            | Fault::PreferredLeaders
            | Fault::RecreateTopic
            | Fault::MinInsync
            | Fault::DeleteRecords => {
                let nemesis = self.clone();
                tokio::spawn(async move { nemesis.administrate(fault).await });
            }
        }
    }

    /// Does something at a time within so many milliseconds.
    fn later(self: &Arc<Self>, within_ms: u64, what: impl FnOnce(&Self) + Send + 'static) {
        let (nemesis, pause) = (self.clone(), Duration::from_millis(self.cluster.rng.below(within_ms)));
        tokio::spawn(async move {
            sleep(pause).await;
            what(&nemesis);
        });
    }

    /// Nothing goes between a machine and any other.
    pub(super) fn isolate(&self, alone: i32) {
        let net = &self.cluster.world.net;
        for machine in self.cluster.machines.iter().filter(|machine| machine.id != alone) {
            net.cut(alone, machine.id);
            net.cut(machine.id, alone);
        }
    }

    /// Empties one disk, once in a run: what was acknowledged has one more copy at least.
    fn wipe(&self) {
        if self.may_wipe() {
            let machine = self.cluster.any();
            machine.wipe();
            machine.restart_in(self.cluster.rng.below(4_000));
        }
    }

    /// Whether a disk may be emptied: who asks does so.
    pub(super) fn may_wipe(&self) -> bool {
        self.may_wipe.swap(false, Ordering::Relaxed)
    }

    async fn administrate(&self, what: Fault) {
        let cluster = &self.cluster;
        let partitions = cluster.partitions();
        if partitions.is_empty() {
            return;
        }
        let (partition, plan) = partitions[cluster.rng.below(partitions.len() as u64) as usize].clone();
        let all = || partitions.iter().map(|(partition, _)| *partition).collect::<Vec<_>>();
        let node = NodeId::new(cluster.any().id);
        let command = match what {
            Fault::Reassign => {
                let target = cluster.replicas(plan.replicas);
                Command::BeginReassignment(vec![Move { partition, target, partition_epoch: None }])
            }
            Fault::CancelReassignments => Command::CancelReassignment(all()),
            Fault::Drain if cluster.chance(50) => Command::BeginDrain(node),
            Fault::Drain => Command::CancelDrain(node),
            Fault::PreferredLeaders => Command::ElectLeaders { kind: ElectionKind::Preferred, partitions: all() },
            Fault::Voters => return self.change_voters(node).await,
            Fault::DeleteRecords => return self.delete_records(partition, &plan).await,
            Fault::MinInsync => {
                let least = cluster.world.scenario.least_insync();
                let minimum = least + cluster.rng.below(4 - least);
                let changes = vec![("min.insync.replicas".to_owned(), Some(minimum.to_string()))];
                Command::SetConfigs { resource: ConfigResource::Topic(plan.name.into()), changes }
            }
            _ => {
                let names = cluster.topic_names();
                let name = names[cluster.rng.below(names.len() as u64) as usize].clone();
                return cluster.recreate(&name).await;
            }
        };
        let outcome = cluster.propose(command).await;
        note!(cluster.world.trace, "{what:?}: {outcome:?}");
    }

    /// Deletes some of the oldest records, or all that are committed.
    async fn delete_records(&self, id: TopicPartition, plan: &TopicPlan) {
        let cluster = &self.cluster;
        let leader = cluster.image().and_then(|image| image.partition(&id)?.leader);
        let Some(node) = leader.and_then(|leader| cluster.machines[leader.get() as usize].serving()) else { return };
        let deleted = cluster.call(&node, async |node| {
            // Kafka's API refuses it for compacted topics.
            let partition = node.partitions.get(&id).filter(|_| plan.cleanup != Cleanup::Compaction)?;
            let LogOffsets { log_start, high_watermark, .. } = partition.offsets();
            let upto = log_start.get() + cluster.rng.below(high_watermark.since(log_start) + 1) as i64;
            cluster.checker.deletes(id, upto);
            Some((upto, partition.delete_records(Offset::new(upto)).map_err(|why| why.to_string())))
        });
        let deleted = deleted.await;
        note!(cluster.world.trace, "{}-{}: records are deleted: {deleted:?}", plan.name, id.partition);
    }

    /// Makes a voter a learner, or the other way round.
    async fn change_voters(&self, node: NodeId) {
        let Some(directory) = self.cluster.image().and_then(|image| Some(image.member(node)?.directory)) else {
            return;
        };
        let Some(order) = self.voters.lock().order(node) else { return };
        let Order { node, vote } = order;
        let outcome = self.cluster.propose(Command::SetMemberVote { node, directory, vote }).await;
        note!(self.cluster.world.trace, "{order:?}: {outcome:?}");
        if let Some(outcome) = outcome {
            self.voters.lock().answered(order, outcome == Outcome::Done);
        }
    }

    /// Nothing is wrong any more; what administrators began is taken back.
    pub(super) fn heal(&self) {
        let cluster = &self.cluster;
        cluster.world.net.heal();
        cluster.world.net.set_latency(Latency { late_of: 0, ..cluster.world.scenario.latency });
        for machine in &cluster.machines {
            machine.heal();
            if !machine.is_running() {
                machine.restart_in(0);
            }
        }
    }

    /// Drains that are under way end.
    pub(super) async fn undrain(&self) -> bool {
        let Some(image) = self.cluster.image() else { return false };
        let drained: Vec<_> = image.drains().map(|(node, _)| node).collect();
        for node in &drained {
            self.cluster.propose(Command::CancelDrain(*node)).await;
        }
        drained.is_empty()
    }
}
