//! Writes the seeds into `corpus/`.

use std::fs;
use std::path::Path;

// The instrumented code calls into it.
use libfuzzer_sys as _;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for seed in chronik_fuzz::seeds::seeds() {
        let dir = corpus.join(seed.target);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(seed.name), seed.bytes)?;
    }
    Ok(())
}
