//! Arbitrary appends, cuts, checkpoints and crashes: the log equals a model.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Appends so many records, maybe in a newer epoch.
    Append {
        records: usize,
        newer_epoch: bool,
    },
    Flush,
    Checkpoint,
    /// Cuts to a fraction of what is there.
    Truncate {
        percent: u8,
    },
    Crash {
        seed: u64,
    },
    Kill,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1usize..6, prop::bool::weighted(0.1)).prop_map(|(records, newer_epoch)| Step::Append { records, newer_epoch }),
        4 => Just(Step::Flush),
        2 => Just(Step::Checkpoint),
        1 => (0u8..=100).prop_map(|percent| Step::Truncate { percent }),
        2 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
        1 => Just(Step::Kill),
        1 => Just(Step::Restart),
    ]
}

/// What was appended, in order, and how much of it must survive.
#[derive(Default)]
struct Model {
    records: Vec<(i32, String)>,
    /// Ends of batches: where a cut may be.
    ends: Vec<usize>,
    flushed: usize,
    epoch: i32,
    number: usize,
}

impl Model {
    fn check(&mut self, log: &Log) {
        let seen = read_all(log);
        assert!(seen.len() >= self.flushed, "{} records are there, {} were flushed", seen.len(), self.flushed);
        assert!(seen.len() <= self.records.len(), "nothing is revived or made up");
        for (at, (seen, (epoch, value))) in seen.iter().zip(&self.records).enumerate() {
            assert_eq!((seen.offset, seen.epoch), (at as i64, *epoch), "offsets are contiguous, epochs as appended");
            assert_eq!(seen.value.as_ref(), Some(value));
        }
        assert_eq!(log.offsets().log_end.get() as usize, seen.len());
        for (at, seen) in seen.iter().enumerate() {
            assert_eq!(log.epoch_at(offset(at as i64)).map(LeaderEpoch::get), Some(seen.epoch));
        }
        self.records.truncate(seen.len());
        self.ends.retain(|end| *end <= seen.len());
        self.flushed = seen.len();
    }

    fn run(&mut self, node: Node, step: Step) -> Node {
        let log = node.log(small());
        match step {
            Step::Append { records, newer_epoch } => {
                self.epoch += i32::from(newer_epoch);
                let values: Vec<_> = (0..records).map(|at| format!("value {}", self.number + at)).collect();
                self.number += records;
                let values: Vec<_> = values.iter().map(String::as_str).collect();
                let appended = append(&log, batch(&values), self.epoch).expect("appended");
                assert_eq!(appended.base_offset.get() as usize, self.records.len());
                self.records.extend(values.iter().map(|value| (self.epoch, (*value).to_owned())));
                self.ends.push(self.records.len());
            }
            Step::Flush => {
                node.wal.sync_all().expect("synced");
                assert_eq!(log.offsets().flushed_end, log.offsets().log_end);
                self.flushed = self.records.len();
            }
            Step::Checkpoint => {
                node.store.checkpoint(false).expect("checkpointed");
                self.flushed = self.flushed.max(log.offsets().flushed_end.get() as usize);
            }
            Step::Truncate { percent } => {
                let target = self.records.len() * usize::from(percent) / 100;
                let to = self.ends.iter().copied().filter(|end| *end <= target).max().unwrap_or(0);
                log.truncate_to(offset(to as i64)).expect("cut");
                if to < self.records.len() {
                    // A cut is durable with all before it; where nothing is cut, nothing is made durable.
                    self.flushed = to;
                }
                self.records.truncate(to);
                self.ends.retain(|end| *end <= to);
            }
            Step::Crash { seed } => {
                self.flushed = self.flushed.max(log.offsets().flushed_end.get() as usize);
                drop(log);
                let node = node.crash(seed);
                self.check(&node.log(small()));
                return node;
            }
            Step::Kill => {
                self.flushed = self.flushed.max(log.offsets().flushed_end.get() as usize);
                drop(log);
                let disk = node.disk.kill();
                drop(node);
                let node = Node::start(disk);
                self.check(&node.log(small()));
                return node;
            }
            Step::Restart => {
                drop(log);
                let node = node.restart();
                self.flushed = self.records.len();
                self.check(&node.log(small()));
                return node;
            }
        }
        node
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_log_equals_its_model_through_cuts_and_crashes(steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::default();
        let mut node = Node::start(SimDisk::new());
        for step in steps {
            node = model.run(node, step);
        }
        node.wal.sync_all().expect("synced");
        model.flushed = model.records.len();
        model.check(&node.log(small()));
    }
}
