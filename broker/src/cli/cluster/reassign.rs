//! `chronik cluster reassign`: moves of replicas by hand, in the format of Kafka's tool.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::connect::{Connected, ordered};
use super::drain::bytes_text;
use super::{Named, report};
use crate::admin::proto::{
    ListReassignmentsRequest, ReassignPartitionsRequest, Reassignment, SetThrottleRequest, Target,
};
use crate::cli::Failure;
use crate::cli::output::{Done, Output, list};

#[derive(Debug, Args)]
pub(super) struct ReassignArgs {
    #[command(subcommand)]
    command: Option<ReassignCommand>,
}

#[derive(Debug, Subcommand)]
enum ReassignCommand {
    /// Show the moves under way
    List,
    /// Begin the moves of a plan
    Start(StartArgs),
    /// Go back to the replicas before the move
    Cancel(CancelArgs),
    /// Bound what each node may send to replicas that are being added
    Throttle(ThrottleArgs),
}

#[derive(Debug, Args)]
struct StartArgs {
    /// The plan, as kafka-reassign-partitions reads it: {"partitions":[{"topic":"t","partition":0,"replicas":[1,2]}]}
    #[arg(value_name = "FILE")]
    plan: PathBuf,
    /// Only check the plan
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct CancelArgs {
    /// Which: topics or partitions; all moves under way when none is named
    #[arg(value_name = "TOPIC[:PARTITION]")]
    partitions: Vec<Named>,
}

#[derive(Debug, Args)]
struct ThrottleArgs {
    /// Bytes a second, or `none`
    #[arg(value_name = "BYTES", value_parser = parse_rate)]
    rate: Rate,
}

/// A bound, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rate(Option<u64>);

fn parse_rate(text: &str) -> Result<Rate, String> {
    match text {
        "none" => Ok(Rate(None)),
        _ => match text.parse() {
            Ok(rate) if rate > 0 => Ok(Rate(Some(rate))),
            _ => Err("not a number of bytes above 0, or none".to_owned()),
        },
    }
}

pub(super) async fn run(args: ReassignArgs, connected: &Connected, out: Output) -> Result<(), Failure> {
    match args.command.unwrap_or(ReassignCommand::List) {
        ReassignCommand::List => show(connected, out).await,
        ReassignCommand::Start(args) => {
            let targets = read_plan(&args.plan)?;
            let done = if args.dry_run { "valid" } else { "begun" };
            let request = ReassignPartitionsRequest { targets, validate_only: args.dry_run, ..Default::default() };
            let answer = ordered(connected.client.clone().reassign_partitions(request)).await?;
            report(out, &answer.results, done)
        }
        ReassignCommand::Cancel(args) => cancel(&args.partitions, connected, out).await,
        ReassignCommand::Throttle(ThrottleArgs { rate: Rate(bytes_per_second) }) => {
            let request = SetThrottleRequest { bytes_per_second, ..Default::default() };
            ordered(connected.client.clone().set_throttle(request)).await?;
            let rate = bytes_per_second.map_or_else(|| "none".to_owned(), |rate| format!("{}/s", bytes_text(rate)));
            out.done(&[Done::new("changed", "throttle", rate)])
        }
    }
}

/// A move as it is shown.
#[derive(Serialize)]
pub(super) struct Move {
    topic: String,
    partition: i32,
    replicas: Vec<i32>,
    adding: Vec<i32>,
    removing: Vec<i32>,
    bytes_left: Option<u64>,
}

impl From<Reassignment> for Move {
    fn from(it: Reassignment) -> Self {
        Self {
            topic: it.topic,
            partition: it.partition,
            replicas: it.replicas,
            adding: it.adding,
            removing: it.removing,
            bytes_left: it.bytes_left,
        }
    }
}

/// The moves under way.
pub(super) async fn under_way(connected: &Connected) -> Result<Vec<Reassignment>, Failure> {
    let answer = connected.client.clone().list_reassignments(ListReassignmentsRequest::default()).await?;
    Ok(answer.into_inner().reassignments)
}

impl Move {
    /// What its columns are called.
    pub(super) const HEADINGS: [&str; 6] = ["TOPIC", "PARTITION", "REPLICAS", "ADDING", "REMOVING", "LEFT"];

    /// A row of a table.
    pub(super) fn cells(&self) -> Vec<String> {
        vec![
            self.topic.clone(),
            self.partition.to_string(),
            list(&self.replicas),
            list(&self.adding),
            list(&self.removing),
            self.bytes_left.map_or_else(|| "?".to_owned(), bytes_text),
        ]
    }
}

async fn show(connected: &Connected, out: Output) -> Result<(), Failure> {
    let rows: Vec<Move> = under_way(connected).await?.into_iter().map(Move::from).collect();
    out.rows(&Move::HEADINGS, &rows, Move::cells)
}

async fn cancel(named: &[Named], connected: &Connected, out: Output) -> Result<(), Failure> {
    let all = under_way(connected).await?;
    if let Some(unmoved) = named.iter().find(|named| !all.iter().any(|it| named.names(it))) {
        return Err(Failure::Failed(format!("{unmoved} is not being reassigned; see: chronik cluster reassign")));
    }
    let targets = all.into_iter().filter(|it| chosen(named, it)).map(|it| Target {
        topic: it.topic,
        partition: it.partition,
        ..Default::default()
    });
    let request = ReassignPartitionsRequest { targets: targets.collect(), ..Default::default() };
    let answer = ordered(connected.client.clone().reassign_partitions(request)).await?;
    report(out, &answer.results, "cancelled")
}

fn chosen(named: &[Named], it: &Reassignment) -> bool {
    named.is_empty() || named.iter().any(|named| named.names(it))
}

impl Named {
    fn names(&self, it: &Reassignment) -> bool {
        self.topic == it.topic && self.partition.is_none_or(|number| number == it.partition)
    }
}

/// A plan as Kafka's tool writes and reads it; fields that Chronik has no use for are passed over.
#[derive(Deserialize)]
struct Plan {
    partitions: Vec<PlannedPartition>,
}

#[derive(Deserialize)]
struct PlannedPartition {
    topic: String,
    partition: i32,
    replicas: Vec<i32>,
}

fn read_plan(path: &Path) -> Result<Vec<Target>, Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::Usage(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|why| wrong(&why))?;
    targets(&text).map_err(|why| wrong(&why))
}

fn targets(plan: &str) -> Result<Vec<Target>, String> {
    let plan: Plan = serde_json::from_str(plan).map_err(|why| why.to_string())?;
    let mut named = BTreeSet::new();
    let target = |planned: PlannedPartition| {
        let PlannedPartition { topic, partition, replicas } = planned;
        if replicas.is_empty() {
            return Err(format!(
                "{topic}:{partition} has no replicas (to cancel a move: chronik cluster reassign cancel)"
            ));
        }
        if !named.insert((topic.clone(), partition)) {
            return Err(format!("{topic}:{partition} is named twice"));
        }
        Ok(Target { topic, partition, replicas, ..Default::default() })
    };
    plan.partitions.into_iter().map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_kafkas_tool_writes_it() {
        let plan =
            r#"{"version":1,"partitions":[{"topic":"t","partition":1,"replicas":[2,0],"log_dirs":["any","any"]}]}"#;
        let expected = Target { topic: "t".to_owned(), partition: 1, replicas: vec![2, 0], ..Default::default() };
        assert_eq!(targets(plan), Ok(vec![expected]));
        assert!(targets(r#"{"partitions":[{"topic":"t","partition":1,"replicas":[]}]}"#).is_err());
        assert!(targets("{}").is_err());
        let twice =
            r#"{"partitions":[{"topic":"t","partition":1,"replicas":[0]},{"topic":"t","partition":1,"replicas":[1]}]}"#;
        assert_eq!(targets(twice), Err("t:1 is named twice".to_owned()));
    }

    #[test]
    fn what_is_named_is_cancelled_and_all_where_nothing_is() {
        let it = Reassignment { topic: "t".to_owned(), partition: 1, ..Default::default() };
        let named = |text: &str| vec![text.parse::<Named>().expect("a name")];
        assert!(chosen(&[], &it) && chosen(&named("t"), &it) && chosen(&named("t:1"), &it));
        assert!(!chosen(&named("t:0"), &it) && !chosen(&named("other"), &it));
    }

    #[test]
    fn rates() {
        assert_eq!(parse_rate("none"), Ok(Rate(None)));
        assert_eq!(parse_rate("5"), Ok(Rate(Some(5))));
        assert!(parse_rate("0").is_err() && parse_rate("fast").is_err());
    }
}
