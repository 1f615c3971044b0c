//! `chronik cluster status`: what any Kafka client may know of a cluster, over `--bootstrap`.

use serde::Serialize;

use crate::cli::output::{counted, table};
use crate::cli::{Failure, Shared};
use crate::client::{TopicMetadata, admin};

#[derive(Serialize)]
struct Status {
    cluster_id: String,
    controller: i32,
    topics: usize,
    partitions: usize,
    under_replicated_partitions: usize,
    offline_partitions: usize,
    nodes: Vec<NodeStatus>,
}

#[derive(Serialize)]
struct NodeStatus {
    node: i32,
    address: String,
    rack: Option<String>,
    fenced: bool,
    leaders: usize,
    replicas: usize,
}

pub(super) async fn show(shared: &Shared) -> Result<(), Failure> {
    let client = shared.connect().await?;
    let cluster = admin::describe_cluster(&client).await?;
    let topics = client.topics().await?;
    let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
    let node = |broker: &kafka_wire::describe_cluster_response::DescribeClusterBroker| NodeStatus {
        node: broker.broker_id,
        address: format!("{}:{}", broker.host, broker.port),
        rack: broker.rack.as_ref().map(ToString::to_string),
        fenced: broker.is_fenced,
        leaders: partitions().filter(|partition| partition.leader == Some(broker.broker_id)).count(),
        replicas: partitions().filter(|partition| partition.replicas.contains(&broker.broker_id)).count(),
    };
    let status = Status {
        cluster_id: cluster.cluster_id.to_string(),
        controller: cluster.controller_id,
        topics: topics.len(),
        partitions: partitions().count(),
        under_replicated_partitions: partitions().filter(|p| p.isr.len() < p.replicas.len()).count(),
        offline_partitions: offline(&topics),
        nodes: cluster.brokers.iter().map(node).collect(),
    };
    shared.open().document(&status, people)
}

fn offline(topics: &[TopicMetadata]) -> usize {
    topics.iter().flat_map(|topic| &topic.partitions).filter(|partition| partition.leader.is_none()).count()
}

fn people(status: &Status) -> String {
    let rows = status.nodes.iter().map(|node| {
        vec![
            node.node.to_string(),
            node.address.clone(),
            node.rack.clone().unwrap_or_else(|| "-".to_owned()),
            if node.fenced { "fenced" } else { "active" }.to_owned(),
            if node.node == status.controller { "controller" } else { "" }.to_owned(),
            node.leaders.to_string(),
            node.replicas.to_string(),
        ]
    });
    format!(
        "cluster {}: {}, {}, {} ({} under-replicated, {} offline)\n\n{}",
        status.cluster_id,
        counted(status.nodes.len() as u64, "node"),
        counted(status.topics as u64, "topic"),
        counted(status.partitions as u64, "partition"),
        status.under_replicated_partitions,
        status.offline_partitions,
        table(&["NODE", "ADDRESS", "RACK", "STATE", "ROLE", "LEADERS", "REPLICAS"], rows)
    )
}
