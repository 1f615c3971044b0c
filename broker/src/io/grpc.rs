//! gRPC over [`Network`]: so that TLS, identities and the simulation are the network's, and tonic's none of them.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream as FuturesStream;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};

use super::net::{Connection, Expected, Listener, Network, PeerIdentity, Stream};

/// An idle connection is asked whether it still stands this often.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);
/// It is closed when it does not answer within this time.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes on their way on one stream before the receiver has taken them up.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes on their way on one connection.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Streams that one connection may have open.
const STREAMS: u32 = 256;
/// After a failed accept (no more files, say) the next one waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection to a server, and who it proved to be.
pub struct Dialled {
    /// For requests. It never dials again by itself: when the connection ends, requests fail.
    pub channel: Channel,
    /// Who the other end is; `None` where links are not authenticated.
    pub identity: Option<PeerIdentity>,
}

/// Connects to `host:port`, which must be whom the caller expects. The caller bounds the time.
///
/// # Errors
/// `PermissionDenied`: it is another one. Else what the network says.
pub async fn dial(network: &dyn Network, address: &str, expected: &Expected) -> io::Result<Dialled> {
    let Connection { stream, identity, .. } = network.dial(address).await?;
    expected.check(address, identity.as_ref())?;
    let stream = Arc::new(Mutex::new(Some(stream)));
    let once = tower::service_fn(move |_| {
        let taken = stream.lock().take().map(TokioIo::new);
        std::future::ready(taken.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the connection has ended")))
    });
    // The name is of no meaning: the connection stands already.
    let channel = Endpoint::from_static("http://peer")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(once)
        .await
        .map_err(io::Error::other)?;
    Ok(Dialled { channel, identity })
}

/// What is at the bottom of a failure: of its causes the innermost; `None` where none is known, as with what a service
/// answers.
pub fn innermost(status: &Status) -> Option<String> {
    let mut cause = status.source()?;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Some(cause.to_string())
}

/// Serves until `stop`; requests under way are finished, so whoever serves long ones must end them by itself.
pub async fn serve(
    listener: Box<dyn Listener>,
    routes: Routes,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming(listener), stop.cancelled_owned())
        .await
}

/// The connections that a listener takes. Failed ones are left out.
fn incoming(listener: Box<dyn Listener>) -> impl FuturesStream<Item = io::Result<Accepted>> {
    futures::stream::unfold(listener, |mut listener| async move {
        loop {
            match listener.accept().await {
                Ok(connection) => {
                    let link = Link { peer: connection.peer, identity: connection.identity };
                    return Some((Ok(Accepted { stream: connection.stream, link }), listener));
                }
                Err(why) => {
                    tracing::debug!(%why, "a gRPC connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

/// What a request's extensions tell of its connection.
#[derive(Debug, Clone)]
pub struct Link {
    /// The other end's address, for messages.
    pub peer: SocketAddr,
    /// Who the other end proved to be; `None` where links are not authenticated.
    pub identity: Option<PeerIdentity>,
}

struct Accepted {
    stream: Box<dyn Stream>,
    link: Link,
}

impl Connected for Accepted {
    type ConnectInfo = Link;

    fn connect_info(&self) -> Link {
        self.link.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
