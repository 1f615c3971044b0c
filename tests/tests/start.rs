//! Starting and stopping: what is refused and how, what survives, what HTTP tells.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use chronik_tests::process::ANY_PORTS;
use chronik_tests::wire::{Wire, blob, frame, string};
use chronik_tests::{Finished, Node, NodeBuilder, chronik};

fn start_in(data_dir: &Path, more: &[&str]) -> Finished {
    let data_dir = data_dir.to_str().unwrap();
    let base = [&["start", "--data-dir", data_dir], &ANY_PORTS[..]].concat();
    chronik(&[&base, more].concat(), b"")
}

/// Exit code 2, and one line that names it.
fn assert_refused(refused: &Finished, names: &str) {
    assert_eq!(refused.code, 2, "{refused:?}");
    let told: Vec<&str> = refused.err.lines().filter(|line| line.starts_with("chronik: ")).collect();
    assert!(told.len() == 1 && told[0].contains(names), "{names}: {refused:?}");
}

#[test]
fn wrong_settings_are_refused_by_name() {
    let folder = tempfile::TempDir::new().unwrap();
    assert_refused(&start_in(folder.path(), &["--set", "log.retention.mss=1"]), "log.retention.mss");
    assert_refused(&start_in(folder.path(), &["--set", "num.partitions=many"]), "num.partitions");
    assert_refused(&start_in(folder.path(), &["--node-id", "-1"]), "node_id");
    assert_refused(&start_in(folder.path(), &["--config", "/nowhere/chronik.yaml"]), "/nowhere/chronik.yaml");
    assert_refused(&start_in(folder.path(), &["--log", "a=loud"]), "a=loud");
    assert!(!folder.path().join("node.json").exists(), "nothing is written before the settings are right");
}

#[test]
fn contradictory_settings_are_refused_and_both_are_named() {
    let folder = tempfile::TempDir::new().unwrap();
    for (other, name) in
        [("log.dirs=/elsewhere", "data_dir="), ("listeners=PLAINTEXT://127.0.0.1:1", "kafka_addr=127.0.0.1:0")]
    {
        let refused = start_in(folder.path(), &["--set", other]);
        assert_refused(&refused, other);
        assert_refused(&refused, name);
    }
    let advertised = ["--advertised-addr", "a:1", "--set", "advertised.listeners=PLAINTEXT://b:1"];
    assert_refused(&start_in(folder.path(), &advertised), "advertised.listeners=PLAINTEXT://b:1");
    assert!(!folder.path().join("node.json").exists(), "nothing is written before the settings are right");
}

#[test]
fn a_yaml_file_is_read() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("chronik.yaml");
    std::fs::write(&file, "num.partitions: 0\n").unwrap();
    assert_refused(&start_in(folder.path(), &["--config", file.to_str().unwrap()]), "num.partitions");
}

#[test]
fn a_folder_in_use_or_of_a_newer_version_is_refused() {
    let mut node = Node::start_default();
    let folder = node.data_dir().to_owned();
    assert_refused(&start_in(&folder, &[]), "in use");
    node.stop();
    let identity = folder.join("node.json");
    let text = std::fs::read_to_string(&identity).unwrap();
    let mut newer: serde_json::Value = serde_json::from_str(&text).unwrap();
    newer["format_version"] = 1_000.into();
    std::fs::write(&identity, newer.to_string()).unwrap();
    assert_refused(&start_in(&folder, &[]), "newer version");
    std::fs::write(&identity, text).unwrap();
    assert_refused(&start_in(&folder, &["--node-id", "7"]), "node 0");
}

/// A supervisor starts the next process when it has told the last one to stop.
#[test]
fn a_start_waits_for_the_folder_of_a_process_that_is_ending() {
    let mut node = Node::start_default();
    node.signal("TERM");
    let mut next = NodeBuilder::default().data_dir(node.data_dir()).start();
    assert!(node.stop().success(), "it has ended in order");
    assert!(next.stop().success());
}

#[test]
fn a_port_in_use_is_refused_by_its_setting() {
    let node = Node::start_default();
    let folder = tempfile::TempDir::new().unwrap();
    let taken = node.bootstrap();
    let data = folder.path().join("data");
    for setting in ["kafka_addr", "http_addr", "grpc_addr", "wal_receiver_addr"] {
        let refused = start_in(&data, &["--set", &format!("{setting}={taken}")]);
        assert_refused(&refused, &taken);
        assert_refused(&refused, setting);
        assert!(!data.exists(), "{setting}: no folder is left that nobody uses");
    }
}

#[test]
fn topics_settings_records_and_offsets_survive_a_clean_and_an_unclean_stop() {
    let mut node = Node::start_default();
    node.run(&["topic", "create", "kept", "--partitions", "3", "--config", "retention.ms=9000000"]).ok();
    let mut expected = String::new();
    for round in 0..3 {
        let lines = format!("{round}a\n{round}b\n");
        node.feed(&["produce", "kept"], lines.as_bytes()).ok();
        expected += &lines;
        let consume = ["consume", "kept", "--group", "keeper", "--from-beginning", "--max-messages", "2"];
        assert_eq!(node.run(&consume).ok().lines().count(), 2);
        if round % 2 == 0 {
            assert!(node.stop().success());
            assert!(node.data_dir().join("clean-shutdown").exists());
        } else {
            node.kill();
            assert!(!node.data_dir().join("clean-shutdown").exists());
        }
        node.start();
        let described = node.run(&["topic", "describe", "kept", "--output", "json"]).json();
        assert_eq!(described["settings"][0]["value"], "9000000");
        let all = node.run(&["consume", "kept", "--from-beginning", "--exit-at-end"]).ok();
        let mut lines: Vec<&str> = all.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, expected.lines().collect::<Vec<_>>());
        let group = node.run(&["group", "describe", "keeper", "--output", "json"]).json();
        let offsets = group["offsets"].as_array().unwrap();
        let committed: i64 = offsets.iter().map(|position| position["offset"].as_i64().unwrap()).sum();
        assert_eq!(committed, 2 * (round + 1));
    }
}

/// A member that waits for others is told where it stands, instead of keeping the node from stopping.
#[test]
fn a_stop_answers_members_that_wait_for_others() {
    const JOIN_GROUP: i16 = 11;
    const DESCRIBE_GROUPS: i16 = 15;
    let patient = [("group.initial.rebalance.delay.ms", "600000"), ("offsets.topic.num.partitions", "1")];
    let mut node =
        patient.into_iter().fold(NodeBuilder::default(), |node, (name, value)| node.set(name, value)).start();
    let (mut member, mut observer) = (Wire::connect(&node), Wire::connect(&node));
    observer.ask(10, 0, &string("g"));
    let protocol = [&1_i32.to_be_bytes()[..], &string("range"), &blob(b"")].concat();
    let join = [string("g"), 10_000_i32.to_be_bytes().to_vec(), string(""), string("consumer"), protocol].concat();
    let group = [&1_i32.to_be_bytes()[..], &string("g")].concat();
    let mut described = observer.ask(DESCRIBE_GROUPS, 0, &group);
    while described[4..6] != [0, 0] {
        described = observer.ask(DESCRIBE_GROUPS, 0, &group);
    }
    member.send(&frame(JOIN_GROUP, 0, &join));
    while !String::from_utf8_lossy(&described).contains("PreparingRebalance") {
        described = observer.ask(DESCRIBE_GROUPS, 0, &group);
    }
    assert!(node.stop().success());
    assert_eq!(member.receive()[..2], 16_i16.to_be_bytes(), "NOT_COORDINATOR");
}

#[test]
fn half_a_http_request_keeps_no_node_from_stopping() {
    let mut node = Node::start_default();
    let mut stalled = node.connect_http();
    stalled.write_all(b"GET /livez HTT").expect("it is taken");
    // A later request is answered: the half one has been read by then.
    assert_eq!(node.http("GET", "/livez", "").0, 200);
    assert!(node.stop().success());
}

#[test]
fn http_tells_life_readiness_metrics_and_the_log_level() {
    let node = Node::start_default();
    assert_eq!(node.http("GET", "/livez", ""), (200, "alive\n".to_owned()));
    assert_eq!(node.http("GET", "/readyz", ""), (200, "ready\n".to_owned()));
    assert_eq!(node.http("GET", "/nothing", "").0, 404);
    assert_eq!(node.http("PUT", "/log-level", "debug"), (200, "debug\n".to_owned()));
    assert_eq!(node.http("PUT", "/log-level", "a=loud").0, 400);
    assert_eq!(node.http("GET", "/log-level", "").1, "debug\n");
}

/// One connection more than the node takes from one address.
fn turn_one_connection_away(node: &Node) {
    let mut connections: Vec<TcpStream> =
        (0..11).map(|_| TcpStream::connect(node.bootstrap()).expect("the port is open")).collect();
    let last = connections.last_mut().expect("there are eleven");
    assert_eq!(last.read(&mut [0]).expect("it is closed in order"), 0);
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_is_there() {
    let few = [("offsets.topic.num.partitions", "2"), ("max.connections.per.ip", "10")];
    let node = few.into_iter().fold(NodeBuilder::default(), |node, (name, value)| node.set(name, value)).start();
    node.feed(&["produce", "measured"], b"a\nb\n").ok();
    node.run(&["consume", "measured", "--group", "g", "--from-beginning", "--max-messages", "1"]).ok();
    turn_one_connection_away(&node);
    let (status, text) = node.http("GET", "/metrics", "");
    assert_eq!(status, 200);
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut shown: Vec<(&str, &str)> = types.filter_map(|line| line.split_once(' ')).collect();
    let page = include_str!("../../docs/reference/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    // A node by itself has no links: a test of clusters looks at those.
    let rows = rows.filter(|row| !row.starts_with("chronik_replication_"));
    let mut documented: Vec<(&str, &str)> = rows
        .filter_map(|row| {
            let (name, rest) = row.split_once('`')?;
            Some((name, rest.split('|').nth(1)?.trim()))
        })
        .collect();
    shown.sort_unstable();
    documented.sort_unstable();
    assert_eq!(shown, documented);
    assert!(
        text.contains("kafka_consumergroup_lag{consumergroup=\"g\",topic=\"measured\",partition=\"0\"} 1"),
        "{text}"
    );
    assert!(text.contains("kafka_topic_partition_current_offset{topic=\"measured\",partition=\"0\"} 2"), "{text}");
    assert!(text.ends_with("# EOF\n"));
}
