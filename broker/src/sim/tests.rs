//! The seeds that are run.

use super::*;

/// Runs a seed; panics, with the end of its story, when something does not hold.
fn holds(seed: u64) -> Outcome {
    let outcome = run(seed, None);
    if let Some(why) = &outcome.violation {
        panic!("seed {seed}: {why}\n{}\nagain: make sim SEED={seed}", outcome.tail);
    }
    outcome
}

#[test]
fn a_seed_repeats_its_run() {
    for seed in 0..3 {
        let (one, other) = (run(seed, None), run(seed, None));
        let differs = one.events.iter().zip(&other.events).position(|(one, other)| one != other);
        if let Some(at) = differs {
            let from = at.saturating_sub(10);
            panic!("seed {seed} at {at}:\n{:#?}\n{:#?}", &one.events[from..=at], &other.events[from..=at]);
        }
        assert_eq!(one.events.len(), other.events.len(), "seed {seed}");
    }
}

/// Which of `SEEDS` seeds don't repeat.
#[test]
#[ignore = "by hand"]
fn repeats_by_hand() {
    let first = number("SEED").unwrap_or(0);
    for seed in first..first + number("SEEDS").unwrap_or(100) {
        let (one, other) = (run(seed, None), run(seed, None));
        let differs = one.events.iter().zip(&other.events).position(|(one, other)| one != other);
        if let Some(at) = differs {
            let from = at.saturating_sub(6);
            println!("seed {seed} at {at}:\n{:?}\n{:?}", &one.events[from..=at], &other.events[from..=at]);
        }
    }
}

/// Runs seeds with a planted bug until one finds it; how many it took.
fn found_after(plant: Plant, most: u64) -> Option<u64> {
    (0..most).find(|seed| run(*seed, Some(plant)).violation.is_some())
}

/// How many seeds each planted bug needs: `SEEDS` at most.
#[test]
#[ignore = "by hand"]
fn plants_by_hand() {
    let most = number("SEEDS").unwrap_or(2_000);
    for plant in Plant::ALL {
        let started = std::time::Instant::now();
        let found = found_after(plant, most);
        let why = found.and_then(|seed| run(seed, Some(plant)).violation);
        println!("{plant:?}: {found:?} in {:.1} s: {why:?}", started.elapsed().as_secs_f64());
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
    let (mut acked, mut seen, mut simulated, mut failed) = (0, 0, Duration::ZERO, Vec::new());
    for seed in first..first + count {
        let began = std::time::Instant::now();
        let outcome = run(seed, None);
        acked += outcome.acked;
        seen += outcome.seen;
        simulated += outcome.took;
        if let Some(why) = &outcome.violation {
            println!("seed {seed}: {why}");
            failed.push((seed, outcome.tail));
        } else if count <= 50 {
            println!("seed {seed}: {}, {:.3} s", outcome.sum(), began.elapsed().as_secs_f64());
        }
    }
    println!(
        "{count} seeds from {first} in {:.1} s: {acked} acknowledged, {seen} seen, {:.0} s simulated, {} failed",
        started.elapsed().as_secs_f64(),
        simulated.as_secs_f64(),
        failed.len()
    );
    if let Some((seed, tail)) = failed.last() {
        panic!("seed {seed} failed:\n{tail}\nagain: make sim SEED={seed}");
    }
}
