//! `chronik-operator`: the command line only.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use chronik_operator::crd::yaml;
use chronik_operator::run::{self, Options};
use chronik_operator::telemetry;
use clap::{Args, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs `ChronikCluster` resources on Kubernetes.
#[derive(Parser)]
#[command(name = "chronik-operator", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the clusters
    Run(Run),
    /// The definitions of the custom resources
    #[command(subcommand)]
    Crds(Crds),
}

#[derive(Subcommand)]
enum Crds {
    /// Writes them as YAML: to the standard output, or into a folder
    Print {
        /// The folder: a file for each
        #[arg(long)]
        into: Option<PathBuf>,
        /// Changes nothing, and fails when a file of the folder is not what it would be
        #[arg(long, requires = "into")]
        check: bool,
    },
    /// Applies them to the API server that the environment names
    Apply,
}

#[derive(Args)]
struct Run {
    /// The brokers' image for clusters that name none
    #[arg(long, env = "CHRONIK_OPERATOR_IMAGE")]
    image: String,
    /// The namespaces whose clusters are run; all by default
    #[arg(long, env = "CHRONIK_OPERATOR_WATCH", value_delimiter = ',', value_name = "NAMESPACE[,…]")]
    watch: Vec<String>,
    /// The namespace of the Lease
    #[arg(long, env = "CHRONIK_OPERATOR_NAMESPACE", default_value = "default")]
    namespace: String,
    /// The Lease by which one of several operators leads
    #[arg(long, env = "CHRONIK_OPERATOR_LEASE", default_value = "chronik-operator")]
    lease: String,
    /// The operator's name, which no other process has
    #[arg(long, env = "POD_NAME", default_value = "chronik-operator")]
    name: String,
    /// Where health and metrics are served
    #[arg(long, env = "CHRONIK_OPERATOR_HTTP", default_value = "0.0.0.0:8080")]
    http: SocketAddr,
    /// The port of the brokers' admin service
    #[arg(long, env = "CHRONIK_OPERATOR_ADMIN_PORT", default_value_t = 9391, hide = true)]
    admin_port: u16,
    /// What is logged: a level, or targets with levels
    #[arg(long, env = "CHRONIK_OPERATOR_LOG", default_value = "info")]
    log: String,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Crds(Crds::Print { into, check }) => print(into, check),
        Command::Crds(Crds::Apply) => block_on(run::apply_definitions()),
        Command::Run(arguments) => start(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("chronik-operator: {why}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Run) -> Result<(), String> {
    telemetry::start(&arguments.log)?;
    block_on(run::run(Options {
        namespaces: arguments.watch,
        default_image: arguments.image,
        namespace: arguments.namespace,
        lease: arguments.lease,
        holder: arguments.name,
        http: arguments.http,
        admin_port: arguments.admin_port,
    }))
}

/// One thread is plenty: the operator waits nearly always.
fn block_on(work: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|why| format!("start the runtime: {why}"))?.block_on(work)
}

fn print(into: Option<PathBuf>, check: bool) -> Result<(), String> {
    let Some(folder) = into else {
        for definition in yaml::definitions() {
            println!("---\n{}", yaml::text(&definition));
        }
        return Ok(());
    };
    if !check {
        return yaml::write(&folder).map_err(|why| format!("can't write into {}: {why}", folder.display()));
    }
    match yaml::stale(&folder).first() {
        None => Ok(()),
        Some(path) => Err(format!("{} is not what the types say: run `make crds`", path.display())),
    }
}
