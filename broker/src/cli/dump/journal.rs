//! A file of the commit journal: the rounds that a replay would find in it.

use std::collections::HashMap;
use std::fmt::Write;

use serde::Serialize;

use super::super::{Failure, Shared};
use crate::wal::journal::{self, Entry};

#[derive(Serialize)]
struct Round {
    position: u64,
    generation: u64,
    number: u64,
    bytes: u64,
    /// Generation and byte before which nothing needs replay.
    spent: (u64, u64),
    clean_shutdown: bool,
    entries: Vec<RoundEntry>,
}

#[derive(Serialize)]
struct RoundEntry {
    kind: &'static str,
    file: u64,
    path: Option<String>,
    position: Option<u64>,
    bytes: Option<u64>,
}

pub(super) fn dump(bytes: &[u8], shared: &Shared) -> Result<(), Failure> {
    shared.open().document(&read(bytes), |rounds| people(rounds))
}

fn read(bytes: &[u8]) -> Vec<Round> {
    let mut paths = HashMap::new();
    journal::read(bytes)
        .map(|round| Round {
            position: round.position.byte,
            generation: round.position.generation,
            number: round.number,
            bytes: round.bytes,
            spent: (round.spent.generation, round.spent.byte),
            clean_shutdown: round.clean,
            entries: round.entries().map(|entry| shown(entry, &mut paths)).collect(),
        })
        .collect()
}

fn shown(entry: Entry<'_>, paths: &mut HashMap<u64, String>) -> RoundEntry {
    let (kind, file, position, bytes) = match entry {
        Entry::Registered { file, path } => {
            paths.insert(file.0, path.display().to_string());
            ("registered", file, None, None)
        }
        Entry::Appended { file, position, data } => ("appended", file, Some(position), Some(data.len() as u64)),
        Entry::Synced { file, position, length } => ("synced", file, Some(position), Some(length)),
        Entry::Retired { file } => ("retired", file, None, None),
    };
    RoundEntry { kind, file: file.0, path: paths.get(&file.0).cloned(), position, bytes }
}

fn people(rounds: &[Round]) -> String {
    let mut out = String::new();
    for round in rounds {
        let _ = writeln!(
            out,
            "{:>10}  round {}  generation {}  {} bytes  spent before {}:{}{}",
            round.position,
            round.number,
            round.generation,
            round.bytes,
            round.spent.0,
            round.spent.1,
            if round.clean_shutdown { "  clean shutdown" } else { "" }
        );
        for entry in &round.entries {
            let path = entry.path.as_deref().unwrap_or("?");
            let place = match (entry.position, entry.bytes) {
                (Some(position), Some(bytes)) => format!(" {bytes} bytes at {position}"),
                _ => String::new(),
            };
            let _ = writeln!(out, "            {} {} {path}{place}", entry.kind, entry.file);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_journal_hold_no_rounds() {
        assert!(read(&[0; 8192]).is_empty());
        assert!(read(b"noise").is_empty());
    }
}
