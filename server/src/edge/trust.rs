//! Whose certificates are believed: those that descend from an authority, as the TLS library has it; those
//! that are listed among the authorities themselves, as Go has it and as certificates that sign themselves
//! need; of clients, certificates of version 1 that an authority has signed, which `openssl x509 -req` makes
//! and the library does not take; and, where it is asked for, anybody's.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::x509::Fields;

/// Certificates that others are held against.
#[derive(Clone, Debug)]
pub struct Authorities {
    listed: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
}

impl Authorities {
    /// The authorities that are listed.
    pub fn new(listed: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in &listed {
            roots.add(certificate.clone()).map_err(|error| error.to_string())?;
        }
        Ok(Self { listed, roots: Arc::new(roots) })
    }

    /// The authorities that the system knows.
    pub fn of_system() -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self { listed: Vec::new(), roots: Arc::new(roots) }
    }

    /// Whether `certificate` is one of the listed themselves; an error when it is and its time is over or
    /// has not come.
    fn lists(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<bool, Error> {
        if !self.listed.iter().any(|listed| listed.as_ref() == certificate.as_ref()) {
            return Ok(false);
        }
        check_time(&Fields::parse(certificate).ok_or(CertificateError::BadEncoding)?, now)?;
        Ok(true)
    }

    /// Whether one of the listed has signed the certificate.
    fn signed(&self, fields: &Fields<'_>, algorithms: &WebPkiSupportedAlgorithms) -> bool {
        let named = self.listed.iter().filter_map(|listed| Fields::parse(listed));
        named.filter(|authority| authority.subject == fields.issuer).any(|authority| {
            let Some((kind, key)) = authority.key_parts() else { return false };
            let known = algorithms.all.iter().filter(|known| {
                known.signature_alg_id().as_ref() == fields.signature_algorithm
                    && known.public_key_alg_id().as_ref() == kind
            });
            known.into_iter().any(|known| known.verify_signature(key, fields.signed, fields.signature).is_ok())
        })
    }
}

/// An error when the certificate's time is over or has not come.
fn check_time(fields: &Fields<'_>, now: UnixTime) -> Result<(), Error> {
    let (begin, end) = fields.validity().ok_or(CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    match now {
        _ if now < begin => Err(CertificateError::NotValidYet.into()),
        _ if now > end => Err(CertificateError::Expired.into()),
        _ => Ok(()),
    }
}

/// The parts of a certificate of version 1.
fn version_one<'a>(certificate: &'a CertificateDer<'_>) -> Option<Fields<'a>> {
    Fields::parse(certificate).filter(|fields| fields.is_version_one)
}

/// Whom a client believes.
#[derive(Debug)]
pub struct ServerTrust {
    /// `None` believes anybody; that the server holds its key is checked all the same.
    verified: Option<(Authorities, Arc<WebPkiServerVerifier>)>,
    provider: Arc<CryptoProvider>,
}

impl ServerTrust {
    /// Believes servers that `authorities` vouch for.
    pub fn new(authorities: Authorities, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let roots = Arc::clone(&authorities.roots);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let verifier = verifier.map_err(|error| error.to_string())?;
        Ok(Self { verified: Some((authorities, verifier)), provider })
    }

    /// Believes any server.
    pub fn anybody(provider: Arc<CryptoProvider>) -> Self {
        Self { verified: None, provider }
    }
}

impl ServerCertVerifier for ServerTrust {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some((authorities, verifier)) = &self.verified else { return Ok(ServerCertVerified::assertion()) };
        if authorities.lists(certificate, now)? {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        verifier.verify_server_cert(certificate, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a server asks of its clients, in Go's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing.
    #[default]
    NoClientCert,
    /// A certificate, whoever signed it; none is well too.
    RequestClientCert,
    /// A certificate, whoever signed it.
    RequireAnyClientCert,
    /// A certificate that authorities vouch for; none is well too.
    VerifyClientCertIfGiven,
    /// A certificate that authorities vouch for.
    RequireAndVerifyClientCert,
}

impl ClientAuth {
    /// Go's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoClientCert => "NoClientCert",
            Self::RequestClientCert => "RequestClientCert",
            Self::RequireAnyClientCert => "RequireAnyClientCert",
            Self::VerifyClientCertIfGiven => "VerifyClientCertIfGiven",
            Self::RequireAndVerifyClientCert => "RequireAndVerifyClientCert",
        }
    }
}

/// Whom a server believes.
#[derive(Debug)]
pub struct ClientTrust {
    auth: ClientAuth,
    authorities: Authorities,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    allowed_names: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl ClientTrust {
    /// Asks for certificates as `auth` says, which `authorities` must vouch for where it says so. Where
    /// `allowed_names` are given, a certificate must have one of them among its alternative names.
    pub fn new(
        auth: ClientAuth,
        authorities: Authorities,
        allowed_names: Vec<String>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let verifies = [ClientAuth::VerifyClientCertIfGiven, ClientAuth::RequireAndVerifyClientCert].contains(&auth);
        let verifier = match verifies {
            true => {
                let roots = Arc::clone(&authorities.roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
                Some(verifier.map_err(|error| error.to_string())?)
            }
            false => None,
        };
        Ok(Self { auth, authorities, verifier, allowed_names, provider })
    }

    fn is_named(&self, certificate: &CertificateDer<'_>) -> bool {
        let names = Fields::parse(certificate).map(|fields| fields.alternative_names()).unwrap_or_default();
        self.allowed_names.is_empty() || names.iter().any(|name| self.allowed_names.contains(name))
    }
}

impl ClientCertVerifier for ClientTrust {
    fn client_auth_mandatory(&self) -> bool {
        let required = [ClientAuth::RequireAnyClientCert, ClientAuth::RequireAndVerifyClientCert];
        // Who names clients does not want those without a name.
        required.contains(&self.auth) || !self.allowed_names.is_empty()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.as_ref().map_or(&[], |verifier| verifier.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(verifier) = &self.verifier
            && !self.authorities.lists(certificate, now)?
        {
            match version_one(certificate) {
                None => {
                    verifier.verify_client_cert(certificate, intermediates, now)?;
                }
                Some(fields) => {
                    check_time(&fields, now)?;
                    if !self.authorities.signed(&fields, &self.provider.signature_verification_algorithms) {
                        return Err(CertificateError::UnknownIssuer.into());
                    }
                }
            }
        }
        if self.is_named(certificate) {
            Ok(ClientCertVerified::assertion())
        } else {
            let allowed = self.allowed_names.join(" ");
            Err(Error::General(format!("could not find allowed SANs in client cert, allowed: [{allowed}]")))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match version_one(certificate) {
            None => verify_tls13_signature(message, certificate, signed, algorithms),
            Some(fields) => {
                let key = SubjectPublicKeyInfoDer::from(fields.key);
                verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
