//! What the Kubernetes tests share: the cluster that `KUBECONFIG` names, what is installed into it, a load inside of it.

pub mod load;
pub mod tool;
