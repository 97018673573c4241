//! A certificate authority of a test, and connections to those that it vouches for.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Issues certificates.
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    /// Its own certificate, PEM.
    pub pem: String,
}

impl Authority {
    /// A new authority.
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    /// A certificate for 127.0.0.1 and its key, PEM.
    pub fn issue(&self) -> (String, String) {
        self.issue_to("127.0.0.1", "nobody")
    }

    /// A certificate for a host, of an organization, and its key, PEM.
    pub fn issue_to(&self, host: &str, organization: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, organization);
        let issuer = Issuer::from_params(&self.params, &self.key);
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A certificate for a host that signs itself, as `openssl req -x509` makes it, and its key, PEM.
    pub fn self_signed(host: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    /// Writes its certificate, and one for a host with its key, as `ca.pem`, `cert.pem` and `key.pem`.
    pub fn write_to(&self, folder: &Path, host: &str) {
        let (certificate, key) = self.issue_to(host, "nobody");
        std::fs::write(folder.join("ca.pem"), &self.pem).unwrap();
        std::fs::write(folder.join("cert.pem"), certificate).unwrap();
        std::fs::write(folder.join("key.pem"), key).unwrap();
    }
    /// A TLS connection to 127.0.0.1 at `address`, by the protocols of ALPN that are named; `client` is a
    /// certificate and its key.
    pub async fn connect(
        &self,
        address: &str,
        client: Option<&(String, String)>,
        protocols: &[&[u8]],
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let socket = TcpStream::connect(address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("127.0.0.1").unwrap(), socket).await
    }

    /// What the server at `address` answers a client with a certificate until it closes the connection.
    pub async fn exchange(&self, address: &str, client: &(String, String), request: &[u8]) -> io::Result<String> {
        let mut stream = self.connect(address, Some(client), &[]).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        // A server that closes the connection needn't say so in TLS' own way.
        let _ = stream.read_to_end(&mut answer).await;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}
