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

    /// The value of a field of the subject; `None` when there is none. Of several it is the one that Go takes: the
    /// last common name, and the first of others.
    pub fn subject(&self, field: SubjectField) -> Option<String> {
        let mut names = Fields::parse(&self.der)?.subject;
        let mut found = None;
        while let Some((SET, mut set, after)) = element(names) {
            // A name may stand with others.
            while let Some((SEQUENCE, pair, next)) = element(set) {
                let (OID, oid, value) = element(pair)? else { return None };
                if oid == [0x55, 0x04, field.number()] && (found.is_none() || field == SubjectField::CommonName) {
                    found = Some(element(value)?.1);
                }
                set = next;
            }
            names = after;
        }
        std::str::from_utf8(found?).ok().filter(|text| !text.is_empty()).map(str::to_owned)
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

    /// An element of a certificate that is shorter than 128 bytes, as everything here.
    fn node(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        [&[tag, u8::try_from(content.len()).unwrap()][..], &content].concat()
    }

    #[test]
    fn of_several_names_the_one_is_taken_that_go_takes_also_where_they_stand_together() {
        let name = |number: u8, text: &str| {
            node(SEQUENCE, &[&node(OID, &[&[0x55, 0x04, number]]), &node(0x0c, &[text.as_bytes()])])
        };
        // CN=first, C=de + OU=unit + O=one, O=two + CN=last
        let sets = [
            node(SET, &[&name(3, "first")]),
            node(SET, &[&name(6, "de"), &name(11, "unit"), &name(10, "one")]),
            node(SET, &[&name(10, "two"), &name(3, "last")]),
        ];
        let subject = node(SEQUENCE, &sets.each_ref().map(Vec::as_slice));
        let empty = node(SEQUENCE, &[]);
        let signed = node(SEQUENCE, &[&node(0x02, &[&[1]]), &empty, &empty, &empty, &subject, &empty]);
        let der = node(SEQUENCE, &[&signed, &empty, &node(0x03, &[&[0]])]);
        let client = ClientCertificate { der: der.into() };
        let taken = [SubjectField::CommonName, SubjectField::Organization, SubjectField::OrganizationalUnit]
            .map(|field| client.subject(field));
        assert_eq!(taken, ["last", "one", "unit"].map(|text| Some(text.to_owned())));
    }

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
