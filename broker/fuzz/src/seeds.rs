//! Writes seed inputs into `corpus/`: something of every kind, so that mutation starts behind the first checks.

use std::fs;
use std::path::Path;

use chronik_broker::kafka::api::APIS;
use chronik_broker::log::{BatchBuilder, Compression};

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    requests(&corpus.join("request"))?;
    batches(&corpus.join("batch"))?;
    Ok(())
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
