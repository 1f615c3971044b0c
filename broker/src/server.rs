//! Start-up and shutdown of a node, in one place, in order.

use crate::config::Config;
use crate::telemetry::LogLevel;

/// Why a node did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// What it was given can't be served: settings, data folder, addresses. One line.
    #[error("{0}")]
    Refused(String),
    /// It failed at work. One line.
    #[error("{0}")]
    Failed(String),
}

/// Runs a node until it is told to stop.
pub async fn run(_config: Config, _log_level: LogLevel) -> Result<(), ServerError> {
    todo!()
}
