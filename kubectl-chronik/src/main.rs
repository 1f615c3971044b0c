//! `kubectl chronik`: what people ask of a cluster on Kubernetes. It runs kubectl for all that it does, and so has the
//! caller's configuration and rights, and no others.
//!
//! Reading order: [`kubectl`] (the program that is run), [`status`], [`brokers`], [`roll`], [`bundle`].

mod brokers;
mod bundle;
mod kubectl;
mod roll;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use kubectl::Kubectl;

/// Shows and administers Chronik clusters on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "kubectl-chronik", bin_name = "kubectl chronik", version, arg_required_else_help = true)]
struct Arguments {
    /// The cluster's namespace; that of kubectl's context by default
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// kubectl's context
    #[arg(long, global = true)]
    context: Option<String>,
    /// kubectl's configuration
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the clusters, or one: what is under way, what needs attention, its nodes
    Status {
        /// One cluster
        cluster: Option<String>,
    },
    /// List the nodes as the brokers see them
    Nodes(Cluster),
    /// Move all replicas away from a node, and keep new ones away
    Drain {
        #[command(flatten)]
        cluster: Cluster,
        /// The node's id
        node: i32,
        /// End the drain: what has moved stays where it is
        #[arg(long)]
        cancel: bool,
    },
    /// Restart the nodes one after the other, each when that is safe
    Roll {
        #[command(flatten)]
        cluster: Cluster,
        /// Only those of this pool
        #[arg(long)]
        pool: Option<String>,
    },
    /// Print the logs of the brokers
    Logs {
        #[command(flatten)]
        cluster: Cluster,
        /// Only of this node
        #[arg(long)]
        node: Option<i32>,
        /// Go on as they grow
        #[arg(short, long)]
        follow: bool,
        /// Only what is so young, such as 10m
        #[arg(long)]
        since: Option<String>,
    },
    /// Gather what somebody needs who is to help: resources, events, logs, the brokers' view; no Secrets, no records
    Bundle {
        #[command(flatten)]
        cluster: Cluster,
        /// The archive; CLUSTER-bundle.tar.gz by default
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Cluster {
    /// The cluster
    #[arg(id = "cluster", value_name = "CLUSTER")]
    name: String,
}

fn main() -> ExitCode {
    let Arguments { namespace, context, kubeconfig, command } = Arguments::parse();
    let kubectl = Kubectl::new(namespace, context, kubeconfig);
    let done = match command {
        Command::Status { cluster } => status::show(&kubectl, cluster.as_deref()),
        Command::Nodes(cluster) => brokers::ask(&kubectl, &cluster.name, &["cluster", "nodes"]),
        Command::Drain { cluster, node, cancel } => {
            let verb = if cancel { "undrain" } else { "drain" };
            brokers::ask(&kubectl, &cluster.name, &["cluster", verb, &node.to_string()])
        }
        Command::Roll { cluster, pool } => roll::roll(&kubectl, &cluster.name, pool.as_deref()),
        Command::Logs { cluster, node, follow, since } => {
            brokers::logs(&kubectl, &cluster.name, node, follow, since.as_deref())
        }
        Command::Bundle { cluster, output } => bundle::gather(&kubectl, &cluster.name, output),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("kubectl chronik: {why}");
            ExitCode::FAILURE
        }
    }
}
