//! Writes seed inputs into `corpus/`: something of every kind, so that mutation starts behind the first checks.

use std::fs;
use std::path::Path;

use chronik_broker::kafka::api::APIS;
use chronik_broker::log::{BatchBuilder, Compression};

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    requests(&corpus.join("request"))?;
    batches(&corpus.join("batch"))?;
    files(&corpus)
}

/// Each API at its lowest and highest version, with bodies that look like empty lists and like lists of one.
fn requests(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    for api in APIS {
        for version in [api.min, api.max] {
            for (kind, body) in [("empty", [0; 24]), ("one", [1; 24]), ("two", [2; 24])] {
                let mut frame = Vec::new();
                frame.extend_from_slice(&api.key.to_be_bytes());
                frame.extend_from_slice(&version.to_be_bytes());
                frame.extend_from_slice(&[0, 0, 0, 1, 0, 2, b'm', b'e']);
                if api.is_flexible(version) {
                    frame.push(0);
                }
                frame.extend_from_slice(&body);
                fs::write(dir.join(format!("{}-{version}-{kind}", api.name())), frame)?;
            }
        }
    }
    Ok(())
}

/// A segment of two batches for the log; for the others the smallest that has structure.
fn files(corpus: &Path) -> std::io::Result<()> {
    let batch = BatchBuilder::new(Compression::None).record(1_790_000_000_000, None, Some(b"value")).build();
    for (target, name, bytes) in [
        ("log_files", "segment", [&[0][..], &batch, &batch].concat()),
        ("log_files", "index", [&[2][..], &[0; 48]].concat()),
        ("log_files", "producers", [&[3][..], &[0; 32]].concat()),
        ("log_files", "checkpoint", [&[4][..], &[0; 32]].concat()),
        ("journal", "round", [&[1, 60][..], &[1; 60]].concat()),
        ("raft_storage", "segment", [&[1, 12][..], &[10, 4, 8, 1, 16, 1, 18, 2, 8, 1, 16, 2]].concat()),
        ("raft_storage", "command", vec![3, 10, 2, 8, 1]),
    ] {
        fs::create_dir_all(corpus.join(target))?;
        fs::write(corpus.join(target).join(name), bytes)?;
    }
    Ok(())
}

/// A batch of each codec, for topics that keep the codec and for topics that convert it.
fn batches(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for codec in codecs {
        let batch = (0..5_i64).fold(BatchBuilder::new(codec), |batch, n| {
            batch.record(1_790_000_000_000 + n, Some(b"key"), Some(b"a value that repeats, a value that repeats"))
        });
        let batch = batch.build();
        for (kind, choice) in [("kept", 7 | 64), ("converted", 64)] {
            fs::write(dir.join(format!("{codec:?}-{kind}").to_lowercase()), [&[choice][..], &batch].concat())?;
        }
    }
    Ok(())
}
