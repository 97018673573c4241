//! The HTTP handlers: remote write of both versions and OTLP.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use engine::head::{BadLabels, Reason, Unread, WriteBatch, WriteReport};
use engine::model::{Budget, Reservation};
use engine::shard::ingest::WriteLimits;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version, header};

use super::body::{self, BodyError, Room};
use super::intake::{Counts, Protocol, Taken, take, take_unread};
use super::metrics::Stage;
use super::otlp::{self, Encoding, Untranslated};
use super::refusal::{Refusal, judge};
use super::{Receiver, limits::Exceeded};
use crate::api::http::measure::{CountedTenant, begin_for};
use crate::edge::certificate::ClientCertificate;

/// What the sender of a request that can be taken later should wait.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

const VERSION: &str = "x-prometheus-remote-write-version";
const SAMPLES_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");
const HISTOGRAMS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-histograms-written");
const EXEMPLARS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-exemplars-written");

/// The routes of a receiver.
pub fn routes(receiver: &Arc<Receiver>) -> Router {
    Router::new()
        .route("/api/v1/receive", post(receive).with_state(Arc::clone(receiver)))
        .route("/api/v1/otlp", post(receive_otlp).with_state(Arc::clone(receiver)))
        .route("/api/v1/otlp/v1/metrics", post(receive_otlp).with_state(Arc::clone(receiver)))
}

async fn receive(State(receiver): State<Arc<Receiver>>, request: Request<Body>) -> Response {
    receiver.measured(request, Form::RemoteWrite).await
}

async fn receive_otlp(State(receiver): State<Arc<Receiver>>, request: Request<Body>) -> Response {
    receiver.measured(request, Form::Otlp).await
}

/// What a request holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    RemoteWrite,
    Otlp,
}

/// How a request is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    RemoteWrite(Protocol),
    Otlp(Encoding),
}

/// Bytes of a time and a value.
const SAMPLE_BYTES: usize = 16;

/// Bytes up to which a request is translated where it is read.
const TRANSLATED_BYTES_INLINE: usize = 256 << 10;

/// What was written of a request.
#[derive(Clone, Copy, Debug)]
struct Written {
    samples: u64,
    histograms: u64,
    exemplars: u64,
}

impl Written {
    fn all(counts: Counts) -> Self {
        Self { samples: counts.samples, histograms: counts.histograms, exemplars: counts.exemplars }
    }
}

/// An answer in the making.
struct Answer {
    protocol: Protocol,
    counts: Counts,
    /// Series and floats of each tenant, where the series of a request may be those of several.
    shares: Option<Vec<(String, (u64, u64))>>,
    /// None where receivers kept parts of a refused request and nobody knows which.
    written: Option<Written>,
    refusal: Option<Refusal>,
}

/// A body, and whether any of it was asked for: a sender that waits to be told to go on is told so then.
struct Asked {
    body: Body,
    is_asked: bool,
}

impl http_body::Body for Asked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        self.is_asked = true;
        http_body::Body::poll_frame(Pin::new(&mut self.body), context)
    }
}

/// A request that was refused before it was read.
struct Refused {
    status: StatusCode,
    message: String,
}

impl From<BodyError> for Refused {
    fn from(error: BodyError) -> Self {
        Self { status: error.status, message: error.message }
    }
}

impl From<Exceeded> for Refused {
    fn from(exceeded: Exceeded) -> Self {
        Self { status: exceeded.status(), message: exceeded.message().to_owned() }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { status: refusal.status(), message: refusal.message }
    }
}

impl Refused {
    fn bad(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }
}

/// Does `work` of a request where nobody waits for the thread; `what` names it.
async fn aside<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        let message = format!("{what} of the request has panicked");
        Refused { status: StatusCode::INTERNAL_SERVER_ERROR, message }
    })
}

impl Receiver {
    async fn measured(self: &Arc<Self>, request: Request<Body>, form: Form) -> Response {
        let (parts, body) = request.into_parts();
        let mut body = Asked { body, is_asked: false };
        let certificate = parts.extensions.get::<ClientCertificate>();
        let (tenant, outcome) = match self.options.tenancy.tenant(&parts.headers, certificate) {
            Ok(tenant) => {
                begin_for(&parts.extensions, &tenant);
                let outcome = self.handle(&tenant, (&parts.headers, &mut body), form).await;
                (tenant, outcome)
            }
            Err(why) => (String::new(), Err(Refused::bad(why))),
        };
        // Streams of HTTP/2 end alone, and who still waits to be told to go on has sent nothing.
        let is_sent = body.is_asked || !parts.headers.contains_key(header::EXPECT);
        if outcome.is_err() && parts.version <= Version::HTTP_11 && is_sent {
            body::drain(&mut body).await;
        }
        let mut response = match outcome {
            Ok(answer) => {
                let response = respond(&answer);
                let status = response.status().as_u16();
                match &answer.shares {
                    None => self.metrics.written((status, &tenant), (answer.counts.series, answer.counts.samples)),
                    Some(shares) => {
                        shares.iter().for_each(|(tenant, counts)| self.metrics.written((status, tenant), *counts));
                    }
                }
                if let Some(refusal) = &answer.refusal {
                    self.noted.refused(&tenant, response.status(), &refusal.message);
                }
                response
            }
            Err(refused) => {
                self.noted.refused(&tenant, refused.status, &refused.message);
                with_retry((refused.status, refused.message).into_response())
            }
        };
        response.extensions_mut().insert(CountedTenant(tenant));
        response
    }

    async fn handle(
        self: &Arc<Self>,
        tenant: &str,
        (headers, body): (&HeaderMap, &mut Asked),
        form: Form,
    ) -> Result<Answer, Refused> {
        let (coding, replica) = self.announced(tenant, headers, form)?;
        let begin = Instant::now();
        let (packed, held) = self.read(tenant, headers, body).await?;
        self.metrics.stage(Stage::Receive, begin);
        // Senders take their time: with a turn before, a few that are slow would stop all others.
        let _turn = self.limiter.turn().await;
        let begin = Instant::now();
        let (plain, mut held) = self.unpack(tenant, headers, (packed, held), form).await?;
        let (protocol, request) = match coding {
            Coding::RemoteWrite(protocol) => (protocol, plain),
            Coding::Otlp(encoding) => {
                body::resize(&mut held, plain.len() as u64 + otlp::weight((encoding, &plain)), &self.memory)?;
                let translated = self.translate((encoding, plain), held).await?;
                held = translated.1;
                (Protocol::V1, translated.0)
            }
        };
        // What came packed, or in another form, is done with.
        body::resize(&mut held, request.len() as u64, &self.memory)?;
        self.metrics.stage(Stage::Decompress, begin);
        self.write(tenant, (protocol, request, held), replica).await
    }

    /// What can be told of a request before its body is read: what that is, and which replica.
    fn announced(&self, tenant: &str, headers: &HeaderMap, form: Form) -> Result<(Coding, u64), Refused> {
        // A tenant above its limit takes no turn from others.
        self.limiter.active_series(tenant)?;
        let coding = match form {
            Form::RemoteWrite => protocol(headers).map(Coding::RemoteWrite),
            Form::Otlp => otlp_encoding(headers).map(Coding::Otlp),
        };
        let replica = replica(headers, &self.options.replica_header).map_err(Refused::bad)?;
        Ok((coding.map_err(Refused::bad)?, replica))
    }

    /// The body of a request as it came, with the memory that it takes.
    async fn read(
        &self,
        tenant: &str,
        headers: &HeaderMap,
        body: &mut Asked,
    ) -> Result<(Vec<u8>, Reservation), Refused> {
        let size_max = self.limiter.size_max(tenant);
        let bytes_max = size_max.min(self.options.request_bytes_max as u64);
        let read = body::read(headers, body, (bytes_max, &self.memory)).await;
        if let Err(error) = &read
            && error.status == StatusCode::PAYLOAD_TOO_LARGE
            && size_max == bytes_max
        {
            // Of a body that does not say how long it is, as much was read as it may have.
            let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
            self.limiter.size(tenant, told.unwrap_or(0).max(size_max.saturating_add(1)))?;
        }
        Ok(read?)
    }

    /// Unpacks a body within what its tenant may send and the memory there is; one that may take long where nobody waits
    /// for the thread.
    async fn unpack(
        self: &Arc<Self>,
        tenant: &str,
        headers: &HeaderMap,
        (packed, held): (Vec<u8>, Reservation),
        form: Form,
    ) -> Result<(Vec<u8>, Reservation), Refused> {
        let size_max = self.limiter.size_max(tenant);
        let bytes_max = size_max.min(self.options.request_bytes_max as u64);
        let unpack = move |memory: &Budget, encoding: &str, packed: Vec<u8>, mut held: Reservation| {
            let mut room = Room::new(bytes_max as usize, &mut held, memory);
            let plain = match form {
                Form::RemoteWrite => body::decompress(encoding, &packed, &mut room)?,
                Form::Otlp => body::decompress_otlp(encoding, packed, &mut room)?,
            };
            Ok::<_, BodyError>((plain, held))
        };
        let encoding = body::encoding(headers);
        let unpacked = if body::takes_long(encoding, &packed) {
            let (memory, encoding) = (Arc::clone(&self.memory), encoding.to_owned());
            aside("unpacking", move || unpack(&memory, &encoding, packed, held)).await?
        } else {
            unpack(&self.memory, encoding, packed, held)
        };
        if size_max == bytes_max && unpacked.as_ref().is_err_and(|error| error.is_too_large(bytes_max)) {
            self.limiter.size(tenant, size_max.saturating_add(1))?;
        }
        Ok(unpacked?)
    }

    /// Translates `plain`, whose memory is `held`; a long one where nobody waits for the thread, which has it though its
    /// sender goes away.
    async fn translate(
        self: &Arc<Self>,
        (encoding, plain): (Encoding, Vec<u8>),
        held: Reservation,
    ) -> Result<(Vec<u8>, Reservation), Refused> {
        let translate = move |receiver: &Self, plain: &[u8], held: Reservation| {
            let translated = otlp::translate((encoding, plain), &receiver.options.translation, held);
            translated.map_err(|error| match error {
                Untranslated::Invalid(message) => Refused::bad(message),
                Untranslated::NoRoom(error) => receiver.untaken(error.into()).into(),
            })
        };
        if plain.len() < TRANSLATED_BYTES_INLINE {
            return translate(self, &plain, held);
        }
        let receiver = Arc::clone(self);
        aside("the translation", move || translate(&receiver, &plain, held)).await?
    }

    /// Writes a request of one tenant, here or wherever its series belong.
    async fn write(
        self: &Arc<Self>,
        tenant: &str,
        (protocol, request, held): (Protocol, Vec<u8>, Reservation),
        replica: u64,
    ) -> Result<Answer, Refused> {
        let begin = Instant::now();
        if !self.keeps_all() {
            let (routed, held) = self.route(tenant, (protocol, request, held))?;
            self.metrics.stage(Stage::Parse, begin);
            let counts = routed.counts;
            self.limiter.content(tenant, counts.series, counts.samples)?;
            let bad = BadLabels { unresolved: routed.unresolved, too_many: routed.too_many, ..BadLabels::default() };
            let shares = Some(routed.shares());
            let refused = self.write_routed((routed, held), replica).await.err();
            let refusal = Refusal::merge(refused.into_iter().chain(judge(bad, &WriteReport::default())));
            let written = refusal.is_none().then(|| Written::all(counts));
            return Ok(Answer { protocol, counts, shares, written, refusal });
        }
        let taken = take(protocol, request, held).map_err(|untaken| self.untaken(untaken))?;
        let Taken { batch, mut counts, bad } = taken;
        self.metrics.stage(Stage::Parse, begin);
        self.limiter.content(tenant, counts.series, counts.samples)?;
        let within_limits = |hidden| {
            counts.add(hidden);
            self.limiter.content(tenant, counts.series, counts.samples).map_err(Refused::from)
        };
        let report = self.append_if(tenant, batch, within_limits).await?;
        let written = Written { samples: report.samples, histograms: report.histograms, exemplars: report.exemplars };
        Ok(Answer { protocol, counts, shares: None, written: Some(written), refusal: judge(bad, &report) })
    }

    /// Hands a batch to the shards; what is reported is durable.
    pub async fn append(&self, tenant: &str, batch: WriteBatch) -> Result<WriteReport, Refusal> {
        self.append_if(tenant, batch, |_| Ok(())).await
    }

    /// As [`Receiver::append`]; series that are more than labels and a sample after all are asked for: `may` is
    /// told of what in them was not counted.
    async fn append_if<E: From<Refusal>>(
        &self,
        tenant: &str,
        batch: WriteBatch,
        may: impl FnOnce(Counts) -> Result<(), E>,
    ) -> Result<WriteReport, E> {
        let Some(ingest) = self.ingest.get() else {
            return Err(Refusal::unavailable("the heads are not open yet").into());
        };
        if batch.is_empty() {
            return Ok(WriteReport::default());
        }
        let begin = Instant::now();
        let limits = WriteLimits { series_max: self.limiter.series_max(tenant) };
        let name = Arc::from(tenant);
        let mut report = ingest.append(&name, batch, limits).await.map_err(Refusal::from)?;
        if !report.unread.is_empty() {
            // Their labels and samples are copied twice.
            let bytes_of = |series: &Unread| series.labels.len() + SAMPLE_BYTES * series.samples.len();
            let held = self.hold(2 * report.unread.iter().map(bytes_of).sum::<usize>() as u64)?;
            let taken = take_unread(&report.unread, held).map_err(|error| Refusal::invalid(error.to_string()))?;
            let Taken { batch, counts, bad } = taken;
            let known = report.unread.iter().map(|series| series.samples.len() as u64).sum::<u64>();
            may(Counts { series: 0, samples: counts.samples.saturating_sub(known), ..counts })?;
            report.unread.clear();
            report.bad_labels.add(bad);
            report.add(ingest.append(&name, batch, limits).await.map_err(Refusal::from)?);
        }
        self.metrics.stage(Stage::Append, begin);
        if report.rejected.iter().any(|rejected| rejected.reason == Reason::SeriesLimit) {
            self.limiter.refused_for_series(tenant);
        }
        Ok(report)
    }
}

fn respond(answer: &Answer) -> Response {
    let mut response = match &answer.refusal {
        None => StatusCode::OK.into_response(),
        Some(refusal) => with_retry((refusal.status(), refusal.message.clone()).into_response()),
    };
    if let (Protocol::V2, Some(Written { samples, histograms, exemplars })) = (answer.protocol, answer.written) {
        let headers = response.headers_mut();
        for (name, count) in
            [(SAMPLES_WRITTEN, samples), (HISTOGRAMS_WRITTEN, histograms), (EXEMPLARS_WRITTEN, exemplars)]
        {
            headers.insert(name, HeaderValue::from(count));
        }
    }
    response
}

fn with_retry(mut response: Response) -> Response {
    if matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    response
}

/// The protocol that the headers name; as upstream, version 1 when they name no version.
fn protocol(headers: &HeaderMap) -> Result<Protocol, String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let content: String = text("content-type").chars().filter(|c| !c.is_whitespace()).collect();
    match content.as_str() {
        "application/x-protobuf;proto=io.prometheus.write.v2.Request" => Ok(Protocol::V2),
        "application/x-protobuf" | "application/x-protobuf;proto=prometheus.WriteRequest" => Ok(Protocol::V1),
        _ if !text(VERSION).starts_with("2.") => Ok(Protocol::V1),
        "" => Err("missing Content-Type header".into()),
        _ => Err("required headers Content-Type and/or X-Prometheus-Remote-Write-Version not found".into()),
    }
}

fn otlp_encoding(headers: &HeaderMap) -> Result<Encoding, String> {
    let content = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    match content.split(';').next().unwrap_or("").trim() {
        "application/x-protobuf" => Ok(Encoding::Protobuf),
        "application/json" => Ok(Encoding::Json),
        other => {
            Err(format!("unsupported content type: {other}, supported: [application/json, application/x-protobuf]"))
        }
    }
}

/// Which replica a request is, from 1; 0 when it is none.
fn replica(headers: &HeaderMap, name: &str) -> Result<u64, String> {
    match headers.get(name).filter(|value| !value.is_empty()) {
        None => Ok(0),
        Some(value) => {
            let number = value.to_str().ok().and_then(|text| text.parse().ok());
            number.ok_or_else(|| "could not parse replica header".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(content: &'static str, version: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
        headers.insert(VERSION, HeaderValue::from_static(version));
        headers
    }

    #[test]
    fn the_protocol_is_told_by_the_content_type() {
        let v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
        assert_eq!(protocol(&headers(v2, "2.0.0")), Ok(Protocol::V2));
        assert_eq!(protocol(&headers("application/x-protobuf", "0.1.0")), Ok(Protocol::V1));
        assert_eq!(protocol(&headers("application/x-protobuf", "2.0.0")), Ok(Protocol::V1));
        assert_eq!(protocol(&HeaderMap::new()), Ok(Protocol::V1));
        assert!(protocol(&headers("text/plain", "2.0.0")).is_err());
    }

    #[test]
    fn a_replica_is_a_number() {
        let mut headers = HeaderMap::new();
        assert_eq!(replica(&headers, "THANOS-REPLICA"), Ok(0));
        headers.insert("thanos-replica", HeaderValue::from_static("2"));
        assert_eq!(replica(&headers, "THANOS-REPLICA"), Ok(2));
        headers.insert("thanos-replica", HeaderValue::from_static("x"));
        assert!(replica(&headers, "THANOS-REPLICA").is_err());
    }
}
