//! `chronik version`.

use serde::Serialize;

use super::{Failure, Shared};

#[derive(Serialize)]
struct Version {
    version: &'static str,
    target: String,
}

pub(super) fn run(shared: &Shared) -> Result<(), Failure> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    };
    shared.open().document(&version, |version| format!("chronik {} ({})\n", version.version, version.target))
}
