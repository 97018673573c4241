//! Counts calls under the names that Go's gRPC middleware has for them and logs those that
//! `--request.logging-config` names; a panic fails its own call alone.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use prometheus_client::registry::Registry;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use crate::telemetry::metrics::{Counters, Histograms, MetricLabels, duration_histogram};
use crate::telemetry::requests::{Decision, RequestLog};

/// Metrics of all gRPC services of the process.
#[derive(Clone, Debug)]
pub struct GrpcMetrics {
    started: Counters,
    handled: Counters,
    sent: Counters,
    panics: Counters,
    durations: Histograms,
}

impl GrpcMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            started: Counters::default(),
            handled: Counters::default(),
            sent: Counters::default(),
            panics: Counters::default(),
            durations: Histograms::new_with_constructor(duration_histogram),
        };
        registry.register("grpc_server_started", "RPCs started on the server", metrics.started.clone());
        registry.register("grpc_server_handled", "RPCs completed on the server", metrics.handled.clone());
        registry.register("grpc_server_msg_sent", "Stream pieces sent by the server", metrics.sent.clone());
        registry.register("grpc_server_panics_recovered", "RPCs that panicked", metrics.panics.clone());
        registry.register(
            "grpc_server_handling_seconds",
            "Seconds from the start of an RPC to its end on the server",
            metrics.durations.clone(),
        );
        metrics
    }
}

/// A service whose calls are counted.
#[derive(Clone, Debug)]
pub struct Measured<S> {
    inner: S,
    metrics: GrpcMetrics,
    log: Arc<RequestLog>,
}

impl<S> Measured<S> {
    /// Counts the calls of `inner` and logs those that `log` names.
    pub fn new(inner: S, metrics: GrpcMetrics, log: Arc<RequestLog>) -> Self {
        Self { inner, metrics, log }
    }
}

impl<S, B> Service<Request<B>> for Measured<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = super::Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = Measure::begin(&self.metrics, request.uri().path(), &self.log);
        let answer = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        Box::pin(async move {
            let response = match answer.await {
                Ok(Ok(response)) => response,
                Err(_) => {
                    call.metrics.panics.get_or_create(&call.labels).inc();
                    Status::internal("the call panicked; this is a bug").into_http()
                }
            };
            let (parts, body) = response.into_parts();
            let mut call = call;
            // A call without a body has its status among the headers.
            call.note(&parts.headers);
            Ok(Response::from_parts(parts, Body::new(MeasuredBody { inner: body, call })))
        })
    }
}

/// One call under way; counted as handled when it is dropped.
struct Measure {
    metrics: GrpcMetrics,
    labels: MetricLabels,
    started: Instant,
    code: Option<Code>,
    decision: Decision,
}

impl Measure {
    fn begin(metrics: &GrpcMetrics, path: &str, log: &RequestLog) -> Self {
        let decision = log.grpc(path);
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let kind = if matches!(method, "Series" | "Query" | "QueryRange" | "ServerReflectionInfo" | "Watch") {
            "server_stream"
        } else {
            "unary"
        };
        let labels = vec![
            ("grpc_method", method.to_owned()),
            ("grpc_service", service.to_owned()),
            ("grpc_type", kind.to_owned()),
        ];
        metrics.started.get_or_create(&labels).inc();
        if decision == Decision::StartAndEnd {
            tracing::debug!(
                protocol = "grpc",
                grpc.component = "server",
                grpc.service = service,
                grpc.method = method,
                grpc.method_type = kind,
                "started call"
            );
        }
        Self { metrics: metrics.clone(), labels, started: Instant::now(), code: None, decision }
    }

    fn log_end(&self, code: &str) {
        let [(_, method), (_, service), (_, kind)] = &self.labels[..] else { return };
        let time_ms = self.started.elapsed().as_secs_f64() * 1e3;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    protocol = "grpc",
                    grpc.component = "server",
                    grpc.service = service,
                    grpc.method = method,
                    grpc.method_type = kind,
                    grpc.code = code,
                    grpc.time_ms = time_ms,
                    "finished call"
                )
            };
        }
        match code {
            "Unknown" | "Unimplemented" | "Internal" | "DataLoss" => line!(error),
            _ => line!(debug),
        }
    }

    fn note(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get("grpc-status") {
            self.code = Some(Code::from_bytes(code.as_bytes()));
        }
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        self.metrics.durations.get_or_create(&self.labels).observe(self.started.elapsed().as_secs_f64());
        // A body that was dropped before its trailers: the caller has gone.
        let code = match self.code.unwrap_or(Code::Cancelled) {
            Code::Ok => "OK".to_owned(),
            Code::Cancelled => "Canceled".to_owned(),
            code => format!("{code:?}"),
        };
        if self.decision != Decision::Nothing {
            self.log_end(&code);
        }
        let mut labels = std::mem::take(&mut self.labels);
        labels.insert(0, ("grpc_code", code));
        self.metrics.handled.get_or_create(&labels).inc();
    }
}

struct MeasuredBody {
    inner: Body,
    call: Measure,
}

impl http_body::Body for MeasuredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            match frame.trailers_ref() {
                Some(trailers) => self.call.note(trailers),
                None => drop(self.call.metrics.sent.get_or_create(&self.call.labels).inc()),
            }
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
