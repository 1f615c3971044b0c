//! The network that both planes' links go over, as the settings want them protected.

use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, Links};
use crate::io::net::plain::LoopbackOnly;
use crate::io::net::real::RealNetwork;
use crate::io::net::tls::TlsNetwork;
use crate::io::net::{Network, PeerIdentity};
use crate::node::tasks::Tasks;
use crate::node::{NodeError, refused};

/// The machine's network, within the bounds of the settings. `cluster`: the id that the data folder has.
pub(super) async fn network(config: &Config, cluster: &str, tasks: &mut Tasks) -> Result<Arc<dyn Network>, NodeError> {
    let machine: Arc<dyn Network> = Arc::new(RealNetwork);
    match &config.cluster.links {
        Links::Insecure => {
            tracing::warn!("links between nodes are plaintext (insecure_links)");
            Ok(machine)
        }
        Links::Loopback => Ok(Arc::new(LoopbackOnly::new(machine))),
        Links::Tls(dir) => {
            let tls = TlsNetwork::open(machine, dir).await.map_err(|why| refused(format!("tls_dir: {why}")))?;
            check(dir, &tls.identity(), cluster, config)?;
            let tls = Arc::new(tls);
            let fresh = tls.clone();
            tasks.spawn("keep the TLS credentials fresh", |stop| async move {
                fresh.keep_fresh(stop).await;
                Ok(())
            });
            Ok(tls)
        }
    }
}

/// Other nodes would refuse another's certificate: better said here.
fn check(dir: &Path, proves: &PeerIdentity, cluster: &str, config: &Config) -> Result<(), NodeError> {
    let node = config.node_id.get();
    if proves.cluster == cluster && proves.node == Some(node) {
        return Ok(());
    }
    let of = match proves.node {
        Some(other) => format!("node {other}"),
        None => "the operator".to_owned(),
    };
    Err(refused(format!(
        "tls_dir {}: the certificate is of {of} of cluster {}, not of node {node} of cluster {cluster}",
        dir.display(),
        proves.cluster
    )))
}
