//! Connections to servers, plain or with TLS, whose certificates are read again when their files change.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::GaiResolver;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, InconsistentKeys};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use super::algorithms::{self, Version, Versions};
use super::tls::{Failure, Pem, Stamp, stamp, unusable};
use super::trust::{Authorities, ServerTrust};

/// Silence of a process with calls under way after which it is asked whether it is still there. Thanos' servers end
/// connections that ask more often than every 10 s, or without a call.
pub const PING_INTERVAL: Duration = Duration::from_secs(11);
/// How long it may take to answer, and to acknowledge what it was sent; then its calls fail.
pub const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time for which attempts to connect fail as the last one did: enough for all calls that waited for it. Those
/// who forward pause for no less before they call again, so that a failure that lengthens their pauses is that of an
/// attempt of its own.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// The channel to `endpoint`, with TLS if it is given, to a server whose certificate names `host`. It is connected to
/// when it is first used, in no more than `time_max`.
pub fn channel(
    endpoint: Endpoint,
    tls: Option<&Arc<TlsClient>>,
    (host, time_max): (&str, Duration),
) -> Result<Channel, String> {
    match tls {
        Some(tls) => tls.channel(endpoint, (host, time_max)),
        None => Ok(endpoint.connect_with_connector_lazy(plain(time_max))),
    }
}

fn plain(time_max: Duration) -> Attempts<HttpConnector> {
    Attempts::new(sockets(GaiResolver::new(), time_max), time_max)
}

/// Makes the connections that HTTP or TLS is spoken over, to the addresses that `resolver` finds.
fn sockets<R>(resolver: R, time_max: Duration) -> HttpConnector<R> {
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.enforce_http(false);
    connector.set_nodelay(true);
    // A host may have several addresses, of which each has its share.
    connector.set_connect_timeout(Some(time_max));
    connector.set_tcp_user_timeout(Some(PING_TIMEOUT));
    connector
}

/// The host of `host:port`, which certificates name.
pub fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The protocol of gRPC.
const HTTP_2: &[u8] = b"h2";

/// TLS towards servers, as flags and configuration files have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TlsFiles {
    /// Certificates that servers' must descend from, PEM; none: the system's.
    pub ca: Option<PathBuf>,
    /// Certificate to show to servers and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Name that servers' certificates must have; none: that of their address.
    pub server_name: Option<String>,
    /// Who is believed.
    pub trust: Trust,
    /// The least version that is spoken.
    pub version_min: Version,
}

/// Whose certificates are believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// Those that descend from the CA and name the server.
    #[default]
    Verified,
    /// Any.
    Anybody,
}

impl TlsFiles {
    /// A certificate to show and its key, which belong together.
    pub fn identity(
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Result<Option<(PathBuf, PathBuf)>, &'static str> {
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            _ => Err("both client key and certificate must be provided"),
        }
    }

    /// Makes what connects to servers; reads the files for the first time.
    pub fn open(self) -> Result<TlsClient, String> {
        let (stamps, config) = (self.stamps(), Arc::new(self.load()?));
        let loaded = Loaded { stamps, config, failure: Failure::default() };
        Ok(TlsClient { files: self, loaded: Mutex::new(loaded) })
    }

    fn stamps(&self) -> Vec<Stamp> {
        let identity = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.ca.iter().chain(identity).map(|path| stamp(path)).collect()
    }

    fn load(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(algorithms::offer(&[], &[])?.provider);
        let trust = match (self.trust, &self.ca) {
            (Trust::Anybody, _) => ServerTrust::anybody(Arc::clone(&provider)),
            (Trust::Verified, ca) => {
                let failed = |error: String| format!("building CA: {error}");
                let authorities = match ca {
                    None => Authorities::of_system(),
                    Some(path) => Authorities::new(Pem::File(path.clone()).certificates("CA")?).map_err(failed)?,
                };
                ServerTrust::new(authorities, Arc::clone(&provider)).map_err(failed)?
            }
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&Versions::from(self.version_min).listed())
            .map_err(|error| format!("TLS versions: {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust));
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let (certificate, key) = (Pem::File(certificate.clone()), Pem::File(key.clone()));
                let failed =
                    |error: rustls::Error| format!("client credentials {certificate} and {key}: {}", unusable(&error));
                let chain = certificate.certificates("client certificate")?;
                let signer = provider.key_provider.load_private_key(key.key("client key")?).map_err(failed)?;
                let shown = CertifiedKey::new(chain, signer);
                // Of a certificate of version 1 the library can't tell.
                if let Err(error @ rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) = shown.keys_match()
                {
                    return Err(failed(error));
                }
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
            }
        };
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        Ok(config)
    }
}

/// Connects to servers with TLS.
#[derive(Debug)]
pub struct TlsClient {
    files: TlsFiles,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    stamps: Vec<Stamp>,
    config: Arc<ClientConfig>,
    failure: Failure,
}

impl TlsClient {
    /// The channel to `endpoint`, whose certificate names `host`; connected to when it is first used.
    /// What is sent says that it is for `authority`.
    fn channel(self: &Arc<Self>, endpoint: Endpoint, (host, time_max): (&str, Duration)) -> Result<Channel, String> {
        let name = self.files.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name.clone()).map_err(|_| format!("{name:?} is not the name of a server"))?;
        let authority = endpoint.uri().authority().map(ToString::to_string).unwrap_or_default();
        let origin = format!("https://{authority}").parse::<Uri>().map_err(|error| error.to_string())?;
        let sockets = sockets(GaiResolver::new(), time_max);
        let connector = TlsConnector { client: Arc::clone(self), name, server: origin.clone(), sockets };
        Ok(endpoint.origin(origin).connect_with_connector_lazy(Attempts::new(connector, time_max)))
    }

    /// The configuration; read again when a file has changed. Files that can't be used leave it as
    /// it was, as they may be in the middle of being replaced.
    fn current(&self) -> Arc<ClientConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.files.stamps();
        if stamps != loaded.stamps && !loaded.failure.is_recent(&stamps) {
            match self.files.load() {
                Ok(config) => *loaded = Loaded { stamps, config: Arc::new(config), failure: Failure::default() },
                Err(error) => loaded.failure.note(stamps, error),
            }
        }
        Arc::clone(&loaded.config)
    }
}

/// Makes the connections of one channel, over those that `sockets` makes.
#[derive(Debug)]
struct TlsConnector<C> {
    client: Arc<TlsClient>,
    name: ServerName<'static>,
    /// Where to: channels say it with the scheme of plain text, which has another port where none is given.
    server: Uri,
    sockets: C,
}

impl<C> Service<Uri> for TlsConnector<C>
where
    C: Service<Uri, Response = TokioIo<TcpStream>>,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    C::Future: Send + 'static,
{
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sockets.poll_ready(context).map_err(io::Error::other)
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (client, name) = (Arc::clone(&self.client), self.name.clone());
        let connecting = self.sockets.call(self.server.clone());
        Box::pin(async move {
            let socket = connecting.await.map_err(io::Error::other)?.into_inner();
            let stream = tokio_rustls::TlsConnector::from(client.current()).connect(name, socket).await?;
            if stream.get_ref().1.alpn_protocol() != Some(HTTP_2) {
                return Err(io::Error::other("the server does not agree on HTTP/2 (missing selected ALPN property)"));
            }
            Ok(TokioIo::new(stream))
        })
    }
}

/// Makes connections by `inner`, each in no more than `time_max`. A channel tells one call alone that an attempt has
/// failed and begins another for the next call, however long that has waited already: so what is attempted soon after
/// fails as the last attempt did. That is not longer than it took itself: a server that refuses is asked at once again.
#[derive(Debug)]
struct Attempts<C> {
    inner: C,
    time_max: Duration,
    last: Arc<Mutex<Option<Failed>>>,
}

/// An attempt that failed, and until when others fail as it did.
#[derive(Debug)]
struct Failed {
    why: Unconnected,
    until: Instant,
}

/// Why there is no connection, for all who wait for it.
#[derive(Clone, Debug)]
struct Unconnected(Arc<dyn std::error::Error + Send + Sync>);

impl Unconnected {
    fn of(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let error: Box<dyn std::error::Error + Send + Sync> = error.into();
        Self(Arc::from(error))
    }
}

impl fmt::Display for Unconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Unconnected {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl<C> Attempts<C> {
    fn new(inner: C, time_max: Duration) -> Self {
        Self { inner, time_max, last: Arc::default() }
    }

    /// Why what is attempted at `now` fails without an attempt.
    fn fails(&self, now: Instant) -> Option<Unconnected> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|failed| now < failed.until).map(|failed| failed.why.clone())
    }
}

impl<C> Service<Uri> for Attempts<C>
where
    C: Service<Uri>,
    C::Response: Send + 'static,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = Unconnected;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, Unconnected>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Unconnected>> {
        self.inner.poll_ready(context).map_err(Unconnected::of)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let begin = Instant::now();
        if let Some(why) = self.fails(begin) {
            return Box::pin(std::future::ready(Err(why)));
        }
        let (connecting, time_max, last) = (self.inner.call(uri), self.time_max, Arc::clone(&self.last));
        Box::pin(async move {
            let why = match tokio::time::timeout(time_max, connecting).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => Unconnected::of(error),
                Err(_) => {
                    let words = format!("no connection within {time_max:?}");
                    Unconnected::of(io::Error::new(io::ErrorKind::TimedOut, words))
                }
            };
            let now = Instant::now();
            let failed = Failed { why: why.clone(), until: now + (now - begin).min(PAUSE_MAX) };
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
            Err(why)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use hyper_util::client::legacy::connect::dns::Name;
    use socket2::SockRef;
    use tokio::net::{TcpListener, TcpSocket};
    use tonic::body::Body;
    use tonic::{Code, Status};
    use tower::ServiceExt;

    use super::*;

    /// What 20 calls over `channel` that are made at once fail with.
    async fn failures(channel: &Channel) -> Vec<Status> {
        let calls = (0..20).map(|_| {
            let mut channel = channel.clone();
            async move {
                let request = http::Request::new(Body::default());
                let answer = channel.ready().await.unwrap().call(request).await;
                Status::from_error(Box::new(answer.unwrap_err()))
            }
        });
        join_all(calls).await
    }

    /// Each was told after an attempt of its own, one after the other.
    #[tokio::test]
    async fn calls_that_wait_for_an_address_that_takes_no_connection_fail_together() {
        let attempts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&attempts);
        let silent = tower::service_fn(move |_: Uri| {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<io::Result<TokioIo<TcpStream>>>()
        });
        let (time_max, begin) = (Duration::from_millis(300), Instant::now());
        let endpoint = Endpoint::from_static("http://a.example:1");
        let channel = endpoint.connect_with_connector_lazy(Attempts::new(silent, time_max));
        for status in failures(&channel).await {
            let words = crate::telemetry::causes::with_causes(&status);
            assert!(status.code() == Code::Unavailable && words.contains("no connection within 300ms"), "{words}");
        }
        assert!(begin.elapsed() < 10 * time_max, "one after the other take 20 times as long");
        let made = attempts.load(Ordering::Relaxed);
        tokio::time::sleep(2 * time_max).await;
        failures(&channel).await;
        assert!(attempts.load(Ordering::Relaxed) > made, "it may be there by now");
    }

    #[tokio::test]
    async fn a_server_that_refuses_is_asked_again_at_once() {
        let refused = || std::future::ready(Err::<TokioIo<TcpStream>, _>(io::Error::other("refused")));
        let mut attempts = Attempts::new(tower::service_fn(move |_: Uri| refused()), Duration::from_secs(5));
        attempts.call(Uri::from_static("http://a.example:1")).await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(attempts.fails(Instant::now()).is_none());
    }

    #[tokio::test]
    async fn what_a_server_does_not_acknowledge_ends_its_connection() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", server.local_addr().unwrap()).parse::<Uri>().unwrap();
        let connection = plain(Duration::from_secs(5)).call(uri).await.unwrap();
        assert_eq!(SockRef::from(connection.inner()).tcp_user_timeout().unwrap(), Some(PING_TIMEOUT));
    }

    /// A server whose certificate is of version 1.
    fn server_of_version_1() -> rustls::ServerConfig {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/version-one");
        let chain = Pem::File(folder.join("client.pem")).certificates("certificate").unwrap();
        let key = Pem::File(folder.join("client.key")).key("key").unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let shown = CertifiedKey::new(chain, provider.key_provider.load_private_key(key).unwrap());
        rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
    }

    /// Whether the connection comes about between a client and a server whose certificate is of version 1.
    async fn connects(files: TlsFiles) -> bool {
        let client = tokio_rustls::TlsConnector::from(files.open().unwrap().current());
        let (near, far) = tokio::io::duplex(1 << 16);
        let name = ServerName::try_from("a.example").unwrap();
        let accepting = tokio_rustls::TlsAcceptor::from(Arc::new(server_of_version_1())).accept(far);
        let (connected, accepted) = tokio::join!(client.connect(name, near), accepting);
        connected.is_ok() && accepted.is_ok()
    }

    #[tokio::test]
    async fn where_anybody_is_believed_a_server_may_have_a_certificate_of_version_1() {
        assert!(connects(TlsFiles { trust: Trust::Anybody, ..TlsFiles::default() }).await);
        let ca = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/version-one/ca.pem");
        assert!(!connects(TlsFiles { ca: Some(ca), ..TlsFiles::default() }).await, "it names no server");
    }

    /// The first address had all of the time: where it takes no connection the others were never tried.
    #[tokio::test]
    async fn over_tls_too_each_address_of_a_host_has_its_share_of_the_time() {
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = silent.listen(1).unwrap();
        let first = silent.local_addr().unwrap();
        // It takes none once the queue of those that nobody accepts is full.
        let mut queued = Vec::new();
        while let Ok(connection) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(first)).await {
            queued.push(connection.unwrap());
        }
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [first, server.local_addr().unwrap()];
        let mut config = server_of_version_1();
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        tokio::spawn(async move {
            let (socket, _) = server.accept().await.unwrap();
            tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(socket).await.map(drop)
        });
        let find = move |_: Name| std::future::ready(Ok::<_, io::Error>(addresses.into_iter()));
        let time_max = Duration::from_secs(3);
        let connector = TlsConnector {
            client: Arc::new(TlsFiles { trust: Trust::Anybody, ..TlsFiles::default() }.open().unwrap()),
            name: ServerName::try_from("a.example").unwrap(),
            server: Uri::from_static("https://a.example"),
            sockets: sockets(tower::service_fn(find), time_max),
        };
        let mut attempts = Attempts::new(connector, time_max);
        let connection = attempts.call(Uri::from_static("http://a.example")).await.unwrap();
        assert_eq!(connection.inner().get_ref().0.peer_addr().unwrap(), addresses[1]);
    }
}
