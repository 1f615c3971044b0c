//! `chronik-load`: a steady idempotent load that checks itself, for a pod inside the cluster under test.
//!
//! `run` writes numbers to each partition, reads them back while they come, and serves `progress` and `stop` on a local
//! port: the test runs those two inside the pod. `stop` ends the writers, reads the topic again from its beginning, and
//! tells what was found. `knock` asks a node's ports between nodes whether they let these credentials in.

use std::process::ExitCode;

use chronik_k8s_tests::knock::{self, KnockArgs};
use chronik_k8s_tests::load::{self, LoadArgs};
use clap::{Parser, Subcommand};

/// A steady load that verifies what it wrote.
#[derive(Parser)]
#[command(name = "chronik-load", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes and reads until it is told to stop
    Run(LoadArgs),
    /// Shows how far the running load is
    Progress,
    /// Ends the running load, and shows what was lost, doubled or refused
    Stop,
    /// Knocks at a node's WAL, Raft and admin ports, and shows what each says
    Knock(KnockArgs),
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let done = match Arguments::parse().command {
        Command::Run(args) => runtime.block_on(load::run(args)),
        Command::Progress => load::ask("progress"),
        Command::Stop => load::ask("stop"),
        Command::Knock(args) => runtime.block_on(knock::knock(args)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("chronik-load: {why}");
            ExitCode::FAILURE
        }
    }
}
