//! The Raft node: replicates and stores the commands of the metadata plane, and nothing else.
//!
//! This module can't name a record batch: it may use `ids`, `io` and `metadata` only, and a test keeps it so.
//!
//! Reading order, from the bytes up: [`record`] (one checksummed record), [`segments`] (the files they are appended
//! to), [`snapshot_file`], [`storage`] (raft-rs's view of the three), [`core`] (the ready loop, without a thread) with
//! what it decides by ([`proposals`], [`seating`], `candidacy`, [`inbound`]), [`driver`] (the loop around it),
//! [`peers`] (the service between nodes) and `transport` (the connections), [`node`] (what others hold: `members` and
//! [`joining`] and `roster` belong to it), [`bootstrap`] (how a node becomes part of a cluster), `alive` (whether another node is).

use std::path::{Path, PathBuf};

use crate::ids::NodeId;
use crate::metadata::Seat;

mod alive;
pub mod bootstrap;
mod candidacy;
#[cfg(test)]
mod cluster_tests;
pub mod core;
#[cfg(test)]
mod core_tests;
pub mod driver;
#[cfg(test)]
mod driver_tests;
#[cfg(test)]
mod group_tests;
pub mod inbound;
pub mod joining;
mod logger;
mod members;
pub mod node;
pub mod peers;
#[cfg(test)]
mod planes;
pub mod proposals;
mod proto;
pub mod record;
mod roster;
pub mod seating;
pub mod segments;
pub mod snapshot_file;
pub mod stats;
pub mod storage;
#[cfg(test)]
mod storage_tests;
#[cfg(test)]
mod testing;
mod transport;

pub use alive::ProbeDialler;
pub use bootstrap::{Beginning, BootstrapError, Cluster};
pub use driver::Drive;
pub use node::{FatalHandler, RaftNode, RaftOptions};
pub use peers::{Me, PeersService, Serving};
pub use stats::RaftStats;
pub use storage::Limits;

/// A node as raft-rs counts: from 1, since its 0 means nobody. Never leaves this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RaftId(u64);

impl RaftId {
    fn of(node: NodeId) -> Self {
        Self(node.get() as u64 + 1)
    }

    /// The node; `None` for raft-rs's nobody.
    fn node(self) -> Option<NodeId> {
        self.0.checked_sub(1).and_then(|id| i32::try_from(id).ok()).and_then(|id| NodeId::try_from(id).ok())
    }
}

/// What went wrong in the metadata plane, on what. None of these can be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    /// A file operation failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A file holds what was never written to it.
    #[error("{path} is corrupt: {what}")]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The folder holds no metadata, though this node has joined a cluster.
    #[error("{0} holds no metadata, though this node was part of a cluster: its data is lost or not mounted")]
    Empty(PathBuf),
    /// A committed command, or a snapshot, that this version does not understand.
    #[error("the metadata at index {index} can't be applied: {source}")]
    Undecodable {
        /// The Raft index.
        index: u64,
        /// Why.
        source: crate::metadata::codec::DecodeError,
    },
    /// raft-rs refused.
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
}

impl RaftError {
    fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    fn corrupt(path: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), what: what.into() }
    }
}

/// The protobuf types as raft-rs generates them.
type ConfState = raft::eraftpb::ConfState;

/// Who votes and who learns.
fn seats_of(members: &ConfState) -> Vec<(NodeId, Seat)> {
    let seats =
        |ids: &[u64], seat| ids.iter().filter_map(move |&id| Some((RaftId(id).node()?, seat))).collect::<Vec<_>>();
    [seats(&members.learners, Seat::Learner), seats(&members.voters, Seat::Voter)].concat()
}

impl From<&ConfState> for proto::ConfState {
    fn from(members: &ConfState) -> Self {
        Self {
            voters: members.voters.clone(),
            learners: members.learners.clone(),
            voters_outgoing: members.voters_outgoing.clone(),
            learners_next: members.learners_next.clone(),
            auto_leave: members.auto_leave,
        }
    }
}

impl From<proto::ConfState> for ConfState {
    fn from(members: proto::ConfState) -> Self {
        Self {
            voters: members.voters,
            learners: members.learners,
            voters_outgoing: members.voters_outgoing,
            learners_next: members.learners_next,
            auto_leave: members.auto_leave,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raft_id_is_the_node_id_plus_one_because_zero_means_nobody() {
        assert_eq!(RaftId::of(NodeId::new(0)), RaftId(1));
        assert_eq!(RaftId::of(NodeId::new(i32::MAX)).node(), Some(NodeId::new(i32::MAX)));
        assert_eq!(RaftId(0).node(), None);
        assert_eq!(RaftId(u64::MAX).node(), None);
    }
}
