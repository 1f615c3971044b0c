//! The fuzz targets as an ordinary test: the seeds, the kept corpus, and a fixed number of mutations of each. The
//! search that follows coverage is `make fuzz`.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[allow(unreachable_pub, reason = "a crate of its own when it is fuzzed")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Mutations of each input.
const MUTATIONS: usize = 200;

fn run(target: &str, function: fn(&[u8])) {
    let seeds = targets::seeds::seeds().into_iter().filter(|seed| seed.target == target);
    let mut inputs: Vec<(String, Vec<u8>)> = seeds.map(|seed| (seed.name, seed.bytes)).collect();
    assert!(!inputs.is_empty(), "{target} has seeds");
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    if kept.exists() {
        for file in std::fs::read_dir(kept).unwrap() {
            let path = file.unwrap().path();
            inputs.push((path.display().to_string(), std::fs::read(path).unwrap()));
        }
    }
    let seed = rand::random();
    println!("{target}: seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for (name, input) in inputs {
        // Shown when one fails: the last one named is to blame.
        println!("{target}: {name}");
        function(&input);
        for _ in 0..MUTATIONS {
            function(&mutated(&input, &mut random));
        }
    }
}

/// A few bytes changed, cut out or put in, with a liking for the values that lengths go wrong with.
fn mutated(input: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=bytes.len());
        let value = match random.random_range(0..4) {
            0 => 0xff,
            1 => 0x7f,
            2 => random.random_range(0..4),
            _ => random.random(),
        };
        match random.random_range(0..4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, value),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            _ if at < bytes.len() => bytes[at] = value,
            _ => bytes.push(value),
        }
    }
    bytes
}

#[test]
fn request() {
    run("request", targets::request);
}

#[test]
fn batch() {
    run("batch", targets::batch);
}

#[test]
fn log_files() {
    run("log_files", targets::log_files);
}

#[test]
fn journal() {
    run("journal", targets::journal);
}

#[test]
fn raft_storage() {
    run("raft_storage", targets::raft_storage);
}

#[test]
fn link_frames() {
    run("link_frames", targets::link_frames);
}
