//! TLS of a server, with certificates that are read again when their files change.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::algorithms::{self, Versions};
use super::trust::{Authorities, ClientAuth, ClientTrust};

/// What a request of plain HTTP has where the header of a TLS record is to be (`tlsRecordHeaderLooksLikeHTTP` of Go's
/// net/http).
const PLAIN_BEGINNINGS: [[u8; 5]; 5] = [*b"GET /", *b"HEAD ", *b"POST ", *b"PUT /", *b"OPTIO"];

/// What Go answers to it.
const PLAIN_ANSWER: &str = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// Bytes of such a request that are taken off the connection: with more unread its end may overtake the answer.
const PLAIN_REQUEST_BYTES: usize = 4096;

/// Text in PEM, or where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pem {
    /// A file, which is read again when it changes.
    File(PathBuf),
    /// The text itself.
    Text(String),
}

/// What a server's TLS is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// Certificate chain.
    pub certificate: Pem,
    /// Private key.
    pub key: Pem,
    /// What is asked of clients.
    pub clients: Clients,
    /// Versions that are spoken.
    pub versions: Versions,
    /// Cipher suites of TLS 1.2 that are offered, by the names Go has for them; empty: all.
    pub ciphers: Vec<String>,
    /// Key exchange groups that are offered, by the names Go has for them; empty: all.
    pub curves: Vec<String>,
    /// Protocols that are agreed on, the preferred first.
    pub protocols: Vec<Vec<u8>>,
}

/// What a server asks of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clients {
    /// Whether they need certificates.
    pub auth: ClientAuth,
    /// Certificates that theirs must descend from; none: those of the system.
    pub ca: Option<Pem>,
    /// Alternative names of which theirs must have one; empty: any.
    pub allowed_names: Vec<String>,
}

/// When a file was changed and how long it is; `None` for one that can't be looked at.
pub type Stamp = Option<(SystemTime, u64)>;

/// The stamp of a file.
pub fn stamp(path: &std::path::Path) -> Stamp {
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len()))
}

/// Reads the options again, where they stand in a file that may change.
type Reread = Box<dyn Fn() -> Result<TlsOptions, String> + Send + Sync>;

/// TLS of a server.
pub struct TlsServer {
    origin: Option<(PathBuf, Reread)>,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    options: TlsOptions,
    stamps: Vec<Stamp>,
    config: Arc<rustls::ServerConfig>,
}

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsServer").field("loaded", &self.loaded).finish_non_exhaustive()
    }
}

impl TlsServer {
    /// Reads the files for the first time.
    pub fn open(options: TlsOptions) -> Result<Self, String> {
        let loaded = Loaded::new(options, None)?;
        Ok(Self { origin: None, loaded: Mutex::new(loaded) })
    }

    /// The same with options that `reread` reads from a file, again when it changes.
    pub fn following(file: PathBuf, reread: Reread) -> Result<Self, String> {
        let loaded = Loaded::new(reread()?, Some(&file))?;
        Ok(Self { origin: Some((file, reread)), loaded: Mutex::new(loaded) })
    }

    /// Performs the handshake, with the certificates that the files hold now. Who speaks plain HTTP is told so.
    pub async fn accept(&self, mut stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let mut beginning = [0; 5];
        stream.peek(&mut beginning).await?;
        if PLAIN_BEGINNINGS.contains(&beginning) {
            let taken = stream.read(&mut vec![0; PLAIN_REQUEST_BYTES]).await?;
            stream.write_all(PLAIN_ANSWER.as_bytes()).await?;
            stream.shutdown().await?;
            let why = format!("client sent an HTTP request, of {taken} bytes at least, to an HTTPS server");
            return Err(std::io::Error::other(why));
        }
        TlsAcceptor::from(self.current()).accept(stream).await
    }

    /// The configuration; read again when a file has changed. Files that can't be used leave it as
    /// it was, as they may be in the middle of being replaced.
    fn current(&self) -> Arc<rustls::ServerConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.origin.as_ref().map(|(file, _)| file);
        if loaded.options.stamps(file) != loaded.stamps {
            let options = match &self.origin {
                None => Ok(loaded.options.clone()),
                Some((_, reread)) => reread(),
            };
            match options.and_then(|options| Loaded::new(options, file)) {
                Ok(now) => {
                    tracing::info!("read changed TLS certificates");
                    *loaded = now;
                }
                Err(error) => tracing::warn!(%error, "cannot use changed TLS certificates, keeping the old ones"),
            }
        }
        Arc::clone(&loaded.config)
    }
}

impl Loaded {
    fn new(options: TlsOptions, file: Option<&PathBuf>) -> Result<Self, String> {
        let stamps = options.stamps(file);
        let config = Arc::new(options.load()?);
        Ok(Self { options, stamps, config })
    }
}

impl TlsOptions {
    fn stamps(&self, file: Option<&PathBuf>) -> Vec<Stamp> {
        let texts = [Some(&self.certificate), Some(&self.key), self.clients.ca.as_ref()];
        let files = texts.into_iter().flatten().filter_map(Pem::path);
        files.chain(file).map(|path| stamp(path)).collect()
    }

    fn load(&self) -> Result<rustls::ServerConfig, String> {
        let offer = algorithms::offer(&self.ciphers, &self.curves)?;
        if !offer.left_out.is_empty() {
            tracing::warn!(names = offer.left_out.join(", "), "TLS ciphers or curves are not implemented and left out");
        }
        let provider = Arc::new(offer.provider);
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions.listed())
            .map_err(|error| format!("TLS versions and ciphers: {error}"))?;
        let builder = match self.clients.auth {
            ClientAuth::NoClientCert => builder.with_no_client_auth(),
            auth => {
                let failed = |error: String| format!("building client CA: {error}");
                let authorities = match &self.clients.ca {
                    None => Authorities::of_system(),
                    Some(ca) => Authorities::new(ca.certificates("client CA")?).map_err(failed)?,
                };
                let names = self.clients.allowed_names.clone();
                let verifier = ClientTrust::new(auth, authorities, names, provider).map_err(failed)?;
                builder.with_client_cert_verifier(Arc::new(verifier))
            }
        };
        let mut config = builder
            .with_single_cert(self.certificate.certificates("server certificate")?, self.key.key("server key")?)
            .map_err(|error| format!("server credentials {} and {}: {error}", self.certificate, self.key))?;
        config.alpn_protocols = self.protocols.clone();
        Ok(config)
    }
}

impl Pem {
    fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::File(path) => Some(path),
            Self::Text(_) => None,
        }
    }

    fn read(&self, what: &str) -> Result<Vec<u8>, String> {
        match self {
            Self::File(path) => {
                std::fs::read(path).map_err(|error| format!("{what}: open {}: {error}", path.display()))
            }
            Self::Text(text) => Ok(text.clone().into_bytes()),
        }
    }

    /// Its certificates; at least one. `what` they are is named in errors.
    pub fn certificates(&self, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
        let text = self.read(what)?;
        let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
        let found = found.map_err(|error| format!("{what} {self}: {error}"))?;
        if found.is_empty() { Err(format!("{what} {self}: it holds no certificate")) } else { Ok(found) }
    }

    /// Its private key.
    pub fn key(&self, what: &str) -> Result<PrivateKeyDer<'static>, String> {
        let text = self.read(what)?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| format!("{what} {self}: {error}"))
    }
}

impl std::fmt::Display for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Text(_) => f.write_str("in the configuration"),
        }
    }
}
