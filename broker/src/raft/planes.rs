//! The golden rule, kept by a test: Raft carries metadata only. Neither `raft/` nor `metadata/`, nor anything they use,
//! can name a record batch.

use std::path::{Path, PathBuf};

/// What each room may name of this crate. A file's tests may use no more.
const MAY_USE: [(&str, &[&str]); 4] = [
    ("raft", &["raft", "metadata", "io", "ids"]),
    ("metadata", &["metadata", "ids"]),
    ("io", &["io"]),
    ("ids", &["ids"]),
];

/// Crates that know Kafka's messages.
const FORBIDDEN_CRATES: [&str; 2] = ["kafka_wire", "rdkafka"];

fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("the sources are there") {
            files(&entry.expect("the sources are readable").path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.push(path.to_owned());
    }
}

/// The rooms that a source names: `crate::room` and `chronik_broker::room`.
fn rooms_named(source: &str) -> Vec<String> {
    let squeezed: String = source.split_whitespace().collect();
    let mut rooms = Vec::new();
    for root in ["crate::", "chronik_broker::"] {
        for (at, _) in squeezed.match_indices(root) {
            let rest = &squeezed[at + root.len()..];
            let name = |text: &str| -> String {
                text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '{').collect()
            };
            rooms.push(name(rest));
        }
    }
    rooms
}

/// Whether a source whose module lies `depth` below the crate's root climbs up to the root by `super`.
fn climbs_out(source: &str, depth: usize) -> bool {
    let squeezed: String = source.split_whitespace().collect();
    let climb = "super::".repeat(depth);
    squeezed.match_indices(&climb).any(|(at, _)| !squeezed[at + climb.len()..].starts_with('*'))
}

/// How far below the crate's root the module of a source lies.
fn depth(root: &Path, path: &Path) -> usize {
    let below = path.strip_prefix(root).expect("a source lies below the root").components().count();
    below - usize::from(path.ends_with("mod.rs"))
}

#[test]
fn the_golden_rule_raft_and_metadata_can_not_name_a_record_batch() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (room, allowed) in MAY_USE {
        let mut sources = Vec::new();
        let (folder, file) = (root.join(room), root.join(format!("{room}.rs")));
        files(if folder.is_dir() { &folder } else { &file }, &mut sources);
        assert!(!sources.is_empty(), "{room} has moved: keep this test pointed at it");
        for path in sources {
            if path.ends_with("raft/planes.rs") {
                continue;
            }
            let source = std::fs::read_to_string(&path).expect("the sources are readable");
            for named in rooms_named(&source) {
                assert!(allowed.contains(&named.as_str()), "{} names crate::{named}", path.display());
            }
            assert!(!climbs_out(&source, depth(&root, &path)), "{} climbs out of {room}", path.display());
            for name in FORBIDDEN_CRATES {
                assert!(!source.contains(name), "{} names {name}", path.display());
            }
        }
    }
}

#[test]
fn the_test_sees_a_room_however_it_is_named() {
    assert_eq!(rooms_named("use crate::log::Log;"), ["log"]);
    assert_eq!(rooms_named("let x = crate :: stream::Acks::All;"), ["stream"]);
    assert_eq!(rooms_named("use crate::{log, ids};"), ["{log"], "groups at the root are not allowed at all");
    assert!(climbs_out("use super::super::log::Log;", 2) && climbs_out("use super::log::Log;", 1));
    assert!(!climbs_out("use super::record;", 2) && !climbs_out("use super::*;", 1), "a neighbour, a test module");
}
