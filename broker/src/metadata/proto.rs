//! The generated types of `proto/metadata.proto`.
#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

tonic::include_proto!("chronik.metadata.v1");
