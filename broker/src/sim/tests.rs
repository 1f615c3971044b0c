//! The seeds that are run: some always, fresh ones in `make test`, as many as one likes by hand.

use super::stories::Story;
use super::*;

/// Seeds in `make test`, of which nobody knows the outcome before.
const FRESH: u64 = 60;
/// Seeds at most that a planted bug may need.
const FOUND_WITHIN: u64 = 2_000;
/// How a seed's scenario was drawn.
type Drawn = fn(u64) -> Scenario;
/// Seeds that found a bug, which has been mended since, and how their runs were drawn then.
const FOUND: [(u64, Drawn, &str); 15] = [
    (
        1476,
        Scenario::without_story,
        "a wiped voter was sent a snapshot from before its removal, in which it votes alone: it led a group of its own",
    ),
    (
        2691,
        Scenario::without_story,
        "a node that was away refused its leader, which had come back with an empty disk meanwhile",
    ),
    (
        900_603,
        Scenario::without_story,
        "a replica that ended within a hole which its leader had filled never caught up",
    ),
    (900_777, Scenario::without_story, "the same, after the whole cluster had lost its power"),
    (
        4_002_031,
        Scenario::with_single_batches,
        "the scenario's own: administrators who looked at old images left two voters, one of which lost its disk",
    ),
    (101_000, Scenario::of, "a wiped replica was to begin where its leader's log started, within a batch"),
    (100_616, Scenario::of, "the same of replicas that a reassignment added, which did not end"),
    (
        203_646,
        Scenario::of,
        "a checkpoint knew of an empty segment that a cut had removed: after a crash, what was written since was dropped",
    ),
    (204_288, Scenario::of, "a stop was marked as clean though the metadata's disk had been full: no start after it"),
    (
        6_007_250,
        Scenario::of,
        "a retry was told a place that was deleted, where another leader had given the batch a new one",
    ),
    (
        7_001_422,
        Scenario::of,
        "a start dropped what was persisted after a snapshot that contradicted the old log's entry",
    ),
    (
        7_007_426,
        Scenario::of,
        "a full disk refused a log's first records, and the node ended for want of the log's folder",
    ),
    (
        8_001_467,
        Scenario::of,
        "the scenario's own: a loss of power planned against a stopped node came when nothing was to disturb any more",
    ),
    (
        11_005_942,
        Scenario::of,
        "a wiped voter that was made a learner before it was back waited to vote, and never served",
    ),
    (
        12_001_716,
        Scenario::of,
        "of a log's first, unsynced segments a loss of power left all but the first: it began behind its beginning",
    ),
];

/// Runs a seed; panics, with the end of its story, when something does not hold.
fn holds(seed: u64) -> Outcome {
    let outcome = run(seed, None);
    if let Some(why) = &outcome.violation {
        panic!("seed {seed}: {why}\n{}\nagain: make sim SEED={seed}", outcome.tail);
    }
    outcome
}

#[test]
fn seeds_that_found_something_find_it_no_more() {
    for (seed, scenario, what) in FOUND {
        println!("seed {seed}: {what}");
        let outcome = run_in(seed, scenario(seed), None);
        assert_eq!(outcome.violation, None, "{}", outcome.tail);
    }
}

#[test]
fn fresh_seeds_hold() {
    let first = Rng::from_os().below(1 << 40);
    println!("{FRESH} seeds from {first}");
    for seed in first..first + FRESH {
        holds(seed);
    }
}

/// Where the events of two runs of a seed differ: `None` where they don't.
fn difference(seed: u64, plant: Option<Plant>) -> Option<String> {
    let (one, other) = (run(seed, plant).events, run(seed, plant).events);
    let length = one.len().min(other.len());
    let at = (0..length).find(|at| one[*at] != other[*at]).or((one.len() != other.len()).then_some(length))?;
    let around =
        |events: &[(Duration, Event)]| format!("{:?}", &events[at.saturating_sub(5)..events.len().min(at + 1)]);
    Some(format!("seed {seed} at event {at}:\n{}\n{}", around(&one), around(&other)))
}

/// Only where the runtime's own draws can be seeded: `make sim` builds so.
#[cfg(tokio_unstable)]
#[test]
fn a_seed_repeats_its_whole_run() {
    for seed in 0..40 {
        assert_eq!(difference(seed, None), None);
    }
}

/// Runs seeds with a planted bug until one finds it: that, and what it found.
fn found(plant: Plant, seeds: impl IntoIterator<Item = u64>) -> Option<(u64, String)> {
    seeds.into_iter().find_map(|seed| Some((seed, run(seed, Some(plant)).violation?)))
}

/// The seeds whose run tells this story, or all of them.
fn telling(story: Option<Story>) -> impl Iterator<Item = u64> {
    (0..FOUND_WITHIN).filter(move |seed| story.is_none() || Scenario::of(*seed).story == story)
}

/// With seeds that find nothing wrong without the bugs, so that it is them that are found.
#[test]
fn planted_bugs_are_found() {
    let plants = [
        (Plant::AckBeforeFlush, None),
        (Plant::NoTruncation, None),
        (Plant::CommittedIsrOnly, Some(Story::UnheardJoin)),
        (Plant::LostReplyIsRefusal, Some(Story::UnheardJoin)),
        (Plant::WaiterSurvivesEpoch, Some(Story::LeadsAgain)),
        (Plant::CompactionAboveHighWatermark, Some(Story::CleansAlone)),
        (Plant::WipedElectable, Some(Story::EligibleWiped)),
    ];
    for (plant, story) in plants {
        let found = found(plant, telling(story));
        println!("{plant:?}: {found:?}");
        let (seed, _) = found.unwrap_or_else(|| panic!("{plant:?} is not found within {FOUND_WITHIN} seeds"));
        holds(seed);
    }
}

/// How many seeds each planted bug needs (`PLANT`: that one), as far as it is found.
#[test]
#[ignore = "by hand"]
fn plants_by_hand() {
    let first = number("SEED").unwrap_or(0);
    let most = number("SEEDS").unwrap_or(FOUND_WITHIN);
    let wanted = std::env::var("PLANT").ok();
    for plant in Plant::ALL.into_iter().filter(|plant| wanted.as_ref().is_none_or(|it| *it == format!("{plant:?}"))) {
        println!("{plant:?}: {:?}", found(plant, first..first + most));
    }
}

/// With `SIM_LOG` (as `RUST_LOG` is written) the nodes' own log is told, too.
fn tell_log() {
    struct SimTime(Mutex<Option<Instant>>);

    impl tracing_subscriber::fmt::time::FormatTime for SimTime {
        fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
            let now = Instant::now();
            let start = *self.0.lock().get_or_insert(now);
            write!(w, "{:>10.3}", now.saturating_duration_since(start).as_secs_f64())
        }
    }

    if let Ok(filter) = std::env::var("SIM_LOG") {
        let told = tracing_subscriber::fmt().with_env_filter(filter).with_timer(SimTime(Mutex::default()));
        told.with_ansi(false).with_writer(std::io::stdout).init();
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// `make sim`: `SEED` is the first, `SEEDS` how many. All of them are run; those that fail are told, the last one whole.
#[test]
#[ignore = "by hand: make sim"]
fn by_hand() {
    let first = number("SEED").unwrap_or_else(|| Rng::from_os().below(1 << 32));
    let count = number("SEEDS").unwrap_or(1);
    tell_log();
    let started = std::time::Instant::now();
    let (mut counts, mut simulated, mut failed) = (Counts::default(), Duration::ZERO, Vec::new());
    for seed in first..first + count {
        let outcome = run(seed, None);
        counts += outcome.counts;
        simulated += outcome.took;
        if let Some(why) = &outcome.violation {
            println!("seed {seed}: {why}");
            failed.push((seed, outcome.tail));
        } else if count <= 50 {
            println!("seed {seed}: {}", outcome.sum());
        }
    }
    println!(
        "{count} seeds from {first} in {:.1} s: {counts}, {:.0} s simulated, {} failed",
        started.elapsed().as_secs_f64(),
        simulated.as_secs_f64(),
        failed.len()
    );
    if let Some((seed, tail)) = failed.last() {
        panic!("seed {seed} failed:\n{tail}\nagain: make sim SEED={seed}");
    }
}

/// Which of `SEEDS` seeds from `SEED` on don't repeat.
#[test]
#[ignore = "by hand"]
fn repeats_by_hand() {
    let first = number("SEED").unwrap_or(0);
    let differing: Vec<_> =
        (first..first + number("SEEDS").unwrap_or(100)).filter_map(|seed| difference(seed, None)).collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
