//! A cluster made what its resource says, in phases: `dereference` (read everything once) → `validate` → the brokers are
//! asked → `lifecycle` (pure) → `build` (pure) → `apply` → `orphans` → `step` → `status`.
//!
//! Converged means quiet: what is as it should be is compared, not written.

mod apply;
mod claims;
mod compare;
mod context;
mod dereference;
mod error;
mod identity;
mod orphans;
mod phases;
mod racks;
mod secrets;
mod settings;
mod situation;
mod status;
mod step;
mod stores;
mod validate;

pub use context::{Context, Settings};
pub use error::ReconcileError;
pub use phases::{failed, reconcile};
pub use stores::{Scope, Stores};
