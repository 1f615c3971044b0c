//! Topics and partitions, by the names that Kafka's dashboards know: the JMX exporter's for the broker, kafka_exporter's
//! for topics.

use std::fmt;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};

use super::write::{gauge, gauges};
use crate::kafka::Broker;
use crate::metadata::Image;
use crate::stream::{Partition, TopicSettings as _};

/// Reads the metadata image and this node's replicas.
pub(super) struct ClusterCollector(Weak<Broker>);

impl ClusterCollector {
    pub(super) fn new(broker: &Arc<Broker>) -> Self {
        Self(Arc::downgrade(broker))
    }
}

impl fmt::Debug for ClusterCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterCollector")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTopic {
    topic: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPartition {
    topic: String,
    partition: i32,
}

impl Collector for ClusterCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // The broker is gone only while the node stops.
        let Some(broker) = self.0.upgrade() else { return Ok(()) };
        let image = broker.metadata.image();
        encode_controller(&broker, &image, &mut encoder)?;
        encode_replicas(&broker, &image, &mut encoder)?;
        encode_topics(&broker, &image, &mut encoder)
    }
}

/// What the metadata plane's leader tells for the whole cluster.
fn encode_controller(broker: &Broker, image: &Image, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let leads = broker.metadata.leader() == Some(broker.node);
    let partitions = || image.topics().flat_map(|topic| &topic.partitions);
    let offline = partitions().filter(|partition| partition.leader.is_none()).count();
    let figures = [
        ("activecontrollercount", "1 on the node that leads the metadata plane", usize::from(leads)),
        (
            "activebrokercount",
            "Registered nodes that are not fenced",
            image.nodes().filter(|node| !node.fenced).count(),
        ),
        ("fencedbrokercount", "Registered nodes that are fenced", image.nodes().filter(|node| node.fenced).count()),
        ("globaltopiccount", "Topics of the cluster", image.topic_count()),
        ("globalpartitioncount", "Partitions of the cluster", partitions().count()),
        ("offlinepartitionscount", "Partitions without a leader", offline),
    ];
    for (name, help, value) in figures {
        gauge(encoder, (&format!("kafka_controller_kafkacontroller_{name}"), help), value as f64)?;
    }
    Ok(())
}

/// What this node's replicas tell.
fn encode_replicas(broker: &Broker, image: &Image, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let replicas = broker.partitions.all();
    let registration = |replica: &Arc<Partition>| image.partition(&replica.id());
    let led = || replicas.iter().filter(|replica| replica.leading().is_some());
    let short_of_replicas = led().filter_map(registration).filter(|it| it.isr.len() < it.replicas.len()).count();
    let under_minimum = |replica: &&Arc<Partition>| {
        let min_insync = broker.settings.min_insync_replicas(image, replica.topic());
        registration(replica).is_some_and(|it| it.isr.len() < it.minimum_isr(min_insync))
    };
    let figures = [
        ("partitioncount", "Replicas on this node", replicas.len()),
        ("leadercount", "Partitions that this node leads", led().count()),
        ("underreplicatedpartitions", "Partitions led here with replicas out of sync", short_of_replicas),
        (
            "underminisrpartitioncount",
            "Partitions led here that refuse acks=all for min.insync.replicas",
            led().filter(under_minimum).count(),
        ),
    ];
    for (name, help, value) in figures {
        gauge(encoder, (&format!("kafka_server_replicamanager_{name}"), help), value as f64)?;
    }
    Ok(())
}

/// What is in the partitions that this node leads.
fn encode_topics(broker: &Broker, image: &Image, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let counts = image.topics().map(|topic| (ByTopic { topic: topic.name.to_string() }, topic.partitions.len() as f64));
    gauges(encoder, ("kafka_topic_partitions", "Partitions of a topic"), counts)?;
    let replicas = broker.partitions.all();
    let labels =
        |replica: &Arc<Partition>| ByPartition { topic: replica.topic().to_string(), partition: replica.index().get() };
    let led = || replicas.iter().filter(|replica| replica.leading().is_some());
    let newest = led().map(|replica| (labels(replica), replica.offsets().high_watermark.get() as f64));
    gauges(encoder, ("kafka_topic_partition_current_offset", "High watermark of a partition led here"), newest)?;
    let oldest = led().map(|replica| (labels(replica), replica.offsets().log_start.get() as f64));
    gauges(encoder, ("kafka_topic_partition_oldest_offset", "First offset of a partition led here"), oldest)?;
    let sizes = replicas.iter().map(|replica| (labels(replica), replica.log().size_bytes() as f64));
    gauges(encoder, ("kafka_log_log_size", "Bytes of a replica on this node's disk"), sizes)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::kafka::testing::TestBroker;
    use crate::metadata::testing::{ids, node};
    use crate::metadata::{Command, ConfigResource, MetadataPlane, NewTopic, Outcome};

    fn under_minimum(broker: &TestBroker) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ClusterCollector::new(&broker.broker)));
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to memory cannot fail");
        let line =
            text.lines().find_map(|line| line.strip_prefix("kafka_server_replicamanager_underminisrpartitioncount "));
        line.expect("it is told").to_owned()
    }

    #[tokio::test]
    async fn partitions_below_the_minimum_are_those_that_refuse_acks_all() {
        let broker = TestBroker::start();
        let changes = vec![("min.insync.replicas".to_owned(), Some("2".to_owned()))];
        broker.node.command(Command::SetConfigs { resource: ConfigResource::BrokerDefault, changes });
        broker.node.create("single", 1);
        assert_eq!(under_minimum(&broker), "0.0", "one replica is all that it has");
        let register = Command::RegisterNode { node: node(1), acked_may_be_lost: false };
        let Some(Ok(Outcome::Registered(epoch))) = broker.node.plane.propose(register).now_or_never() else {
            panic!("this plane registers a new node at once")
        };
        let id = crate::ids::TopicId::from_bytes([9; 16]).expect("not zero");
        let pair = NewTopic { name: "pair".to_owned(), id, assignment: vec![ids(&[0, 1])], configs: vec![] };
        broker.node.command(Command::CreateTopic(pair));
        assert_eq!(under_minimum(&broker), "0.0");
        broker.node.command(Command::FenceNode { node: ids(&[1])[0], epoch });
        assert_eq!(under_minimum(&broker), "1.0");
    }
}
