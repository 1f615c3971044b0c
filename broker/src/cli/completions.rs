//! `chronik completions SHELL`.

use std::io::{self, Write};

use clap::Args;
use clap_complete::Shell;

use super::Failure;

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Which shell: `source <(chronik completions bash)`
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "chronik", &mut script);
    let mut out = io::stdout().lock();
    out.write_all(&script)?;
    Ok(out.flush()?)
}
