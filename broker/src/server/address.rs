//! Where a node listens and what it tells clients.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, lookup_host};

use crate::config::{Config, HostPort};
use crate::kafka::listener::Listener;
use crate::node::{NodeError, refused};

/// How long the system may take to say whether the host's name is known.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Binds the address for Kafka clients.
pub(super) async fn bind_kafka(config: &Config) -> Result<Listener, NodeError> {
    let address = resolve("kafka_addr", &config.kafka_addr).await?;
    Listener::bind(address).await.map_err(|why| not_bound("kafka_addr", &config.kafka_addr, &why))
}

/// Binds the address for health and metrics.
pub(super) async fn bind_http(config: &Config) -> Result<TcpListener, NodeError> {
    let address = resolve("http_addr", &config.http_addr).await?;
    TcpListener::bind(address).await.map_err(|why| not_bound("http_addr", &config.http_addr, &why))
}

async fn resolve(setting: &str, address: &HostPort) -> Result<SocketAddr, NodeError> {
    let unknown = |why: &dyn std::fmt::Display| refused(format!("{setting} {address} is no address here: {why}"));
    let mut found = lookup_host((address.host.as_str(), address.port)).await.map_err(|why| unknown(&why))?;
    found.next().ok_or_else(|| unknown(&"the name has no address"))
}

fn not_bound(setting: &str, address: &HostPort, why: &std::io::Error) -> NodeError {
    match why.kind() {
        std::io::ErrorKind::AddrInUse => refused(format!("{setting} {address} is in use by another process")),
        _ => refused(format!("can't listen on {setting} {address}: {why}")),
    }
}

/// What clients are told: the setting, or where they are served.
pub(super) async fn advertised(config: &Config, bound: SocketAddr) -> HostPort {
    match &config.advertised_addr {
        // Port 0 stands for the one that was bound.
        Some(HostPort { host, port: 0 }) => HostPort { host: host.clone(), port: bound.port() },
        Some(address) => address.clone(),
        None if is_everywhere(&config.kafka_addr.host) => HostPort { host: host_name().await, port: bound.port() },
        None => HostPort { host: config.kafka_addr.host.clone(), port: bound.port() },
    }
}

fn is_everywhere(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
}

/// This machine's name, as far as it is known to itself; otherwise clients on it are all that can be meant.
async fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let known = tokio::time::timeout(LOOKUP_TIMEOUT, lookup_host((name.clone(), 0))).await;
    if known.is_ok_and(|found| found.is_ok_and(|mut addresses| addresses.next().is_some())) {
        return name;
    }
    tracing::warn!(name, "this machine's name has no address: clients are told localhost (see advertised_addr)");
    "localhost".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unspecified_addresses_are_everywhere() {
        for (host, everywhere) in [("0.0.0.0", true), ("::", true), ("127.0.0.1", false), ("kafka.example", false)] {
            assert_eq!(is_everywhere(host), everywhere, "{host}");
        }
    }
}
