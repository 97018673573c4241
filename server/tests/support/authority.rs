//! A certificate authority of a test.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

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

    /// Writes its certificate, and one for a host with its key, as `ca.pem`, `cert.pem` and `key.pem`.
    pub fn write_to(&self, folder: &Path, host: &str) {
        let (certificate, key) = self.issue_to(host, "nobody");
        std::fs::write(folder.join("ca.pem"), &self.pem).unwrap();
        std::fs::write(folder.join("cert.pem"), certificate).unwrap();
        std::fs::write(folder.join("key.pem"), key).unwrap();
    }
}
