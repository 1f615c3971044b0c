//! raft-rs's traps, each with a test: groups that change, on a network of queues that loses and reorders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use raft::eraftpb::{Message, MessageType};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use uuid::Uuid;

use super::RaftId;
use super::core::{ELECTION_TICKS, RaftCore};
use super::storage::{Limits, RaftWalStorage};
use crate::ids::NodeId;
use crate::io::disk::sim::SimDisk;
use crate::metadata::{Command, Image, Member, Outcome, ProposeError, RaftRole, Seat, State, codec, snapshot};

const NOW: Duration = Duration::ZERO;
const SMALL: Limits =
    Limits { segment_bytes: 2_000, snapshot_every_bytes: 3_000, kept_bytes: 500, message_bytes: 1 << 20 };

fn dir() -> &'static Path {
    Path::new("/data/wal/__meta")
}

fn admit(node: i32, vote: bool) -> Command {
    let directory = Uuid::from_u128(node as u128);
    Command::AdmitMember { node: NodeId::new(node), directory, address: format!("node{node}:1"), vote }
}

fn member(node: i32) -> (NodeId, Uuid) {
    (NodeId::new(node), Uuid::from_u128(node as u128))
}

/// Nodes that can be added, and the messages between them.
struct Group {
    cores: BTreeMap<i32, RaftCore<u64>>,
    network: Vec<Message>,
    cut_off: BTreeSet<i32>,
    answers: BTreeMap<u64, Result<Outcome, ProposeError>>,
    reads: Vec<(i32, u64)>,
    next: u64,
}

impl Group {
    /// Node 0 alone.
    fn of_one() -> Self {
        let disk = SimDisk::new();
        let mut state = State::new(Image::empty("cluster"));
        state.apply(RaftWalStorage::formed_index(), admit(0, true));
        let state = snapshot::encode(&state.image()).into();
        RaftWalStorage::form(&disk, dir(), vec![1], state).expect("no faults");
        let mut group = Self {
            cores: BTreeMap::new(),
            network: Vec::new(),
            cut_off: BTreeSet::new(),
            answers: BTreeMap::new(),
            reads: Vec::new(),
            next: 0,
        };
        group.open(0, &disk);
        group
    }

    /// So many voters, the ids from 0.
    fn of_voters(count: i32) -> Self {
        let mut group = Self::of_one();
        for node in 1..count {
            group.join(node, true);
        }
        group.turn_until("all vote", |group| group.voters().len() == count as usize);
        group
    }

    fn open(&mut self, node: i32, disk: &SimDisk) {
        let core = RaftCore::open(NodeId::new(node), 70 + node as u64, Arc::new(disk.clone()), dir(), SMALL);
        self.cores.insert(node, core.expect("formed or joined"));
        self.process(node);
    }

    /// Lets a node in that has nothing yet.
    fn join(&mut self, node: i32, vote: bool) {
        assert_eq!(self.decide(admit(node, vote)), Outcome::Done);
        let disk = SimDisk::new();
        let roster: Vec<Member> = self.image().roster().cloned().collect();
        let state = snapshot::encode(&Image::with_roster("cluster", roster)).into();
        RaftWalStorage::join(&disk, dir(), state).expect("no faults");
        self.open(node, &disk);
    }

    fn process(&mut self, node: i32) {
        let core = self.cores.get_mut(&node).expect("running");
        let effects = core.process(NOW, &mut |message| self.network.push(message)).expect("no faults");
        if let Some(job) = effects.snapshot {
            core.snapshot_written(job.run().expect("no faults")).expect("no faults");
        }
        self.answers.extend(effects.answers);
        self.reads.extend(effects.reads.into_iter().map(|read| (node, read)));
    }

    fn deliver(&mut self, message: Message) {
        let node = |id| RaftId(id).node().expect("a peer").get();
        let (from, to) = (node(message.from), node(message.to));
        let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
        let arrives = !self.cut_off.contains(&from) && !self.cut_off.contains(&to) && self.cores.contains_key(&to);
        if arrives {
            self.cores.get_mut(&to).expect("running").step(message);
            self.process(to);
        }
        if is_snapshot && let Some(sender) = self.cores.get_mut(&from) {
            sender.report_snapshot(NodeId::new(to), arrives);
            self.process(from);
        }
    }

    fn settle(&mut self) {
        while !self.network.is_empty() {
            let message = self.network.remove(0);
            self.deliver(message);
        }
    }

    /// One tick of all clocks, and all messages that follow from it.
    fn turn(&mut self) {
        for node in self.cores.keys().copied().collect::<Vec<_>>() {
            self.cores.get_mut(&node).expect("running").tick();
            self.process(node);
        }
        self.settle();
    }

    fn turn_until(&mut self, what: &str, reached: impl Fn(&mut Self) -> bool) -> usize {
        for turns in 0..2_000 {
            if reached(self) {
                return turns;
            }
            self.turn();
        }
        panic!("{what}: not reached");
    }

    fn leader(&mut self) -> i32 {
        let leader = |group: &Self| {
            let leads = |(node, core): (&i32, &RaftCore<u64>)| {
                (!group.cut_off.contains(node) && core.leads().is_some()).then_some(*node)
            };
            group.cores.iter().find_map(leads)
        };
        self.turn_until("a leader", |group| leader(group).is_some());
        leader(self).expect("found")
    }

    /// Has a command decided by the leader.
    fn decide(&mut self, command: Command) -> Outcome {
        let (leader, number) = (self.leader(), self.number());
        let core = self.cores.get_mut(&leader).expect("running");
        core.propose(number, codec::encode(&command), number, NOW).expect("it leads");
        self.process(leader);
        self.turn_until("an answer", |group| group.answers.contains_key(&number));
        self.answers.remove(&number).expect("there").expect("the leader stays")
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn image(&mut self) -> Arc<Image> {
        let leader = self.leader();
        self.cores[&leader].image()
    }

    /// Those that vote, by the leader's image.
    fn voters(&mut self) -> Vec<i32> {
        let image = self.image();
        image.seats().filter(|(_, seat)| *seat == Seat::Voter).map(|(node, _)| node.get()).collect()
    }
}

#[test]
fn trap_a_newcomer_is_not_sent_a_snapshot_that_does_not_name_it() {
    let mut group = Group::of_one();
    group.join(1, false);
    let turns = group.turn_until("the learner has the state", |group| {
        group.cores[&1].image().seat_of(NodeId::new(1)) == Some(Seat::Learner)
    });
    assert!(turns < 20, "{turns} ticks");
    assert_eq!(group.cores[&1].status().role, RaftRole::Learner);
    for _ in 0..50 {
        group.turn();
    }
    assert_eq!(group.voters(), [0], "a learner that is not to vote stays one");
}

#[test]
fn trap_the_first_voter_that_comes_back_empty_is_not_told_that_it_is_the_only_one() {
    let mut group = Group::of_voters(3);
    group.cores.remove(&0);
    group.cut_off.insert(0);
    let (node, directory) = member(0);
    assert_eq!(group.decide(Command::RemoveMember { node, directory }), Outcome::Done);
    group.turn_until("it is removed", |group| group.image().seat_of(NodeId::new(0)).is_none());
    group.cut_off.remove(&0);
    group.join(0, true);
    for _ in 0..200 {
        for node in 0..3 {
            group.cores.get_mut(&node).expect("running").tick();
            group.process(node);
        }
        while !group.network.is_empty() {
            let message = group.network.remove(0);
            group.deliver(message);
            let image = group.cores[&0].image();
            let voters: Vec<_> = image.seats().filter(|(_, seat)| *seat == Seat::Voter).map(|(node, _)| node).collect();
            assert_ne!(voters, [NodeId::new(0)], "it would lead a group of its own");
        }
    }
    assert_eq!(group.voters(), [0, 1, 2]);
}

#[test]
fn trap_learners_first_then_promotion_one_at_a_time() {
    let mut group = Group::of_one();
    for node in 1..5 {
        group.join(node, true);
    }
    let mut before = 1;
    group.turn_until("all vote", |group| group.voters().len() == 5);
    for core in group.cores.values() {
        let image = core.image();
        assert!(image.members().joining.is_empty());
        before = before.max(image.index());
    }
    assert!(group.cores.values().all(|core| core.image().index() == before), "all have the same");
}

#[test]
fn trap_a_learner_that_raft_only_probes_is_promoted_all_the_same() {
    let mut group = Group::of_one();
    group.join(1, true);
    group.turn_until("it votes", |group| {
        group.cores.get_mut(&0).expect("running").report_unreachable(NodeId::new(1));
        group.voters().len() == 2
    });
}

#[test]
fn trap_a_learner_does_not_believe_in_a_silent_leader_for_ever() {
    let mut group = Group::of_one();
    group.join(1, false);
    group.turn_until("it hears its leader", |group| group.cores[&1].leader() == Some(NodeId::new(0)));
    group.cores.remove(&0);
    for _ in 0..2 * ELECTION_TICKS {
        group.turn();
    }
    assert_eq!(group.cores[&1].leader(), None);
}

#[test]
fn trap_a_conf_change_that_raft_refuses_becomes_an_empty_entry_and_hangs_nobody() {
    use raft::eraftpb::{ConfChange, ConfChangeType};
    let mut group = Group::of_voters(3);
    let leader = group.leader();
    let core = group.cores.get_mut(&leader).expect("running");
    let change =
        |node: u64| ConfChange { change_type: ConfChangeType::AddLearnerNode, node_id: node, ..ConfChange::default() };
    core.propose_change_for_test(change(8));
    core.propose_change_for_test(change(9));
    group.process(leader);
    group.settle();
    let seated = |group: &mut Group, node| group.image().seat_of(NodeId::new(node));
    assert_eq!(seated(&mut group, 7), Some(Seat::Learner));
    assert_eq!(seated(&mut group, 8), None, "refused while the first was not applied");
    assert_eq!(group.decide(admit(3, false)), Outcome::Done, "the group goes on");
    group.turn_until("seated", |group| group.image().seat_of(NodeId::new(3)) == Some(Seat::Learner));
}

#[test]
fn a_voter_that_is_removed_while_another_is_down_stays_until_it_is_back() {
    let mut group = Group::of_voters(3);
    let leader = group.leader();
    let others: Vec<i32> = (0..3).filter(|node| *node != leader).collect();
    group.cut_off.insert(others[0]);
    for _ in 0..4 * ELECTION_TICKS {
        group.turn();
    }
    let (node, directory) = member(others[1]);
    assert_eq!(group.decide(Command::RemoveMember { node, directory }), Outcome::Done);
    for _ in 0..4 * ELECTION_TICKS {
        group.turn();
    }
    assert_eq!(group.voters().len(), 3, "two of three could not lose another");
    group.cut_off.clear();
    group.turn_until("removed", |group| group.voters().len() == 2);
    assert!(group.image().member(node).is_none());
}

#[test]
fn a_leader_that_is_removed_hands_over_first() {
    let mut group = Group::of_voters(3);
    let old = group.leader();
    let (node, directory) = member(old);
    assert_eq!(group.decide(Command::RemoveMember { node, directory }), Outcome::Done);
    group.turn_until("removed", |group| group.image().member(node).is_none());
    assert_ne!(group.leader(), old);
    assert_eq!(group.voters().len(), 2);
}

#[test]
fn a_wiped_voter_is_removed_before_it_learns_and_votes_again() {
    let mut group = Group::of_voters(3);
    group.leader();
    let wiped = (0..3).rev().find(|node| group.cores[node].leads().is_none()).expect("two follow");
    group.cores.remove(&wiped);
    let (node, directory) = member(wiped);
    assert_eq!(group.decide(Command::RemoveMember { node, directory }), Outcome::Done);
    group.turn_until("removed", |group| group.image().member(node).is_none());
    group.join(wiped, true);
    group.turn_until("it votes again", |group| group.voters().len() == 3);
    group.turn_until("it has the state", |group| {
        let index = group.image().index();
        group.cores[&wiped].image().index() == index
    });
}

#[test]
fn trap_with_check_quorum_candidates_are_ignored_unless_the_leaders_death_was_verified() {
    let turns = |suspects: bool| {
        let mut group = Group::of_voters(3);
        let dead = group.leader();
        let term = group.cores[&dead].term();
        group.cores.remove(&dead);
        for node in group.cores.keys().copied().collect::<Vec<_>>() {
            if suspects {
                group.cores.get_mut(&node).expect("running").suspect(NodeId::new(dead));
                group.process(node);
            }
        }
        group.settle();
        let turns = group.turn_until("a new leader", |group| {
            group.cores.values().any(|core| core.leads().is_some_and(|led| led > term))
        });
        assert!(group.cores.values().all(|core| core.term() <= term + 2));
        turns
    };
    assert!(turns(false) >= ELECTION_TICKS, "the lease must expire");
    let suspected = turns(true);
    assert!(suspected <= 4, "{suspected} ticks");
}

#[test]
fn suspecting_a_leader_that_others_hear_costs_no_election() {
    let mut group = Group::of_voters(3);
    let leader = group.leader();
    let term = group.cores[&leader].term();
    let mistaken = (0..3).find(|node| *node != leader).expect("there");
    group.cores.get_mut(&mistaken).expect("running").suspect(NodeId::new(leader));
    for _ in 0..3 * ELECTION_TICKS {
        group.process(mistaken);
        group.turn();
    }
    assert_eq!((group.leader(), group.cores[&leader].term()), (leader, term), "pre-votes disturb nobody");
    assert_eq!(group.cores[&mistaken].leader(), Some(NodeId::new(leader)));
}

#[test]
fn trap_read_contexts_are_unique_and_a_read_sees_what_was_decided_before() {
    let mut group = Group::of_voters(3);
    let leader = group.leader();
    let follower = (0..3).find(|node| *node != leader).expect("there");
    group.cut_off.insert(follower);
    group.decide(admit(9, false));
    let index = group.cores[&leader].image().index();
    let lost = group.cores.get_mut(&follower).expect("running").read();
    group.process(follower);
    group.settle();
    group.cut_off.clear();
    let read = group.cores.get_mut(&follower).expect("running").read();
    assert_ne!(lost, read);
    group.process(follower);
    group.turn_until("the read", |group| group.reads.contains(&(follower, read)));
    assert!(group.cores[&follower].image().index() >= index);
}

#[test]
fn a_leader_without_a_quorum_answers_no_read_and_steps_down() {
    let mut group = Group::of_voters(3);
    let leader = group.leader();
    group.cut_off.insert(leader);
    let read = group.cores.get_mut(&leader).expect("running").read();
    for _ in 0..3 * ELECTION_TICKS {
        group.process(leader);
        group.turn();
    }
    assert!(!group.reads.contains(&(leader, read)));
    assert_eq!(group.cores[&leader].leads(), None, "check_quorum");
}

#[test]
fn trap_a_node_that_was_cut_off_comes_back_without_disturbing_the_term() {
    let mut group = Group::of_voters(3);
    let leader = group.leader();
    let away = (0..3).find(|node| *node != leader).expect("there");
    group.cut_off.insert(away);
    for _ in 0..10 * ELECTION_TICKS {
        group.turn();
    }
    let term = group.cores[&leader].term();
    assert_eq!(group.cores[&away].term(), term, "pre_vote: it campaigns without a term of its own");
    group.cut_off.clear();
    group.turn_until("it follows again", |group| group.cores[&away].leader() == Some(NodeId::new(leader)));
    assert_eq!(group.cores[&leader].term(), term);
}

#[test]
fn a_message_that_raft_would_panic_on_is_dropped() {
    let mut group = Group::of_voters(3);
    let leader = group.leader();
    let core = group.cores.get_mut(&leader).expect("running");
    let term = core.term();
    let from_nowhere = Message {
        msg_type: MessageType::MsgHeartbeat,
        from: 9,
        to: leader as u64 + 1,
        term: term + 1,
        commit: 1 << 40,
        ..Message::default()
    };
    core.step(from_nowhere);
    assert_eq!(core.term(), term);
}

/// One seed, one run: what is drawn, sent and decided.
fn trace(seed: u64) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut group = Group::of_voters(3);
    let mut trace = Vec::new();
    for _ in 0..200 {
        if random.random_range(0..20) == 0 {
            group.cut_off.clear();
            group.cut_off.insert(random.random_range(0..3));
        }
        for node in 0..3 {
            group.cores.get_mut(&node).expect("running").tick();
            group.process(node);
        }
        while !group.network.is_empty() && random.random_range(0..8) > 0 {
            let message = group.network.swap_remove(random.random_range(0..group.network.len()));
            trace.push(format!("{message:?}"));
            group.deliver(message);
        }
    }
    trace
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn a_seed_repeats_a_run_message_by_message(seed: u64) {
        prop_assert_eq!(trace(seed), trace(seed));
    }

    /// Members come, go, are promoted and demoted while messages are lost and reordered: there is never more than one
    /// leader in a term, and in the end all have the roster that was decided.
    #[test]
    fn the_members_change_whatever_the_network_does(seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut group = Group::of_voters(3);
        let mut leaders: BTreeMap<u64, i32> = BTreeMap::new();
        for round in 0..60 {
            group.cut_off.clear();
            if random.random_range(0..3) == 0 {
                group.cut_off.insert(random.random_range(0..5));
            }
            let node = random.random_range(0..5);
            let (id, directory) = member(node);
            let command = match random.random_range(0..4) {
                0 => admit(node, true),
                1 if node > 2 => Command::RemoveMember { node: id, directory },
                2 => Command::SetMemberVote { node: id, directory, vote: false },
                _ => Command::SetMemberVote { node: id, directory, vote: true },
            };
            for node in group.cores.keys().copied().collect::<Vec<_>>() {
                let core = group.cores.get_mut(&node).expect("running");
                let _ = core.propose(1000 + round, codec::encode(&command), 0, NOW);
                group.process(node);
            }
            for _ in 0..random.random_range(5..30) {
                for node in group.cores.keys().copied().collect::<Vec<_>>() {
                    group.cores.get_mut(&node).expect("running").tick();
                    group.process(node);
                    if let Some(term) = group.cores[&node].leads() {
                        prop_assert_eq!(*leaders.entry(term).or_insert(node), node, "two leaders in term {}", term);
                    }
                }
                while !group.network.is_empty() && random.random_range(0..30) > 0 {
                    let message = group.network.swap_remove(random.random_range(0..group.network.len()));
                    group.deliver(message);
                }
            }
        }
        group.cut_off.clear();
        let index = group.image().index();
        group.turn_until("all seated members have the same", |group| {
            let image = group.image();
            let seated = group.cores.iter().filter(|(node, _)| image.seat_of(NodeId::new(**node)).is_some());
            image.index() >= index && seated.clone().all(|(_, core)| core.image() == image)
        });
    }
}
