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
    MinInsync,
    DeleteRecords,
}

impl Fault {
    /// Those that were there from the start: with others the seeds of before would be other runs.
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
    /// Batches of a partition that a producer has under way at most.
    pub(super) in_flight: usize,
    /// Of a hundred acknowledgements so many are lost.
    pub(super) lost_answers: u64,
    /// Snapshots of the metadata are taken often, and its messages are small.
    pub(super) small_raft: bool,
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
        let mut scenario = Self::with_single_batches(seed);
        scenario.draw_more(seed);
        scenario
    }

    /// As it was before producers had several batches under way.
    pub(super) fn with_single_batches(seed: u64) -> Self {
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
            in_flight: 1,
            lost_answers: 0,
            small_raft: false,
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

    /// Producers with several batches under way, whose answers get lost; partitions that move all the time; settings that
    /// change.
    fn draw_more(&mut self, seed: u64) {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x1f11_6147);
        self.in_flight = *[1, 5, 5, 5].choose(&mut rng).expect("not empty");
        self.lost_answers = *[0, 0, 5, 25].choose(&mut rng).expect("not empty");
        self.small_raft = rng.random_bool(0.5);
        if self.story.is_none() && rng.random_ratio(1, 4) {
            self.nodes = 5;
            self.fault_every_ms = 300;
            let moves = [Fault::Reassign, Fault::Reassign, Fault::Drain, Fault::Drain, Fault::PreferredLeaders];
            self.faults.truncate(2);
            self.faults.extend(moves);
        }
        if !self.faults.is_empty() {
            let more = [Fault::MinInsync, Fault::DeleteRecords];
            self.faults.extend(more.into_iter().filter(|_| rng.random_bool(0.3)));
        }
    }

    /// The smallest `min.insync.replicas` that an administrator may set: where a disk may be lost, the only copy of an
    /// acknowledged record would go with it.
    pub(super) fn least_insync(&self) -> u64 {
        let may_wipe = self.faults.contains(&Fault::Wipe) || self.story == Some(Story::EligibleWiped);
        if may_wipe { 2 } else { 1 }
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
