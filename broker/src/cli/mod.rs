//! The commands: one file each. What they share: the connection flags, output, exit codes.

mod advice;
mod bench;
mod certificate;
mod cluster;
mod completions;
mod consume;
mod dev;
mod dump;
mod environment;
mod exit;
mod format;
mod group;
mod output;
mod produce;
mod progress;
pub mod reference;
mod start;
mod topic;
mod topic_reassign;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use advice::Advice;
pub use exit::Failure;
use output::{Output, OutputFormat};

use crate::client::{Client, ClientError, DEFAULT_BOOTSTRAP};
use crate::config::HostPort;
use crate::log::Compression;

/// A Kafka-compatible broker and its tools.
#[derive(Debug, Parser)]
#[command(name = "chronik", version, propagate_version = true, max_term_width = 120, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.")]
struct Cli {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a broker node
    Start(start::StartArgs),
    /// Run a cluster on this machine, to try things
    Dev(dev::DevArgs),
    /// List, create, describe, change and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Send the lines of standard input as records
    Produce(produce::ProduceArgs),
    /// Print records
    Consume(consume::ConsumeArgs),
    /// List, describe, reset and delete consumer groups
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Show and administer the cluster
    Cluster(cluster::ClusterArgs),
    /// Show what a segment, an index or a journal file holds
    Dump(dump::DumpArgs),
    /// Keep a node's certificate, out of those of several, in a folder of its own
    Certificate(certificate::CertificateArgs),
    /// Measure throughput and latency
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Print the version
    Version,
}

/// What every command that talks to a cluster, or prints, understands.
#[derive(Debug, Args)]
struct Shared {
    /// Addresses of the cluster's nodes: one that answers is enough
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT[,…]",
        default_value = DEFAULT_BOOTSTRAP,
        env = "CHRONIK_BOOTSTRAP",
        hide_env = true,
        value_parser = addresses
    )]
    bootstrap: String,
    /// How to print: for people or for programs
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

/// The addresses as they are written, when that is how addresses are written.
fn addresses(text: &str) -> Result<String, String> {
    let items = || text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let well_written = |item: &str| !item.starts_with(':') && item.parse::<HostPort>().is_ok();
    if items().next().is_none() || !items().all(well_written) {
        return Err("must be HOST:PORT[,HOST:PORT…]".to_owned());
    }
    Ok(text.to_owned())
}

impl Shared {
    async fn connect(&self) -> Result<Arc<Client>, Failure> {
        let tell = |why: &ClientError| exit::note(&format!("still trying: {why}"));
        Ok(Client::connect_telling(&self.bootstrap, Arc::new(tell)).await?)
    }

    fn open(&self) -> Output {
        Output::stdout(self.output)
    }
}

/// How batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip,
            Codec::Snappy => Self::Snappy,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

/// Runs a command line and answers its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(usage) => return exit::print_usage(&usage),
    };
    let admin = match &cli.command {
        Command::Cluster(args) => Some(args.admin()),
        _ => None,
    };
    let advice = Advice::new(&cli.shared.bootstrap, admin);
    exit::report(dispatch(cli), &advice)
}

/// The whole command line, for completions and the reference.
fn command() -> clap::Command {
    Cli::command()
}

fn dispatch(Cli { shared, command }: Cli) -> Result<(), Failure> {
    match command {
        Command::Start(args) => start::run(args),
        Command::Dev(args) => block_on(dev::run(args)),
        Command::Topic(command) => block_on(topic::run(command, &shared)),
        Command::Produce(args) => block_on(produce::run(args, &shared)),
        Command::Consume(args) => block_on(consume::run(args, &shared)),
        Command::Group(command) => block_on(group::run(command, &shared)),
        Command::Cluster(command) => block_on(cluster::run(command, &shared)),
        Command::Dump(args) => dump::run(&args, &shared),
        Command::Certificate(args) => block_on(certificate::run(args)),
        Command::Bench(command) => block_on(bench::run(command, &shared)),
        Command::Completions(args) => completions::run(&args),
        Command::Version => version::run(&shared),
    }
}

/// Runs a client command: one thread is enough.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| Failure::Failed(format!("can't start: {why}")))?;
    let outcome = runtime.block_on(command);
    // A thread that still reads standard input must not keep the process alive.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn usage_errors_are_told_apart() {
        assert!(Cli::try_parse_from(["chronik", "topic", "create"]).is_err());
        assert!(Cli::try_parse_from(["chronik", "topic", "create", "t", "--config", "no-equals-sign"]).is_err());
        assert!(Cli::try_parse_from(["chronik", "topic", "create", "t", "--config", "a=b=c"]).is_ok());
        assert!(Cli::try_parse_from(["chronik", "group", "reset", "g"]).is_err());
    }
}
