//! The commands against a real node: round trips, formats, exit codes.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use chronik_tests::cluster::free_ports;
use chronik_tests::process::binary;
use chronik_tests::{Node, chronik};
use serde_json::json;

/// Text of these lines.
fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.fold(String::new(), |text, line| text + &line + "\n")
}

#[test]
fn topics_are_created_listed_described_changed_and_deleted() {
    let node = Node::start_default();
    let created = node.run(&["topic", "create", "orders", "--partitions", "3", "--config", "retention.ms=60000"]).ok();
    assert_eq!(created, "created topic orders: 3 partitions\n");
    let twice = node.run(&["topic", "create", "orders"]);
    assert_eq!(twice.code, 1, "{twice:?}");
    assert!(twice.err.contains("orders"), "{twice:?}");
    let again = node.run(&["topic", "create", "orders", "--if-not-exists"]).ok();
    assert_eq!(again, "unchanged topic orders: it exists already\n");

    let listed = node.run(&["topic", "list", "--output", "json"]).json();
    assert_eq!(listed[0]["name"], "orders");
    assert_eq!(listed[0]["partitions"], 3);
    assert!(node.run(&["topic", "list"]).ok().starts_with("TOPIC"));

    let described = node.run(&["topic", "describe", "orders", "--output", "json"]).json();
    assert_eq!(described["partitions"].as_array().map(Vec::len), Some(3));
    assert_eq!(described["settings"], json!([{"name": "retention.ms", "value": "60000", "default": false}]));

    let changed =
        node.run(&["topic", "config", "orders", "--set", "cleanup.policy=compact", "--unset", "retention.ms"]);
    assert_eq!(changed.ok(), "changed topic orders: cleanup.policy=compact, retention.ms back to its default\n");
    let described = node.run(&["topic", "describe", "orders", "--output", "json"]).json();
    assert_eq!(described["settings"][0]["name"], "cleanup.policy");

    let deleted = node.run(&["topic", "delete", "orders", "--output", "json"]).json();
    assert_eq!(deleted, json!([{"outcome": "deleted", "kind": "topic", "name": "orders"}]));
    assert_eq!(node.run(&["topic", "list", "--output", "json"]).json(), json!([]));
    assert_eq!(node.run(&["topic", "describe", "orders"]).code, 1);
}

/// Each partition's way to its leader is known when the topic is made: nobody asks for it partition by partition.
#[test]
fn ten_thousand_partitions_take_records_as_soon_as_they_are_made() {
    let node = Node::start_default();
    let created = node.run(&["topic", "create", "wide", "--partitions", "10000"]).ok();
    assert_eq!(created, "created topic wide: 10000 partitions\n");
    let text = lines((0..1_000).map(|n| format!("{n}:{n}")));
    let produced = node.feed(&["produce", "wide", "--key-separator", ":"], text.as_bytes()).ok();
    assert_eq!(produced, "produced 1000 records to topic wide\n");
    let out = node.run(&["consume", "wide", "--from-beginning", "--exit-at-end"]).ok();
    assert_eq!(out.lines().count(), 1_000);
}

#[test]
fn lines_come_back_as_they_were_with_each_compression() {
    let node = Node::start_default();
    let text = lines((0..2_000).map(|n| format!("key{}\tvalue {n} – äöü", n % 7)));
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("lines-{codec}");
        node.feed(&["produce", &topic, "--key-separator", "\t", "--compression", codec], text.as_bytes()).ok();
        let out = node.run(&["consume", &topic, "--from-beginning", "--exit-at-end", "--format", r"%k\t%v"]).ok();
        assert!(out == text, "{codec}");
    }
}

#[test]
fn keys_keep_their_order_within_their_partition() {
    let node = Node::start_default();
    node.run(&["topic", "create", "keyed", "--partitions", "4"]).ok();
    let text = lines((0..1_000).map(|n| format!("{}:{n}", n % 13)));
    for acks in ["all", "1"] {
        node.feed(&["produce", "keyed", "--key-separator", ":", "--acks", acks], text.as_bytes()).ok();
    }
    let out = node.run(&["consume", "keyed", "--from-beginning", "--exit-at-end", "--format", "%p %k %v"]).ok();
    assert_eq!(out.lines().count(), 2_000);
    for key in 0..13 {
        let wanted = key.to_string();
        let of_key = out.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|parts| parts[1] == wanted);
        let (partitions, values): (Vec<_>, Vec<i32>) =
            of_key.map(|parts| (parts[0], parts[2].parse::<i32>().unwrap())).unzip();
        assert!(partitions.windows(2).all(|pair| pair[0] == pair[1]), "a key stays in its partition");
        assert_eq!(values[..values.len() / 2], values[values.len() / 2..]);
        assert!(values[..values.len() / 2].is_sorted());
    }
}

#[test]
fn consuming_ends_where_it_was_told() {
    let node = Node::start_default();
    node.feed(&["produce", "few"], b"a\nb\nc\n").ok();
    let two = node.run(&["consume", "few", "--from-beginning", "--max-messages", "2", "--output", "json"]).ok();
    let records: Vec<serde_json::Value> = two.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.iter().map(|record| record["value"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(node.run(&["consume", "few", "--timeout-ms", "300"]).ok(), "");
    let formatted = node.run(&["consume", "few", "--from-beginning", "--exit-at-end", "--format", "%t/%p@%o=%v"]).ok();
    assert_eq!(formatted, "few/0@0=a\nfew/0@1=b\nfew/0@2=c\n");
}

#[test]
fn a_group_remembers_and_is_reset_and_deleted() {
    let node = Node::start_default();
    node.feed(&["produce", "grouped"], b"1\n2\n3\n4\n").ok();
    let consume = ["consume", "grouped", "--group", "readers", "--from-beginning", "--max-messages", "3"];
    assert_eq!(node.run(&consume).ok(), "1\n2\n3\n");
    let groups = node.run(&["group", "list", "--output", "json"]).json();
    assert_eq!(groups[0]["group"], "readers");
    let described = node.run(&["group", "describe", "readers", "--output", "json"]).json();
    assert_eq!(described["state"], "Empty");
    assert_eq!(described["offsets"][0]["offset"], 3);
    assert_eq!(described["offsets"][0]["lag"], 1);
    let rest = ["consume", "grouped", "--group", "readers", "--exit-at-end"];
    assert_eq!(node.run(&rest).ok(), "4\n");

    let moved = node.run(&["group", "reset", "readers", "--shift-by", "-2", "--dry-run", "--output", "json"]).json();
    assert_eq!(moved, json!([{"topic": "grouped", "partition": 0, "from": 4, "to": 2}]));
    let clamped = node.run(&["group", "reset", "readers", "--to-offset", "99", "--dry-run"]).ok();
    assert!(clamped.contains("WOULD MOVE TO") && clamped.contains("99 is after the end"), "{clamped}");
    node.run(&["group", "reset", "readers", "--to-offset", "1"]).ok();
    assert_eq!(node.run(&rest).ok(), "2\n3\n4\n");
    assert_eq!(node.run(&["group", "delete", "readers"]).ok(), "deleted group readers\n");
    assert_eq!(node.run(&["group", "describe", "readers"]).code, 1);
}

#[test]
fn the_cluster_tells_its_status() {
    let node = Node::start_default();
    node.run(&["topic", "create", "some", "--partitions", "2"]).ok();
    let admin = node.grpc_address();
    let status = node.run(&["cluster", "--admin", &admin, "status", "--output", "json"]).json();
    assert_eq!(status["nodes"][0]["leaders"], 2);
    assert_eq!(
        (&status["partitions"], &status["offline"], &status["under_minimum"]),
        (&json!(2), &json!(0), &json!(0))
    );
    assert_eq!(status["nodes"][0]["address"], node.bootstrap());
    let id = &status["nodes"][0]["node"];
    assert_eq!((&status["answered_by"], &status["metadata"]["leader"]), (id, id));
    assert_eq!(status["metadata"]["members"][0]["role"], "leader");
    let shown = node.run(&["cluster", "--admin", &admin, "status"]).ok();
    assert!(shown.contains("1 node, 1 topic, 2 partitions\nall partitions are in sync\n"), "{shown}");
}

#[test]
fn segments_and_the_journal_can_be_dumped() {
    let mut node = Node::start_default();
    node.feed(&["produce", "dumped"], b"a\nb\n").ok();
    node.stop();
    let segment = node.data_dir().join("wal/dumped/0/00000000000000000000.log");
    let dump = chronik(&["dump", "--records", "--output", "json", segment.to_str().unwrap()], b"").json();
    let records: i64 = dump["batches"].as_array().unwrap().iter().map(|batch| batch["records"].as_i64().unwrap()).sum();
    assert_eq!(records, 2);
    assert_eq!(dump["batches"][0]["content"][0]["value"], "a");
    let index = segment.with_extension("index");
    if index.exists() {
        chronik(&["dump", "--output", "json", index.to_str().unwrap()], b"").json();
    }
    let journal = std::fs::read_dir(node.data_dir().join("wal/__commit")).unwrap();
    let journal: Vec<_> = journal.map(|entry| entry.unwrap().path()).collect();
    assert!(!journal.is_empty());
    for file in journal {
        chronik(&["dump", file.to_str().unwrap()], b"").ok();
    }
    let metadata = node.data_dir().join("wal/__meta/00000000000000000000.log");
    let refused = chronik(&["dump", metadata.to_str().unwrap()], b"");
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains(metadata.to_str().unwrap()) && refused.err.contains("Raft log"), "{refused:?}");
    std::fs::write(&segment, [7; 100]).unwrap();
    let damaged = chronik(&["dump", segment.to_str().unwrap()], b"");
    assert_eq!(damaged.code, 1, "{damaged:?}");
    assert!(damaged.err.contains(segment.to_str().unwrap()), "which of the files: {damaged:?}");
}

#[test]
fn benches_report_their_figures() {
    let node = Node::start_default();
    let produced =
        node.run(&["bench", "produce", "bench", "--records", "5000", "--size", "100", "--output", "json"]).json();
    assert_eq!(produced["records"], 5000);
    assert!(produced["latency_ms"]["p99"].as_f64().unwrap() > 0.0);
    let large = node.run(&["bench", "produce", "bench", "--records", "1", "--size", "20000000"]);
    assert_eq!(large.code, 1, "{large:?}");
    assert!(large.err.contains("max.message.bytes"), "{large:?}");
    assert_eq!(node.run(&["bench", "produce", "bench", "--size", "99999999999"]).code, 2);
    let consumed = node.run(&["bench", "consume", "bench", "--output", "json"]).json();
    assert_eq!(consumed["records"], 5000);
}

/// Whatever was attempted: one message for a topic that does not exist, one for a group, one line each, with what to do.
#[test]
fn what_does_not_exist_is_told_in_the_same_words_by_every_command() {
    let node = Node::start_default();
    let told =
        |what: &str, list: &str| format!("chronik: {what} (see: chronik {list} --bootstrap {})\n", node.bootstrap());
    let topic = &told("topic nope: there is no such topic", "topic list");
    let group = &told("group nope: there is no such group", "group list");
    for (arguments, told) in [
        (&["topic", "describe", "nope"][..], topic),
        (&["topic", "config", "nope"], topic),
        (&["topic", "config", "nope", "--set", "retention.ms=1"], topic),
        (&["topic", "delete", "nope"], topic),
        (&["consume", "nope"], topic),
        (&["consume", "nope", "--exit-at-end"], topic),
        (&["consume", "nope", "--group", "g", "--exit-at-end"], topic),
        (&["consume", "nope", "--group", "g"], topic),
        (&["group", "reset", "g", "--to-earliest", "--topic", "nope"], topic),
        (&["group", "describe", "nope"], group),
        (&["group", "delete", "nope"], group),
    ] {
        let failed = node.run(arguments);
        assert_eq!((failed.code, &failed.err), (1, told), "{arguments:?}");
    }
}

#[test]
fn wrong_values_are_told_with_what_they_must_be() {
    let node = Node::start_default();
    assert_eq!(node.feed(&["produce", "t"], b"a\nb\n").ok(), "produced 2 records to topic t\n");
    for (arguments, parts) in [
        (&["topic", "config", "t", "--set", "retention.ms=soon"][..], &["retention.ms", "soon", "whole number"][..]),
        (&["topic", "create", "u", "--config", "preallocate=maybe"], &["preallocate", "maybe", "true or false"]),
        (&["topic", "config", "t", "--unset", "retention"], &["no setting retention", "topic config t"]),
        (&["topic", "create", "a b"], &["a b"]),
        (&["consume", "t", "--partition", "7"], &["no partition 7", "last is 0"]),
        (&["group", "reset", "none", "--to-earliest"], &["none", "--topic"]),
    ] {
        let failed = node.run(arguments);
        assert_eq!(failed.code, 1, "{arguments:?}: {failed:?}");
        assert_eq!(failed.err.lines().count(), 1, "{failed:?}");
        for part in parts {
            assert!(failed.err.contains(part), "{part}: {failed:?}");
        }
    }
}

#[test]
fn without_a_broker_commands_fail_with_what_to_do() {
    // Port 1 is reserved and not served.
    let failed = chronik(&["topic", "list", "--bootstrap", "127.0.0.1:1"], b"");
    assert_eq!(failed.code, 1);
    assert!(failed.err.contains("127.0.0.1:1") && failed.err.contains("--bootstrap"), "{failed:?}");
    assert_eq!(failed.err.lines().count(), 1, "{failed:?}");
}

#[test]
fn usage_errors_exit_with_2_and_help_with_0() {
    assert_eq!(chronik(&["topic", "create"], b"").code, 2);
    assert_eq!(chronik(&["nonsense"], b"").code, 2);
    assert_eq!(chronik(&["consume", "t", "--format", "%x"], b"").code, 2);
    for addresses in ["localhost", ":9092", "localhost:kafka", "localhost:9092,other", ",", "http://localhost:9092"] {
        let failed = chronik(&["topic", "list", "--bootstrap", addresses], b"");
        assert_eq!(failed.code, 2, "{failed:?}");
        assert!(failed.err.contains("HOST:PORT"), "{failed:?}");
    }
    assert_eq!(chronik(&["--help"], b"").code, 0);
    assert!(chronik(&["completions", "bash"], b"").ok().contains("chronik"));
    assert_eq!(chronik(&["version", "--output", "json"], b"").json()["version"], env!("CARGO_PKG_VERSION"));
}

/// A development cluster of one node; killed when dropped, and its node with it.
struct Dev(Child);

impl Dev {
    fn command(folder: &Path, port: u16) -> Command {
        let mut command = Command::new(binary());
        command.args(["dev", "--nodes", "1", "--base-port", &port.to_string(), "--data-dir", folder.to_str().unwrap()]);
        command
    }

    /// Starts it and waits until it serves.
    fn start(folder: &Path, port: u16) -> Self {
        let mut child = Self::command(folder, port).stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("it was piped")).lines();
        let dev = Self(child);
        let said = lines.map_while(Result::ok).find(|line| line.contains("serves"));
        assert!(said.is_some_and(|line| line.starts_with("1 node serves localhost:")));
        dev
    }

    fn is_refused(folder: &Path, port: u16, parts: [&str; 2]) {
        let output = Self::command(folder, port).output().expect("it starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        assert!(output.stdout.is_empty(), "nothing is served");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let stopped = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        assert!(stopped.expect("kill is there").success() && self.0.wait().expect("it is our child").success());
    }
}

/// A port for a development cluster of one node, which takes three more behind it.
fn base_port() -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let ports = std::iter::repeat_with(|| free_ports(1)[0]);
    let mut with_all = ports.take(1000).filter(|port| [199, 299, 399].into_iter().all(|behind| free(port + behind)));
    with_all.next().expect("there are free ports")
}

#[test]
fn a_second_development_cluster_in_the_place_of_the_first_is_refused() {
    let folders = tempfile::tempdir().expect("a folder");
    let (first, second) = (folders.path().join("first"), folders.path().join("second"));
    let port = base_port();
    let _dev = Dev::start(&first, port);
    Dev::is_refused(&second, port, [&format!("127.0.0.1:{port}"), "--base-port"]);
    Dev::is_refused(&first, base_port(), [first.to_str().unwrap(), "in use"]);
}
