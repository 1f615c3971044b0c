//! The messages and the client, generated from `broker/proto/admin.proto`.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]

tonic::include_proto!("chronik.admin.v1");
