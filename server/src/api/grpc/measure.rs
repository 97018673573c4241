//! Counts calls under the names that Go's gRPC middleware has for them and logs those that
//! `--request.logging-config` names; what they ask for is read first, and a panic fails its own call alone.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use engine::model::Budget;
use futures_util::FutureExt;
use http::{Request, Response};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::question::{Question, heard};
use super::reflection;
use crate::telemetry::requests::{Decision, RequestLog};
use crate::telemetry::rpc::{Call, CountedBody, RpcMetrics};

/// Metrics of all gRPC services of the process.
#[derive(Clone, Debug, Default)]
pub struct GrpcMetrics {
    calls: RpcMetrics,
    panics: Counter,
    /// Paths of all methods that there are.
    served: Arc<HashSet<String>>,
}

impl GrpcMetrics {
    /// Registers the metrics, those of each method of the services called `served` at zero.
    pub fn register(registry: &mut Registry, served: &[&str]) -> Result<Self, String> {
        let served: HashSet<String> = reflection::paths(served)?.into_iter().collect();
        let metrics = Self { served: Arc::new(served), ..Self::default() };
        metrics.served.iter().for_each(|path| metrics.calls.begin_at_zero(path));
        metrics.calls.register_server(registry);
        let help = "gRPC requests recovered from a panic";
        registry.register("grpc_req_panics_recovered", help, metrics.panics.clone());
        Ok(metrics)
    }
}

/// A service whose calls are counted.
#[derive(Clone, Debug)]
pub struct Measured<S> {
    inner: S,
    metrics: GrpcMetrics,
    log: Arc<RequestLog>,
    memory: Arc<Budget>,
}

impl<S> Measured<S> {
    /// Counts the calls of `inner` and logs those that `log` names; what they ask for takes `memory`.
    pub fn new(inner: S, metrics: GrpcMetrics, log: Arc<RequestLog>, memory: Arc<Budget>) -> Self {
        Self { inner, metrics, log, memory }
    }
}

impl<S, B> Service<Request<B>> for Measured<S>
where
    S: Service<Request<Question<B>>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: fmt::Display + Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = super::Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // What callers make up would be kept for ever.
        let path = request.uri().path();
        if !self.metrics.served.contains(path) && !reflection::PATHS.contains(&path) {
            return Box::pin(self.inner.call(request.map(Question::Coming)));
        }
        let mut measure = Measure::begin(Call::begin(&self.metrics.calls, request.uri().path()), &request, &self.log);
        let panics = self.metrics.panics.clone();
        let (mut inner, memory) = (self.inner.clone(), Arc::clone(&self.memory));
        let answer = async move {
            // Held until the answer begins.
            let (request, _holding) = match heard(request, &memory).await {
                Ok(heard) => heard,
                Err(status) => return Ok(status.into_http()),
            };
            inner.call(request).await
        };
        let answer = AssertUnwindSafe(answer).catch_unwind();
        Box::pin(async move {
            let response = match answer.await {
                Ok(Ok(response)) => response,
                Err(_) => {
                    panics.inc();
                    Status::internal("the call panicked; this is a bug").into_http()
                }
            };
            let (parts, body) = response.into_parts();
            // A call without a body has its status among the headers.
            measure.call.note(&parts.headers);
            Ok(Response::from_parts(parts, Body::new(CountedBody::new(body, measure))))
        })
    }
}

/// One call under way; logged at its end, then counted.
struct Measure {
    call: Call,
    decision: Decision,
}

impl Measure {
    fn begin<B>(call: Call, request: &Request<B>, log: &RequestLog) -> Self {
        let decision = log.grpc(request.uri().path());
        if let ([(_, method), (_, service), (_, kind)], Decision::StartAndEnd) = (&call.labels()[..], decision) {
            tracing::debug!(
                protocol = "grpc",
                grpc.component = "server",
                grpc.service = service,
                grpc.method = method,
                grpc.method_type = kind,
                "started call"
            );
        }
        Self { call, decision }
    }

    fn log_end(&self, code: &str) {
        let [(_, method), (_, service), (_, kind)] = &self.call.labels()[..] else { return };
        let time_ms = self.call.elapsed().as_secs_f64() * 1e3;
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
}

impl AsMut<Call> for Measure {
    fn as_mut(&mut self) -> &mut Call {
        &mut self.call
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        if self.decision != Decision::Nothing {
            self.log_end(&self.call.code());
        }
    }
}
