//! The Kubernetes operator of Chronik: it makes what a `ChronikCluster` says, keeps it so, and never loses data doing it.

pub mod crd;
