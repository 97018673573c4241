//! TLS of a server, with certificates that are read again when their files change; and clients that
//! believe any server.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What the flags say of a server's TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Certificates that clients' certificates must descend from, PEM; none: clients need none.
    pub client_ca: Option<PathBuf>,
    /// Least version: `1.0` to `1.3`. Versions below 1.2 are no longer offered.
    pub version_min: String,
    /// Cipher suites of TLS 1.2 that are offered, by the names Go has for them; empty: all.
    pub ciphers: Vec<String>,
    /// Key exchange groups that are offered, by the names Go has for them; empty: all.
    pub curves: Vec<String>,
    /// Protocols that are agreed on, the preferred first.
    pub protocols: Vec<Vec<u8>>,
}

/// TLS of a server.
#[derive(Debug)]
pub struct TlsServer {
    options: TlsOptions,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    stamps: Vec<Option<SystemTime>>,
    config: Arc<rustls::ServerConfig>,
}

impl TlsServer {
    /// Reads the files for the first time.
    pub fn open(options: TlsOptions) -> Result<Self, String> {
        let loaded = Loaded { stamps: options.stamps(), config: Arc::new(options.load()?) };
        Ok(Self { options, loaded: Mutex::new(loaded) })
    }

    /// Performs the handshake, with the certificates that the files hold now.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.current()).accept(stream).await
    }

    /// The configuration; read again when a file has changed. Files that can't be used leave it as
    /// it was, as they may be in the middle of being replaced.
    fn current(&self) -> Arc<rustls::ServerConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.options.stamps();
        if stamps != loaded.stamps {
            match self.options.load() {
                Ok(config) => {
                    tracing::info!("read changed TLS certificates");
                    *loaded = Loaded { stamps, config: Arc::new(config) };
                }
                Err(error) => tracing::warn!(%error, "cannot use changed TLS certificates, keeping the old ones"),
            }
        }
        Arc::clone(&loaded.config)
    }
}

impl TlsOptions {
    fn stamps(&self) -> Vec<Option<SystemTime>> {
        let files = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        files
            .into_iter()
            .flatten()
            .map(|path| std::fs::metadata(path).and_then(|found| found.modified()).ok())
            .collect()
    }

    fn load(&self) -> Result<rustls::ServerConfig, String> {
        let provider = Arc::new(self.provider()?);
        let versions: &[&rustls::SupportedProtocolVersion] = match self.version_min.as_str() {
            "1.3" => &[&rustls::version::TLS13],
            _ => &[&rustls::version::TLS13, &rustls::version::TLS12],
        };
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| format!("TLS versions and ciphers: {error}"))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| format!("client CA {}: {error}", path.display()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = verifier.build().map_err(|error| format!("client CA {}: {error}", path.display()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| format!("TLS key {}: {error}", self.key.display()))?;
        let mut config = builder
            .with_single_cert(certificates(&self.certificate)?, key)
            .map_err(|error| format!("TLS certificate {}: {error}", self.certificate.display()))?;
        config.alpn_protocols = self.protocols.clone();
        Ok(config)
    }

    fn provider(&self) -> Result<CryptoProvider, String> {
        let mut provider = ring::default_provider();
        if !self.ciphers.is_empty() {
            let known = provider.cipher_suites.clone();
            let is_13 = |suite: &rustls::SupportedCipherSuite| suite.tls13().is_some();
            provider.cipher_suites = known.iter().filter(|suite| is_13(suite)).copied().collect();
            for name in &self.ciphers {
                // Go writes TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 with or without the hash.
                let matches = |suite: &&rustls::SupportedCipherSuite| {
                    format!("{:?}", suite.suite()).trim_end_matches("_SHA256") == name.trim_end_matches("_SHA256")
                };
                let suite = known.iter().find(matches).ok_or_else(|| {
                    let names: Vec<String> = known.iter().map(|suite| format!("{:?}", suite.suite())).collect();
                    format!("TLS cipher suite {name:?} is not offered: choose from {}", names.join(", "))
                })?;
                if !is_13(suite) {
                    provider.cipher_suites.push(*suite);
                }
            }
        }
        if !self.curves.is_empty() {
            provider.kx_groups = self.curves.iter().map(|name| curve(name)).collect::<Result<_, _>>()?;
        }
        Ok(provider)
    }
}

fn curve(name: &str) -> Result<&'static dyn rustls::crypto::SupportedKxGroup, String> {
    match name {
        "CurveP256" => Ok(ring::kx_group::SECP256R1),
        "CurveP384" => Ok(ring::kx_group::SECP384R1),
        "X25519" => Ok(ring::kx_group::X25519),
        "CurveP521" => Err("TLS curve CurveP521 is not offered: choose CurveP256, CurveP384 or X25519".into()),
        other => Err(format!("TLS curve {other:?} is not known: choose CurveP256, CurveP384 or X25519")),
    }
}

/// Believes any server's certificate; that the server holds its key is checked all the same.
#[derive(Debug)]
pub struct TrustAnybody(CryptoProvider);

impl Default for TrustAnybody {
    fn default() -> Self {
        Self(ring::default_provider())
    }
}

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificates of a PEM file; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("TLS certificates {}: {error}", path.display());
    let found = CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| failed(&error))?;
    if found.is_empty() { Err(failed(&"the file holds no certificate")) } else { Ok(found) }
}
