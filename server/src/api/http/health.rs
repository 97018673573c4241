//! What every component answers: whether it is healthy and ready, its metrics and its CPU profile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::coding::with_codings;
use super::measure::HttpMetrics;
use super::profile;
use crate::telemetry::metrics::{self, Gauges, MetricLabels};

/// Whether the process is healthy and ready; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    is_ready: Arc<AtomicBool>,
    status: Gauges,
    requests: HttpMetrics,
    waiting_connections: Counter,
    component: &'static str,
}

impl Health {
    /// `component` is healthy, and not ready yet; published as `thanos_status`.
    pub fn register(registry: &mut Registry, component: &'static str) -> Self {
        let health = Self { component, ..Self::default() };
        registry.register(
            "thanos_status",
            "Represents status (0 indicates failure, 1 indicates success)",
            health.status.clone(),
        );
        let help = "Connections that had to wait as there were as many as there may be";
        registry.register("uru_waited_connections", help, health.waiting_connections.clone());
        health.status.get_or_create(&health.labels("healthy")).set(1);
        health.set_ready(Readiness::NotReady);
        health
    }

    /// Publishes whether requests can be answered.
    pub fn set_ready(&self, readiness: Readiness) {
        let is_ready = readiness == Readiness::Ready;
        self.is_ready.store(is_ready, Ordering::Release);
        self.status.get_or_create(&self.labels("ready")).set(i64::from(is_ready));
    }

    fn labels(&self, check: &str) -> MetricLabels {
        vec![("check", check.to_owned()), ("component", self.component.to_owned())]
    }

    /// What counts requests of the HTTP API; published by components that count no others themselves.
    pub fn requests(&self) -> &HttpMetrics {
        &self.requests
    }

    /// Counts connections that had to wait for others to end.
    pub fn waiting_connections(&self) -> &Counter {
        &self.waiting_connections
    }

    /// Whether requests can be answered.
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }
}

/// Whether requests can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// They can.
    Ready,
    /// Not yet, or no longer.
    NotReady,
}

/// The routes that every component has.
pub fn routes(health: Health, registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/-/healthy", get(|| async { "OK" }))
        .route("/-/ready", get(ready).with_state(health))
        .route("/metrics", get(render).with_state(registry).layer(from_fn(with_codings)))
        .merge(profile::routes())
}

async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.is_ready() { (StatusCode::OK, "OK") } else { (StatusCode::SERVICE_UNAVAILABLE, "NOT OK") }
}

async fn render(State(registry): State<Arc<Registry>>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let (kind, text) = metrics::render(&registry, accept);
    ([(header::CONTENT_TYPE, kind)], text)
}
