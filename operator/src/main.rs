//! `chronik-operator`: the command line only.

use std::path::PathBuf;
use std::process::ExitCode;

use chronik_operator::crd::yaml;
use clap::{Parser, Subcommand};

/// Runs `ChronikCluster` resources on Kubernetes.
#[derive(Parser)]
#[command(name = "chronik-operator", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Crds(Crds::Print { into, check }) => print(into, check),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("chronik-operator: {why}");
            ExitCode::FAILURE
        }
    }
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
