//! stub
use clap::Args;
use super::Failure;
#[derive(Debug, Args)]
pub(super) struct DumpArgs {}
pub(super) fn run(_args: DumpArgs) -> Result<(), Failure> { Ok(()) }
