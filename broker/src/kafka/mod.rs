//! The Kafka front: sockets, framing, one file per API under `api/`, the codec under `wire/`.

mod admin;
pub mod api;
mod authorized;
pub mod configs;
mod connection;
mod deadlines;
mod end;
mod features;
pub mod fetch_session;
pub mod frames;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod offload;
mod output;
mod reactors;
pub mod response_memory;
pub mod service;
mod shared;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod topics;
pub mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Settings;
use crate::coordinator::GroupCoordinator;
use crate::coordinator::producer_ids::ProducerIds;
use crate::ids::NodeId;
use crate::io::clock::Clock;
use crate::log::LogStore;
use crate::metadata::MetadataPlane;
use crate::metadata::quorum::QuorumView;
use crate::stream::Partitions;
use crate::wal::GroupCommitWal;

/// What the API handlers work with: the services of this node.
pub struct Broker {
    /// This node.
    pub node: NodeId,
    /// The metadata plane.
    pub metadata: Arc<dyn MetadataPlane>,
    /// Its Raft group, as the leader sees it.
    pub quorum: Arc<dyn QuorumView>,
    /// This node's replicas.
    pub partitions: Arc<Partitions>,
    /// This node's logs.
    pub logs: Arc<LogStore>,
    /// The message WAL, for admission.
    pub wal: Arc<GroupCommitWal>,
    /// The groups that this node coordinates.
    pub groups: Arc<GroupCoordinator>,
    /// Ids for idempotent producers.
    pub producer_ids: ProducerIds,
    /// Static and dynamic settings.
    pub settings: Arc<Settings>,
    /// What clients fetch, as they told it before (KIP-227).
    pub fetch_sessions: Arc<fetch_session::FetchSessions>,
    /// Threads for what would hold up the reactors.
    pub offload: offload::Offload,
    /// The memory of what clients fetch.
    pub response_memory: response_memory::ResponseMemory,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// One request's surroundings.
pub struct RequestContext {
    /// This node's services.
    pub broker: Arc<Broker>,
    /// The API of the request.
    pub api: &'static api::Api,
    /// The API version of the request.
    pub version: i16,
    /// `client.id`, empty when absent; may be kept (it does not pin the read buffer, as a request's strings do).
    pub client_id: wire::StrBytes,
    /// Who asks.
    pub peer: SocketAddr,
}
