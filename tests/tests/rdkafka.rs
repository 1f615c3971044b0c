//! librdkafka as the client: producing, groups, administration.

use std::collections::BTreeSet;
use std::time::Duration;

use chronik_tests::clients::{PATIENCE, admin, consumer, create_topic, producer, receive};
use chronik_tests::{Node, NodeBuilder};
use rdkafka::admin::{AdminOptions, NewPartitions, ResourceSpecifier};
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::producer::FutureRecord;

fn quick_groups() -> Node {
    NodeBuilder::default().set("group.initial.rebalance.delay.ms", "0").start()
}

async fn send(node: &Node, topic: &str, codec: &str, count: usize) {
    let producer = producer(node, &[("compression.type", codec), ("linger.ms", "5")]);
    let sends = (0..count).map(|n| {
        let producer = producer.clone();
        let (topic, key, value) = (topic.to_owned(), (n % 10).to_string(), format!("value {n}"));
        async move { producer.send(FutureRecord::to(&topic).key(&key).payload(&value), PATIENCE).await }
    });
    for sent in futures::future::join_all(sends).await {
        sent.expect("it is acknowledged");
    }
}

#[tokio::test]
async fn each_compression_is_stored_and_read_back() {
    let node = quick_groups();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("packed-{codec}");
        create_topic(&node, &topic, 2, &[]).await;
        send(&node, &topic, codec, 500).await;
        let consumer = consumer(&node, &format!("group-{codec}"));
        consumer.subscribe(&[&topic]).unwrap();
        let values: BTreeSet<String> = receive(&consumer, 500).await.into_iter().map(|(_, _, value)| value).collect();
        assert_eq!(values, (0..500).map(|n| format!("value {n}")).collect());
    }
}

#[tokio::test]
async fn a_group_shares_partitions_and_hands_them_over() {
    let node = quick_groups();
    create_topic(&node, "shared", 4, &[]).await;
    let (first, second) = (consumer(&node, "team"), consumer(&node, "team"));
    first.subscribe(&["shared"]).unwrap();
    second.subscribe(&["shared"]).unwrap();
    until_assigned(&[&first, &second], 2).await;
    send(&node, "shared", "none", 200).await;
    let (a, b) = tokio::join!(count_until_idle(&first), count_until_idle(&second));
    assert_eq!(a + b, 200);
    first.commit_consumer_state(CommitMode::Sync).unwrap();
    second.commit_consumer_state(CommitMode::Sync).unwrap();
    drop(first);
    until_assigned(&[&second], 4).await;
    send(&node, "shared", "none", 100).await;
    let rest = receive(&second, 100).await;
    let partitions: BTreeSet<i32> = rest.iter().map(|(partition, _, _)| *partition).collect();
    assert!(partitions.len() > 2, "the one that is left has all partitions");
}

/// Waits until each member has so many partitions; no records must be there yet.
async fn until_assigned(members: &[&StreamConsumer], count: usize) {
    let assigned = async {
        while members.iter().any(|member| member.assignment().map_or(0, |it| it.count()) != count) {
            // Polling drives the rebalance.
            let polls = members.iter().map(|member| Box::pin(member.recv()));
            let poll = futures::future::select_all(polls);
            if let Ok((received, _, _)) = tokio::time::timeout(Duration::from_millis(50), poll).await {
                received.expect("no fatal error");
            }
        }
    };
    tokio::time::timeout(PATIENCE, assigned).await.expect("the partitions are assigned");
}

/// Counts records until none comes for a second.
async fn count_until_idle(consumer: &StreamConsumer) -> usize {
    let mut count = 0;
    while tokio::time::timeout(Duration::from_secs(1), consumer.recv()).await.is_ok() {
        count += 1;
    }
    count
}

#[tokio::test]
async fn administration() {
    let node = quick_groups();
    create_topic(&node, "managed", 1, &[("cleanup.policy", "compact")]).await;
    let admin = admin(&node);
    let options = AdminOptions::new();
    let grown = admin.create_partitions([&NewPartitions::new("managed", 3)], &options).await.unwrap();
    assert!(grown[0].is_ok(), "{grown:?}");
    let metadata = admin.inner().fetch_metadata(Some("managed"), PATIENCE).unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 3);
    let configs = admin.describe_configs([&ResourceSpecifier::Topic("managed")], &options).await.unwrap();
    let configs = configs.into_iter().next().unwrap().unwrap();
    assert_eq!(configs.get("cleanup.policy").and_then(|entry| entry.value.clone()).as_deref(), Some("compact"));
    let deleted = admin.delete_topics(&["managed"], &options).await.unwrap();
    assert!(deleted[0].is_ok(), "{deleted:?}");
    let gone = admin.delete_topics(&["managed"], &options).await.unwrap();
    assert!(gone[0].is_err(), "{gone:?}");
}
