//! stub
use super::Failure;
use clap::Args;
#[derive(Debug, Args)]
pub(super) struct DumpArgs {}
pub(super) fn run(_args: DumpArgs) -> Result<(), Failure> {
    todo!()
}
