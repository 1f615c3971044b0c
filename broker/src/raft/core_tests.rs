//! The ready loop, stepped by hand: a group of one, and groups of three on a network of queues.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::core::{Effects, RaftCore};
use super::storage::{Limits, RaftWalStorage};
use super::{RaftError, RaftId};
use crate::ids::{BrokerEpoch, NodeId, ProducerId};
use crate::io::disk::sim::{Operation, SimDisk};
use crate::metadata::testing::node;
use crate::metadata::{Command, ConfigResource, Image, Outcome, ProposeError, State, codec, snapshot};

const NOW: Duration = Duration::ZERO;
const SMALL: Limits =
    Limits { segment_bytes: 2_000, snapshot_every_bytes: 3_000, kept_bytes: 500, message_bytes: 1 << 20 };

fn dir() -> &'static Path {
    Path::new("/data/wal/__meta")
}

fn form(disk: &SimDisk, voters: &[i32]) {
    let mut state = State::new(Image::empty("cluster"));
    state.skip(RaftWalStorage::formed_index());
    let voters = voters.iter().map(|&id| RaftId::of(NodeId::new(id)).0).collect();
    RaftWalStorage::form(disk, dir(), voters, snapshot::encode(&state.image()).into()).expect("no faults");
}

fn open(disk: &SimDisk, id: i32, limits: Limits) -> Result<RaftCore<u64>, RaftError> {
    RaftCore::open(NodeId::new(id), 7 + id as u64, Arc::new(disk.clone()), dir(), limits)
}

fn single() -> (SimDisk, RaftCore<u64>) {
    let disk = SimDisk::new();
    form(&disk, &[0]);
    let mut core = open(&disk, 0, Limits::default()).expect("formed");
    core.process(NOW, &mut drop).expect("no faults");
    (disk, core)
}

fn set(name: &str, value: String) -> Vec<u8> {
    let changes = vec![(name.to_owned(), Some(value))];
    codec::encode(&Command::SetConfigs { resource: ConfigResource::BrokerDefault, changes })
}

fn value<'a>(image: &'a Image, name: &str) -> Option<&'a str> {
    image.config(&ConfigResource::BrokerDefault, name)
}

#[test]
fn a_group_of_one_elects_itself_without_waiting() {
    let (_, core) = single();
    assert_eq!(core.leader(), Some(NodeId::new(0)));
}

#[test]
fn proposals_of_a_round_are_committed_by_one_write_and_one_sync() {
    let (disk, mut core) = single();
    let before = disk.fault_points();
    for who in 0..100 {
        core.propose(who, set(&who.to_string(), "x".to_owned()), who, NOW).expect("it leads");
    }
    let effects = core.process(Duration::from_millis(3), &mut drop).expect("no faults");
    assert_eq!(disk.fault_points() - before, 4, "a write and a sync, each with a fault point before and after it");
    let answered: Vec<u64> = effects.answers.iter().map(|(who, _)| *who).collect();
    assert_eq!(answered, (0..100).collect::<Vec<_>>(), "answered in order");
    assert!(effects.answers.iter().all(|(_, answer)| *answer == Ok(Outcome::Done)));
    assert_eq!(effects.image.expect("it changed").index(), core.image().index());
    assert_eq!(core.stats().commit_buckets()[4], 100, "3 ms");
}

#[test]
fn an_answered_proposal_survives_a_power_loss() {
    let (mut disk, mut core) = single();
    for round in 0..20_u64 {
        core.propose(round, set("round", round.to_string()), round, NOW).expect("it leads");
        assert_eq!(core.process(NOW, &mut drop).expect("no faults").answers.len(), 1);
        disk = disk.crash(round);
        core = open(&disk, 0, Limits::default()).expect("formed");
        core.process(NOW, &mut drop).expect("no faults");
        assert_eq!(value(&core.image(), "round"), Some(round.to_string().as_str()));
    }
}

#[test]
fn a_failed_sync_ends_the_node_and_answers_nothing() {
    let (disk, mut core) = single();
    core.propose(1, set("a", "b".to_owned()), 1, NOW).expect("it leads");
    disk.fail(Operation::Sync, "__meta", 1, 5);
    assert!(matches!(core.process(NOW, &mut drop), Err(RaftError::Io { action: "sync", .. })));
}

#[test]
fn a_committed_command_of_a_newer_version_ends_the_node() {
    let (_, mut core) = single();
    core.propose(1, vec![0xc2, 0x3e, 0x00], 1, NOW).expect("raft-rs does not look into commands");
    let error = core.process(NOW, &mut drop).err().expect("unknown kind");
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[test]
fn snapshots_bound_the_log_and_a_restart_starts_from_the_newest() {
    let disk = SimDisk::new();
    form(&disk, &[0]);
    let mut core = open(&disk, 0, SMALL).expect("formed");
    for round in 0..100_u64 {
        core.propose(round, set(&format!("{}", round % 7), "x".repeat(200)), round, NOW).ok();
        let effects = core.process(NOW, &mut drop).expect("no faults");
        if let Some(job) = effects.snapshot {
            core.snapshot_written(job.run().expect("no faults")).expect("no faults");
        }
    }
    assert!(core.stats().snapshots() > 3);
    assert!(disk.used() < 10_000, "{} bytes", disk.used());
    let image = core.image();
    let mut reopened = open(&disk.kill(), 0, SMALL).expect("formed");
    reopened.process(NOW, &mut drop).expect("no faults");
    assert!(reopened.image().configs(&ConfigResource::BrokerDefault).eq(image.configs(&ConfigResource::BrokerDefault)));
}

/// Three nodes, and the messages between them.
struct Group {
    disks: Vec<SimDisk>,
    cores: Vec<Option<RaftCore<u64>>>,
    network: Vec<(usize, Message)>,
    cut_off: BTreeSet<usize>,
    answers: BTreeMap<u64, Result<Outcome, ProposeError>>,
    limits: Limits,
}

impl Group {
    fn new() -> Self {
        Self::with(SMALL)
    }

    fn with(limits: Limits) -> Self {
        let disks: Vec<SimDisk> = (0..3).map(|_| SimDisk::new()).collect();
        for disk in &disks {
            form(disk, &[0, 1, 2]);
        }
        let mut group = Self {
            cores: disks.iter().map(|_| None).collect(),
            disks,
            network: Vec::new(),
            cut_off: BTreeSet::new(),
            answers: BTreeMap::new(),
            limits,
        };
        (0..3).for_each(|at| group.start(at));
        group
    }

    fn start(&mut self, at: usize) {
        let core = open(&self.disks[at], at as i32, self.limits);
        self.cores[at] = Some(core.expect("a crash leaves nothing that is refused"));
    }

    /// Handles what is ready at a node. A crashed disk takes the node down: it starts anew from what survived.
    fn process(&mut self, at: usize, seed: u64) {
        let core = self.cores[at].as_mut().expect("running");
        let done = core.process(NOW, &mut |message| self.network.push((at, message)));
        let carried_out = done.and_then(|effects| self.carry_out(at, effects));
        if let Err(error) = carried_out {
            assert!(self.disks[at].has_crashed(), "{error}");
            self.cores[at] = None;
            self.disks[at] = self.disks[at].crash(seed);
            self.start(at);
        }
    }

    fn carry_out(&mut self, at: usize, effects: Effects<u64>) -> Result<(), RaftError> {
        self.answers.extend(effects.answers);
        if let Some(job) = effects.snapshot {
            let written = job.run()?;
            self.cores[at].as_mut().expect("running").snapshot_written(written)?;
        }
        Ok(())
    }

    /// One tick of all clocks, and all messages that follow from it.
    fn turn(&mut self) {
        for at in 0..3 {
            self.cores[at].as_mut().expect("running").tick();
            self.process(at, 0);
        }
        self.settle();
    }

    fn settle(&mut self) {
        while let Some((from, message)) = (!self.network.is_empty()).then(|| self.network.remove(0)) {
            self.deliver(from, message);
        }
    }

    fn deliver(&mut self, from: usize, message: Message) {
        let to = RaftId(message.to).node().expect("a peer").get() as usize;
        if !self.cut_off.contains(&from) && !self.cut_off.contains(&to) {
            self.cores[to].as_mut().expect("running").step(message);
            self.process(to, 0);
        }
    }

    /// Turns until one node that can be reached leads, by its own account.
    fn leader(&mut self) -> usize {
        for _ in 0..10_000 {
            let leads = |at: &usize| {
                let core = self.cores[*at].as_ref().expect("running");
                !self.cut_off.contains(at) && core.leader() == Some(NodeId::new(*at as i32))
            };
            if let Some(leader) = (0..3).find(leads) {
                return leader;
            }
            self.turn();
        }
        panic!("no leader was elected");
    }

    fn propose(&mut self, at: usize, command: Vec<u8>, who: u64) {
        if self.cores[at].as_mut().expect("running").propose(who, command, who, NOW).is_ok() {
            self.process(at, 0);
        }
    }

    /// Proposes until it is answered: a crash that was planned earlier may still come.
    fn allocate_at_last(&mut self, epoch: BrokerEpoch) -> ProducerId {
        for who in 1_000..1_100 {
            let leader = self.leader();
            self.propose(leader, codec::encode(&allocate(epoch)), who);
            self.converge();
            if let Some(Ok(Outcome::ProducerIds { first, .. })) = self.answers.get(&who) {
                return *first;
            }
        }
        panic!("no proposal was answered");
    }

    /// Turns until all nodes have applied the same index, with a leader.
    fn converge(&mut self) -> Vec<Arc<Image>> {
        for _ in 0..10_000 {
            self.leader();
            self.turn();
            let images: Vec<Arc<Image>> = self.cores.iter().flatten().map(RaftCore::image).collect();
            if self.network.is_empty() && images.iter().all(|image| image.index() == images[0].index()) {
                return images;
            }
        }
        panic!("the nodes did not converge");
    }
}

#[test]
fn a_group_of_three_elects_a_leader_and_replicates() {
    let mut group = Group::new();
    let leader = group.leader();
    group.propose(leader, set("a", "b".to_owned()), 1);
    for image in group.converge() {
        assert_eq!(value(&image, "a"), Some("b"));
    }
    assert_eq!(group.answers[&1], Ok(Outcome::Done));
    let follower = (leader + 1) % 3;
    let core = group.cores[follower].as_mut().expect("running");
    assert_eq!(core.propose(2, set("a", "c".to_owned()), 2, NOW), Err(2), "only a leader takes proposals");
}

#[test]
fn a_proposal_that_another_leader_overtook_is_answered_as_such() {
    let mut group = Group::new();
    let old = group.leader();
    group.cut_off.insert(old);
    group.propose(old, set("lost", "x".to_owned()), 1);
    let new = group.leader();
    assert_ne!(new, old);
    group.propose(new, set("kept", "x".to_owned()), 2);
    group.settle();
    group.cut_off.clear();
    for image in group.converge() {
        assert_eq!((value(&image, "lost"), value(&image, "kept")), (None, Some("x")));
    }
    assert_eq!(group.answers[&1], Err(ProposeError::LeaderChanged));
    assert_eq!(group.answers[&2], Ok(Outcome::Done));
}

#[test]
fn a_follower_that_was_away_gets_many_entries_in_a_message_and_no_message_is_too_large() {
    let mut group = Group::with(Limits::default());
    let leader = group.leader();
    let away = (leader + 1) % 3;
    group.cut_off.insert(away);
    let count = 60;
    for round in 0..count {
        group.propose(leader, set("name", "x".repeat(70_000)), round);
        group.settle();
    }
    group.cut_off.clear();
    let mut sizes = Vec::new();
    while group.cores[away].as_ref().expect("running").image().index()
        < group.cores[leader].as_ref().expect("running").image().index()
    {
        for at in 0..3 {
            group.cores[at].as_mut().expect("running").tick();
            group.process(at, 0);
        }
        while let Some((from, message)) = (!group.network.is_empty()).then(|| group.network.remove(0)) {
            assert_ne!(message.get_msg_type(), MessageType::MsgSnapshot, "it has not been away too long");
            if from == leader && RaftId(message.to).node() == Some(NodeId::new(away as i32)) {
                sizes.extend((!message.entries.is_empty()).then(|| (message.entries.len(), message.compute_size())));
            }
            group.deliver(from, message);
        }
    }
    assert!(sizes.iter().map(|(entries, _)| entries).sum::<usize>() >= count as usize, "{sizes:?}");
    assert!(sizes.len() <= 10, "several at once: {sizes:?}");
    // The fields beside the entries are small.
    assert!(sizes.iter().all(|(_, bytes)| u64::from(*bytes) <= group.limits.message_bytes + 1000), "{sizes:?}");
}

#[test]
fn a_follower_that_was_away_too_long_gets_a_snapshot() {
    let mut group = Group::new();
    let leader = group.leader();
    let away = (leader + 1) % 3;
    group.cut_off.insert(away);
    for round in 0..100 {
        let leader = group.leader();
        group.propose(leader, set(&format!("{}", round % 5), "x".repeat(300)), round);
        group.settle();
    }
    let behind = group.cores[away].as_ref().expect("running").image().index();
    group.cut_off.clear();
    let images = group.converge();
    assert!(images.iter().all(|image| image == &images[0]));
    assert!(images[away].index() > behind + 90);
    let disk = group.disks[away].kill();
    let mut reopened = open(&disk, away as i32, SMALL).expect("the installed snapshot is whole");
    reopened.process(NOW, &mut drop).expect("no faults");
    assert!(reopened.image().index() > behind, "it starts from the installed snapshot");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Lost messages, crashes at any fault point with what was not synced torn away: what was answered stays, once,
    /// and all nodes end with the same state.
    #[test]
    fn an_answered_proposal_is_never_lost_whatever_crashes(seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut group = Group::new();
        let leader = group.leader();
        let register = Command::RegisterNode { node: node(0), acked_may_be_lost: false };
        group.propose(leader, codec::encode(&register), 0);
        group.settle();
        let Some(Ok(Outcome::Registered(epoch))) = group.answers.remove(&0) else { panic!("nothing has failed yet") };
        for who in 1..120 {
            let at = random.random_range(0..3);
            match random.random_range(0..10) {
                0 => group.disks[at].crash_at(random.random_range(1..20)),
                1 => drop(group.cut_off.insert(at)),
                2 | 3 => group.cut_off.clear(),
                _ => {}
            }
            group.propose(at, codec::encode(&allocate(epoch)), who);
            for _ in 0..random.random_range(0..15) {
                let at = random.random_range(0..3);
                group.cores[at].as_mut().expect("running").tick();
                group.process(at, random.random());
                while !group.network.is_empty() && random.random_range(0..20) > 0 {
                    let (from, message) = group.network.swap_remove(random.random_range(0..group.network.len()));
                    group.deliver(from, message);
                }
            }
        }
        group.cut_off.clear();
        let images = group.converge();
        prop_assert!(images.iter().all(|image| image == &images[0]));
        let mut firsts = BTreeSet::new();
        for outcome in group.answers.values().flatten() {
            let Outcome::ProducerIds { first, .. } = outcome else { panic!("{outcome:?}") };
            prop_assert!(firsts.insert(*first), "a block was given out twice");
        }
        let next = group.allocate_at_last(epoch);
        prop_assert!(firsts.iter().all(|first| *first < next), "an answered allocation was forgotten");
    }
}

fn allocate(epoch: BrokerEpoch) -> Command {
    Command::AllocateProducerIds { node: NodeId::new(0), epoch }
}
