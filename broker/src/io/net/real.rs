//! The machine's TCP, without encryption: for loopback, and beneath TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream, lookup_host};

use super::{Connecting, Connection, Listener, Network};

/// An idle connection is probed after this, so that a peer whose machine vanished is noticed where no protocol above
/// sends heartbeats.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// From one unanswered probe to the next.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Unanswered probes after which the connection is dead.
const KEEPALIVE_PROBES: u32 = 3;

/// TCP as the machine has it.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealNetwork;

impl Network for RealNetwork {
    fn listen<'a>(&'a self, address: &'a str) -> Connecting<'a, Box<dyn Listener>> {
        Box::pin(async move {
            let socket = TcpListener::bind(address).await?;
            let addr = socket.local_addr()?;
            Ok(Box::new(RealListener { socket, addr }) as Box<dyn Listener>)
        })
    }

    fn dial<'a>(&'a self, address: &'a str) -> Connecting<'a, Connection> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            let peer = stream.peer_addr()?;
            connection(stream, peer)
        })
    }

    fn resolve<'a>(&'a self, address: &'a str) -> Connecting<'a, Vec<String>> {
        Box::pin(async move {
            let found = lookup_host(address).await?;
            Ok(found.map(|address| address.to_string()).collect())
        })
    }
}

#[derive(Debug)]
struct RealListener {
    socket: TcpListener,
    addr: SocketAddr,
}

impl Listener for RealListener {
    fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    fn accept(&mut self) -> Connecting<'_, Connection> {
        Box::pin(async move {
            let (stream, peer) = self.socket.accept().await?;
            connection(stream, peer)
        })
    }
}

/// Both planes send small messages that others wait for, so nothing is held back to fill a packet.
fn connection(stream: TcpStream, peer: SocketAddr) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_PROBES)?;
    Ok(Connection { stream: Box::new(stream), peer, identity: None })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_between_who_dials_and_who_listens() {
        let mut listener = RealNetwork.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().to_string();
        let (dialled, accepted) = tokio::join!(RealNetwork.dial(&address), listener.accept());
        let (mut dialled, mut accepted) = (dialled.unwrap(), accepted.unwrap());
        assert_eq!(dialled.peer, listener.local_addr());
        assert_eq!(accepted.identity, None);
        dialled.stream.write_all(b"ping").await.unwrap();
        let mut four = [0; 4];
        accepted.stream.read_exact(&mut four).await.unwrap();
        accepted.stream.write_all(&four).await.unwrap();
        dialled.stream.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"ping");
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_an_unknown_one_is_an_error() {
        let found = RealNetwork.resolve("localhost:7").await.expect("every machine knows itself");
        assert!(found.iter().any(|address| ["127.0.0.1:7", "[::1]:7"].contains(&address.as_str())), "{found:?}");
        assert!(RealNetwork.resolve("no-such-name.invalid:7").await.is_err());
    }

    #[tokio::test]
    async fn an_address_that_nobody_serves_is_an_error() {
        let free = RealNetwork.listen("127.0.0.1:0").await.unwrap().local_addr().to_string();
        let refused = RealNetwork.dial(&free).await.err().map(|error| error.kind());
        assert_eq!(refused, Some(io::ErrorKind::ConnectionRefused));
    }
}
