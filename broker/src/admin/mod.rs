//! The admin service: what people and the operator ask of a cluster, over gRPC beside the Raft peers.
//!
//! Reads are answered from this node's image, writes become commands of the metadata plane.

pub mod proto;
