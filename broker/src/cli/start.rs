//! stub
use clap::Args;
use super::Failure;
#[derive(Debug, Args)]
pub(super) struct StartArgs {}
pub(super) fn run(_args: StartArgs) -> Result<(), Failure> { Ok(()) }
