//! Whose certificates are believed: those that descend from an authority, as the TLS library has it; those
//! that are listed among the authorities themselves, as Go has it and as certificates that sign themselves
//! need; such as may sign others, which `openssl req -x509 -CA` makes, and of clients certificates of version 1,
//! which `openssl x509 -req` makes, where a listed authority has signed them itself: the library takes neither;
//! and, where it is asked for, anybody's. An authority whose time is over vouches for nobody, and one that is listed
//! and may not sign others for itself alone: the library asks neither.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::x509::{CLIENT_USAGE, Fields, SERVER_USAGE};

/// Certificates that others are held against.
#[derive(Clone, Debug)]
pub struct Authorities {
    listed: Vec<CertificateDer<'static>>,
    /// Those that may sign others, each with when its time begins and ends (Unix seconds).
    roots: Vec<(TrustAnchor<'static>, (i64, i64))>,
    /// The names of all of them, by which clients choose what they show.
    subjects: Vec<DistinguishedName>,
}

impl Authorities {
    /// The authorities that are listed.
    pub fn new(listed: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        for certificate in &listed {
            store.add(certificate.clone()).map_err(|error| error.to_string())?;
        }
        let subjects = store.subjects();
        let usable = store.roots.into_iter().zip(&listed).filter_map(|(root, certificate)| {
            let fields = Fields::parse(certificate).filter(|fields| fields.vouches())?;
            Some((root, fields.validity()?))
        });
        Ok(Self { roots: usable.collect(), subjects, listed })
    }

    /// The authorities that the system knows, and the certificates among them that may sign no others.
    pub fn of_system() -> Self {
        Self::known(rustls_native_certs::load_native_certs().certs)
    }

    fn known(certificates: Vec<CertificateDer<'static>>) -> Self {
        let mut known = Self { listed: Vec::new(), roots: Vec::new(), subjects: Vec::new() };
        for certificate in certificates {
            let mut store = RootCertStore::empty();
            let is_taken = store.add(certificate.clone()).is_ok();
            let Some(root) = store.roots.pop().filter(|_| is_taken) else { continue };
            let Some(fields) = Fields::parse(&certificate) else { continue };
            let (vouches, Some(validity)) = (fields.vouches(), fields.validity()) else { continue };
            known.subjects.push(DistinguishedName::in_sequence(root.subject.as_ref()));
            match vouches {
                true => known.roots.push((root, validity)),
                false => known.listed.push(certificate),
            }
        }
        known
    }

    /// An error when there are none, who could vouch for nobody.
    fn check(&self) -> Result<(), String> {
        if self.subjects.is_empty() { Err("there are no certificates of authorities".to_owned()) } else { Ok(()) }
    }

    /// Those that may sign others now.
    fn roots(&self, now: UnixTime) -> Arc<RootCertStore> {
        let current = self.roots.iter().filter(|(_, validity)| check_validity(*validity, now).is_ok());
        Arc::new(current.map(|(root, _)| root.clone()).collect())
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

    /// Whether the certificate is one that may sign others, and is good for `usage` all the same: one of the listed has
    /// signed it itself, and limits no names. The library refuses it for the former without a look at the rest.
    fn vouches_for_authority(
        &self,
        certificate: &CertificateDer<'_>,
        (usage, now): (&[u8], UnixTime),
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> bool {
        // The library has refused what is not encoded well, and extensions that it must know and does not.
        let (Ok(_), Some(fields)) = (ParsedCertificate::try_from(certificate), Fields::parse(certificate)) else {
            return false;
        };
        fields.is_authority()
            && fields.is_for(usage)
            && check_time(&fields, now).is_ok()
            && self.signed(&fields, now, algorithms)
    }

    /// Whether one of the listed, which may sign others and does so now, has signed the certificate.
    fn signed(&self, fields: &Fields<'_>, now: UnixTime, algorithms: &WebPkiSupportedAlgorithms) -> bool {
        let listed = self.listed.iter().filter_map(|listed| Fields::parse(listed));
        let named = listed.filter(|authority| authority.vouches() && check_time(authority, now).is_ok());
        // Limits of names are the library's to check; certificates of version 1 have no names that would be limited.
        let free = named.filter(|authority| fields.is_version_one || !authority.limits_names());
        free.filter(|authority| authority.subject == fields.issuer).any(|authority| {
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
    check_validity(fields.validity().ok_or(CertificateError::BadEncoding)?, now)
}

/// An error when the time from `begin` to `end` (Unix seconds) is over or has not come.
fn check_validity((begin, end): (i64, i64), now: UnixTime) -> Result<(), Error> {
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

/// Whether the certificate's key has signed a message of TLS 1.3, also of a certificate of version 1, which the library
/// can't read.
fn signed_by(
    certificate: &CertificateDer<'_>,
    (message, signed): (&[u8], &DigitallySignedStruct),
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    match version_one(certificate) {
        None => verify_tls13_signature(message, certificate, signed, algorithms),
        Some(fields) => {
            let key = SubjectPublicKeyInfoDer::from(fields.key);
            verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
        }
    }
}

/// Whom a client believes.
#[derive(Debug)]
pub struct ServerTrust {
    /// `None` believes anybody; that the server holds its key is checked all the same.
    verified: Option<Authorities>,
    provider: Arc<CryptoProvider>,
}

impl ServerTrust {
    /// Believes servers that `authorities` vouch for.
    pub fn new(authorities: Authorities, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        authorities.check()?;
        Ok(Self { verified: Some(authorities), provider })
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
        let Some(authorities) = &self.verified else { return Ok(ServerCertVerified::assertion()) };
        if authorities.lists(certificate, now)? {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        // Made anew, as time passes; without any authority there is none.
        let provider = Arc::clone(&self.provider);
        let verified = match WebPkiServerVerifier::builder_with_provider(authorities.roots(now), provider).build() {
            Ok(verifier) => verifier.verify_server_cert(certificate, intermediates, name, ocsp, now),
            Err(_) => Err(CertificateError::UnknownIssuer.into()),
        };
        let refused = match verified {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        let algorithms = &self.provider.signature_verification_algorithms;
        if !authorities.vouches_for_authority(certificate, (&SERVER_USAGE, now), algorithms) {
            return Err(refused);
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        Ok(ServerCertVerified::assertion())
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
        signed_by(certificate, (message, signed), &self.provider.signature_verification_algorithms)
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

    /// Whether authorities must vouch for certificates.
    fn verifies(self) -> bool {
        [Self::VerifyClientCertIfGiven, Self::RequireAndVerifyClientCert].contains(&self)
    }
}

/// Whom a server believes.
#[derive(Debug)]
pub struct ClientTrust {
    auth: ClientAuth,
    authorities: Authorities,
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
        if auth.verifies() {
            authorities.check()?;
        }
        Ok(Self { auth, authorities, allowed_names, provider })
    }

    /// Whether the authorities vouch for a certificate.
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.authorities.lists(certificate, now)? {
            return Ok(());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        let Some(fields) = version_one(certificate) else {
            let provider = Arc::clone(&self.provider);
            // Made anew, as time passes; without any authority there is none.
            let roots = self.authorities.roots(now);
            let verified = match WebPkiClientVerifier::builder_with_provider(roots, provider).build() {
                Ok(verifier) => verifier.verify_client_cert(certificate, intermediates, now).map(drop),
                Err(_) => Err(CertificateError::UnknownIssuer.into()),
            };
            let usage = (&CLIENT_USAGE[..], now);
            let vouches = || self.authorities.vouches_for_authority(certificate, usage, algorithms);
            return verified.or_else(|refused| if vouches() { Ok(()) } else { Err(refused) });
        };
        check_time(&fields, now)?;
        if self.authorities.signed(&fields, now, algorithms) {
            Ok(())
        } else {
            Err(CertificateError::UnknownIssuer.into())
        }
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
        if self.auth.verifies() { &self.authorities.subjects } else { &[] }
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.auth.verifies() {
            self.verify(certificate, intermediates, now)?;
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
        signed_by(certificate, (message, signed), &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth as OfClients, CodeSigning, ServerAuth};
    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
        KeyPair, KeyUsagePurpose, NameConstraints,
    };

    use super::*;

    /// An authority and its key.
    type Signer = (CertificateParams, KeyPair);

    fn authority(change: impl FnOnce(&mut CertificateParams)) -> Signer {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        (params, KeyPair::generate().unwrap())
    }

    /// A certificate for `a.example` that may sign others, as `openssl req -x509 -CA` makes it, and what it signs with.
    fn issued(
        (issuer, key): &Signer,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (CertificateDer<'static>, Signer) {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "leaf");
        change(&mut params);
        let own = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&own, &Issuer::from_params(issuer, key)).unwrap();
        (certificate.der().clone(), (params, own))
    }

    fn uses(usages: &[ExtendedKeyUsagePurpose]) -> impl FnOnce(&mut CertificateParams) {
        let usages = usages.to_vec();
        move |params| params.extended_key_usages = usages
    }

    /// Whether somebody who lists `known` believes `chain`: of a server called `name`, and of a client.
    fn believe((known, key): &Signer, chain: &[&CertificateDer<'static>], name: &str) -> (bool, bool) {
        believe_listed(known.self_signed(key).unwrap().der(), chain, name)
    }

    /// The same of somebody who lists this certificate.
    fn believe_listed(known: &CertificateDer<'static>, chain: &[&CertificateDer<'static>], name: &str) -> (bool, bool) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let listed = Authorities::new(vec![known.clone()]).unwrap();
        let intermediates: Vec<_> = chain[1..].iter().map(|certificate| (*certificate).clone()).collect();
        let (name, now) = (ServerName::try_from(name.to_owned()).unwrap(), UnixTime::now());
        let servers = ServerTrust::new(listed.clone(), Arc::clone(&provider)).unwrap();
        let auth = ClientAuth::RequireAndVerifyClientCert;
        let clients = ClientTrust::new(auth, listed, Vec::new(), provider).unwrap();
        let server = servers.verify_server_cert(chain[0], &intermediates, &name, &[], now);
        (server.is_ok(), clients.verify_client_cert(chain[0], &intermediates, now).is_ok())
    }

    /// Go takes certificates that say `CA:TRUE`, which `openssl req -x509` writes without being asked to.
    #[test]
    fn a_certificate_that_may_sign_others_is_believed_where_a_listed_authority_signed_it_itself() {
        let ours = authority(|_| ());
        let (plain, signer) = issued(&ours, |_| ());
        assert_eq!(believe(&ours, &[&plain], "a.example"), (true, true));
        assert_eq!(believe(&ours, &[&plain], "b.example"), (false, true));
        for (usages, expected) in [
            (vec![ServerAuth], (true, false)),
            (vec![OfClients], (false, true)),
            (vec![CodeSigning, OfClients, ServerAuth], (true, true)),
            (vec![CodeSigning], (false, false)),
        ] {
            let (certificate, _) = issued(&ours, uses(&usages));
            assert_eq!(believe(&ours, &[&certificate], "a.example"), expected, "{usages:?}");
        }
        // One that has but the name of the authority, and one that a certificate of the authority has signed.
        assert_eq!(believe(&authority(|_| ()), &[&plain], "a.example"), (false, false));
        let (next, _) = issued(&signer, |_| ());
        assert_eq!(believe(&ours, &[&next, &plain], "a.example"), (false, false));
        let (old, _) = issued(&ours, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
        assert_eq!(believe(&ours, &[&old], "a.example"), (false, false));
        let (early, _) = issued(&ours, |params| params.not_before = rcgen::date_time_ymd(2090, 1, 1));
        assert_eq!(believe(&ours, &[&early], "a.example"), (false, false));
        let (strange, _) = issued(&ours, |params| {
            let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0x05, 0x00]);
            extension.set_criticality(true);
            params.custom_extensions.push(extension);
        });
        assert_eq!(believe(&ours, &[&strange], "a.example"), (false, false));
        let mut forged = plain.to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(believe(&ours, &[&forged.into()], "a.example"), (false, false));
    }

    /// The library asks neither: a listed certificate of a client could once sign those of others.
    #[test]
    fn a_listed_certificate_that_may_sign_no_others_or_whose_time_is_over_vouches_for_nobody_else() {
        type Change = fn(&mut CertificateParams);
        let kinds: [(&str, Change); 6] = [
            ("one of version 3 that says nothing", |params| params.is_ca = IsCa::NoCa),
            ("CA:FALSE", |params| params.is_ca = IsCa::ExplicitNoCa),
            ("a key for others", |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
            ("one that is over", |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)),
            ("one that has not come", |params| params.not_before = rcgen::date_time_ymd(2090, 1, 1)),
            ("one that may", |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]),
        ];
        for (kind, change) in kinds {
            let signer = authority(change);
            let may = kind == "one that may";
            for is_ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
                let (other, _) = issued(&signer, |params| params.is_ca = is_ca);
                assert_eq!(believe(&signer, &[&other], "a.example"), (may, may), "{kind}");
            }
            let own = signer.0.self_signed(&signer.1).unwrap();
            let is_current = !["one that is over", "one that has not come"].contains(&kind);
            // It has no name that a server could have.
            assert_eq!(believe_listed(own.der(), &[own.der()], "a.example"), (false, is_current), "{kind}");
        }
        // Clients choose by these what they show, those that sign themselves too.
        let (params, key) = authority(|params| params.is_ca = IsCa::NoCa);
        let listed = Authorities::new(vec![params.self_signed(&key).unwrap().der().clone()]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = ClientTrust::new(ClientAuth::RequireAndVerifyClientCert, listed, Vec::new(), provider).unwrap();
        assert_eq!(clients.root_hint_subjects().len(), 1);
        // So it is where the system knows it.
        let known = Authorities::known(vec![params.self_signed(&key).unwrap().der().clone()]);
        assert_eq!((known.listed.len(), known.roots.len(), known.subjects.len()), (1, 0, 1));
    }

    #[test]
    fn an_authority_that_limits_names_vouches_for_no_certificate_that_may_sign_others() {
        let limited = authority(|params| {
            let permitted_subtrees = vec![GeneralSubtree::DnsName("a.example".to_owned())];
            params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        });
        assert_eq!(believe(&limited, &[&issued(&limited, |_| ()).0], "a.example"), (false, false));
        let (leaf, _) = issued(&limited, |params| params.is_ca = IsCa::NoCa);
        assert_eq!(believe(&limited, &[&leaf], "a.example"), (true, true));
    }
}
