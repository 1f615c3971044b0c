//! Files damaged by hand between two runs: nothing is lost silently, nothing that may be all that is left is removed.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use chronik_tests::process::ANY_PORTS;
use chronik_tests::{Node, chronik};

const SEGMENT: &str = "00000000000000000000.log";

/// A node that was stopped in order, with records `a` and `b`, a batch each, in topic `t`.
fn stopped() -> Node {
    let mut node = Node::start_default();
    node.run(&["topic", "create", "t"]).ok();
    for record in ["a\n", "b\n"] {
        node.feed(&["produce", "t"], record.as_bytes()).ok();
    }
    assert!(node.stop().success());
    node
}

fn partition(node: &Node) -> PathBuf {
    node.data_dir().join("wal/t/0")
}

fn cut(path: &Path, by: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - by).unwrap();
}

#[test]
fn a_damaged_metadata_log_is_refused_and_costs_no_records() {
    let mut node = stopped();
    let log = node.data_dir().join("wal/__meta").join(SEGMENT);
    let whole = fs::read(&log).unwrap();
    fs::write(&log, [0xa5; 3000]).unwrap();
    let folder = node.data_dir().to_str().unwrap().to_owned();
    for _ in 0..2 {
        let addresses = ANY_PORTS;
        let refused = chronik(&[&["start", "--data-dir", &folder][..], &addresses].concat(), b"");
        assert_eq!(refused.code, 2, "{refused:?}");
        let told: Vec<&str> = refused.err.lines().filter(|line| line.starts_with("chronik: ")).collect();
        assert!(told.len() == 1 && told[0].contains(SEGMENT) && told[0].contains("back-up"), "{refused:?}");
        assert!(partition(&node).join(SEGMENT).exists());
    }
    fs::write(&log, whole).unwrap();
    node.start();
    assert_eq!(node.run(&["consume", "t", "--from-beginning", "--exit-at-end"]).ok(), "a\nb\n");
}

#[test]
fn a_folder_without_its_identity_is_moved_aside_with_its_records() {
    let mut node = stopped();
    let records = fs::read(partition(&node).join(SEGMENT)).unwrap();
    fs::remove_file(partition(&node).join("partition.json")).unwrap();
    node.start();
    let moved = node.data_dir().join("stray/t/0.unknown").join(SEGMENT);
    assert_eq!(fs::read(moved).unwrap(), records);
}

#[test]
fn a_segment_that_lost_its_end_is_noticed_by_the_next_start() {
    let mut node = stopped();
    cut(&partition(&node).join(SEGMENT), 10);
    node.start();
    let consume = ["consume", "t", "--from-beginning", "--exit-at-end"];
    assert_eq!(node.run(&consume).ok(), "a\n");
    node.feed(&["produce", "t"], b"c\n").ok();
    assert_eq!(node.run(&consume).ok(), "a\nc\n");
}

#[test]
fn a_segment_that_loses_its_end_under_a_running_node_ends_a_consumer_with_an_error() {
    let mut node = stopped();
    node.start();
    cut(&partition(&node).join(SEGMENT), 10);
    let consumed = node.run(&["consume", "t", "--from-beginning", "--exit-at-end"]);
    assert_eq!((consumed.code, consumed.out.as_str()), (1, "a\n"), "{consumed:?}");
    assert!(consumed.err.contains("t-0"), "{consumed:?}");
}
