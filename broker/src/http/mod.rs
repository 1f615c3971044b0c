//! The HTTP side: is it alive, is it ready, what does it count; and the log level.

mod connections;
pub mod metrics;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::telemetry::LogLevel;
use connections::HttpLimits;
use metrics::NodeMetrics;

/// What prometheus-client writes: OpenMetrics, which Prometheus and its kin read.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The longest request body, bytes: a log filter is far shorter.
const BODY_BYTES: usize = 16 << 10;

/// Where a node is between its start and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Recovering; no client is served yet.
    Starting,
    /// Serving.
    Ready,
    /// Finishing what is under way.
    Stopping,
}

/// Told by the server, asked by `/readyz`.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

impl Readiness {
    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    /// The phase it is in.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Stopping,
        }
    }
}

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// For `/readyz`.
    pub readiness: Arc<Readiness>,
    /// For `/metrics`; empty while the node is starting.
    pub metrics: Arc<OnceLock<NodeMetrics>>,
    /// For `/log-level`.
    pub log_level: LogLevel,
}

/// Serves the pages until `stop`; those that are being sent then have a moment to arrive.
pub async fn serve(listener: TcpListener, pages: Pages, stop: CancellationToken) {
    connections::serve(listener, router(pages), HttpLimits::default(), stop).await;
}

fn router(pages: Pages) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .route("/log-level", get(log_level).put(set_log_level))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(pages)
}

async fn ready(State(pages): State<Pages>) -> Response {
    match pages.readiness.phase() {
        Phase::Ready => "ready\n".into_response(),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
        Phase::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response(),
    }
}

async fn show_metrics(State(pages): State<Pages>) -> Response {
    let Some(metrics) = pages.metrics.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    };
    match metrics.text().await {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics can't be written: {why}\n")).into_response(),
    }
}

async fn log_level(State(pages): State<Pages>) -> String {
    pages.log_level.current() + "\n"
}

/// Changes come from this machine only: the pages have no authentication.
async fn set_log_level(
    State(pages): State<Pages>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    filter: String,
) -> Response {
    if !is_this_machine(peer.ip()) {
        return (StatusCode::FORBIDDEN, "the log level is changed from this machine only\n").into_response();
    }
    match pages.log_level.set(filter.trim()) {
        Ok(()) => {
            tracing::info!(filter = filter.trim(), "log level changed");
            log_level(State(pages)).await.into_response()
        }
        Err(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    }
}

fn is_this_machine(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_follows_the_phases() {
        let readiness = Readiness::default();
        assert_eq!(readiness.phase(), Phase::Starting);
        for phase in [Phase::Ready, Phase::Stopping] {
            readiness.enter(phase);
            assert_eq!(readiness.phase(), phase);
        }
    }

    #[test]
    fn only_loopback_is_this_machine() {
        for (address, local) in [("127.0.0.1", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.1", false)] {
            assert_eq!(is_this_machine(address.parse().unwrap()), local, "{address}");
        }
    }
}
