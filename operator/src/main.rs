//! `chronik-operator`: the Kubernetes operator of Chronik. Until the operator is built it tells its version and help.

use clap::Parser;

/// Runs `ChronikCluster` resources on Kubernetes.
#[derive(Parser)]
#[command(name = "chronik-operator", version, arg_required_else_help = true)]
struct Arguments {}

fn main() {
    Arguments::parse();
}
