//! `chronik cluster …`: administration over the gRPC port of any node.

mod connect;
mod drain;
mod elect;
mod nodes;
mod reassign;
mod status;
mod voters;

use clap::{Args, Subcommand};

use super::output::Output;
use super::{Failure, Shared};
use crate::admin::proto::PartitionResult;
use connect::AdminAddress;
pub(super) use connect::DEFAULT_ADMIN;

#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    #[command(flatten)]
    admin: AdminAddress,
    #[command(subcommand)]
    command: ClusterCommand,
}

impl ClusterArgs {
    /// Where the admin service is.
    pub(super) fn admin(&self) -> &str {
        self.admin.addresses()
    }
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Nodes, the metadata's Raft group, partitions that need attention, and what is under way
    Status,
    /// List the nodes
    Nodes,
    /// Move all replicas away from a node, and keep new ones away
    Drain(drain::DrainArgs),
    /// End a drain: what has moved stays where it is
    Undrain(nodes::NodeArgs),
    /// Give new or empty nodes their share of replicas and leaders; nothing else moves
    Fill(nodes::FillArgs),
    /// Take a stopped node without replicas out of the cluster
    Remove(nodes::NodeArgs),
    /// Tell whether a node can stop now: nothing becomes unavailable but what has no other replica to spare, which is
    /// named; exit code 1 when it can't
    CanStop(nodes::NodeArgs),
    /// Show the moves of replicas under way, or begin, cancel and throttle them
    Reassign(reassign::ReassignArgs),
    /// Give partitions back to their preferred leaders, or elect leaders at any price
    Elect(elect::ElectArgs),
    /// Show the Raft group of the metadata, or change who votes and leads
    Voters(voters::VotersArgs),
}

pub(super) async fn run(args: ClusterArgs, shared: &Shared) -> Result<(), Failure> {
    let connected = args.admin.connect().await?;
    let out = shared.open();
    match args.command {
        ClusterCommand::Status => status::show(&connected, out).await,
        ClusterCommand::Nodes => nodes::list(&connected, out).await,
        ClusterCommand::Drain(args) => drain::run(&args, &connected, out).await,
        ClusterCommand::Undrain(args) => nodes::undrain(args, &connected, out).await,
        ClusterCommand::Fill(args) => nodes::fill(args, &connected, out).await,
        ClusterCommand::Remove(args) => nodes::remove(args, &connected, out).await,
        ClusterCommand::CanStop(args) => nodes::can_stop(args, &connected, out).await,
        ClusterCommand::Reassign(args) => reassign::run(args, &connected, out).await,
        ClusterCommand::Elect(args) => elect::run(&args, &connected, out).await,
        ClusterCommand::Voters(args) => voters::run(args, &connected, out).await,
    }
}

/// A partition as people name it: `TOPIC`, or `TOPIC:PARTITION`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    topic: String,
    partition: Option<i32>,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.partition {
            None => f.write_str(&self.topic),
            Some(partition) => write!(f, "{}:{partition}", self.topic),
        }
    }
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (topic, partition) = match text.rsplit_once(':') {
            None => (text, None),
            Some((topic, number)) => {
                let partition = number.parse::<i32>().ok().filter(|number| *number >= 0);
                (topic, Some(partition.ok_or("not TOPIC or TOPIC:PARTITION")?))
            }
        };
        if topic.is_empty() {
            return Err("not TOPIC or TOPIC:PARTITION".to_owned());
        }
        Ok(Self { topic: topic.to_owned(), partition })
    }
}

/// Prints what became of each partition; a failure where one of them was refused.
fn report(out: Output, results: &[PartitionResult], done: &str) -> Result<(), Failure> {
    #[derive(serde::Serialize)]
    struct Row<'a> {
        topic: &'a str,
        partition: i32,
        error: Option<&'a str>,
    }
    let rows = results.iter().map(|result| Row {
        topic: &result.topic,
        partition: result.partition,
        error: (!result.error.is_empty()).then_some(result.error.as_str()),
    });
    let rows: Vec<Row<'_>> = rows.collect();
    out.rows(&["TOPIC", "PARTITION", "RESULT"], &rows, |row| {
        vec![row.topic.to_owned(), row.partition.to_string(), row.error.unwrap_or(done).to_owned()]
    })?;
    let refused = rows.iter().filter(|row| row.error.is_some()).count();
    if refused > 0 {
        return Err(Failure::Failed(format!("{refused} of {} partitions were refused", rows.len())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_named_by_its_topic_and_number() {
        let named = |topic: &str, partition| Ok(Named { topic: topic.to_owned(), partition });
        assert_eq!("t".parse(), named("t", None));
        assert_eq!("a.b-c:12".parse(), named("a.b-c", Some(12)));
        for wrong in ["", ":1", "t:", "t:x", "t:-1"] {
            assert!(wrong.parse::<Named>().is_err(), "{wrong}");
        }
    }
}
