//! Versions, cipher suites and key exchange groups of TLS, by the names that Go has for them.

use rustls::crypto::{CryptoProvider, ring};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

/// Every cipher suite that Go offers without being urged to.
const CIPHERS: [&str; 13] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// Every key exchange group that Go knows.
const CURVES: [&str; 7] =
    ["CurveP256", "CurveP384", "CurveP521", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "X25519", "X25519MLKEM768"];

/// A version of TLS that is spoken here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2, which stands for the versions before it too: they are no longer offered.
    Tls12,
    /// TLS 1.3.
    #[default]
    Tls13,
}

/// The least and the greatest version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The least.
    pub min: Version,
    /// The greatest.
    pub max: Version,
}

/// What is offered, and what was asked for and is not.
#[derive(Debug)]
pub struct Offer {
    /// The algorithms.
    pub provider: CryptoProvider,
    /// Names that Go knows and that are not implemented here.
    pub left_out: Vec<String>,
}

impl Version {
    /// The version that `1.0` to `1.3` names.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "1.0" | "1.1" | "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            other => Err(format!("invalid TLS version: {other}, valid values are 1.0, 1.1, 1.2, 1.3")),
        }
    }
}

impl Versions {
    /// `min` and all that came after it.
    pub fn from(min: Version) -> Self {
        Self { min, max: Version::Tls13 }
    }

    /// An error where no version is between them.
    pub fn check(self) -> Result<(), String> {
        if self.min <= self.max {
            return Ok(());
        }
        Err("min_version is greater than max_version: lower the one or raise the other".to_owned())
    }

    /// The versions, as rustls names them.
    pub fn listed(self) -> Vec<&'static SupportedProtocolVersion> {
        let known = [(Version::Tls13, &rustls::version::TLS13), (Version::Tls12, &rustls::version::TLS12)];
        known
            .into_iter()
            .filter(|(version, _)| (self.min..=self.max).contains(version))
            .map(|(_, known)| known)
            .collect()
    }
}

/// Whether Go knows a cipher suite called `name`.
pub fn is_cipher(name: &str) -> bool {
    CIPHERS.contains(&name)
}

/// The algorithms of which `ciphers` and `curves` are offered, all where none are named. The suites of TLS
/// 1.3 are always offered, as by Go.
pub fn offer(ciphers: &[String], curves: &[String]) -> Result<Offer, String> {
    let mut provider = ring::default_provider();
    let mut left_out = Vec::new();
    if !ciphers.is_empty() {
        let known = std::mem::take(&mut provider.cipher_suites);
        provider.cipher_suites = known.iter().filter(|suite| suite.tls13().is_some()).copied().collect();
        for name in ciphers {
            if !is_cipher(name) {
                return Err(format!("invalid cipher suite: {name}, valid values are {}", CIPHERS.join(", ")));
            }
            match known.iter().find(|suite| go_name(suite) == *name) {
                Some(suite) if suite.tls13().is_some() => {}
                Some(suite) => provider.cipher_suites.push(*suite),
                None => left_out.push(name.clone()),
            }
        }
    }
    if !curves.is_empty() {
        provider.kx_groups.clear();
        for name in curves {
            match (curve(name), CURVES.contains(&name.as_str())) {
                (Some(group), _) => provider.kx_groups.push(group),
                (None, true) => left_out.push(name.clone()),
                (None, false) => {
                    return Err(format!("invalid curve: {name}, valid values are {}", CURVES.join(", ")));
                }
            }
        }
        if provider.kx_groups.is_empty() {
            let why = "is implemented: add CurveP256, CurveP384 or X25519";
            return Err(format!("none of the curves {} {why}", curves.join(", ")));
        }
    }
    Ok(Offer { provider, left_out })
}

/// Go's name of a suite: rustls tells those of TLS 1.3 by a number.
fn go_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

fn curve(name: &str) -> Option<&'static dyn rustls::crypto::SupportedKxGroup> {
    match name {
        "CurveP256" => Some(ring::kx_group::SECP256R1),
        "CurveP384" => Some(ring::kx_group::SECP384R1),
        "X25519" => Some(ring::kx_group::X25519),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_of_go_are_taken_and_what_is_not_implemented_is_left_out() {
        let all = offer(&[], &[]).unwrap();
        assert_eq!(all.provider.kx_groups.len(), 3);
        let ciphers = names(&["TLS_AES_128_GCM_SHA256", CIPHERS[8], CIPHERS[9]]);
        let some = offer(&ciphers, &names(&["X25519MLKEM768", "X25519"])).unwrap();
        assert_eq!(some.left_out, [CIPHERS[8], "X25519MLKEM768"]);
        let old: Vec<_> = some.provider.cipher_suites.iter().filter(|suite| suite.tls13().is_none()).collect();
        assert_eq!(old.len(), 1);
        assert_eq!(some.provider.kx_groups.len(), 1);
    }

    #[test]
    fn unknown_names_are_refused_with_those_that_are_known() {
        let error = offer(&names(&["FOO"]), &[]).unwrap_err();
        assert!(error.starts_with("invalid cipher suite: FOO, valid values are TLS_AES_128_GCM_SHA256, "), "{error}");
        let error = offer(&[], &names(&["Bad"])).unwrap_err();
        assert!(error.starts_with("invalid curve: Bad, valid values are CurveP256, "), "{error}");
        assert!(offer(&[], &names(&["CurveP521"])).is_err());
        assert!(Version::parse("1.4").is_err());
        assert_eq!(Versions::from(Version::Tls12).listed().len(), 2);
        assert_eq!(Versions { min: Version::Tls12, max: Version::Tls12 }.listed(), [&rustls::version::TLS12]);
        let error = Versions { min: Version::Tls13, max: Version::Tls12 }.check().unwrap_err();
        assert!(error.contains("min_version is greater than max_version"), "{error}");
    }
}
