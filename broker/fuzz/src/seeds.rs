//! Seed inputs: something of every kind, so that mutation starts behind the first checks.

use chronik_broker::kafka::api::APIS;
use chronik_broker::log::{BatchBuilder, Compression};

/// An input that a target is started from.
pub struct Seed {
    /// Which target.
    pub target: &'static str,
    /// Its file's name in the corpus.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// All seeds.
pub fn seeds() -> Vec<Seed> {
    requests().into_iter().chain(batches()).chain(files()).chain(link_frames()).collect()
}

/// Each API at its lowest and highest version, with bodies that look like empty lists and like lists of one or two.
fn requests() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for api in APIS {
        for version in [api.min, api.max] {
            for (kind, filler) in [("empty", 0), ("one", 1), ("two", 2)] {
                let mut bytes = Vec::new();
                bytes.extend_from_slice(&api.key.to_be_bytes());
                bytes.extend_from_slice(&version.to_be_bytes());
                bytes.extend_from_slice(&[0, 0, 0, 1, 0, 2, b'm', b'e']);
                if api.is_flexible(version) {
                    bytes.push(0);
                }
                bytes.extend_from_slice(&[filler; 24]);
                seeds.push(Seed { target: "request", name: format!("{}-{version}-{kind}", api.name()), bytes });
            }
        }
    }
    seeds
}

/// A batch of each codec, for topics that keep the codec and for topics that convert it.
fn batches() -> Vec<Seed> {
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let mut seeds = Vec::new();
    for codec in codecs {
        let batch = (0..5_i64).fold(BatchBuilder::new(codec), |batch, n| {
            batch.record(1_790_000_000_000 + n, Some(b"key"), Some(b"a value that repeats, a value that repeats"))
        });
        let batch = batch.build();
        for (kind, choice) in [("kept", 7 | 64), ("converted", 64)] {
            let name = format!("{codec:?}-{kind}").to_lowercase();
            seeds.push(Seed { target: "batch", name, bytes: [&[choice][..], &batch].concat() });
        }
    }
    seeds
}

/// Each kind of frame of a link: its number, then the fields of those that have the most, with and without a payload.
fn link_frames() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for kind in 0..12_u8 {
        for (name, payload) in [("bare", &[][..]), ("loaded", &[3, 1, 2, 3])] {
            let header = [&[kind, 0, 0, 0][..], &[1, 0, 0, 0].repeat(16)].concat();
            let bytes = [&[1, header.len() as u8][..], &header, payload].concat();
            seeds.push(Seed { target: "link_frames", name: format!("{kind}-{name}"), bytes });
        }
    }
    // A Heartbeat, a Greet and an Append as they are.
    let greet = [&[3, 0, 0, 0][..], &[7; 16], &[1, 0, 0, 0], &[2, 0, 0, 0], &[5, 0, 0, 0, 0, 0, 0, 0]].concat();
    let offsets = [6_i64, 6, 9].map(i64::to_le_bytes).concat();
    let append = [&[7, 0, 0, 0][..], &greet[4..], &offsets].concat();
    let whole = [(&[10_u8, 0, 0, 0][..], &[][..]), (&greet, &[]), (&append, b"batch")];
    let piece = |bytes: &[u8]| [&[bytes.len() as u8][..], bytes].concat();
    let bytes = whole.iter().flat_map(|(header, payload)| [piece(header), piece(payload)].concat());
    seeds.push(Seed { target: "link_frames", name: "whole".to_owned(), bytes: [1].into_iter().chain(bytes).collect() });
    seeds
}

/// A segment of two batches for the log; for the others the smallest that has structure.
fn files() -> Vec<Seed> {
    let batch = BatchBuilder::new(Compression::None).record(1_790_000_000_000, None, Some(b"value")).build();
    [
        ("log_files", "segment", [&[0][..], &batch, &batch].concat()),
        ("log_files", "sealed", [&[1][..], &batch].concat()),
        ("log_files", "index", [&[2][..], &[0; 48]].concat()),
        ("log_files", "producers", [&[3][..], &[0; 32]].concat()),
        ("log_files", "checkpoint", [&[4][..], &[0; 32]].concat()),
        ("journal", "round", [&[1, 60][..], &[1; 60]].concat()),
        ("raft_storage", "segment", vec![1, 12, 10, 4, 8, 1, 16, 1, 18, 2, 8, 1, 16, 2]),
        ("raft_storage", "snapshot", vec![2, 10, 2, 8, 1]),
        ("raft_storage", "command", vec![3, 10, 2, 8, 1]),
    ]
    .into_iter()
    .map(|(target, name, bytes)| Seed { target, name: name.to_owned(), bytes })
    .collect()
}
