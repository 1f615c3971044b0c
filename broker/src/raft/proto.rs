//! The generated types of `proto/raft.proto`.
#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

tonic::include_proto!("chronik.raft.v1");
