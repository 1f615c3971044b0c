//! `chronik version`.

use clap::Args;
use serde::Serialize;

use super::{Failure, OutputArgs};

#[derive(Debug, Args)]
pub(super) struct VersionArgs {
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    target: String,
}

pub(super) fn run(args: &VersionArgs) -> Result<(), Failure> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    };
    args.output.open().document(&version, |version| format!("chronik {} ({})\n", version.version, version.target))
}
