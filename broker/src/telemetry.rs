//! Logs: human lines on a terminal, JSON otherwise; the level can be changed while the node runs.

use std::io::{IsTerminal, stderr};
use std::str::FromStr;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// What is logged when nothing is said.
const DEFAULT_FILTER: &str = "info";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A filter that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("log filter {filter:?}: {why} (say a level, or targets with levels: info,chronik_broker::wal=debug)")]
pub struct WrongFilter {
    filter: String,
    why: String,
}

/// Changes what is logged, from now on.
#[derive(Debug, Clone)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// The filter in force.
    pub fn current(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Logs by this filter from now on.
    pub fn set(&self, filter: &str) -> Result<(), WrongFilter> {
        let parsed = parse(filter)?;
        self.0.reload(parsed).map_err(|why| WrongFilter { filter: filter.to_owned(), why: why.to_string() })
    }
}

fn parse(filter: &str) -> Result<EnvFilter, WrongFilter> {
    EnvFilter::from_str(filter).map_err(|why| WrongFilter { filter: filter.to_owned(), why: why.to_string() })
}

/// Starts logging to standard error, by a filter as `RUST_LOG` has it. Once in a process.
///
/// # Panics
/// When logging has been started before.
pub fn start(filter: Option<&str>, format: LogFormat) -> Result<LogLevel, WrongFilter> {
    let (filter, level) = reload::Layer::new(parse(filter.unwrap_or(DEFAULT_FILTER))?);
    let people = match format {
        LogFormat::Auto => stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    let lines = if people {
        lines.with_target(false).with_ansi(stderr().is_terminal()).boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    Ok(LogLevel(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_is_refused_by_its_text() {
        let error = parse("chronik_broker=loud").unwrap_err().to_string();
        assert!(error.contains("chronik_broker=loud"), "{error}");
        assert!(parse("warn,chronik_broker::wal=trace").is_ok());
    }

    #[test]
    fn the_level_changes_while_running() {
        let (filter, handle) = reload::Layer::new(parse("info").unwrap());
        let _subscriber = tracing_subscriber::registry().with(filter);
        let level = LogLevel(handle);
        level.set("debug").unwrap();
        assert_eq!(level.current(), "debug");
        assert!(level.set("=,=").is_err());
        assert_eq!(level.current(), "debug");
    }
}
