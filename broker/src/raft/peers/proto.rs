//! The generated types of `proto/peers.proto`.
#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

tonic::include_proto!("chronik.peers.v1");
