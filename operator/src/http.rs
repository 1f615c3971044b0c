//! The operator's own pages: is it alive, does it work, what does it count.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::metrics::Metrics;

/// What prometheus-client writes.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/readyz`: whether the API server was reached.
    pub ready: Arc<AtomicBool>,
}

/// Serves the pages; ends only with an error.
pub async fn serve(address: SocketAddr, pages: Pages) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(pages);
    axum::serve(tokio::net::TcpListener::bind(address).await?, router).await
}

async fn ready(State(pages): State<Pages>) -> Response {
    if pages.ready.load(Ordering::Acquire) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response()
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    match pages.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")).into_response(),
    }
}
