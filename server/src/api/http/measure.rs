//! Counts requests of the HTTP API under the names that Thanos has for them, and logs those that
//! `--request.logging-config` names.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body::Body as _;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::telemetry::metrics::{Counters, Gauges, Histograms, Labelled, MetricLabels, OfTenants, UnderWay};
use crate::telemetry::requests::{Decision, RequestLog};

/// Upper bounds of the durations of requests, in seconds: those that Thanos has for queries, and those
/// that its receiver has for writes, as both are one metric.
const DURATION_BUCKETS: [f64; 32] = [
    0.001, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.25, 0.3, 0.5, 0.6, 0.75, 1.0, 2.0, 3.0,
    4.0, 5.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0, 240.0, 360.0, 720.0,
];

/// Metrics of the HTTP API; clones share them.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: Counters,
    durations: Histograms,
    in_flight: Gauges,
    request_sizes: Histograms,
    response_sizes: Histograms,
    of_tenants: OfTenants,
}

/// The tenant that a request was answered for; where a response carries it, requests are counted for
/// each tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedTenant(pub String);

/// A request under way, counted once: for its tenant where that is known before there is anything to wait for.
#[derive(Clone, Debug)]
struct Flight(Arc<Flown>);

#[derive(Debug)]
struct Flown {
    metrics: HttpMetrics,
    labels: MetricLabels,
    under_way: OnceLock<UnderWay>,
}

/// What is done with each request.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Counts it.
    pub metrics: HttpMetrics,
    /// Says whether it is logged.
    pub log: Arc<RequestLog>,
}

/// A histogram of bytes with the buckets that Thanos has.
fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(64.0, 2.0, 10))
}

/// The method of a request; one that HTTP does not know is called unknown, as in Go's client: names that callers make
/// up would be kept for ever.
fn method(request: &Request) -> &'static str {
    match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "unknown",
    }
}

/// Bytes of a request as Go's client counts them: its first line, headers and body.
fn request_bytes(request: &Request) -> u64 {
    let header = |(name, value): (&HeaderName, &HeaderValue)| match *name {
        header::HOST => value.len(),
        _ => name.as_str().len() + value.len(),
    };
    let headers: usize = request.headers().iter().map(header).sum();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let line = target + request.method().as_str().len() + "HTTP/1.1".len();
    (line + headers) as u64 + request.body().size_hint().exact().unwrap_or_default()
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self {
            requests: Counters::default(),
            durations: Histograms::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            in_flight: Gauges::default(),
            request_sizes: Histograms::new_with_constructor(sizes),
            response_sizes: Histograms::new_with_constructor(sizes),
            of_tenants: OfTenants::default(),
        }
    }
}

impl HttpMetrics {
    /// Publishes the metrics.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "Tracks the number of HTTP requests", self.requests.clone());
        let help = "Tracks the latencies for HTTP requests";
        registry.register("http_request_duration_seconds", help, self.durations.clone());
        registry.register(
            "http_inflight_requests",
            "Current number of HTTP requests under way",
            self.in_flight.clone(),
        );
        let help = "Tracks the size of HTTP requests";
        registry.register("http_request_size_bytes", help, self.request_sizes.clone());
        let help = "Tracks the size of HTTP responses";
        registry.register("http_response_size_bytes", help, self.response_sizes.clone());
    }

    /// A tenant is gone.
    pub fn forget(&self, tenant: &str) {
        self.remove(self.of_tenants.take(tenant));
    }

    /// The metric of `family` with these labels; where it is the first, its tenant is known to have it.
    fn of<M: Clone + Default>(&self, family: &Labelled<M>, labels: &MetricLabels) -> M {
        if let Some(known) = family.get(labels).map(|metric| metric.clone()) {
            return known;
        }
        if let Some((_, tenant)) = labels.iter().find(|(name, _)| *name == "tenant") {
            self.remove(self.of_tenants.note(tenant, labels));
        }
        family.get_or_create(labels).clone()
    }

    fn remove(&self, gone: BTreeSet<MetricLabels>) {
        for labels in gone {
            self.requests.remove(&labels);
            self.in_flight.remove(&labels);
            for histograms in [&self.durations, &self.request_sizes, &self.response_sizes] {
                histograms.remove(&labels);
            }
        }
    }

    fn done(&self, (handler, method): (&str, &str), response: &Response, (begin, request_bytes): (Instant, u64)) {
        let mut labels = labels(handler, method, response.status().as_u16());
        if let Some(CountedTenant(tenant)) = response.extensions().get() {
            labels.push(("tenant", tenant.clone()));
        }
        self.of(&self.requests, &labels).inc();
        self.durations.get_or_create(&labels).observe(begin.elapsed().as_secs_f64());
        self.request_sizes.get_or_create(&labels).observe(request_bytes as f64);
        if let Some(bytes) = response.body().size_hint().exact() {
            self.response_sizes.get_or_create(&labels).observe(bytes as f64);
        }
    }
}

impl Flight {
    fn new(metrics: &HttpMetrics, (handler, method): (&str, &str)) -> Self {
        let labels = vec![("handler", handler.to_owned()), ("method", method.to_owned())];
        Self(Arc::new(Flown { metrics: metrics.clone(), labels, under_way: OnceLock::new() }))
    }

    fn begin(&self, tenant: Option<&str>) {
        let Flown { metrics, labels, under_way } = &*self.0;
        under_way.get_or_init(|| {
            let mut labels = labels.clone();
            if let Some(tenant) = tenant {
                labels.push(("tenant", tenant.to_owned()));
            }
            UnderWay::begin(&metrics.of(&metrics.in_flight, &labels))
        });
    }
}

fn labels(handler: &str, method: &str, code: u16) -> MetricLabels {
    vec![("code", code.to_string()), ("handler", handler.to_owned()), ("method", method.to_owned())]
}

/// Says whom the request with these extensions is counted for while it is under way. It is to be said at once.
pub fn begin_for(extensions: &Extensions, tenant: &str) {
    if let Some(flight) = extensions.get::<Flight>() {
        flight.begin(Some(tenant));
    }
}

/// Counts and logs one request; requests for anything but the API pass untouched.
pub async fn watched<F: Future<Output = Response>>(
    watch: &Watch,
    mut request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let handler = request.extensions().get::<MatchedPath>().and_then(|path| handler(path.as_str()));
    let Some(handler) = handler else { return next(request).await };
    let begin = Instant::now();
    let told = method(&request);
    let method = told.to_ascii_lowercase();
    let request_bytes = request_bytes(&request);
    let call = watch.log.has_http().then(|| Call::of(&request));
    let call = call.map(|call| (watch.log.http(&call.target, &call.host), call));
    if let Some((Decision::StartAndEnd, call)) = &call
        && watch.log.writes_http(200)
    {
        call.log_start(&handler);
    }
    // Thanos writes the method as it came here, and in lower case elsewhere.
    let flight = Flight::new(&watch.metrics, (&handler, told));
    request.extensions_mut().insert(flight.clone());
    let mut running = pin!(next(request));
    let response = poll_fn(|context| {
        let polled = running.as_mut().poll(context);
        flight.begin(None);
        polled
    });
    let response = response.await;
    drop(flight);
    watch.metrics.done((&handler, &method), &response, (begin, request_bytes));
    let status = response.status().as_u16();
    if let Some((Decision::End | Decision::StartAndEnd, call)) = &call
        && watch.log.writes_http(status)
    {
        call.log_end(&handler, status, begin);
    }
    response
}

/// What is logged of a request.
struct Call {
    method: String,
    target: String,
    host: String,
    id: String,
    agent: String,
    from: String,
}

impl Call {
    fn of(request: &Request) -> Self {
        let target = request.uri().to_string();
        let headers = request.headers();
        Self {
            method: format!("{} {target}", request.method()),
            host: text(headers, header::HOST.as_str()),
            id: text(headers, "x-request-id"),
            agent: text(headers, header::USER_AGENT.as_str()),
            from: text(headers, "x-forwarded-for"),
            target,
        }
    }

    fn log_start(&self, handler: &str) {
        tracing::debug!(
            protocol = "http",
            http.component = "server",
            http.method = self.method,
            http.request_id = self.id,
            http.user_agent = self.agent,
            thanos.method_name = handler,
            "started call"
        );
    }

    fn log_end(&self, handler: &str, status: u16, begin: Instant) {
        let time_ms = begin.elapsed().as_secs_f64() * 1e3;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    protocol = "http",
                    http.component = "server",
                    http.method = self.method,
                    http.request_id = self.id,
                    http.user_agent = self.agent,
                    http.status_code = status,
                    http.time_ms = time_ms,
                    http.remote_addr = self.from,
                    thanos.method_name = handler,
                    "finished call"
                )
            };
        }
        if (200..500).contains(&status) { line!(debug) } else { line!(error) }
    }
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// Thanos' name of what answers a path of the API; `None` for what is no API.
fn handler(path: &str) -> Option<String> {
    let (_, rest) = path.split_once("/api/v1/")?;
    Some(match rest {
        "labels" => "label_names".to_owned(),
        "otlp/v1/metrics" => "otlp".to_owned(),
        "query_exemplars" => "exemplars".to_owned(),
        rest => {
            let words: Vec<&str> = rest.split('/').filter(|word| !word.is_empty() && !word.starts_with('{')).collect();
            words.join("_")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_for_a_tenant_goes_with_it() {
        let (metrics, mut registry) = (HttpMetrics::default(), Registry::default());
        metrics.register(&mut registry);
        for tenant in ["gone", "stays"] {
            let flight = Flight::new(&metrics, ("receive", "POST"));
            flight.begin(Some(tenant));
            for status in [200, 409] {
                let mut response = Response::new(axum::body::Body::empty());
                *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
                response.extensions_mut().insert(CountedTenant(tenant.to_owned()));
                metrics.done(("receive", "post"), &response, (Instant::now(), 10));
            }
        }
        let lines = |tenant: &str| {
            let (_, text) = crate::telemetry::metrics::render(&registry, "");
            text.lines().filter(|line| line.contains(&format!("tenant=\"{tenant}\""))).count()
        };
        let before = lines("stays");
        assert!(before > 50 && lines("gone") == before, "{before}");
        metrics.forget("gone");
        assert_eq!((lines("gone"), lines("stays")), (0, before));
    }

    #[test]
    fn handlers_have_the_names_that_thanos_gives_them() {
        for (path, name) in [
            ("/api/v1/query_range", Some("query_range")),
            ("/prefix/api/v1/label/{name}/values", Some("label_values")),
            ("/api/v1/labels", Some("label_names")),
            ("/api/v1/blocks", Some("blocks")),
            ("/api/v1/query_exemplars", Some("exemplars")),
            ("/api/v1/receive", Some("receive")),
            ("/api/v1/otlp/v1/metrics", Some("otlp")),
            ("/metrics", None),
        ] {
            assert_eq!(handler(path).as_deref(), name, "{path}");
        }
    }
}
