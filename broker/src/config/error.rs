//! Why a configuration is refused.

use std::path::PathBuf;

use super::origin::Origin;

/// Why a configuration is refused. One line each, naming the setting.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a map of settings.
    #[error("{path} is not a map of settings: {what}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// No such setting.
    #[error("unknown setting {name} ({origin}){}", suggestion.map(|it| format!("; did you mean {it}?")).unwrap_or_default())]
    Unknown {
        /// As it was given.
        name: String,
        /// Where.
        origin: Origin,
        /// The setting that looks most alike.
        suggestion: Option<&'static str>,
    },
    /// A value that the setting doesn't take.
    #[error("invalid value {value:?} for {name} ({origin}): {reason}")]
    Invalid {
        /// The setting.
        name: String,
        /// The value.
        value: String,
        /// Where.
        origin: Origin,
        /// What is wrong.
        reason: String,
    },
    /// Settings that can't hold together.
    #[error("contradictory settings: {0}")]
    Contradiction(String),
}
