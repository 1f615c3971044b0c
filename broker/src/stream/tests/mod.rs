//! Several nodes' replicas in memory: their real logs and WALs on simulated disks, one metadata state, and links that
//! hand calls over when the test says so.

mod link;
mod node;
mod random;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use self::link::Link;
use self::node::Member;
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId, TopicPartition};
use crate::io::disk::sim::SimDisk;
use crate::log::Origin;
use crate::metadata::testing::node;
use crate::metadata::{AlterPartition, Command, ConfigResource, Image, NewTopic, Outcome, State, snapshot};
use crate::stream::replication::Leaders;
use crate::stream::testing::value_batch;
use crate::stream::{AckWaiter, Acks, Partition, PartitionError};
use crate::wal::Admission;

/// `replica.lag.time.max.ms` of the tests.
pub(super) const LAG_MAX: Duration = Duration::from_secs(10);
const TOPIC: &str = "t";

/// Values that were acknowledged, or failed.
#[derive(Default)]
pub(super) struct Settled(Mutex<BTreeMap<u32, Result<(), String>>>);

impl AckWaiter for Settled {
    fn settled(&self, slot: u32, outcome: Result<(), PartitionError>) {
        let before = self.0.lock().insert(slot, outcome.map_err(|error| error.to_string()));
        assert!(before.is_none(), "each is told once");
    }
}

/// A proposal of a leader, and what its proposer has heard of it.
#[derive(Debug, Clone)]
struct Proposal {
    change: AlterPartition,
    /// The Raft index of its refusal.
    refused_at: Option<u64>,
}

/// Nodes 0, 1, … with one partition on all of them that is looked at, and maybe more of its topic.
pub(super) struct Cluster {
    state: State,
    images: Vec<Arc<Image>>,
    members: Vec<Member>,
    /// By leader's, follower's and partition's number.
    links: BTreeMap<(usize, usize, PartitionIndex), Link>,
    proposals: Vec<Proposal>,
    pub(super) partition: TopicPartition,
    pub(super) settled: Arc<Settled>,
    next_value: u32,
    /// Values that were sent with acks=all.
    durable: BTreeSet<u32>,
    pub(super) now: Duration,
    /// What was seen below any replica's high watermark: by offset, the record's value.
    committed: BTreeMap<i64, String>,
    /// The highest that any replica had.
    high_watermark: Offset,
    leaders: BTreeMap<LeaderEpoch, NodeId>,
}

impl Cluster {
    pub(super) fn new(nodes: usize, min_insync: usize) -> Self {
        Self::with_partitions(nodes, min_insync, 1)
    }

    pub(super) fn with_partitions(nodes: usize, min_insync: usize, partitions: usize) -> Self {
        let mut state = State::new(Image::empty("test-cluster"));
        let mut members = Vec::new();
        for id in 0..nodes {
            let index = state.index() + 1;
            let command = Command::RegisterNode { node: node(id as i32), acked_may_be_lost: false };
            let Outcome::Registered(epoch) = state.apply(index, command) else { unreachable!("a new node registers") };
            members.push(Member::start(NodeId::new(id as i32), SimDisk::new(), epoch, min_insync));
        }
        let topic = TopicId::from_bytes([7; 16]).expect("not zero");
        let mut cluster = Self {
            images: vec![state.image()],
            state,
            members,
            links: BTreeMap::new(),
            proposals: Vec::new(),
            partition: TopicPartition { topic, partition: PartitionIndex::FIRST },
            settled: Arc::default(),
            next_value: 0,
            durable: BTreeSet::new(),
            now: Duration::ZERO,
            committed: BTreeMap::new(),
            high_watermark: Offset::FIRST,
            leaders: BTreeMap::new(),
        };
        let replicas: Vec<_> = (0..nodes).map(|id| NodeId::new(id as i32)).collect();
        let configs = vec![("min.insync.replicas".to_owned(), min_insync.to_string())];
        let topic = NewTopic { name: TOPIC.to_owned(), id: topic, assignment: vec![replicas; partitions], configs };
        cluster.command(Command::CreateTopic(topic));
        cluster.deliver_images();
        cluster
    }

    pub(super) fn command(&mut self, command: Command) -> Outcome {
        let outcome = self.state.apply(self.state.index() + 1, command);
        let image = self.state.image();
        let registration = image.partition(&self.partition);
        if let Some((registration, leader)) = registration.and_then(|it| Some((it, it.leader?))) {
            let before = *self.leaders.entry(registration.leader_epoch).or_insert(leader);
            assert_eq!(before, leader, "one leader in an epoch");
        }
        self.images.push(image);
        outcome
    }

    pub(super) fn image(&self) -> &Arc<Image> {
        self.images.last().expect("there is one from the start")
    }

    pub(super) fn epoch_of(&self, member: usize) -> BrokerEpoch {
        self.image().node(NodeId::new(member as i32)).expect("registered").epoch
    }

    /// The in-sync replicas as Raft has them.
    pub(super) fn isr(&self) -> Vec<i32> {
        let registration = self.image().partition(&self.partition).expect("it was created");
        let mut isr: Vec<_> = registration.isr.iter().map(|node| node.get()).collect();
        isr.sort_unstable();
        isr
    }

    /// Who leads by the newest image, and serves as such.
    pub(super) fn leader(&self) -> Option<usize> {
        (0..self.members.len()).find(|&member| {
            let registration = self.image().partition(&self.partition).expect("it was created");
            let leading = self.replica(member).and_then(|replica| replica.leading());
            leading == Some(registration.leader_epoch)
        })
    }

    /// A node's replica, while it runs and knows of it.
    pub(super) fn replica(&self, member: usize) -> Option<Arc<Partition>> {
        self.members[member].partitions()?.get(&self.partition)
    }

    /// A node applies a newer image, not necessarily the newest.
    pub(super) fn deliver_image(&mut self, member: usize, at_most: usize) {
        self.deliver(member, at_most, Arc::clone);
    }

    /// A node applies a newer image that a Raft snapshot brought.
    pub(super) fn deliver_snapshot(&mut self, member: usize, at_most: usize) {
        self.deliver(member, at_most, |image| {
            Arc::new(snapshot::decode(snapshot::encode(image).into()).expect("it was just encoded"))
        });
    }

    fn deliver(&mut self, member: usize, at_most: usize, brought: impl FnOnce(&Arc<Image>) -> Arc<Image>) {
        let from = self.members[member].image_at;
        let to = (from + at_most).min(self.images.len() - 1);
        if to > from && self.members[member].apply(&brought(&self.images[to])) {
            self.members[member].image_at = to;
        }
        self.settle_proposals();
    }

    pub(super) fn deliver_images(&mut self) {
        for member in 0..self.members.len() {
            self.deliver_image(member, usize::MAX >> 1);
        }
    }

    /// A client's record; the value that it has.
    pub(super) fn produce(&mut self, member: usize, acks: Acks) -> Option<u32> {
        self.produce_batch(member, acks, 1)
    }

    /// A client's batch of so many records; the value that the first one has.
    pub(super) fn produce_batch(&mut self, member: usize, acks: Acks, records: usize) -> Option<u32> {
        let replica = self.replica(member)?;
        let value = self.next_value;
        self.next_value += 1;
        let values = (0..records).map(|at| if at == 0 { value.to_string() } else { format!("{value}+{at}") });
        let batch = value_batch(values);
        let accepted = replica.append(batch, acks, Origin::Client, Admission::unbounded()).ok()?;
        if acks == Acks::All {
            self.durable.insert(value);
        }
        replica.when_acked(&accepted, acks, Arc::clone(&self.settled) as _, value);
        Some(value)
    }

    pub(super) fn acked(&self, value: u32) -> bool {
        self.settled.0.lock().get(&value).is_some_and(Result::is_ok)
    }

    /// How a record failed.
    pub(super) fn failure(&self, value: u32) -> Option<String> {
        self.settled.0.lock().get(&value).cloned()?.err()
    }

    pub(super) fn flush(&self, member: usize) {
        self.members[member].flush();
    }

    /// The process dies; a power loss takes what was not synced.
    pub(super) fn crash(&mut self, member: usize, power_loss: Option<u64>) {
        self.cut_all(member);
        self.members[member].crash(power_loss);
        self.proposals.retain(|proposal| proposal.change.leader != NodeId::new(member as i32));
    }

    /// The node starts again: with its disk, or with an empty one.
    pub(super) fn restart(&mut self, member: usize, wiped: bool) {
        assert!(!self.members[member].is_running());
        if wiped {
            self.members[member].wipe();
            let epoch = self.epoch_of(member);
            self.command(Command::FenceNode { node: NodeId::new(member as i32), epoch });
        }
        let mut registration = node(member as i32);
        registration.directory = self.members[member].directory(registration.directory);
        let command = Command::RegisterNode { node: registration, acked_may_be_lost: false };
        let Outcome::Registered(epoch) = self.command(command) else { unreachable!("the same folder, or fenced") };
        self.members[member].restart(epoch);
        // It waits until its image shows its registration.
        self.members[member].image_at = self.images.len() - 2;
        self.deliver_image(member, 1);
    }

    /// Another `min.insync.replicas`.
    pub(super) fn set_min_insync(&mut self, min_insync: usize) {
        let changes = vec![("min.insync.replicas".to_owned(), Some(min_insync.to_string()))];
        self.command(Command::SetConfigs { resource: ConfigResource::Topic(TOPIC.into()), changes });
    }

    pub(super) fn fence(&mut self, member: usize) {
        let epoch = self.epoch_of(member);
        self.command(Command::FenceNode { node: NodeId::new(member as i32), epoch });
    }

    /// Leaders look at the clock and ask for the ISRs that they want. Whether any did.
    pub(super) fn tick(&mut self) -> bool {
        let mut any = false;
        for member in &self.members {
            let Some(partitions) = member.partitions() else { continue };
            for replica in partitions.all() {
                replica.tick(self.now, LAG_MAX);
                if let Some(change) = partitions.wanted_isr(&replica, self.now, LAG_MAX) {
                    self.proposals.push(Proposal { change, refused_at: None });
                    any = true;
                }
            }
        }
        any
    }

    /// Raft takes a leader's proposal; its answer may be lost, and then it comes again.
    pub(super) fn commit_proposal(&mut self, which: usize, answer_lost: bool) {
        if self.proposals.is_empty() {
            return;
        }
        let at = which % self.proposals.len();
        let outcome = self.command(Command::AlterPartition(self.proposals[at].change.clone()));
        if let (Outcome::Refused { index, .. }, false) = (outcome, answer_lost) {
            self.proposals[at].refused_at = Some(index);
        }
        self.settle_proposals();
    }

    pub(super) fn commit_proposals(&mut self) {
        for at in 0..self.proposals.len() {
            self.commit_proposal(at, false);
        }
        self.deliver_images();
    }

    /// A refusal ends a proposal once the proposer's image has reached it.
    fn settle_proposals(&mut self) {
        let proposals = std::mem::take(&mut self.proposals);
        for proposal in proposals {
            let proposer = proposal.change.leader.get() as usize;
            let partitions = self.members[proposer].partitions();
            let Some(replica) = partitions.and_then(|all| all.get(&proposal.change.partition)) else { continue };
            let applied = self.images[self.members[proposer].image_at].index();
            if proposal.refused_at.is_some_and(|index| applied >= index) {
                replica.withdraw(&proposal.change);
            }
            if replica.is_open(&proposal.change) {
                self.proposals.push(proposal);
            }
        }
    }

    /// The links of all pairs of which one leads for the other.
    pub(super) fn connect(&mut self) {
        for leader in 0..self.members.len() {
            let Some(partitions) = self.members[leader].partitions().cloned() else { continue };
            for follower in 0..self.members.len() {
                let led = partitions.led_for(NodeId::new(follower as i32));
                self.cut_if(|key, link| {
                    (key.0, key.1) == (leader, follower) && (link.is_over() || !led.contains(&link.led))
                });
                for led in led.into_iter().filter(|_| self.members[follower].is_running()) {
                    let key = (leader, follower, led.partition.partition);
                    let new = || Link::new(led, &self.members[leader], &self.members[follower]);
                    self.links.entry(key).or_insert_with(new);
                }
            }
        }
    }

    /// One link goes one step.
    pub(super) fn step_link(&mut self, which: usize) {
        if let Some(link) = self.links.values_mut().nth(which) {
            link.step(&self.members);
        }
    }

    pub(super) fn links(&self) -> usize {
        self.links.len()
    }

    /// A connection is lost with all that is on its way.
    pub(super) fn cut(&mut self, leader: usize, follower: usize) {
        self.cut_if(|key, _| (key.0, key.1) == (leader, follower));
    }

    fn cut_all(&mut self, member: usize) {
        self.cut_if(|key, _| key.0 == member || key.1 == member);
    }

    fn cut_if(&mut self, goes: impl Fn(&(usize, usize, PartitionIndex), &Link) -> bool) {
        for (_, link) in self.links.extract_if(.., |key, link| goes(key, link)) {
            link.cut();
        }
    }

    /// Everything moves until nothing does: links, flushes, images, proposals.
    pub(super) fn settle(&mut self) {
        for _ in 0..60 {
            self.deliver_images();
            self.connect();
            for _ in 0..4 {
                for which in 0..self.links.len() {
                    self.step_link(which);
                }
                (0..self.members.len()).for_each(|member| self.flush(member));
            }
            self.tick();
            self.commit_proposals();
        }
        self.check();
    }

    /// A node lets go what it knows to be committed, but for so many offsets.
    pub(super) fn expire(&mut self, member: usize, kept: i64) {
        if let Some(replica) = self.replica(member) {
            let upto = (replica.offsets().high_watermark.get() - kept).max(0);
            replica.log().delete_records(Offset::new(upto)).expect("it is committed");
        }
    }

    /// What any replica shows as committed, it shows for ever, and every replica shows the same. Whoever may be elected
    /// has it.
    pub(super) fn check(&mut self) {
        for member in 0..self.members.len() {
            let Some(replica) = self.replica(member) else { continue };
            let offsets = replica.offsets();
            for (offset, value) in node::records(&replica, offsets.high_watermark) {
                let known = self.committed.entry(offset).or_insert_with(|| value.clone());
                assert_eq!(*known, value, "node {member} at offset {offset}");
            }
            self.high_watermark = self.high_watermark.max(offsets.high_watermark);
        }
        let registration = self.image().partition(&self.partition).expect("it was created");
        for node in registration.isr.iter().chain(&registration.elr) {
            let Some(replica) = self.replica(node.get() as usize) else { continue };
            let offsets = replica.offsets();
            assert!(offsets.flushed_end >= self.high_watermark, "node {node}: {offsets:?}, {:?}", self.high_watermark);
        }
    }

    /// After `settle` with all nodes running: everything is equal, and nothing that was acknowledged is lost.
    pub(super) fn check_converged(&self) {
        let leader = self.leader().expect("somebody leads");
        let end = self.replica(leader).expect("it runs").offsets().log_end;
        let expected = node::records(&self.replica(leader).expect("it runs"), end);
        assert_eq!(self.isr(), (0..self.members.len() as i32).collect::<Vec<_>>(), "everybody is in sync again");
        for member in 0..self.members.len() {
            let replica = self.replica(member).expect("it runs");
            let offsets = replica.offsets();
            assert_eq!((offsets.log_end, offsets.high_watermark), (end, end), "node {member}");
            let start = offsets.log_start.get();
            let part: Vec<_> = expected.iter().filter(|(offset, _)| *offset >= start).cloned().collect();
            assert_eq!(node::records(&replica, end), part, "node {member}");
            let epochs = |member: usize| {
                let log = Arc::clone(self.replica(member).expect("it runs").log());
                (start..end.get()).map(|at| log.epoch_at(Offset::new(at))).collect::<Vec<_>>()
            };
            assert_eq!(epochs(member), epochs(leader), "node {member}");
        }
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for value in self.committed.values() {
            *times.entry(value).or_default() += 1;
        }
        for (offset, value) in &expected {
            assert_eq!(self.committed.get(offset), Some(value), "offset {offset}");
        }
        assert!(times.values().all(|times| *times == 1), "nothing is there twice");
        for value in self.durable.iter().filter(|value| self.acked(**value)) {
            assert!(times.contains_key(value.to_string().as_str()), "{value} was acknowledged by all");
        }
    }
}
