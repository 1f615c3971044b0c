//! What a seed decides before a run begins: how many nodes, which topics, how fast, and which faults may come.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::network::Latency;
use super::stories::Story;

/// A fault, or something that an administrator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Kill,
    PowerLoss,
    PowerLossOfAll,
    /// Power is lost in the middle of a write.
    TornWrite,
    Stop,
    Wipe,
    Cut,
    OneWayCut,
    Isolate,
    LateMessages,
    SlowDisk,
    FullDisk,
    ClockJump,
    Reassign,
    CancelReassignments,
    Drain,
    Voters,
    PreferredLeaders,
    RecreateTopic,
}

impl Fault {
    const ALL: [Self; 19] = [
        Self::Kill,
        Self::PowerLoss,
        Self::PowerLossOfAll,
        Self::TornWrite,
        Self::Stop,
        Self::Wipe,
        Self::Cut,
        Self::OneWayCut,
        Self::Isolate,
        Self::LateMessages,
        Self::SlowDisk,
        Self::FullDisk,
        Self::ClockJump,
        Self::Reassign,
        Self::CancelReassignments,
        Self::Drain,
        Self::Voters,
        Self::PreferredLeaders,
        Self::RecreateTopic,
    ];
}

/// What happens to old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cleanup {
    Never,
    Retention,
    Compaction,
}

/// A topic.
#[derive(Debug, Clone)]
pub(super) struct TopicPlan {
    pub(super) name: String,
    pub(super) partitions: usize,
    pub(super) replicas: usize,
    pub(super) cleanup: Cleanup,
    /// After so long a new segment begins; `None`: never. (`segment.bytes` may not be small enough for a run.)
    pub(super) segment_ms: Option<u32>,
}

/// A run.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) nodes: i32,
    pub(super) voters: i32,
    pub(super) min_insync: usize,
    pub(super) lag_max_ms: u64,
    pub(super) topics: Vec<TopicPlan>,
    pub(super) producers: u64,
    /// Different keys of records.
    pub(super) keys: u64,
    pub(super) consumers: u64,
    pub(super) latency: Latency,
    /// A WAL round takes so long at most, µs.
    pub(super) disk_us: u64,
    /// Work on files takes so long at most, µs.
    pub(super) files_us: u64,
    /// How long faults come, ms.
    pub(super) faults_for_ms: u64,
    /// Between two of them at most, ms.
    pub(super) fault_every_ms: u64,
    pub(super) faults: Vec<Fault>,
    /// Faults that follow on each other.
    pub(super) story: Option<Story>,
}

impl Scenario {
    pub(super) fn of(seed: u64) -> Self {
        let mut scenario = Self::without_story(seed);
        scenario.draw_story(seed);
        scenario
    }

    pub(super) fn without_story(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x5ce7_a210);
        let nodes = *[3, 3, 3, 4, 5].choose(&mut rng).expect("not empty");
        let voters = if nodes == 5 && rng.random_bool(0.5) { 5 } else { 3 };
        let min_insync = *[1, 2, 2, 2].choose(&mut rng).expect("not empty");
        let topics = (0..rng.random_range(1..=2)).map(|number| topic(number, nodes, &mut rng)).collect();
        let mut faults: Vec<_> = Fault::ALL.into_iter().filter(|_| rng.random_bool(0.4)).collect();
        if faults.is_empty() {
            faults.push(Fault::Kill);
        }
        if min_insync < 2 {
            // The only copy of an acknowledged record may go with the disk.
            faults.retain(|fault| *fault != Fault::Wipe);
        }
        Self {
            nodes,
            voters,
            min_insync,
            lag_max_ms: *[1_000, 3_000, 10_000].choose(&mut rng).expect("not empty"),
            topics,
            producers: rng.random_range(1..=3),
            keys: 4,
            consumers: rng.random_range(1..=2),
            latency: Latency {
                least_us: rng.random_range(20..1_000),
                spread_us: *[100, 1_000, 10_000].choose(&mut rng).expect("not empty"),
                late_of: *[0, 300, 2_000].choose(&mut rng).expect("not empty"),
                late_ms: rng.random_range(10..2_000),
            },
            disk_us: *[500, 5_000, 30_000].choose(&mut rng).expect("not empty"),
            files_us: *[100, 2_000, 20_000].choose(&mut rng).expect("not empty"),
            faults_for_ms: rng.random_range(2_000..12_000),
            fault_every_ms: *[300, 1_000, 2_500].choose(&mut rng).expect("not empty"),
            faults,
            story: None,
        }
    }

    /// A third of the runs have a story, and half of these nothing else.
    fn draw_story(&mut self, seed: u64) {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x570_12e5);
        if !rng.random_ratio(1, 3) {
            return;
        }
        let story = *Story::ALL.choose(&mut rng).expect("not empty");
        self.story = Some(story);
        self.min_insync = 2;
        self.faults_for_ms = rng.random_range(6_000..20_000);
        if rng.random_bool(0.5) {
            self.faults.clear();
        }
        for topic in &mut self.topics {
            topic.replicas = 3;
        }
        story.shape(self, &mut rng);
    }
}

fn topic(number: usize, nodes: i32, rng: &mut SmallRng) -> TopicPlan {
    let cleanup = *[Cleanup::Never, Cleanup::Never, Cleanup::Retention, Cleanup::Compaction].choose(rng).expect("some");
    TopicPlan {
        name: format!("topic-{number}"),
        partitions: rng.random_range(1..=2),
        replicas: if rng.random_bool(0.8) { 3 } else { rng.random_range(2..=(nodes as usize).min(4)) },
        cleanup,
        segment_ms: if cleanup == Cleanup::Never && rng.random_bool(0.5) { None } else { Some(400) },
    }
}
