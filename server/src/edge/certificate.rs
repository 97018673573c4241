//! The certificate that a client presents, and the fields of its subject.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use rustls::pki_types::CertificateDer;
use tower::Service;

use super::x509::{Fields, OID, SEQUENCE, SET, element};

/// A field of a certificate's subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectField {
    /// `O`.
    Organization,
    /// `OU`.
    OrganizationalUnit,
    /// `CN`.
    CommonName,
}

impl SubjectField {
    /// The field with this name, as Thanos' flags have it.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Organization, Self::OrganizationalUnit, Self::CommonName].into_iter().find(|field| field.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::OrganizationalUnit => "organizationalUnit",
            Self::CommonName => "commonName",
        }
    }

    /// The last byte of its object identifier, 2.5.4.x.
    fn number(self) -> u8 {
        match self {
            Self::CommonName => 3,
            Self::Organization => 10,
            Self::OrganizationalUnit => 11,
        }
    }
}

/// The certificate of a client whom the TLS layer has verified; an extension of its requests.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    der: Arc<[u8]>,
}

impl ClientCertificate {
    /// A certificate that was verified.
    pub fn new(certificate: &CertificateDer<'_>) -> Self {
        Self { der: Arc::from(certificate.as_ref()) }
    }

    /// The first value of a field of the subject; `None` when there is none.
    pub fn subject(&self, field: SubjectField) -> Option<String> {
        let mut names = Fields::parse(&self.der)?.subject;
        while let Some((SET, set, after)) = element(names) {
            let (SEQUENCE, pair, _) = element(set)? else { return None };
            let (OID, oid, value) = element(pair)? else { return None };
            if oid == [0x55, 0x04, field.number()] {
                let (_, text, _) = element(value)?;
                return std::str::from_utf8(text).ok().filter(|text| !text.is_empty()).map(str::to_owned);
            }
            names = after;
        }
        None
    }
}

/// A service whose requests carry the client's certificate.
#[derive(Clone, Debug)]
pub struct Certified<S> {
    /// The service.
    pub inner: S,
    /// The certificate; none where clients need none.
    pub certificate: Option<ClientCertificate>,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Certified<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(certificate) = &self.certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_subject_are_found_and_damage_is_no_panic() {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "team-a");
        params.distinguished_name.push(rcgen::DnType::CommonName, "writer");
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let client = ClientCertificate::new(certificate.der());
        assert_eq!(client.subject(SubjectField::Organization).as_deref(), Some("team-a"));
        assert_eq!(client.subject(SubjectField::CommonName).as_deref(), Some("writer"));
        assert_eq!(client.subject(SubjectField::OrganizationalUnit), None);
        for at in 0..client.der.len() {
            let mut damaged = client.der.to_vec();
            damaged[at] ^= 0xff;
            let _ = ClientCertificate { der: damaged.into() }.subject(SubjectField::CommonName);
            let _ = ClientCertificate { der: client.der[..at].into() }.subject(SubjectField::CommonName);
        }
    }

    #[test]
    fn fields_have_upstreams_names() {
        assert_eq!(SubjectField::parse("organizationalUnit"), Some(SubjectField::OrganizationalUnit));
        assert_eq!(SubjectField::parse("x"), None);
    }
}
