//! The Kubernetes operator of Chronik: it makes what a `ChronikCluster` says, keeps it so, and never loses data doing it.
//!
//! Reading order: [`crd`] (what people write), [`lifecycle`] (what happens next, pure), [`build`] (what should exist, pure),
//! [`certificates`] (who is who, pure), [`admin`] (what brokers are asked), `reconcile` (all of it put together).

pub mod admin;
pub mod build;
pub mod certificates;
pub mod crd;
pub mod http;
pub mod leader;
pub mod lifecycle;
pub mod metrics;
pub mod names;
pub mod quantity;
pub mod reconcile;
pub mod run;
pub mod telemetry;
