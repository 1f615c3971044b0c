//! Who may ask: where links prove identities, nodes and operators of this cluster.

use std::sync::Arc;

use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::io::grpc::Link;

/// Lets requests of one cluster's connections through.
#[derive(Debug, Clone)]
pub struct OfCluster(Arc<str>);

impl OfCluster {
    /// Of this cluster.
    pub fn new(cluster: &str) -> Self {
        Self(cluster.into())
    }
}

impl Interceptor for OfCluster {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let proven = request.extensions().get::<Link>().and_then(|link| link.identity.as_ref());
        match proven {
            Some(proven) if proven.cluster != *self.0 => {
                Err(Status::unauthenticated(format!("the certificate is of {proven}, this node is of {}", self.0)))
            }
            _ => Ok(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::io::net::PeerIdentity;

    fn is_let_through(identity: Option<(&str, Option<i32>)>) -> bool {
        let identity = identity.map(|(cluster, node)| PeerIdentity { cluster: cluster.to_owned(), node });
        let mut request = Request::new(());
        request.extensions_mut().insert(Link { peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), identity });
        OfCluster::new("c").call(request).is_ok()
    }

    #[test]
    fn another_clusters_certificate_is_refused() {
        assert!(is_let_through(None), "links that prove nothing");
        assert!(is_let_through(Some(("c", None))) && is_let_through(Some(("c", Some(1)))));
        assert!(!is_let_through(Some(("d", None))) && !is_let_through(Some(("d", Some(1)))));
    }
}
