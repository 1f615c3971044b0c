//! HTTP connections within bounds: how many, how long their requests' heads, how long they last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::kafka::limits::{Admissions, Limits, Ticket};

/// What HTTP clients may take. They are few: probes, a metrics collector, an operator's terminal.
#[derive(Debug, Clone)]
pub(super) struct HttpLimits {
    /// Open connections.
    pub(super) connections: usize,
    /// Open connections from one address: no address takes the probes' places.
    pub(super) connections_per_ip: usize,
    /// Bytes of a request's head.
    pub(super) head_bytes: usize,
    /// Within this a request's head must have arrived, also the next one on a connection.
    pub(super) head_time: Duration,
    /// A connection ends after this; what is being answered then has `stop_grace`.
    pub(super) lifetime: Duration,
    /// A client that does not finish its request, or does not take its page, is left behind after this.
    pub(super) stop_grace: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_ip: 64,
            head_bytes: 16 << 10,
            head_time: Duration::from_secs(10),
            lifetime: Duration::from_mins(2),
            stop_grace: Duration::from_secs(1),
        }
    }
}

/// Serves the pages until `stop`.
pub(super) async fn serve(listener: TcpListener, pages: Router, limits: HttpLimits, stop: CancellationToken) {
    let admissions = Admissions::new(&Limits {
        max_connections: limits.connections,
        max_connections_per_ip: limits.connections_per_ip,
        ..Limits::default()
    });
    let limits = Arc::new(limits);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(why) => {
                // No file descriptor is free, or the client has gone already: either passes.
                tracing::debug!(%why, "an HTTP connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match admissions.admit(peer.ip()) {
            Ok(ticket) => {
                let connection = Connection { pages: pages.clone(), limits: limits.clone(), peer, _ticket: ticket };
                connections.spawn(connection.serve(stream, stop.clone()));
            }
            Err(why) => tracing::debug!(%peer, %why, "an HTTP connection was turned away"),
        }
    }
    connections.close();
    connections.wait().await;
}

/// A pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One client.
struct Connection {
    pages: Router,
    limits: Arc<HttpLimits>,
    peer: SocketAddr,
    _ticket: Ticket,
}

impl Connection {
    async fn serve(self, stream: TcpStream, stop: CancellationToken) {
        let Self { pages, limits, peer, _ticket } = self;
        let pages = TowerToHyperService::new(pages);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            pages.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_time)
            .max_buf_size(limits.head_bytes)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = stop.cancelled() => None,
            () = tokio::time::sleep(limits.lifetime) => None,
        };
        let ended = if let Some(ended) = ended {
            ended
        } else {
            connection.as_mut().graceful_shutdown();
            // A client that is too slow by now is left behind.
            tokio::time::timeout(limits.stop_grace, connection).await.unwrap_or(Ok(()))
        };
        if let Err(why) = ended {
            tracing::debug!(%peer, %why, "an HTTP connection ended early");
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    use super::*;

    struct Server {
        address: SocketAddr,
        stop: CancellationToken,
        task: JoinHandle<()>,
    }

    impl Server {
        async fn start(limits: HttpLimits) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("it is bound");
            let pages = Router::new().route("/", get(|| async { "page" }));
            let stop = CancellationToken::new();
            let task = tokio::spawn(serve(listener, pages, limits, stop.clone()));
            Self { address, stop, task }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.expect("the port is open")
        }

        /// Sends bytes on a connection of its own and gives all that comes until its end.
        async fn ask(&self, bytes: &[u8]) -> String {
            let mut stream = self.connect().await;
            // The server may refuse before it has read all.
            drop(stream.write_all(bytes).await);
            rest(&mut stream).await
        }

        async fn works(&self) {
            let answer = self.ask(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("page"), "{answer}");
        }
    }

    /// What comes until the connection ends.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        let end = tokio::time::timeout(Duration::from_mins(1), stream.read_to_end(&mut bytes)).await;
        // A reset is an end, too.
        let _: std::io::Result<usize> = end.expect("it ends");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_turned_away_and_places_come_back() {
        let server = Server::start(HttpLimits { connections_per_ip: 2, ..HttpLimits::default() }).await;
        let (mut first, mut second) = (server.connect().await, server.connect().await);
        for stream in [&mut first, &mut second] {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it is taken");
            stream.read_exact(&mut [0; 12]).await.expect("it is answered");
        }
        assert_eq!(server.ask(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await, "");
        first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("it is taken");
        rest(&mut first).await;
        // Its place is free once its task has ended, which may be a moment later.
        while server.ask(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.is_empty() {}
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused() {
        let server = Server::start(HttpLimits::default()).await;
        let long = format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "x".repeat(20 << 10));
        let answer = server.ask(long.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");
        server.works().await;
    }

    #[tokio::test]
    async fn a_head_that_does_not_arrive_and_a_connection_that_asks_nothing_end_in_time() {
        let server = Server::start(HttpLimits { head_time: Duration::from_millis(50), ..HttpLimits::default() }).await;
        for part in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x\r\n"] {
            let mut stream = server.connect().await;
            stream.write_all(part.as_bytes()).await.expect("it is taken");
            rest(&mut stream).await;
        }
        server.works().await;
    }

    #[tokio::test]
    async fn a_connection_ends_with_its_time_whatever_it_does() {
        let brief = Duration::from_millis(50);
        let limits = HttpLimits { lifetime: brief, stop_grace: brief, ..HttpLimits::default() };
        let server = Server::start(limits).await;
        let mut stream = server.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it is taken");
        let answer = rest(&mut stream).await;
        assert!(answer.ends_with("page"), "{answer}");
    }

    #[tokio::test]
    async fn half_a_request_does_not_keep_the_server_from_stopping() {
        let server = Server::start(HttpLimits::default()).await;
        let mut stream = server.connect().await;
        stream.write_all(b"GET / HT").await.expect("it is taken");
        server.works().await;
        server.stop.cancel();
        tokio::time::timeout(Duration::from_mins(1), server.task).await.expect("it stops").expect("it does not panic");
    }
}
