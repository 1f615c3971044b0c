//! The generated types, client and server of `proto/admin.proto`.
#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

tonic::include_proto!("chronik.admin.v1");
