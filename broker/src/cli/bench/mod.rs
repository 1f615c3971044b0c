//! `chronik bench produce|consume`: throughput and latency of a running cluster.

mod consume;
mod histogram;
mod produce;

use clap::Subcommand;

use super::{Failure, Shared};

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Send records and measure how long their acknowledgements take
    Produce(produce::BenchProduceArgs),
    /// Read a topic from its beginning and measure how fast it comes
    Consume(consume::BenchConsumeArgs),
}

pub(super) async fn run(command: BenchCommand, shared: &Shared) -> Result<(), Failure> {
    match command {
        BenchCommand::Produce(args) => produce::run(args, shared).await,
        BenchCommand::Consume(args) => consume::run(args, shared).await,
    }
}

/// Something per second.
fn rate(count: u64, elapsed: std::time::Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(1e-9)
}
