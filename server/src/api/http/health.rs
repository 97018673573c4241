//! What every component answers: whether it is healthy and ready, its metrics and its CPU profile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engine::model::Budget;
use http::{HeaderMap, StatusCode, header};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;

use super::coding::with_codings;
use super::measure::HttpMetrics;
use super::profile;
use super::query::ending::compute;
use super::query::respond::held_by;
use crate::telemetry::exposition::Room;
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

/// The metrics of the process, as they are asked for.
#[derive(Clone)]
struct Asked {
    registry: Arc<Registry>,
    memory: Arc<Budget>,
    /// Bytes of the text that was made last: one is made at a time.
    last: Arc<Mutex<usize>>,
}

/// The routes that every component has; what `registry` has to tell takes of `memory`.
pub fn routes(health: Health, registry: Arc<Registry>, memory: &Arc<Budget>) -> Router {
    let asked = Asked { registry, memory: Arc::clone(memory), last: Arc::default() };
    Router::new()
        .route("/-/healthy", get(|| async { "OK" }))
        .route("/-/ready", get(ready).with_state(health))
        .route("/metrics", get(render).with_state(asked).layer(from_fn(with_codings)))
        .merge(profile::routes())
}

async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.is_ready() { (StatusCode::OK, "OK") } else { (StatusCode::SERVICE_UNAVAILABLE, "NOT OK") }
}

async fn render(State(asked): State<Asked>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let mut last = Arc::clone(&asked.last).lock_owned().await;
    // Of many tenants it takes seconds.
    let rendered = compute(move |_| {
        let room = Room::of(&asked.memory)?;
        let rendered = metrics::render_within(&asked.registry, &accept, (room, *last))?;
        *last = rendered.1.len();
        Ok(rendered)
    });
    match rendered.await {
        Ok((kind, text, held)) => {
            let response = ([(header::CONTENT_TYPE, kind)], text).into_response();
            if held.bytes() == 0 { response } else { held_by(response, held) }
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use http_body_util::BodyExt;
    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::DescriptorEncoder;

    use super::*;

    fn asked(registry: Registry, memory: &Arc<Budget>) -> State<Asked> {
        State(Asked { registry: Arc::new(registry), memory: Arc::clone(memory), last: Arc::default() })
    }

    /// A metric that takes long: until it is told to go on.
    #[derive(Debug)]
    struct Slow(std::sync::Mutex<mpsc::Receiver<()>>);

    impl Collector for Slow {
        fn encode(&self, _encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
            self.0.lock().unwrap().recv_timeout(Duration::from_secs(30)).map_err(|_| std::fmt::Error)
        }
    }

    /// A scrape of 20,000 tenants once kept writers waiting for seconds.
    #[tokio::test]
    async fn metrics_are_written_where_nobody_waits_for_the_thread() {
        let (sender, receiver) = mpsc::channel();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Slow(std::sync::Mutex::new(receiver))));
        let memory = Budget::new("--store.memory-limit", 1 << 20);
        let response = render(asked(registry, &memory), HeaderMap::new());
        let meanwhile = async { sender.send(()).unwrap() };
        let (response, ()) = tokio::join!(response, meanwhile);
        assert_eq!(response.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn metrics_are_accounted_for_until_they_were_sent_and_refused_where_there_is_no_room() {
        let (mut registry, gauges) = (Registry::default(), Gauges::default());
        registry.register("x", "Things", gauges.clone());
        (0..3000).for_each(|at| _ = gauges.get_or_create(&vec![("tenant", format!("{at:01000}"))]).set(1));
        let memory = Budget::new("--store.memory-limit", 16 << 20);
        let asked = asked(registry, &memory);
        let response = render(asked.clone(), HeaderMap::new()).await;
        let sent = response.into_body().collect().await.unwrap().to_bytes();
        assert!(sent.len() > 3_000_000 && memory.usage().used >= sent.len() as u64, "{:?}", memory.usage());
        drop(sent);
        assert_eq!(memory.usage().used, 0);
        let _others = memory.reserve(16 << 20).unwrap();
        let response = render(asked.clone(), HeaderMap::new()).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let sent = response.into_body().collect().await.unwrap().to_bytes();
        assert!(sent.starts_with(b"writing metrics: --store.memory-limit: "), "{sent:?}");
        gauges.clear();
        assert_eq!(render(asked, HeaderMap::new()).await.status(), StatusCode::OK, "what is small is told");
    }
}
