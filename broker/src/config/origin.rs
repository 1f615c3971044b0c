//! Where a setting was given.

use std::fmt;
use std::path::PathBuf;

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In this file, at this line when that is known (the first is 1).
    File(PathBuf, Option<usize>),
    /// In this environment variable.
    Environment(String),
    /// On the command line.
    CommandLine,
}

impl Origin {
    /// Higher ones lie over lower ones.
    pub(super) fn layer(&self) -> u8 {
        match self {
            Self::File(..) => 0,
            Self::Environment(_) => 1,
            Self::CommandLine => 2,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, None) => write!(f, "in {}", path.display()),
            Self::File(path, Some(line)) => write!(f, "in {}, line {line}", path.display()),
            Self::Environment(variable) => write!(f, "in {variable}"),
            Self::CommandLine => f.write_str("on the command line"),
        }
    }
}
