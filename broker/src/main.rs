//! The `chronik` command line.

use std::process::ExitCode;

/// Smaller resident memory and faster small allocations than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chronik_broker::cli::run(std::env::args_os())
}
