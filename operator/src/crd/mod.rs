//! The custom resources, as people write them: types, schemas, the rules that the API server checks (CEL).
//!
//! `v1alpha1` holds only what the broker implements; a field arrives with its feature.

mod cluster;
mod pool;
pub mod reference;
mod status;
pub mod yaml;

pub use cluster::{ChronikCluster, ChronikClusterSpec, DeletionPolicy, Listener, ListenerType, Rebalance};
pub use pool::{Pool, PoolTemplate, Storage};
pub use status::{
    ChronikClusterStatus, DATA_SAFE, MetadataStatus, NodeStatus, OperationStatus, READY, RECONCILING, STALLED,
};

/// The API group.
pub const GROUP: &str = "chronik.io";
