//! The machines together, and how clients and administrators reach them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::checker::{Checker, Value, read};
use super::machine::{Machine, Serving, World};
use super::scenario::{Cleanup, TopicPlan};
use super::trace::note;
use crate::ids::{NodeId, Offset, TopicId, TopicPartition};
use crate::io::rng::Rng;
use crate::metadata::{Command, Image, MetadataPlane as _, NewTopic, Outcome};
use crate::stream::Partition;

/// How long an administrator waits for an answer.
const COMMAND_WITHIN: Duration = Duration::from_secs(5);

/// Why a call has no answer: the node is gone, or its answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost;

pub(super) struct Cluster {
    pub(super) world: World,
    pub(super) machines: Vec<Arc<Machine>>,
    pub(super) checker: Checker,
    /// For whatever is drawn while the run goes on.
    pub(super) rng: Rng,
    /// The topics that there should be: their newest ids, and what they are.
    topics: Mutex<BTreeMap<String, (TopicId, TopicPlan)>>,
}

impl Cluster {
    pub(super) fn new(world: World) -> Arc<Self> {
        let machines = (0..world.scenario.nodes).map(|id| Machine::new(id, world.clone())).collect();
        Arc::new(Self {
            checker: Checker::new(world.trace.clone()),
            rng: Rng::seeded(world.seed ^ 0xc105_7e12),
            machines,
            world,
            topics: Mutex::default(),
        })
    }

    pub(super) fn any(&self) -> &Arc<Machine> {
        &self.machines[self.rng.below(self.machines.len() as u64) as usize]
    }

    /// Whether something happens that has this chance of a hundred.
    pub(super) fn chance(&self, of_hundred: u64) -> bool {
        self.rng.below(100) < of_hundred
    }

    /// The nodes that serve.
    pub(super) fn serving(&self) -> Vec<Arc<Serving>> {
        self.machines.iter().filter_map(|machine| machine.serving()).collect()
    }

    /// A serving node, any of them.
    pub(super) fn any_serving(&self) -> Option<Arc<Serving>> {
        let mut serving = self.serving();
        let at = self.rng.below(serving.len() as u64) as usize;
        (!serving.is_empty()).then(|| serving.swap_remove(at))
    }

    /// The newest image that a serving node has.
    pub(super) fn image(&self) -> Option<Arc<Image>> {
        self.serving().iter().map(|node| node.raft.image()).max_by_key(|image| image.index())
    }

    /// Has a node do something for a client, who hears of it, or does not.
    pub(super) async fn call<T, F>(&self, node: &Arc<Serving>, work: F) -> Result<T, Lost>
    where
        F: AsyncFnOnce(&Serving) -> T,
    {
        sleep(self.world.net.delay()).await;
        if node.is_gone() || self.chance(1) {
            return Err(Lost);
        }
        let done = work(node).await;
        sleep(self.world.net.delay()).await;
        if node.is_gone() || self.chance(1) { Err(Lost) } else { Ok(done) }
    }

    /// Proposes a command at any node; `None` without an answer.
    pub(super) async fn propose(&self, command: Command) -> Option<Outcome> {
        let node = self.any_serving()?;
        let decided = timeout(COMMAND_WITHIN, node.raft.propose(command)).await;
        decided.ok()?.ok().filter(|_| !node.is_gone())
    }

    /// The partitions of the topics that there should be, with their plans.
    pub(super) fn partitions(&self) -> Vec<(TopicPartition, TopicPlan)> {
        let topics = self.topics.lock();
        let of = |(id, plan): &(TopicId, TopicPlan)| {
            let (id, plan) = (*id, plan.clone());
            (0..plan.partitions)
                .map(move |index| (TopicPartition { topic: id, partition: (index as i32).into_index() }, plan.clone()))
        };
        topics.values().flat_map(of).collect()
    }

    /// Creates a topic; until it is there.
    pub(super) async fn create(&self, plan: &TopicPlan) {
        // A node whose image is old may yet name another topic so.
        let mut proposed = BTreeSet::new();
        loop {
            let id = TopicId::from_uuid(self.draw()).expect("a drawn id is not nil");
            let assignment = (0..plan.partitions).map(|_| self.replicas(plan.replicas)).collect();
            let topic = NewTopic { name: plan.name.clone(), id, assignment, configs: configs(plan) };
            // It may be there though nobody heard of it: then it is found in the image.
            let outcome = self.propose(Command::CreateTopic(topic)).await;
            proposed.insert(id);
            let found = self.image().and_then(|image| image.topic(&plan.name).map(|topic| topic.id));
            if let Some(id) = found.filter(|id| proposed.contains(id)) {
                note!(self.world.trace, "topic {} is {id:?}", plan.name);
                for index in 0..plan.partitions {
                    let partition = TopicPartition { topic: id, partition: (index as i32).into_index() };
                    self.checker.created(partition, &plan.name, plan.cleanup);
                }
                self.topics.lock().insert(plan.name.clone(), (id, plan.clone()));
                return;
            }
            note!(self.world.trace, "topic {} is not there yet: {outcome:?}", plan.name);
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Deletes a topic and makes it anew.
    pub(super) async fn recreate(&self, name: &str) {
        let Some((id, plan)) = self.topics.lock().remove(name) else { return };
        note!(self.world.trace, "topic {name} is deleted");
        loop {
            let decided = self.propose(Command::DeleteTopic(id)).await;
            if decided.is_some() && self.image().is_some_and(|image| image.topic_by_id(id).is_none()) {
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
        self.create(&plan).await;
    }

    /// The names of the topics that there should be.
    pub(super) fn topic_names(&self) -> Vec<String> {
        self.topics.lock().keys().cloned().collect()
    }

    pub(super) fn draw(&self) -> Uuid {
        self.rng.uuid()
    }

    /// So many different nodes.
    pub(super) fn replicas(&self, count: usize) -> Vec<NodeId> {
        let mut all: Vec<_> = self.machines.iter().map(|machine| NodeId::new(machine.id)).collect();
        while all.len() > count {
            all.remove(self.rng.below(all.len() as u64) as usize);
        }
        let first = self.rng.below(all.len() as u64) as usize;
        all.rotate_left(first);
        all
    }

    /// Who leads what, as the nodes believe: noted for the checker.
    pub(super) fn note_leaders(&self) {
        for node in self.serving() {
            for partition in node.partitions.all() {
                if let Some(epoch) = partition.leading() {
                    self.checker.led(partition.id(), epoch, node.process.machine, node.process.start);
                }
            }
        }
    }

    /// What is committed, and how much of it those have who may be elected: noted for the checker.
    pub(super) fn note_eligible(&self) {
        let Some(image) = self.image().filter(|image| self.checker.is_newest(image.index())) else { return };
        for (partition, _) in self.partitions() {
            let Some(registration) = image.partition(&partition) else { continue };
            let replicas: Vec<_> = self
                .serving()
                .iter()
                .filter_map(|node| Some((node.process.machine, node.partitions.get(&partition)?.offsets())))
                .collect();
            for (_, offsets) in &replicas {
                self.checker.committed(partition, offsets.high_watermark.get());
            }
            for (machine, offsets) in replicas {
                let node = NodeId::new(machine);
                if registration.isr.contains(&node) || registration.elr.contains(&node) {
                    self.checker.may_lead(partition, machine, offsets.flushed_end.get());
                }
            }
        }
    }

    /// Reads every replica below its high watermark.
    pub(super) fn look_at_replicas(&self) {
        for node in self.serving() {
            for (partition, _) in self.partitions() {
                if let Some(replica) = node.partitions.get(&partition) {
                    self.look_at(&node, &replica);
                }
            }
        }
    }

    fn look_at(&self, node: &Serving, replica: &Partition) {
        let offsets = replica.offsets();
        self.checker.begins(replica.id(), offsets.log_start);
        let mut from = offsets.log_start;
        while from < offsets.high_watermark {
            match read(replica, from, offsets.high_watermark, 1 << 20) {
                Ok(found) => {
                    self.checker.seen(replica.id(), node.process.machine, from.get(), &found.records);
                    let Some(end) = found.end else { break };
                    from = end;
                }
                Err(why) => return self.unreadable(node, replica.id(), &why),
            }
        }
    }

    /// A replica could not be read: for which there must be a reason.
    pub(super) fn unreadable(&self, node: &Serving, partition: TopicPartition, why: &dyn std::fmt::Display) {
        let machine = &self.machines[node.process.machine as usize];
        if !node.is_gone() && !machine.has_crashed() {
            self.checker.violated(format!("{partition:?} at node {}: {why}", machine.id));
        }
    }

    /// At the end: every replica's whole log.
    pub(super) fn check_logs(&self) {
        for node in self.serving() {
            for (partition, _) in self.partitions() {
                let Some(replica) = node.partitions.get(&partition) else { continue };
                let offsets = replica.offsets();
                self.checker.begins(partition, offsets.log_start);
                match read_all(&replica, offsets.log_start, offsets.high_watermark) {
                    Ok(records) => self.checker.ends_with(
                        partition,
                        node.process.machine,
                        offsets.log_start.get(),
                        offsets.high_watermark.get(),
                        &records,
                    ),
                    Err(why) => self.unreadable(&node, partition, &why),
                }
            }
        }
    }

    /// Whether the only member of a partition's ISR was wiped, before anything was acknowledged: then it is offline until
    /// an administrator decides (rule 10).
    pub(super) fn is_offline(&self, partition: TopicPartition) -> bool {
        let image = self.image();
        let registration = image.as_ref().and_then(|image| image.partition(&partition));
        registration.is_some_and(|it| it.isr.is_empty() && it.elr.is_empty()) && !self.checker.has_acked(partition)
    }

    /// Why the cluster is not as it should be when nothing disturbs it; `None` when it is.
    pub(super) fn not_converged(&self) -> Option<String> {
        let serving = self.serving();
        if let Some(missing) = self.machines.iter().find(|machine| machine.serving().is_none()) {
            return Some(format!("node {} does not serve", missing.id));
        }
        let Some(image) = self.image() else { return Some("nobody serves".to_owned()) };
        if let Some(behind) = serving.iter().find(|node| node.raft.image().index() < image.index()) {
            return Some(format!("node {} has an old image", behind.process.machine));
        }
        if let Some(fenced) = image.nodes().find(|node| node.fenced) {
            return Some(format!("node {} is fenced", fenced.id));
        }
        for (id, plan) in self.partitions() {
            let what = format!("{}-{}", plan.name, id.partition);
            let Some(registration) = image.partition(&id) else { return Some(format!("{what} is not there")) };
            let mut isr = registration.isr.clone();
            let mut replicas = registration.replicas.clone();
            isr.sort_unstable();
            replicas.sort_unstable();
            if self.is_offline(id) {
                continue;
            }
            if registration.leader.is_none() || registration.reassignment.is_some() || isr != replicas {
                return Some(format!("{what} is {registration:?}"));
            }
            let ends: Vec<(i32, Offset, Offset)> = serving
                .iter()
                .filter(|node| replicas.contains(&NodeId::new(node.process.machine)))
                .filter_map(|node| Some((node.process.machine, node.partitions.get(&id)?.offsets())))
                .map(|(machine, offsets)| (machine, offsets.log_end, offsets.high_watermark))
                .collect();
            let same = ends.iter().all(|(_, end, mark)| *end == ends[0].1 && *mark == ends[0].1);
            if ends.len() != replicas.len() || !same {
                return Some(format!("{what} ends at (node, end, high watermark) {ends:?}"));
            }
        }
        None
    }
}

/// All records of a replica from `from` to below `upto`: a read ends where a segment does.
fn read_all(replica: &Partition, mut from: Offset, upto: Offset) -> Result<Vec<(i64, Value)>, String> {
    let mut records = Vec::new();
    while from < upto {
        let found = read(replica, from, upto, usize::MAX >> 1)?;
        records.extend(found.records);
        let Some(end) = found.end else { break };
        from = end;
    }
    Ok(records)
}

fn configs(plan: &TopicPlan) -> Vec<(String, String)> {
    let mut configs = Vec::new();
    if let Some(ms) = plan.segment_ms {
        configs.push(("segment.ms", ms.to_string()));
    }
    match plan.cleanup {
        Cleanup::Never => configs.push(("retention.ms", "-1".to_owned())),
        Cleanup::Retention => configs.push(("retention.bytes", "5000".to_owned())),
        Cleanup::Compaction => configs.push(("cleanup.policy", "compact".to_owned())),
    }
    configs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A partition's number.
pub(super) trait IntoIndex {
    fn into_index(self) -> crate::ids::PartitionIndex;
}

impl IntoIndex for i32 {
    fn into_index(self) -> crate::ids::PartitionIndex {
        crate::ids::PartitionIndex::new(self)
    }
}
