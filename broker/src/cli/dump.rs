//! `chronik dump`: what a segment, an index or a journal file holds, as far as it can be read.

mod index;
mod journal;
mod segment;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;

use super::{Failure, Shared};

#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    /// A segment (*.log), its index (*.index) or a file of the commit journal (in __commit)
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Also the records of a segment, not only its batches
    #[arg(long)]
    records: bool,
}

pub(super) fn run(args: &DumpArgs, shared: &Shared) -> Result<(), Failure> {
    for path in &args.files {
        if path.is_dir() {
            return Err(Failure::Usage(format!("{} is a folder: name the files in it", path.display())));
        }
        if is_in(path, crate::datadir::META) {
            let what = "belongs to the metadata's Raft log, not to a topic: cluster status and topic describe show it";
            return Err(Failure::Usage(format!("{} {what}", path.display())));
        }
        let bytes = fs::read(path).map_err(|why| Failure::Failed(format!("read {}: {why}", path.display())))?;
        match path.extension().and_then(OsStr::to_str) {
            Some("log") => segment::dump(path, Bytes::from(bytes), args.records, shared)?,
            Some("index") => index::dump(path, shared)?,
            _ if is_in(path, crate::node::JOURNAL_DIR) => journal::dump(&bytes, shared)?,
            _ => return Err(Failure::Usage(format!("{} is no segment, index or journal file", path.display()))),
        }
    }
    Ok(())
}

fn is_in(path: &Path, folder: &str) -> bool {
    path.parent().and_then(Path::file_name) == Some(OsStr::new(folder))
}
