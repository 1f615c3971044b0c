//! What the tests share: starting, killing and talking to real `chronik` processes.

pub mod clients;
pub mod process;
pub mod wire;

pub use process::{Finished, Node, NodeBuilder, chronik};
