//! Envelopes: `{"status":"success","data":…}` and `{"status":"error",…}`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use engine::model::{Budget, Error, ErrorKind, Reservation};
use engine::promql::pieces::Pieces;
use engine::promql::{QueryError, Stage};
use http::{HeaderValue, Method, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use serde::Serialize;
use tonic::Code;

use super::body::RequestMemory;
use crate::api::error;
use crate::api::http::blocks::Origins;

/// A request that failed, in Prometheus' terms.
#[derive(Clone, Debug)]
pub struct Failure {
    status: StatusCode,
    error_type: &'static str,
    code: Code,
    message: String,
}

/// What the HTTP API says before what is wrong with a query, which is a parameter there.
const OF_QUERY: &str = "invalid parameter \"query\": ";

impl Failure {
    /// A request that is wrong.
    pub fn bad_data(message: impl Into<String>) -> Self {
        let (status, code) = (StatusCode::BAD_REQUEST, Code::InvalidArgument);
        Self { status, error_type: "bad_data", code, message: message.into() }
    }

    /// The same over gRPC, where a query is no parameter.
    pub fn status(&self) -> tonic::Status {
        tonic::Status::new(self.code, self.message.strip_prefix(OF_QUERY).unwrap_or(&self.message))
    }

    /// A request that may be right and can't be carried out yet.
    pub fn unavailable(message: impl Into<String>) -> Self {
        let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable);
        Self { status, error_type: "unavailable", code, message: message.into() }
    }

    /// A request that is right and could not be carried out.
    pub fn execution(message: impl Into<String>) -> Self {
        let (status, code) = (StatusCode::UNPROCESSABLE_ENTITY, Code::Aborted);
        Self { status, error_type: "execution", code, message: message.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let names = error::names(error.kind());
        let (status, error_type, code) = (names.status, names.error_type, names.code);
        Self { status, error_type, code, message: error.message().to_owned() }
    }
}

impl From<QueryError> for Failure {
    fn from(failed: QueryError) -> Self {
        let message = failed.error.message();
        match (failed.stage, failed.error.kind()) {
            (Stage::Execute, ErrorKind::Canceled | ErrorKind::Deadline | ErrorKind::Bug | ErrorKind::Limit) => {
                failed.error.into()
            }
            // Wherever it is evaluated it fails alike, which whoever has it evaluated here is to know.
            (Stage::Execute, ErrorKind::Invalid) => Self { code: Code::FailedPrecondition, ..Self::execution(message) },
            (Stage::Execute, _) => Self::execution(message),
            (Stage::Prepare, _) => Self::bad_data(format!("{OF_QUERY}{message}")),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "status": "error",
            "errorType": self.error_type,
            "error": self.message,
        });
        json(self.status, Pieces::from(body.to_string().into_bytes()), Caching::No)
    }
}

/// Whether a cache may keep an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// It may.
    Yes,
    /// It may not: an error, or an answer that lacks what an endpoint could not give.
    No,
}

/// Whether an answer with `warnings` may be kept, as Thanos has it: what PromQL remarks about a query it
/// remarks each time, every other warning says that something is missing.
fn caching(warnings: &[String]) -> Caching {
    let is_remark = |warning: &String| warning.starts_with("PromQL warning") || warning.starts_with("PromQL info");
    if warnings.iter().all(is_remark) { Caching::Yes } else { Caching::No }
}

/// `data` in an envelope.
pub fn success(data: &(impl Serialize + ?Sized), warnings: &[String]) -> Response {
    let mut text = OPENING.to_vec();
    serde_json::to_writer(&mut text, data).expect("what is answered can be written as JSON");
    closed(Pieces::from(text), warnings, &[])
}

/// `data`, JSON already, in an envelope.
pub fn enveloped(data: &str) -> Response {
    closed(Pieces::from([OPENING, data.as_bytes()].concat()), &[], &[])
}

/// What an answer begins with, before its data.
pub const OPENING: &[u8] = br#"{"status":"success","data":"#;

/// A body that begins with [`OPENING`] and data, ended and answered.
pub fn closed(mut text: Pieces, warnings: &[String], infos: &[String]) -> Response {
    let body = text.last();
    for (name, notes) in [("warnings", warnings), ("infos", infos)] {
        if !notes.is_empty() {
            body.extend_from_slice(format!(",\"{name}\":{}", serde_json::json!(notes)).as_bytes());
        }
    }
    body.push(b'}');
    json(StatusCode::OK, text, caching(warnings))
}

fn json(status: StatusCode, text: Pieces, caching: Caching) -> Response {
    let body = Body::new(Written::new(text));
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    if caching == Caching::No {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Text that was written as a body of known length, sent piece by piece.
struct Written {
    pieces: std::vec::IntoIter<Vec<u8>>,
    bytes_left: u64,
}

impl Written {
    fn new(text: Pieces) -> Self {
        Self { bytes_left: text.len() as u64, pieces: text.into_pieces().into_iter() }
    }
}

impl http_body::Body for Written {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.next().map(Bytes::from);
        self.bytes_left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes_left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes_left)
    }
}

/// Answers up to this many bytes are given however little memory is left: among them is that there is too little.
const SMALL_ANSWER_BYTES: u64 = 64 << 10;

/// What an answer is accounted for with, for whoever makes other bytes of it.
#[derive(Clone, Debug)]
pub struct AnswerMemory(Arc<Budget>);

/// Accounts for what is answered until it has been sent, as a caller may take its time, and lets the request be
/// accounted for by who reads it.
pub async fn accounted(State(memory): State<Arc<Budget>>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(RequestMemory(Arc::clone(&memory)));
    let mut response = next.run(request).await;
    response.extensions_mut().insert(AnswerMemory(memory));
    account(response)
}

/// Accounts for the bytes of `response` as they are now, where they are accounted for at all.
pub fn account(response: Response) -> Response {
    let Some(AnswerMemory(memory)) = response.extensions().get().cloned() else { return response };
    let Some(bytes) = response.body().size_hint().exact().filter(|bytes| *bytes > SMALL_ANSWER_BYTES) else {
        return response;
    };
    match memory.reserve(bytes) {
        Ok(held) => response.map(|body| Body::new(Accounted { body, held })),
        Err(error) => Failure::from(error.within("answering")).into_response(),
    }
}

/// Accounts for `response`, whose bytes `held` answers for, until it has been sent.
pub fn held_by(mut response: Response, held: Reservation) -> Response {
    response.extensions_mut().insert(AnswerMemory(Arc::clone(held.budget())));
    response.map(|body| Body::new(Accounted { body, held }))
}

/// A body whose bytes are accounted for wherever they wait.
struct Accounted {
    body: Body,
    held: Reservation,
}

/// Bytes with what they are accounted for with.
struct Share {
    bytes: Bytes,
    _held: Reservation,
}

impl AsRef<[u8]> for Share {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl http_body::Body for Accounted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        Pin::new(&mut this.body).poll_frame(context).map_ok(|frame| {
            frame.map_data(|bytes| {
                let _held = this.held.split(bytes.len() as u64);
                Bytes::from_owner(Share { bytes, _held })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Answers preflights, as Prometheus and Thanos do whatever is asked.
pub fn preflight(request: &Request) -> Option<Response> {
    (*request.method() == Method::OPTIONS).then(|| StatusCode::NO_CONTENT.into_response())
}

/// Lets pages of `origins` read `response`.
pub fn allow(response: &mut Response, origins: Origins) {
    if origins == Origins::Own {
        return;
    }
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Accept-Encoding, Authorization, Content-Type, Origin"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    ];
    for (name, value) in allowed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

async fn with_origins(State(origins): State<Origins>, request: Request, next: Next) -> Response {
    let mut response = match preflight(&request) {
        Some(answer) => answer,
        None => next.run(request).await,
    };
    allow(&mut response, origins);
    response
}

/// `routes` for pages of `origins`; preflights are answered whoever may ask.
pub fn for_origins(routes: Router, origins: Origins) -> Router {
    routes.layer(axum::middleware::from_fn_with_state(origins, with_origins))
}

#[cfg(test)]
mod tests {
    use engine::promql::syntax::{Options, parse};

    use super::*;
    use crate::api::http::query::params::Told;

    #[test]
    fn answers_with_remarks_of_promql_may_be_cached_and_partial_ones_not() {
        let remark = "PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)".to_owned();
        let partial = "receive series from a:1: rpc error: code = Unavailable desc = gone".to_owned();
        assert_eq!(caching(&[]), Caching::Yes);
        assert_eq!(caching(std::slice::from_ref(&remark)), Caching::Yes);
        assert_eq!(caching(&[remark, partial]), Caching::No);
    }

    #[test]
    fn a_query_is_a_parameter_over_http_alone() {
        let failed = |stage| Failure::from(QueryError { stage, error: Error::invalid("2:3: no") });
        for stage in [Stage::Prepare, Stage::Execute] {
            assert_eq!(failed(stage).status().message(), "2:3: no");
        }
        // As it is told where requests are read.
        let named = Told::Named("query").failure(parse("(", Options::ALL).unwrap_err());
        assert!(named.message.starts_with(OF_QUERY), "{}", named.message);
        assert_eq!(named.status().message(), &named.message[OF_QUERY.len()..]);
    }

    #[tokio::test]
    async fn what_is_answered_is_accounted_for_until_it_is_sent() {
        let memory = Budget::new("query.memory-limit", 1 << 20);
        let text = || Response::new(Body::from(vec![b' '; 600 << 10]));
        let answer = axum::Router::new()
            .route("/", axum::routing::get(move || async move { text() }))
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&memory), accounted));
        let ask = || tower::ServiceExt::oneshot(answer.clone(), Request::new(Body::empty()));
        let mut first = ask().await.unwrap();
        assert_eq!((first.status(), memory.usage().used), (StatusCode::OK, 600 << 10));
        let second = ask().await.unwrap();
        assert_eq!((second.status(), memory.usage().used), (StatusCode::UNPROCESSABLE_ENTITY, 600 << 10));
        let context = &mut Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(Some(Ok(frame))) = Pin::new(first.body_mut()).poll_frame(context) else { panic!("a frame") };
        drop(first);
        assert_eq!(memory.usage().used, 600 << 10, "it waits to be sent");
        drop(frame);
        assert_eq!(memory.usage().used, 0);
    }

    #[tokio::test]
    async fn what_a_caller_gets_packed_is_accounted_for_as_it_is_sent() {
        let memory = Budget::new("query.memory-limit", 2 << 20);
        let mut state = 1u64;
        let noise: Vec<u8> = (0..300 << 10)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        let answer = axum::Router::new()
            .route("/", axum::routing::get(move || async move { Response::new(Body::from(noise)) }))
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&memory), accounted))
            .layer(axum::middleware::from_fn(crate::api::http::coding::with_codings));
        let request = Request::builder().header(header::ACCEPT_ENCODING, "gzip").body(Body::empty()).unwrap();
        let response = tower::ServiceExt::oneshot(answer, request).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(Some(memory.usage().used), response.body().size_hint().exact());
        drop(response);
        assert_eq!(memory.usage().used, 0);
    }

    #[tokio::test]
    async fn an_answer_in_pieces_has_a_length_and_is_whole() {
        let mut text = Pieces::from(b"{\"data\":[1".to_vec());
        text.push(b",2".to_vec());
        text.last().push(b']');
        let response = closed(text, &[], &[]);
        assert_eq!(response.body().size_hint().exact(), Some(14));
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert_eq!(&body[..], b"{\"data\":[1,2]}");
    }
}
