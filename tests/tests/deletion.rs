//! Topics that are deleted while they are written: the node goes on, and so do the other topics' clients.

use chronik_tests::Node;

const TOPICS: usize = 20;

#[test]
fn topics_are_deleted_while_they_are_written() {
    let mut node = Node::start_default();
    node.feed(&["produce", "other"], b"before\n").ok();
    let lines = (1..=300).map(|line| line.to_string()).collect::<Vec<_>>().join("\n");
    std::thread::scope(|scope| {
        for topic in (0..TOPICS).map(|number| format!("t{number}")) {
            node.run(&["topic", "create", &topic, "--partitions", "20"]).ok();
            let (node, lines, name) = (&node, &lines, topic.clone());
            // It may lose: then the topic is gone, or made again by it.
            scope.spawn(move || node.feed(&["produce", &name], lines.as_bytes()));
            node.run(&["topic", "delete", &topic]).ok();
        }
    });
    node.feed(&["produce", "other"], b"after\n").ok();
    let other = node.run(&["consume", "other", "--from-beginning", "--exit-at-end"]).ok();
    assert_eq!(other, "before\nafter\n");
    assert!(node.stop().success());
    node.start();
    let other = node.run(&["consume", "other", "--from-beginning", "--exit-at-end"]).ok();
    assert_eq!(other, "before\nafter\n");
}
