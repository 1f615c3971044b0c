//! `chronik cluster elect`.

use clap::Args;

use super::connect::{Connected, ordered};
use super::{Named, report};
use crate::admin::proto::{ElectLeadersRequest, ElectionKind, Partition};
use crate::cli::Failure;
use crate::cli::output::Output;

#[derive(Debug, Args)]
pub(super) struct ElectArgs {
    /// Partitions; all that need it when none is named
    #[arg(value_name = "TOPIC:PARTITION")]
    partitions: Vec<Named>,
    /// Where no replica in sync is alive, elect any that is: acknowledged records may be lost
    #[arg(long, requires = "partitions")]
    unclean: bool,
}

pub(super) async fn run(args: &ElectArgs, connected: &Connected, out: Output) -> Result<(), Failure> {
    let partition = |named: &Named| match named.partition {
        Some(partition) => Ok(Partition { topic: named.topic.clone(), partition }),
        None => Err(Failure::Usage(format!("{}: name the partition: {}:0", named.topic, named.topic))),
    };
    let partitions = args.partitions.iter().map(partition).collect::<Result<Vec<_>, _>>()?;
    let kind = if args.unclean { ElectionKind::Unclean } else { ElectionKind::Preferred };
    let request = ElectLeadersRequest { kind: kind.into(), partitions, ..Default::default() };
    let answer = ordered(connected.client.clone().elect_leaders(request)).await?;
    report(out, &answer.results, "elected")
}
