//! Mutual TLS over another network: each end proves its cluster and node id by its certificate.
//!
//! The certificates need both extended key usages, server and client authentication, where they have any.

mod credentials;
mod identity;
#[cfg(test)]
pub(crate) mod testing;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rustls::CommonState;
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use super::{Connecting, Connection, Listener, Network, PeerIdentity};
use crate::io::flood::Flood;
use credentials::{Credentials, Files};

pub use credentials::CredentialsError;
pub use identity::NoIdentity;

/// Lines about connections that proved nothing.
static UNPROVEN: Flood = Flood::new("connections that prove nothing");

/// How often the files are looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(5);
/// A connection that has not proven itself by then is dropped.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// Connections that are proving themselves at once. More wait.
const MAX_HANDSHAKES: usize = 256;

/// A network whose connections are encrypted, and whose ends are known.
pub struct TlsNetwork {
    inner: Arc<dyn Network>,
    dir: PathBuf,
    credentials: Arc<ArcSwap<Credentials>>,
}

impl TlsNetwork {
    /// Over `inner`, with the credentials in `dir`: `ca.crt`, `tls.crt`, `tls.key`.
    ///
    /// # Errors
    /// They are not there, or don't fit together, or the certificate does not say whose it is.
    pub async fn open(inner: Arc<dyn Network>, dir: &Path) -> Result<Self, CredentialsError> {
        let credentials = Credentials::of(Files::read(dir).await?)?;
        Ok(Self { inner, dir: dir.to_owned(), credentials: Arc::new(ArcSwap::from_pointee(credentials)) })
    }

    /// Who this process can prove to be: to be compared with its settings.
    pub fn identity(&self) -> PeerIdentity {
        self.credentials.load().identity.clone()
    }

    /// Takes new credentials whenever the files change, until `stop`. Connections that stand are not touched.
    pub async fn keep_fresh(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(RELOAD_EVERY)).await.is_some() {
            match self.reload().await {
                Ok(true) => tracing::info!(dir = %self.dir.display(), "new TLS credentials"),
                Ok(false) => {}
                // They may be half written: the ones before stay until others are good.
                Err(why) => tracing::warn!("the new TLS credentials are not taken: {why}"),
            }
        }
    }

    /// Looks at the files; says whether they had changed.
    pub async fn reload(&self) -> Result<bool, CredentialsError> {
        let files = Files::read(&self.dir).await?;
        if files == self.credentials.load().files {
            return Ok(false);
        }
        self.credentials.store(Arc::new(Credentials::of(files)?));
        Ok(true)
    }
}

impl Network for TlsNetwork {
    fn listen<'a>(&'a self, address: &'a str) -> Connecting<'a, Box<dyn Listener>> {
        Box::pin(async move {
            let inner = self.inner.listen(address).await?;
            let credentials = Arc::clone(&self.credentials);
            Ok(Box::new(TlsListener { inner, credentials, handshakes: FuturesUnordered::new() }) as Box<dyn Listener>)
        })
    }

    fn dial<'a>(&'a self, address: &'a str) -> Connecting<'a, Connection> {
        Box::pin(async move {
            let Connection { stream, peer, .. } = self.inner.dial(address).await?;
            let connector = TlsConnector::from(Arc::clone(&self.credentials.load().client));
            let nobody = ServerName::IpAddress(peer.ip().into());
            let stream = connector.connect(nobody, stream).await?;
            let identity = proven(stream.get_ref().1)?;
            Ok(Connection { stream: Box::new(stream), peer, identity: Some(identity) })
        })
    }

    fn resolve<'a>(&'a self, address: &'a str) -> Connecting<'a, Vec<String>> {
        self.inner.resolve(address)
    }
}

/// Who the other end has proven to be.
fn proven(connection: &CommonState) -> io::Result<PeerIdentity> {
    let chain = connection.peer_certificates().unwrap_or_default();
    let certificate = chain.first().ok_or_else(|| io::Error::other("the other end has no certificate"))?;
    identity::identity(certificate).map_err(io::Error::other)
}

struct TlsListener {
    inner: Box<dyn Listener>,
    credentials: Arc<ArcSwap<Credentials>>,
    /// Who is slow to prove itself is in nobody's way.
    handshakes: FuturesUnordered<BoxFuture<'static, Result<Connection, (SocketAddr, io::Error)>>>,
}

impl Listener for TlsListener {
    fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }

    fn accept(&mut self) -> Connecting<'_, Connection> {
        Box::pin(async move {
            loop {
                tokio::select! {
                    biased;
                    Some(proven) = self.handshakes.next() => match proven {
                        Ok(connection) => return Ok(connection),
                        Err((peer, why)) => {
                            if let Some(line) = UNPROVEN.line() {
                                let left_out = line.left_out();
                                tracing::info!(%peer, left_out, "a connection that did not prove itself: {why}");
                            }
                        }
                    },
                    accepted = self.inner.accept(), if self.handshakes.len() < MAX_HANDSHAKES => {
                        let acceptor = TlsAcceptor::from(Arc::clone(&self.credentials.load().server));
                        self.handshakes.push(Box::pin(handshake(acceptor, accepted?)));
                    }
                }
            }
        })
    }
}

async fn handshake(acceptor: TlsAcceptor, connection: Connection) -> Result<Connection, (SocketAddr, io::Error)> {
    let Connection { stream, peer, .. } = connection;
    let proving = async {
        let stream = acceptor.accept(stream).await?;
        let identity = proven(stream.get_ref().1)?;
        Ok(Connection { stream: Box::new(stream), peer, identity: Some(identity) })
    };
    let proven = timeout(HANDSHAKE_WITHIN, proving).await;
    proven.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|why| (peer, why))
}

#[cfg(test)]
mod tests;
