//! TLS of a server, with certificates that are read again when their files change.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
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

/// How long files that can't be used are left alone while they look as they did.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

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

/// The last attempt to use changed files, where it failed.
#[derive(Debug, Default)]
pub struct Failure(Option<(Vec<Stamp>, String, Instant)>);

impl Failure {
    /// Whether files with these stamps could not be used a moment ago.
    pub fn is_recent(&self, stamps: &[Stamp]) -> bool {
        self.0.as_ref().is_some_and(|(failed, _, at)| failed == stamps && at.elapsed() < RETRY_PAUSE)
    }

    /// Files with these stamps can't be used, which the log says where that is news.
    pub fn note(&mut self, stamps: Vec<Stamp>, error: String) {
        if self.0.as_ref().is_none_or(|(failed, known, _)| *failed != stamps || *known != error) {
            tracing::warn!(%error, "cannot use changed TLS certificates, keeping the old ones");
        }
        self.0 = Some((stamps, error, Instant::now()));
    }
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
    failure: Failure,
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
        let stamps = loaded.options.stamps(file);
        if stamps != loaded.stamps && !loaded.failure.is_recent(&stamps) {
            let options = match &self.origin {
                None => Ok(loaded.options.clone()),
                Some((_, reread)) => reread(),
            };
            match options.and_then(|options| Loaded::new(options, file)) {
                Ok(now) => {
                    tracing::info!("read changed TLS certificates");
                    *loaded = now;
                }
                Err(error) => loaded.failure.note(stamps, error),
            }
        }
        Arc::clone(&loaded.config)
    }
}

impl Loaded {
    fn new(options: TlsOptions, file: Option<&PathBuf>) -> Result<Self, String> {
        let stamps = options.stamps(file);
        let config = Arc::new(options.load()?);
        Ok(Self { options, stamps, config, failure: Failure::default() })
    }
}

impl TlsOptions {
    fn stamps(&self, file: Option<&PathBuf>) -> Vec<Stamp> {
        let texts = [Some(&self.certificate), Some(&self.key), self.clients.ca.as_ref()];
        let files = texts.into_iter().flatten().filter_map(Pem::path);
        files.chain(file).map(|path| stamp(path)).collect()
    }

    fn load(&self) -> Result<rustls::ServerConfig, String> {
        self.versions.check()?;
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
            .map_err(|error| {
                let (certificate, key) = (&self.certificate, &self.key);
                format!("server credentials {certificate} and {key}: {}", unusable(&error))
            })?;
        config.alpn_protocols = self.protocols.clone();
        if self.clients.auth != ClientAuth::NoClientCert {
            // Who resumes a session shows no certificate again, and would stay when its time is over.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
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
        let found = found.map_err(|error| format!("{what} {self}: {}", fault(&error)))?;
        if found.is_empty() { Err(format!("{what} {self}: it holds no certificate")) } else { Ok(found) }
    }

    /// Its private key.
    pub fn key(&self, what: &str) -> Result<PrivateKeyDer<'static>, String> {
        let text = self.read(what)?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| format!("{what} {self}: {}", fault(&error)))
    }
}

/// What is wrong with PEM, in words of its own: the library's hold the line at which it stopped, which may be a key.
fn fault(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::NoItemsFound => "it holds no private key, or an encrypted one",
        pem::Error::Base64Decode(_) => "a PEM section is damaged, or an encrypted key",
        pem::Error::SectionTooLarge => "a PEM section is too large",
        _ => "it holds no whole PEM section: are line ends missing?",
    }
}

/// Why a certificate and its key can't be used. Of keys that it does not know the library does not say which it does.
pub fn unusable(error: &rustls::Error) -> String {
    match error {
        rustls::Error::General(why) if why.contains("failed to parse private key") => {
            "the key is not supported: use ECDSA with P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits".to_owned()
        }
        error => error.to_string(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::algorithms::Version;

    fn options(auth: ClientAuth) -> TlsOptions {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap();
        let clients = Clients { auth, ca: Some(Pem::Text(certificate.pem())), allowed_names: Vec::new() };
        TlsOptions {
            certificate: Pem::Text(certificate.pem()),
            key: Pem::Text(key.serialize_pem()),
            clients,
            versions: Versions::from(Version::Tls12),
            ciphers: Vec::new(),
            curves: Vec::new(),
            protocols: Vec::new(),
        }
    }

    /// The log once held the whole key, byte by byte.
    #[test]
    fn an_error_in_a_key_holds_nothing_of_it() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let (first, rest) = key.split_once('\n').unwrap();
        for (broken, why) in [
            (key.replace('\n', ""), "are line ends missing?"),
            (key.replace('\n', " "), "are line ends missing?"),
            (format!("{first} {rest}"), "are line ends missing?"),
            (key.replace("PRIVATE", "ENCRYPTED PRIVATE"), "it holds no private key, or an encrypted one"),
            (format!("{first}\n!{rest}"), "a PEM section is damaged, or an encrypted key"),
            (String::new(), "it holds no private key, or an encrypted one"),
        ] {
            let error = Pem::Text(broken.clone()).key("key").unwrap_err();
            assert!(error.starts_with("key in the configuration: ") && error.ends_with(why), "{broken}: {error}");
            assert!(!error.contains(char::is_numeric), "{error}");
            let error = Pem::Text(broken).certificates("CA").unwrap_err();
            assert!(!error.contains(char::is_numeric) && error.len() < 120, "{error}");
        }
    }

    #[test]
    fn a_key_of_a_kind_that_is_not_supported_is_told_those_that_are() {
        // The library refuses it in the words that it has for keys of P-521.
        let key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n".to_owned();
        let options = TlsOptions { key: Pem::Text(key), ..options(ClientAuth::NoClientCert) };
        let error = options.load().unwrap_err();
        assert!(error.contains("P-384") && error.contains("RSA of 2048 to 4096 bits"), "{error}");
    }

    #[test]
    fn sessions_of_clients_with_certificates_are_not_resumed() {
        let open = options(ClientAuth::NoClientCert).load().unwrap();
        assert!(open.session_storage.can_cache() && open.send_tls13_tickets > 0);
        for auth in [ClientAuth::RequestClientCert, ClientAuth::RequireAndVerifyClientCert] {
            let asking = options(auth).load().unwrap();
            assert!(!asking.session_storage.can_cache() && asking.send_tls13_tickets == 0, "{auth:?}");
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_left_alone_until_they_change() {
        let stamp = |len: u64| vec![Some((SystemTime::UNIX_EPOCH, len))];
        let mut failure = Failure::default();
        assert!(!failure.is_recent(&stamp(1)));
        failure.note(stamp(1), "broken".to_owned());
        assert!(failure.is_recent(&stamp(1)) && !failure.is_recent(&stamp(2)));
    }
}
