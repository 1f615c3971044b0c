//! `chronik cluster nodes|undrain|fill|remove|can-stop`.

use clap::Args;
use serde::Serialize;

use super::connect::{Connected, ordered};
use super::voters::{Group, role_name};
use crate::admin::proto::{
    CancelDrainRequest, DescribeClusterRequest, FillNodesRequest, IsSafeToStopRequest, Node, Partition,
    RemoveNodeRequest,
};
use crate::cli::Failure;
use crate::cli::output::{Done, Output, table};

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct NodeArgs {
    /// The node's id
    #[arg(value_name = "NODE", value_parser = clap::value_parser!(i32).range(0..))]
    node: i32,
}

#[derive(Debug, Args)]
pub(super) struct FillArgs {
    /// The nodes' ids
    #[arg(value_name = "NODE", required = true, value_parser = clap::value_parser!(i32).range(0..))]
    nodes: Vec<i32>,
}

/// A node as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct NodeRow {
    node: i32,
    address: String,
    grpc_address: String,
    rack: Option<String>,
    fenced: bool,
    draining: bool,
    stopping: bool,
    role: &'static str,
    leaders: u32,
    replicas: u32,
    out_of_sync: u32,
    version: String,
}

impl From<Node> for NodeRow {
    fn from(node: Node) -> Self {
        let role = role_name(node.role());
        Self {
            node: node.id,
            address: node.kafka_address,
            grpc_address: node.grpc_address,
            rack: node.rack,
            fenced: node.fenced,
            draining: node.draining,
            stopping: node.stopping,
            role,
            leaders: node.leaders,
            replicas: node.replicas,
            out_of_sync: node.out_of_sync,
            version: node.version,
        }
    }
}

impl NodeRow {
    fn state(&self) -> &'static str {
        match self {
            Self { fenced: true, .. } => "fenced",
            Self { stopping: true, .. } => "stopping",
            Self { draining: true, .. } => "draining",
            _ => "active",
        }
    }
}

pub(super) async fn list(connected: &Connected, out: Output) -> Result<(), Failure> {
    let answer =
        connected.client.clone().describe_cluster(DescribeClusterRequest { latest: false }).await?.into_inner();
    let rows: Vec<NodeRow> = answer.nodes.into_iter().map(NodeRow::from).collect();
    out.document(&rows, |rows| people(rows))?;
    Group::from(answer.raft.unwrap_or_default()).led(connected).await
}

/// The nodes as a table.
pub(super) fn people(nodes: &[NodeRow]) -> String {
    let rows = nodes.iter().map(|node| {
        vec![
            node.node.to_string(),
            node.address.clone(),
            node.rack.clone().unwrap_or_else(|| "-".to_owned()),
            node.state().to_owned(),
            node.role.to_owned(),
            node.leaders.to_string(),
            node.replicas.to_string(),
            node.out_of_sync.to_string(),
            node.version.clone(),
        ]
    });
    table(&["NODE", "ADDRESS", "RACK", "STATE", "METADATA", "LEADERS", "REPLICAS", "OUT OF SYNC", "VERSION"], rows)
}

pub(super) async fn undrain(args: NodeArgs, connected: &Connected, out: Output) -> Result<(), Failure> {
    let request = CancelDrainRequest { node: args.node, ..Default::default() };
    ordered(connected.client.clone().cancel_drain(request)).await?;
    out.done(&[Done::new("undrained", "node", args.node.to_string())])
}

pub(super) async fn fill(args: FillArgs, connected: &Connected, out: Output) -> Result<(), Failure> {
    let request = FillNodesRequest { nodes: args.nodes, ..Default::default() };
    let answer = ordered(connected.client.clone().fill_nodes(request)).await?;
    super::report(out, &answer.results, "begun")
}

pub(super) async fn remove(args: NodeArgs, connected: &Connected, out: Output) -> Result<(), Failure> {
    let request = RemoveNodeRequest { node: args.node, ..Default::default() };
    ordered(connected.client.clone().remove_node(request)).await?;
    out.done(&[Done::new("removed", "node", args.node.to_string())])
}

#[derive(Serialize)]
struct CanStop {
    node: i32,
    safe: bool,
    reasons: Vec<String>,
    blocking: Vec<String>,
    unavoidable: Vec<String>,
    quorum_unavoidable: bool,
}

pub(super) async fn can_stop(args: NodeArgs, connected: &Connected, out: Output) -> Result<(), Failure> {
    let request = IsSafeToStopRequest { node: args.node };
    let answer = ordered(connected.client.clone().is_safe_to_stop(request)).await?;
    let named = |partitions: Vec<Partition>| -> Vec<String> {
        partitions.into_iter().map(|it| format!("{}:{}", it.topic, it.partition)).collect()
    };
    let can_stop = CanStop {
        node: args.node,
        safe: answer.safe,
        reasons: answer.reasons,
        blocking: named(answer.blocking),
        unavoidable: named(answer.unavoidable),
        quorum_unavoidable: answer.quorum_unavoidable,
    };
    out.document(&can_stop, |can_stop| {
        let verdict = if can_stop.safe { "can stop" } else { "can't stop now" };
        let mut lines = vec![format!("node {} {verdict}", can_stop.node)];
        lines.extend(can_stop.reasons.iter().map(|reason| format!("  {reason}")));
        if !can_stop.unavoidable.is_empty() {
            lines.push(format!("  unavailable meanwhile, in any order: {}", can_stop.unavoidable.join(", ")));
        }
        if can_stop.quorum_unavoidable {
            lines.push("  without it the metadata has no quorum: there are too few voters".to_owned());
        }
        lines.join("\n") + "\n"
    })?;
    if can_stop.safe { Ok(()) } else { Err(Failure::Failed(format!("node {} can't stop now", args.node))) }
}
