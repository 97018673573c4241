//! How endpoints are connected to: plainly or with TLS, an endpoint by one connection, a group by
//! those of its members in turn.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use engine::model::Error;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tonic::body::Body;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use tower::{Service, ServiceExt};

use crate::edge::tls::TrustAnybody;

/// How connections to endpoints are made.
#[derive(Clone, Debug, Default)]
pub struct Dialing {
    /// TLS; none for plain text.
    pub tls: Option<TlsFiles>,
    /// Longest time of an Info call.
    pub info_timeout: Duration,
}

/// TLS towards endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TlsFiles {
    /// Certificates that endpoints' must descend from, PEM; none: the system's.
    pub ca: Option<PathBuf>,
    /// Certificate to show to endpoints and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Name that endpoints' certificates must have; none: that of their address.
    pub server_name: Option<String>,
    /// Who is believed.
    pub trust: Trust,
}

/// Whose certificates are believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// Those that descend from the CA and name the endpoint.
    #[default]
    Verified,
    /// Any (`--grpc-client-tls-skip-verify`, `--remote-write.client-tls-skip-verify`).
    Anybody,
}

impl TlsFiles {
    /// When the files were last changed: connections made before have other certificates.
    pub fn stamps(&self) -> Vec<Option<SystemTime>> {
        let identity = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        let changed = |path: &PathBuf| std::fs::metadata(path).and_then(|found| found.modified()).ok();
        self.ca.iter().chain(identity).map(changed).collect()
    }

    /// Makes `endpoint` speak TLS to a server called `host`; reads the files.
    pub fn apply(&self, endpoint: Endpoint, host: &str) -> Result<Endpoint, Error> {
        let mut config = ClientTlsConfig::new().domain_name(self.server_name.as_deref().unwrap_or(host));
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        let applied = match (self.trust, &self.ca) {
            (Trust::Anybody, _) => endpoint.tls_config_with_verifier(config, Arc::new(TrustAnybody::default())),
            (Trust::Verified, Some(ca)) => endpoint.tls_config(config.ca_certificate(Certificate::from_pem(read(ca)?))),
            (Trust::Verified, None) => endpoint.tls_config(config.with_native_roots()),
        };
        applied.map_err(|error| Error::invalid(format!("TLS to {host}: {error}")))
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))
}

impl Dialing {
    /// A connection to `address`, whose certificate names `host`; made when it is first used.
    pub fn dial(&self, address: &str, host: &str) -> Result<Channel, Error> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|error| Error::invalid(format!("endpoint {address:?}: {error}")))?
            .connect_timeout(self.info_timeout)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .tcp_nodelay(true);
        let endpoint = match &self.tls {
            Some(tls) => tls.apply(endpoint, host)?,
            None => endpoint,
        };
        Ok(endpoint.connect_lazy())
    }
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
    answers: AtomicBool,
}

impl Member {
    /// A member that is taken to answer until it is known not to.
    pub fn new(address: String, channel: Channel) -> Self {
        Self { address, channel, answers: AtomicBool::new(true) }
    }

    /// Says whether it answers: calls go to those who do.
    pub fn set_answers(&self, outcome: Outcome) {
        self.answers.store(outcome == Outcome::Answered, Ordering::Relaxed);
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, well or not.
    Answered,
    /// It did not get there.
    Unavailable,
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

    /// The members in the order in which a call tries them: each call begins with another, and those
    /// that do not answer come last.
    fn in_turn(&self) -> Vec<Arc<Member>> {
        let mut members = self.members();
        if members.len() > 1 {
            let first = self.turn.fetch_add(1, Ordering::Relaxed) % members.len();
            members.rotate_left(first);
            members.sort_by_key(|member| !member.answers.load(Ordering::Relaxed));
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
        let members = self.in_turn();
        Box::pin(async move {
            match &members[..] {
                [] => Ok(Status::unavailable("the group has no members").into_http()),
                [only] => send(only, request).await,
                several => send_to_one_of(several, request).await,
            }
        })
    }
}

/// What `status` says, and the innermost cause of it where that says more: why a connection failed.
pub fn description(status: &Status) -> String {
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
