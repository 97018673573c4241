//! Counts gRPC calls under the names that Go's middleware has for them, on either side of the wire.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use super::metrics::{Counters, Histograms, MetricLabels, duration_histogram};

/// Methods that answer one message with a stream.
const STREAMS: [&str; 9] =
    ["Series", "Query", "QueryRange", "Rules", "Targets", "MetricMetadata", "Exemplars", "TSDBStatistics", "Watch"];

/// Codes that gRPC has: numbers from 0 on.
const CODES: i32 = 17;

/// Metrics of calls; clones share them.
#[derive(Clone, Debug)]
pub struct RpcMetrics {
    started: Counters,
    handled: Counters,
    /// Messages of answers, and of questions.
    messages: Counters,
    questions: Counters,
    durations: Histograms,
}

impl Default for RpcMetrics {
    fn default() -> Self {
        Self {
            started: Counters::default(),
            handled: Counters::default(),
            messages: Counters::default(),
            questions: Counters::default(),
            durations: Histograms::new_with_constructor(duration_histogram),
        }
    }
}

impl RpcMetrics {
    /// Publishes them as those of calls that this process answers.
    pub fn register_server(&self, registry: &mut Registry) {
        registry.register("grpc_server_started", "RPCs started on the server", self.started.clone());
        registry.register("grpc_server_handled", "RPCs completed on the server", self.handled.clone());
        registry.register("grpc_server_msg_sent", "Stream pieces sent by the server", self.messages.clone());
        let help = "RPC stream messages received on the server";
        registry.register("grpc_server_msg_received", help, self.questions.clone());
        let help = "Seconds from the start of an RPC to its end on the server";
        registry.register("grpc_server_handling_seconds", help, self.durations.clone());
    }

    /// Publishes them as those of calls that this process makes.
    pub fn register_client(&self, registry: &mut Registry) {
        registry.register("grpc_client_started", "RPCs started on the client", self.started.clone());
        registry.register("grpc_client_handled", "RPCs completed on the client", self.handled.clone());
        registry.register("grpc_client_msg_received", "Stream pieces received by the client", self.messages.clone());
        registry.register("grpc_client_msg_sent", "Stream messages sent by the client", self.questions.clone());
        let help = "Seconds from the start of an RPC to its end on the client";
        registry.register("grpc_client_handling_seconds", help, self.durations.clone());
    }

    /// Tells of the method at `path` before it is called, with every code: a rate is only of what rises from a zero
    /// that was seen.
    pub fn begin_at_zero(&self, path: &str) {
        let labels = labels(path);
        for counters in [&self.started, &self.messages, &self.questions] {
            counters.get_or_create(&labels).inc_by(0);
        }
        drop(self.durations.get_or_create(&labels));
        for code in (0..CODES).map(Code::from_i32) {
            self.handled.get_or_create(&with_code(labels.clone(), code)).inc_by(0);
        }
    }
}

/// Method, service and kind of the method at `path`, with the names of their labels.
fn labels(path: &str) -> MetricLabels {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
    let kind = match method {
        "ServerReflectionInfo" => "bidi_stream",
        method if STREAMS.contains(&method) => "server_stream",
        _ => "unary",
    };
    vec![("grpc_method", method.to_owned()), ("grpc_service", service.to_owned()), ("grpc_type", kind.to_owned())]
}

fn with_code(mut labels: MetricLabels, code: Code) -> MetricLabels {
    labels.insert(0, ("grpc_code", name(code)));
    labels
}

/// A code's name in Go.
fn name(code: Code) -> String {
    match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    }
}

/// One call under way; counted as handled when it is dropped.
#[derive(Debug)]
pub struct Call {
    metrics: RpcMetrics,
    labels: MetricLabels,
    messages: Counter,
    started: Instant,
    code: Option<Code>,
}

impl Call {
    /// The call of the method at `path` begins.
    pub fn begin(metrics: &RpcMetrics, path: &str) -> Self {
        let labels = labels(path);
        metrics.started.get_or_create(&labels).inc();
        // Every method here is asked by one message, but for that of reflection.
        metrics.questions.get_or_create(&labels).inc();
        let messages = metrics.messages.get_or_create(&labels).clone();
        Self { metrics: metrics.clone(), labels, messages, started: Instant::now(), code: None }
    }

    /// Method, service and kind, with the names of their labels.
    pub fn labels(&self) -> &MetricLabels {
        &self.labels
    }

    /// The code that these headers or trailers tell, if so.
    pub fn note(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get("grpc-status") {
            self.code = Some(Code::from_bytes(code.as_bytes()));
        }
    }

    /// The call comes to its end with this code.
    pub fn set_code(&mut self, code: Code) {
        self.code = Some(code);
    }

    /// The name of the code so far; a call without one was given up by whoever made it.
    pub fn code(&self) -> String {
        name(self.ended())
    }

    fn ended(&self) -> Code {
        self.code.unwrap_or(Code::Cancelled)
    }

    /// Time since it began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.metrics.durations.get_or_create(&self.labels).observe(self.elapsed().as_secs_f64());
        let labels = with_code(std::mem::take(&mut self.labels), self.ended());
        self.metrics.handled.get_or_create(&labels).inc();
    }
}

/// The body of an answer, whose pieces are counted and whose trailers end its call.
pub struct CountedBody<C> {
    inner: Body,
    call: C,
}

impl<C: AsMut<Call>> CountedBody<C> {
    /// The body of the answer to `call`.
    pub fn new(inner: Body, call: C) -> Self {
        Self { inner, call }
    }
}

impl AsMut<Call> for Call {
    fn as_mut(&mut self) -> &mut Call {
        self
    }
}

impl<C: AsMut<Call> + Unpin> http_body::Body for CountedBody<C> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(context));
        let call = self.call.as_mut();
        match &frame {
            Some(Ok(frame)) => match frame.trailers_ref() {
                Some(trailers) => call.note(trailers),
                None => drop(call.messages.inc()),
            },
            Some(Err(status)) => call.set_code(status.code()),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

/// A connection whose calls are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    metrics: RpcMetrics,
}

impl<S> Counted<S> {
    /// Counts the calls over `inner`.
    pub fn new(inner: S, metrics: RpcMetrics) -> Self {
        Self { inner, metrics }
    }

    /// What the calls go over.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Another connection whose calls are counted with these.
    pub fn over<T>(&self, inner: T) -> Counted<T> {
        Counted::new(inner, self.metrics.clone())
    }
}

impl<S> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut call = Call::begin(&self.metrics, request.uri().path());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await.inspect_err(|_| call.set_code(Code::Unavailable))?;
            let (parts, body) = answer.into_parts();
            // An answer without a body has its status among the headers.
            call.note(&parts.headers);
            Ok(Response::from_parts(parts, Body::new(CountedBody::new(body, call))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::render;

    #[derive(Clone)]
    struct Answers(Option<&'static str>);

    impl Service<Request<Body>> for Answers {
        type Response = Response<Body>;
        type Error = std::io::Error;
        type Future = std::future::Ready<Result<Response<Body>, std::io::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let refused = std::io::ErrorKind::ConnectionRefused;
            let answer =
                self.0.map(|code| Response::builder().header("grpc-status", code).body(Body::empty()).unwrap());
            std::future::ready(answer.ok_or_else(|| refused.into()))
        }
    }

    #[test]
    fn calls_are_counted_by_method_and_by_how_they_end() {
        let metrics = RpcMetrics::default();
        let mut registry = Registry::default();
        metrics.register_client(&mut registry);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (code, path) in [(Some("0"), "/thanos.Store/Series"), (Some("5"), "/a/B"), (None, "/a/B")] {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            drop(runtime.block_on(Counted::new(Answers(code), metrics.clone()).call(request)));
        }
        let text = render(&registry, "").1;
        for line in [
            "grpc_client_started_total{grpc_method=\"B\",grpc_service=\"a\",grpc_type=\"unary\"} 2",
            "grpc_client_msg_sent_total{grpc_method=\"B\",grpc_service=\"a\",grpc_type=\"unary\"} 2",
            "{grpc_code=\"OK\",grpc_method=\"Series\",grpc_service=\"thanos.Store\",grpc_type=\"server_stream\"} 1",
            "{grpc_code=\"NotFound\",grpc_method=\"B\",grpc_service=\"a\",grpc_type=\"unary\"} 1",
            "{grpc_code=\"Unavailable\",grpc_method=\"B\",grpc_service=\"a\",grpc_type=\"unary\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
    /// There was no series before the first error: an alert on the rate of errors missed one that came alone.
    #[test]
    fn a_method_that_was_not_called_yet_has_every_code_at_zero() {
        let metrics = RpcMetrics::default();
        let mut registry = Registry::default();
        metrics.register_server(&mut registry);
        metrics.begin_at_zero("/thanos.Store/Series");
        let text = render(&registry, "").1;
        let method = "grpc_method=\"Series\",grpc_service=\"thanos.Store\",grpc_type=\"server_stream\"}";
        for line in [
            format!("grpc_server_started_total{{{method} 0"),
            format!("grpc_server_msg_received_total{{{method} 0"),
            format!("grpc_server_msg_sent_total{{{method} 0"),
            format!("grpc_server_handled_total{{grpc_code=\"OK\",{method} 0"),
            format!("grpc_server_handled_total{{grpc_code=\"Canceled\",{method} 0"),
            format!("grpc_server_handled_total{{grpc_code=\"Unauthenticated\",{method} 0"),
            format!("grpc_server_handling_seconds_count{{{method} 0"),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
        let handled = || render(&registry, "").1.lines().filter(|line| line.contains("grpc_code=")).count();
        assert_eq!(handled(), 17);
        // What is called is counted there.
        drop(Call::begin(&metrics, "/thanos.Store/Series"));
        assert_eq!(handled(), 17);
    }
}
