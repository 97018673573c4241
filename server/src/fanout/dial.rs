//! How endpoints are connected to: plainly or with TLS, an endpoint by one connection, a group by
//! those of its members in turn.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use engine::model::Error;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::{Service, ServiceExt};

use crate::edge::connect::{self, PING_INTERVAL, PING_TIMEOUT, TlsClient};

/// Most bytes of an HTTP/2 frame that an endpoint may send: one of the usual 16 KiB costs as many wakes and
/// copies as one that holds a whole message of gRPC.
const FRAME_BYTES_MAX: u32 = 256 << 10;

/// Bytes that an endpoint may send of one answer before they are read, at least and at most.
const STREAM_WINDOW_BYTES: [u64; 2] = [64 << 10, 2 << 20];

/// Answers that may wait with full windows in the memory of all requests.
const STREAM_WINDOWS: u64 = 512;

/// The same for all answers together, which is no bound: those that a query does not read, as it waits for another
/// endpoint, must not keep back those of other queries, of which all go over one connection.
const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// Bytes that an endpoint may say of itself however little memory there is: label sets of some ten thousand tenants.
const INFO_BYTES_MIN: u64 = 4 << 20;

/// Which part of the memory it may take beyond that. Room for all of it is made before it comes, on its word alone, and
/// it is kept for as long as the endpoint is there.
const INFO_SHARE: u64 = 16;

/// How connections to endpoints are made.
#[derive(Clone, Debug, Default)]
pub struct Dialing {
    /// TLS; none for plain text.
    pub tls: Option<Arc<TlsClient>>,
    /// Longest time of an Info call.
    pub info_timeout: Duration,
    /// Bytes that this process may have: what has come and was not read yet is a small share of it.
    pub memory_limit: u64,
}

impl Dialing {
    /// A connection to `address`, whose certificate names `host`; made when it is first used.
    pub fn dial(&self, address: &str, host: &str) -> Result<Channel, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::invalid(format!("endpoint {address:?}: {error}"));
        let [least, most] = STREAM_WINDOW_BYTES;
        let window = (self.memory_limit / STREAM_WINDOWS).clamp(least, most);
        let endpoint = Endpoint::from_shared(format!("http://{}", host_and_port(address)))
            .map_err(|error| failed(&error))?
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .initial_stream_window_size(window as u32)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX);
        connect::channel(endpoint, self.tls.as_ref(), (host, self.info_timeout)).map_err(|error| failed(&error))
    }

    /// Most bytes that an endpoint may say of itself.
    pub fn info_bytes_max(&self) -> usize {
        let bytes = (self.memory_limit / INFO_SHARE).clamp(INFO_BYTES_MIN, i32::MAX as u64);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

/// `address` without the scheme by which Go's gRPC would resolve it; a port alone is one of this machine.
pub fn host_and_port(address: &str) -> Cow<'_, str> {
    let plain = ["dns:///", "passthrough:///"].iter().find_map(|scheme| address.strip_prefix(scheme));
    let plain = plain.unwrap_or(address);
    if plain.starts_with(':') { Cow::Owned(format!("localhost{plain}")) } else { Cow::Borrowed(plain) }
}

/// The way to an endpoint; clones share its members.
#[derive(Clone, Debug)]
pub struct Link {
    members: Arc<RwLock<Vec<Arc<Member>>>>,
    turn: Arc<AtomicUsize>,
}

/// A process that an endpoint's calls go to.
#[derive(Debug)]
pub struct Member {
    /// Its address.
    pub address: String,
    /// The connection to it alone.
    pub channel: Channel,
    /// What became of the last call, as the number of an [`Outcome`].
    last: AtomicU8,
}

impl Member {
    /// A member that is taken to answer until it is known not to.
    pub fn new(address: String, channel: Channel) -> Self {
        Self { address, channel, last: AtomicU8::new(Outcome::Answered as u8) }
    }

    /// Says whether it answers: calls go to those who do, and to those who are silent none.
    pub fn set_answers(&self, outcome: Outcome) {
        self.last.store(outcome as u8, Ordering::Relaxed);
    }

    /// Whether the last call became `outcome`.
    fn was(&self, outcome: Outcome) -> bool {
        self.last.load(Ordering::Relaxed) == outcome as u8
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, well or not.
    Answered,
    /// It did not get there.
    Unavailable,
    /// Nothing came back for as long as a check of its health may take.
    Silent,
}

impl Link {
    /// The way to `members`.
    pub fn new(members: Vec<Arc<Member>>) -> Self {
        Self { members: Arc::new(RwLock::new(members)), turn: Arc::default() }
    }

    /// Its members now.
    pub fn members(&self) -> Vec<Arc<Member>> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces its members; calls under way go on.
    pub fn set_members(&self, members: Vec<Arc<Member>>) {
        *self.members.write().unwrap_or_else(PoisonError::into_inner) = members;
    }

    /// The members in the order in which a call tries them: each call begins with another, those
    /// that do not answer come last, and those that are silent are not tried.
    fn in_turn(&self) -> Vec<Arc<Member>> {
        let mut members = self.members();
        members.retain(|member| !member.was(Outcome::Silent));
        if members.len() > 1 {
            let first = self.turn.fetch_add(1, Ordering::Relaxed) % members.len();
            members.rotate_left(first);
            members.sort_by_key(|member| !member.was(Outcome::Answered));
        }
        members
    }
}

impl Service<Request<Body>> for Link {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (members, known) = (self.in_turn(), self.members().len());
        Box::pin(async move {
            match &members[..] {
                [] if known > 0 => {
                    Ok(Status::unavailable("it left the last check of its health unanswered").into_http())
                }
                [] => Ok(Status::unavailable("the group has no members").into_http()),
                [only] => send(only, request).await,
                several => send_to_one_of(several, request).await,
            }
        })
    }
}

/// What a connection ends with that the other side doesn't want, and what to say of it. Where the words tell nothing by
/// themselves they are left out: which come is chance.
const UNWANTED: [(&str, &str); 12] = [
    ("frame with invalid size", SPEAKS_TLS),
    ("connection closed", CLOSED),
    ("broken pipe", CLOSED),
    // Of a process that was killed in the middle of an answer.
    ("connection reset", CLOSED),
    ("bytes remaining on stream", CLOSED),
    ("peer closed connection", CLOSED),
    // Of the connection alone: of calls that took too long other words are said.
    (": timed out", SILENT),
    ("fatal alert: CertificateRequired", ASKS_FOR_CERTIFICATE),
    ("fatal alert: UnknownCA", ASKS_FOR_CERTIFICATE),
    ("CaUsedAsEndEntity", IS_CA),
    ("UnknownIssuer", "give the authority that signed its certificate in --grpc-client-tls-ca"),
    ("InvalidContentType", "the endpoint may speak no TLS: leave out --grpc-client-tls-secure"),
];
const SPEAKS_TLS: &str = "it may speak TLS: give --grpc-client-tls-secure; or HTTP: give its gRPC address";
const IS_CA: &str = "its certificate says CA:TRUE: make it with basicConstraints=CA:FALSE, or list it in \
                     --grpc-client-tls-ca";
const SILENT: &str = "the endpoint or the way to it is gone: it did not acknowledge what it was sent";
const ASKS_FOR_CERTIFICATE: &str =
    "the endpoint asks for a client certificate of an authority that it knows: give --grpc-client-tls-cert";
const CLOSED: &str = "the endpoint closed the connection: where it always does, it may speak TLS \
                      (--grpc-client-tls-secure) or ask for a client certificate (--grpc-client-tls-cert)";

/// How the library says that what came is no message of gRPC, and what to say of it.
const NOT_GRPC: &str = "protocol error: received message with invalid compression flag";
const SPEAKS_HTTP: &str = "the endpoint answers HTTP and not gRPC: give its gRPC address (of port 10901 by default)";

/// The code and the words of a call that failed. A connection that the other side ends is Unavailable, as in Go's gRPC,
/// whatever the library makes of it.
pub fn explain(status: &Status) -> (Code, String) {
    let words = description(status);
    // What an endpoint itself says has no cause.
    let is_own = std::error::Error::source(status).is_some();
    // The library's words for a message have none either, and stand alone.
    if words.starts_with(NOT_GRPC) {
        return (status.code(), format!("{words}: {SPEAKS_HTTP}"));
    }
    match UNWANTED.iter().find(|(sign, _)| is_own && words.contains(*sign)) {
        Some((_, why)) if *why == CLOSED => (Code::Unavailable, CLOSED.to_owned()),
        Some((_, why)) => (Code::Unavailable, format!("{words}: {why}")),
        None => (status.code(), words),
    }
}

/// What `status` says, and the innermost cause of it where that says more: why a connection failed.
fn description(status: &Status) -> String {
    let mut cause = std::error::Error::source(status);
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    let message = status.message();
    match cause.map(ToString::to_string).filter(|cause| !message.contains(cause.as_str())) {
        Some(cause) => format!("{message}: {cause}"),
        None => message.to_owned(),
    }
}

/// Whether a call failed as its connection had fallen silent.
pub fn is_timeout(status: &Status) -> bool {
    let causes = std::iter::successors(std::error::Error::source(status), |error| error.source());
    causes.filter_map(|error| error.downcast_ref::<hyper::Error>()).any(hyper::Error::is_timeout)
}

async fn send(member: &Member, request: Request<Body>) -> Result<Response<Body>, tonic::transport::Error> {
    let mut channel = member.channel.clone();
    channel.ready().await?.call(request).await
}

/// Sends a request to the first of `members` that is there to take it.
async fn send_to_one_of(
    members: &[Arc<Member>],
    request: Request<Body>,
) -> Result<Response<Body>, tonic::transport::Error> {
    let (parts, body) = request.into_parts();
    let bytes: Bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(status) => return Ok(status.into_http()),
    };
    let mut outcome = None;
    for member in members {
        let request = Request::from_parts(parts.clone(), Body::new(Full::new(bytes.clone())));
        let answer = send(member, request).await;
        let unavailable = match &answer {
            Ok(response) => Status::from_header_map(response.headers()).is_some_and(|s| s.code() == Code::Unavailable),
            Err(_) => true,
        };
        member.set_answers(if unavailable { Outcome::Unavailable } else { Outcome::Answered });
        if !unavailable {
            return answer;
        }
        outcome = Some(answer);
    }
    outcome.unwrap_or_else(|| Ok(Status::unavailable("the group has no members").into_http()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_the_other_side_ends_is_unavailable_and_why_it_may_is_said() {
        let failed = |words: &str| Status::from_error(Box::new(std::io::Error::other(words.to_owned())));
        for (words, flag) in [
            ("connection error detected: frame with invalid size", "--grpc-client-tls-secure"),
            ("connection error detected: frame with invalid size", "or HTTP: give its gRPC address"),
            ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", "basicConstraints=CA:FALSE"),
            ("invalid peer certificate: UnknownIssuer", "in --grpc-client-tls-ca"),
            ("stream closed because of a broken pipe", "ask for a client certificate (--grpc-client-tls-cert)"),
            ("operation was canceled: connection closed", "it may speak TLS (--grpc-client-tls-secure)"),
            ("error reading a body from connection: connection reset", "the endpoint closed the connection"),
            ("error reading a body from connection: bytes remaining on stream", "the endpoint closed the connection"),
            ("error reading a body from connection: timed out", "did not acknowledge what it was sent"),
            ("received fatal alert: CertificateRequired", "give --grpc-client-tls-cert"),
            ("received corrupt message of type InvalidContentType", "leave out --grpc-client-tls-secure"),
        ] {
            let (code, said) = explain(&failed(words));
            assert!(code == Code::Unavailable && said.contains(flag), "{words}: {code:?} {said}");
        }
        assert_eq!(explain(&failed("other")), (Code::Unknown, "other".to_owned()));
        let (_, said) = explain(&Status::internal(format!("{NOT_GRPC}: 52 (valid flags are 0 and 1)")));
        assert!(said.contains("give its gRPC address (of port 10901 by default)"), "{said}");
        // What an endpoint says of others is its own.
        let told = Status::internal("broken pipe");
        assert_eq!(explain(&told), (Code::Internal, "broken pipe".to_owned()));
    }
}
