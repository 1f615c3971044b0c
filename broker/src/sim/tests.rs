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

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// `make sim`: `SEED` is the first, `SEEDS` how many.
#[test]
#[ignore = "by hand: make sim"]
fn by_hand() {
    let first = number("SEED").unwrap_or_else(|| Rng::from_os().below(1 << 32));
    let count = number("SEEDS").unwrap_or(1);
    let started = std::time::Instant::now();
    for seed in first..first + count {
        let began = std::time::Instant::now();
        let outcome = holds(seed);
        if count <= 50 {
            println!(
                "seed {seed}: {} acknowledged, {} seen, {:.1} s simulated in {:.3} s, {} events",
                outcome.acked,
                outcome.seen,
                outcome.took.as_secs_f64(),
                began.elapsed().as_secs_f64(),
                outcome.events.len()
            );
        }
    }
    println!("{count} seeds from {first} in {:.1} s", started.elapsed().as_secs_f64());
}
