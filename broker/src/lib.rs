//! The Chronik broker: a Kafka-compatible server with two planes, Raft for metadata and WAL streaming for messages.
//!
//! Arrows point down only: `kafka, coordinator, admin, http → stream, metadata → log, raft → wal, io`.
//! `docs/overview.md` tells where things live.

pub mod admin;
pub mod cli;
pub mod client;
pub mod config;
pub mod coordinator;
pub mod datadir;
pub mod http;
pub mod ids;
pub mod io;
pub mod kafka;
pub mod log;
pub mod metadata;
pub mod node;
pub mod raft;
pub mod server;
#[cfg(test)]
mod sim;
pub mod stream;
pub mod telemetry;
pub mod wal;
