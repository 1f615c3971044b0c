//! librdkafka's clients, set up for tests.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::StreamConsumer;
use rdkafka::message::Message;
use rdkafka::producer::FutureProducer;

use crate::{Cluster, Node};

/// What a test waits for at most.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// What clients connect to.
pub trait Servers {
    /// Where: `HOST:PORT,…`.
    fn addresses(&self) -> String;
}

impl Servers for Node {
    fn addresses(&self) -> String {
        self.bootstrap()
    }
}

impl Servers for Cluster {
    fn addresses(&self) -> String {
        self.bootstrap()
    }
}

fn config(servers: &impl Servers) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers.addresses()).set("broker.address.family", "v4");
    config
}

/// A producer with acks=all and idempotence that never gives up, and these settings.
///
/// # Panics
/// When a setting is wrong.
pub fn producer(servers: &impl Servers, settings: &[(&str, &str)]) -> FutureProducer {
    let mut config = config(servers);
    config.set("enable.idempotence", "true").set("message.timeout.ms", "0").set("reconnect.backoff.max.ms", "200");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create().expect("the settings are right")
}

/// A consumer in a group, from the earliest offset.
///
/// # Panics
/// When a setting is wrong.
pub fn consumer(servers: &impl Servers, group: &str) -> StreamConsumer {
    let mut config = config(servers);
    config.set("group.id", group).set("auto.offset.reset", "earliest").set("session.timeout.ms", "6000");
    config.set("enable.auto.commit", "false");
    config.create().expect("the settings are right")
}

/// An administrator.
///
/// # Panics
/// When a setting is wrong.
pub fn admin(servers: &impl Servers) -> AdminClient<DefaultClientContext> {
    config(servers).create().expect("the settings are right")
}

/// Creates a topic.
///
/// # Panics
/// When it is refused.
pub async fn create_topic(servers: &impl Servers, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    create_replicated(servers, name, partitions, 1, configs).await;
}

/// Creates a topic with so many replicas of each partition.
///
/// # Panics
/// When it is refused.
pub async fn create_replicated(
    servers: &impl Servers,
    name: &str,
    partitions: i32,
    replicas: i32,
    configs: &[(&str, &str)],
) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
    for (name, value) in configs {
        topic = topic.set(name, value);
    }
    let created = admin(servers).create_topics([&topic], &AdminOptions::new()).await.expect("an answer");
    for topic in created {
        topic.expect("the topic is created");
    }
}

/// Receives so many records: partition, offset and value of each.
///
/// # Panics
/// When they don't come in time.
pub async fn receive(consumer: &StreamConsumer, count: usize) -> Vec<(i32, i64, String)> {
    let mut received = Vec::with_capacity(count);
    while received.len() < count {
        let message = tokio::time::timeout(PATIENCE, consumer.recv()).await;
        let message = message.unwrap_or_else(|_| panic!("{} of {count} came", received.len()));
        let message = message.expect("no fatal error");
        let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
        received.push((message.partition(), message.offset(), value));
    }
    received
}
