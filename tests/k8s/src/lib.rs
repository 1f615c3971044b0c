//! What the Kubernetes tests share: the cluster that `KUBECONFIG` names, what is installed into it, a load inside of it.

pub mod api_server;
pub mod client_pod;
pub mod cluster;
pub mod killer;
pub mod knock;
pub mod kube;
pub mod load;
pub mod load_pod;
pub mod operator;
pub mod pod_watch;
pub mod process;
pub mod tool;

pub use client_pod::ClientPod;
pub use cluster::Cluster;
pub use killer::Killer;
pub use kube::{Namespace, wait_for};
pub use load_pod::LoadPod;
pub use operator::Operator;
pub use pod_watch::PodWatch;
