//! What the tests share: starting, killing and talking to real `chronik` processes.

pub mod clients;
pub mod cluster;
pub mod process;
pub mod wire;

pub use cluster::Cluster;
pub use process::{Finished, Node, NodeBuilder, chronik};
