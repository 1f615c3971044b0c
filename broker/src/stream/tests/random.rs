//! Random schedules: crashes, power losses, lost connections, delayed images and snapshots, lost answers, full and wiped
//! disks, retention that runs on one node, another minimum. What was acknowledged is never lost, what was seen never
//! changes, and once the faults end all replicas are equal.

use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Cluster;
use crate::stream::Acks;

struct Run {
    cluster: Cluster,
    rng: StdRng,
    may_wipe: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let min_insync = rng.random_range(1..=2);
        // Two partitions: changes of one come in images of the other.
        Self { cluster: Cluster::with_partitions(3, min_insync, 2), rng, may_wipe: min_insync == 2 }
    }

    fn any(&mut self) -> usize {
        self.rng.random_range(0..self.cluster.members.len())
    }

    fn chance(&mut self, of_hundred: u32) -> bool {
        self.rng.random_range(0..100) < of_hundred
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..35 => {
                self.cluster.connect();
                let links = self.cluster.links().max(1);
                for _ in 0..self.rng.random_range(1..8) {
                    let which = self.rng.random_range(0..links);
                    self.cluster.step_link(which);
                }
            }
            35..55 => {
                let member = self.any();
                let acks = if self.chance(80) { Acks::All } else { Acks::Leader };
                let records = self.rng.random_range(1..4);
                self.cluster.produce_batch(member, acks, records);
            }
            55..70 => {
                let member = self.any();
                self.cluster.flush(member);
            }
            70..79 => {
                let (member, at_most) = (self.any(), self.rng.random_range(1..4));
                if self.chance(20) {
                    self.cluster.deliver_snapshot(member, at_most);
                } else {
                    self.cluster.deliver_image(member, at_most);
                }
            }
            79..80 => {
                if self.chance(50) {
                    let (member, kept) = (self.any(), self.rng.random_range(0..4));
                    self.cluster.expire(member, kept);
                } else {
                    self.may_wipe = false;
                    let min_insync = self.rng.random_range(1..=2);
                    self.cluster.set_min_insync(min_insync);
                }
            }
            80..86 => {
                self.cluster.now += Duration::from_millis(self.rng.random_range(0..4000));
                self.cluster.tick();
            }
            86..90 => {
                let (which, answer_lost) = (self.rng.random_range(0..8), self.chance(30));
                self.cluster.commit_proposal(which, answer_lost);
            }
            90..92 => {
                let (leader, follower) = (self.any(), self.any());
                self.cluster.cut(leader, follower);
            }
            92..94 => {
                let member = self.any();
                self.cluster.members[member].maintain();
            }
            94..96 => {
                let (member, full) = (self.any(), self.chance(30));
                self.cluster.members[member].set_full(full);
            }
            96..98 => {
                let member = self.any();
                // The controller takes a node for dead, rightly or not.
                self.cluster.fence(member);
            }
            _ => {
                let member = self.any();
                self.fail(member);
            }
        }
    }

    /// A node that runs dies; one that is dead starts again.
    fn fail(&mut self, member: usize) {
        if self.cluster.members[member].is_running() {
            let power_loss = self.chance(50).then(|| self.rng.random());
            self.cluster.crash(member, power_loss);
        } else {
            // A second disk that is lost at the same time may take what the first one had.
            let wiped = self.may_wipe && self.cluster.isr().len() >= 2 && self.chance(30);
            self.may_wipe &= !wiped;
            self.cluster.restart(member, wiped);
        }
    }

    /// The faults end: every node runs, and is registered.
    fn heal(&mut self) {
        for member in 0..self.cluster.members.len() {
            self.cluster.members[member].set_full(false);
            if self.cluster.members[member].is_running() {
                self.cluster.crash(member, None);
            }
            self.cluster.restart(member, false);
        }
        self.cluster.settle();
    }
}

fn run(seed: u64, steps: usize) {
    let mut run = Run::new(seed);
    for _ in 0..steps {
        run.step();
        run.cluster.check();
    }
    run.heal();
    let leader = run.cluster.leader().expect("somebody leads");
    let last = run.cluster.produce(leader, Acks::All).expect("it takes records again");
    run.cluster.settle();
    assert!(run.cluster.acked(last), "{:?}", run.cluster.failure(last));
    run.cluster.check_converged();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn no_schedule_loses_or_changes_what_was_acknowledged(seed: u64, steps in 20..250_usize) {
        run(seed, steps);
    }
}

/// Many more schedules, by hand: `CHRONIK_SCHEDULES=5000 cargo test --lib many_schedules -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn many_schedules() {
    let count = std::env::var("CHRONIK_SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(1000);
    let first = std::env::var("CHRONIK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0_u64);
    for seed in first..first + count {
        println!("seed {seed}");
        run(seed, 50 + (seed % 400) as usize);
    }
}
