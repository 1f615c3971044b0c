//! How a command ends: exit codes and the one line on standard error.

use std::io::{self, Write};
use std::process::ExitCode;

use super::advice::Advice;
use crate::client::ClientError;

/// Exit code of what failed.
const FAILED: u8 = 1;
/// Exit code of wrong usage or configuration.
const USAGE: u8 = 2;

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It was tried and failed: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// Wrong flags, settings or data folder: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Nobody reads the output any more: a quiet end, exit code 0.
    #[error("nobody reads the output")]
    BrokenPipe,
}

impl From<ClientError> for Failure {
    fn from(why: ClientError) -> Self {
        Self::Failed(why.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(why: io::Error) -> Self {
        match why.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Failed(why.to_string()),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(why: serde_json::Error) -> Self {
        io::Error::from(why).into()
    }
}

/// The exit code of an outcome; a failure is told on standard error.
pub(super) fn report(outcome: Result<(), Failure>, advice: &Advice) -> ExitCode {
    match outcome {
        Ok(()) | Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(Failure::Failed(why)) => tell(&advice.completed(&why), FAILED),
        Err(Failure::Usage(why)) => tell(&advice.completed(&why), USAGE),
    }
}

fn tell(why: &str, code: u8) -> ExitCode {
    note(why);
    ExitCode::from(code)
}

/// One line on standard error.
pub(super) fn note(what: &str) {
    // When standard error is gone too, the exit code still tells.
    let _ = writeln!(io::stderr(), "chronik: {}", what.lines().collect::<Vec<_>>().join("; "));
}

/// Prints help (exit code 0) or what is wrong with the flags (exit code 2).
pub(super) fn print_usage(usage: &clap::Error) -> ExitCode {
    // A closed pipe (`chronik --help | head -1`) is no failure.
    let _ = usage.print();
    if usage.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}
