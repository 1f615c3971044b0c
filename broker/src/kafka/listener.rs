//! Accepts client connections, within bounds, and ends them when the node stops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::end::End;
use super::limits::{Admissions, Limits, Rejected, RequestMemory};
use super::metrics::{Metrics, Reason};
use super::reactors::Reactors;
use super::service::Service;
use super::shared::{Shared, Stop};
use crate::io::flood::Flood;

/// Lines about connections that can't be accepted.
static NOT_ACCEPTED: Flood = Flood::new("connections that are not accepted");
/// Lines about connections that were closed for what the client did.
static CLOSED: Flood = Flood::new("connections that are closed for what the client did");

/// How long accepting pauses when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound address that is not served yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    addr: SocketAddr,
}

impl Listener {
    /// Binds; port 0 takes a free one.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(addr).await?;
        let addr = socket.local_addr()?;
        Ok(Self { socket, addr })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `stop`: then no connection is accepted and no request is started any more, and those under way are
    /// finished, within `Limits::shutdown_grace`.
    ///
    /// # Errors
    /// The threads for connections can't be started.
    ///
    /// # Panics
    /// When a connection's task panics: that is a defect, and takes the process down.
    pub async fn serve<S: Service>(
        self,
        service: S,
        limits: Limits,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let reactors = Reactors::start()?;
        let admissions = Admissions::new(&limits);
        let memory = RequestMemory::new(&limits);
        let shared = Arc::new(Shared { service, limits, memory, metrics, stop: Stop::default() });
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, peer)) => accept(&shared, &admissions, &reactors, &mut connections, stream, peer),
                    Err(error) => {
                        if let Some(line) = NOT_ACCEPTED.line() {
                            tracing::warn!(%error, left_out = line.left_out(), "a connection can't be accepted");
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next() => propagate_panic(ended),
                () = stop.cancelled() => break,
            }
        }
        drop(self.socket);
        shared.stop.give();
        let finished = async {
            while let Some(ended) = connections.join_next().await {
                propagate_panic(ended);
            }
        };
        if tokio::time::timeout(shared.limits.shutdown_grace, finished).await.is_err() {
            tracing::warn!("requests were still under way when the grace for stopping ended");
            connections.shutdown().await;
        }
        Ok(())
    }
}

fn accept<S: Service>(
    shared: &Arc<Shared<S>>,
    admissions: &Arc<Admissions>,
    reactors: &Reactors,
    connections: &mut JoinSet<()>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let ticket = match admissions.admit(peer.ip()) {
        Ok(ticket) => ticket,
        Err(rejected) => {
            tracing::debug!(%peer, "connection rejected: {rejected}");
            shared.metrics.rejected(match rejected {
                Rejected::TooMany => Reason::MaxConnections,
                Rejected::TooManyFromAddress => Reason::MaxConnectionsPerIp,
            });
            return;
        }
    };
    // A socket that refuses this is dead already: its first read says so.
    let _ = stream.set_nodelay(true);
    shared.metrics.accepted.inc();
    shared.metrics.connections.inc();
    let shared = Arc::clone(shared);
    let (reactor, tenancy) = reactors.least_busy();
    connections.spawn_on(
        async move {
            let metrics = Arc::clone(&shared.metrics);
            let (end, unfinished) = match adopt(stream) {
                Ok(stream) => Connection::new(shared, stream, peer).serve().await,
                Err(error) => (End::Network(error), None),
            };
            drop((ticket, tenancy));
            metrics.connections.dec();
            metrics.ended(end.reason());
            log(&end, peer);
            if let Some(unfinished) = unfinished {
                unfinished.await;
            }
        },
        reactor,
    );
}

/// Moves a socket from the runtime that accepted it to the one that calls this.
fn adopt(stream: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream.into_std()?)
}

/// What a client did wrong is worth a line, unless many do; how connections usually end is not.
fn log(end: &End, peer: SocketAddr) {
    if let Reason::BadRequest | Reason::Slow = end.reason()
        && let Some(line) = CLOSED.line()
    {
        tracing::warn!(%peer, left_out = line.left_out(), "connection closed: {end}");
    } else {
        tracing::debug!(%peer, "connection closed: {end}");
    }
}

fn propagate_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}
