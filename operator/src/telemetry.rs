//! Logs: JSON, one line each.

use tracing_subscriber::EnvFilter;

/// Begins to log what `filter` lets through: a level, or targets with levels.
pub fn start(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|why| format!("the log filter {filter:?}: {why}"))?;
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}
