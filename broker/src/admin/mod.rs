//! The admin service: what people and the operator ask of a cluster, over gRPC beside the Raft peers.
//!
//! Any node answers. Reads are made from its image; what only other nodes know (how far Raft's members are, how many
//! bytes replicas hold) it asks of them. Writes become commands of the metadata plane, with all that they presuppose.
//!
//! Reading order: [`proto`] (the messages), [`service`] (an RPC a function), [`describe`], [`health`], [`safety`] and
//! [`progress`] (answers made of an image, pure), [`configs`] (settings of all nodes), [`targets`] (requests made
//! commands, pure), [`write`] (commands under the operator's lease), [`refusal`] (errors as people read them), [`nodes`]
//! and [`quorum`] (what is asked of other nodes), [`caller`] (who may ask).

mod caller;
pub mod configs;
pub mod describe;
pub mod health;
pub mod nodes;
pub mod progress;
pub mod proto;
pub mod quorum;
mod refusal;
pub mod safety;
pub mod service;
pub mod targets;
#[cfg(test)]
mod tests;
mod write;

pub use caller::{Callers, Claim};
pub use nodes::{Client, GrpcNodes, Nodes, client};
pub use quorum::LeaderView;
pub use service::{AdminOptions, AdminService, HeldReplicas};
