//! Links without encryption stay on this machine, unless an operator asks for more by name.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Connecting, Connection, Listener, Network};

/// A network that neither listens nor connects beyond loopback.
pub struct LoopbackOnly {
    inner: Arc<dyn Network>,
}

impl LoopbackOnly {
    /// The part of `inner` that is on this machine.
    pub fn new(inner: Arc<dyn Network>) -> Self {
        Self { inner }
    }
}

/// Refuses an address of the outside. `what` was attempted.
fn check(what: &str, address: SocketAddr) -> io::Result<()> {
    if address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let why = format!(
        "{what} {address}: links between nodes are plaintext, which is for loopback only; set CHRONIK_TLS_DIR, or \
         CHRONIK_INSECURE_LINKS=true to do without"
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

impl Network for LoopbackOnly {
    fn listen<'a>(&'a self, address: &'a str) -> Connecting<'a, Box<dyn Listener>> {
        Box::pin(async move {
            let listener = self.inner.listen(address).await?;
            check("listen at", listener.local_addr())?;
            Ok(listener)
        })
    }

    fn dial<'a>(&'a self, address: &'a str) -> Connecting<'a, Connection> {
        Box::pin(async move {
            let connection = self.inner.dial(address).await?;
            check("connect to", connection.peer)?;
            Ok(connection)
        })
    }

    fn resolve<'a>(&'a self, address: &'a str) -> Connecting<'a, Vec<String>> {
        self.inner.resolve(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::net::real::RealNetwork;

    #[tokio::test]
    async fn plaintext_stays_on_loopback() {
        let network = LoopbackOnly::new(Arc::new(RealNetwork));
        let mut listener = network.listen("localhost:0").await.unwrap();
        let address = listener.local_addr().to_string();
        let (dialled, accepted) = tokio::join!(network.dial(&address), listener.accept());
        assert!(dialled.is_ok() && accepted.is_ok());
        let refused = network.listen("0.0.0.0:0").await.err().map(|why| why.to_string());
        assert!(refused.is_some_and(|why| why.contains("CHRONIK_TLS_DIR")));
    }

    #[test]
    fn addresses_of_the_outside_are_refused() {
        for (address, allowed) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.1:1", false),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
        ] {
            assert_eq!(check("listen at", address.parse().unwrap()).is_ok(), allowed, "{address}");
        }
    }
}
