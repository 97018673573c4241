//! The file of `--http.config`: TLS, users, headers and the rate of requests of the HTTP server, in the
//! words of Prometheus' web configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::{ConfigError, from_yaml};
use crate::cli::parse::parse_duration;
use crate::edge::algorithms::{self, Version, Versions};
use crate::edge::tls::{Clients, Pem, TlsOptions};
use crate::edge::trust::ClientAuth;

/// Headers that may be set, and the values of those that have few.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

/// Groups that upstream's file may name.
const CURVES: [&str; 4] = ["CurveP256", "CurveP384", "CurveP521", "X25519"];

/// Length of a password's hash, such as `$2y$10$` and 53 characters.
const HASH_LEN: usize = 60;

/// Costs that a hash may have.
const COSTS: std::ops::RangeInclusive<u8> = 4..=31;

/// How HTTP is served.
#[derive(Clone, Debug, Default)]
pub struct Web {
    /// TLS; none for plain text.
    pub tls: Option<TlsOptions>,
    /// The hash of each user's password, as bcrypt makes it; empty: anybody may ask.
    pub users: BTreeMap<String, String>,
    /// Headers of every answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How many requests are answered.
    pub rate: Option<Rate>,
}

impl Web {
    /// Whether nothing is said at all.
    pub fn is_empty(&self) -> bool {
        self.tls.is_none() && self.users.is_empty() && self.headers.is_empty() && self.rate.is_none()
    }
}

/// A rate of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests that may come at once.
    pub burst: u32,
    /// Time after which one more may come.
    pub interval: Duration,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    tls_server_config: Option<Tls>,
    http_server_config: Option<Http>,
    rate_limit: Option<RateLimit>,
    basic_auth_users: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Http {
    http2: bool,
    headers: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RateLimit {
    burst: u32,
    interval: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    cert: String,
    key: String,
    client_ca: String,
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: PathBuf,
    client_auth_type: String,
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Option<Vec<String>>,
    curve_preferences: Option<Vec<String>>,
    #[serde(rename = "prefer_server_cipher_suites")]
    _prefer_server_cipher_suites: Option<bool>,
}

impl Default for Http {
    fn default() -> Self {
        Self { http2: true, headers: None }
    }
}

/// Reads the file at `path`; files that it names lie beside it.
pub fn read(flag: &str, path: &Path) -> Result<Web, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::new(flag, format!("cannot read {path:?}: {error}")))?;
    parse(flag, &text, path.parent().unwrap_or(Path::new("")))
}

/// Reads the text of such a file, which lies in `folder`.
pub fn parse(flag: &str, text: &str, folder: &Path) -> Result<Web, ConfigError> {
    if text.trim().is_empty() {
        return Ok(Web::default());
    }
    let file: File = from_yaml(flag, text)?;
    web(file, folder).map_err(|why| ConfigError::new(flag, why))
}

fn web(file: File, folder: &Path) -> Result<Web, String> {
    let http = file.http_server_config.unwrap_or_default();
    let users = file.basic_auth_users.unwrap_or_default();
    for (user, hash) in &users {
        check_hash(hash).map_err(|why| format!("basic_auth_users.{user}: {why}"))?;
    }
    let protocols: &[&[u8]] = if http.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    let protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let rate = file.rate_limit.map(RateLimit::rate).transpose()?.flatten();
    Ok(Web {
        tls: file.tls_server_config.map(|tls| tls.options(folder, protocols)).transpose()?.flatten(),
        headers: http.headers.unwrap_or_default().into_iter().map(header).collect::<Result<_, _>>()?,
        users,
        rate,
    })
}

fn header((name, value): (String, String)) -> Result<(HeaderName, HeaderValue), String> {
    let Some((_, values)) = HEADERS.iter().find(|(known, _)| *known == name) else {
        return Err(format!("HTTP header {name:?} can not be configured"));
    };
    if !values.is_empty() && !values.contains(&value.as_str()) {
        return Err(format!("invalid value for {name}. Expected one of: {values:?}, but got: {value:?}"));
    }
    let bad = |error: &dyn std::fmt::Display| format!("HTTP header {name:?}: {error}");
    let header = HeaderName::from_bytes(name.as_bytes()).map_err(|error| bad(&error))?;
    Ok((header, HeaderValue::from_str(&value).map_err(|error| bad(&error))?))
}

/// Whether `hash` is one that a password can be held against.
fn check_hash(hash: &str) -> Result<(), String> {
    if hash.len() < HASH_LEN - 1 {
        return Err("crypto/bcrypt: hashedSecret too short to be a bcrypted password".to_owned());
    }
    let mut parts = hash.split('$');
    let (Some(""), Some(version), Some(cost)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("crypto/bcrypt: bcrypt hashes must start with '$' and name version and cost".to_owned());
    };
    if !version.starts_with('2') {
        return Err(format!("crypto/bcrypt: bcrypt algorithm version '{version}' is not the current version '2'"));
    }
    match cost.parse::<u8>() {
        Ok(cost) if COSTS.contains(&cost) => Ok(()),
        _ => Err(format!("crypto/bcrypt: cost {cost} is outside allowed inclusive range 4..31")),
    }
}

impl RateLimit {
    fn rate(self) -> Result<Option<Rate>, String> {
        let interval = match self.interval.as_deref() {
            None => Duration::ZERO,
            Some(text) => parse_duration(text).map_err(|why| format!("rate_limit.interval: {why}"))?,
        };
        Ok((!interval.is_zero()).then_some(Rate { burst: self.burst, interval }))
    }
}

impl Tls {
    /// `None` when nothing is said of TLS.
    fn options(self, folder: &Path, protocols: Vec<Vec<u8>>) -> Result<Option<TlsOptions>, String> {
        let pem = |file: PathBuf, text: String| match (file.as_os_str().is_empty(), text.is_empty()) {
            (false, _) => Some(Pem::File(folder.join(file))),
            (true, false) => Some(Pem::Text(text)),
            (true, true) => None,
        };
        let (certificate, key) = (pem(self.cert_file, self.cert), pem(self.key_file, self.key));
        let ca = pem(self.client_ca_file, self.client_ca);
        if certificate.is_none() && key.is_none() && ca.is_none() && self.client_auth_type.is_empty() {
            return Ok(None);
        }
        let certificate = certificate.ok_or("missing one of cert or cert_file")?;
        let key = key.ok_or("missing one of key or key_file")?;
        let auth = client_auth(&self.client_auth_type)?;
        if ca.is_some() && auth == ClientAuth::NoClientCert {
            return Err("client CA's have been configured without a Client Auth Policy".to_owned());
        }
        let ciphers = self.cipher_suites.unwrap_or_default();
        if let Some(name) = ciphers.iter().find(|name| !algorithms::is_cipher(name)) {
            return Err(format!("unknown cipher: {name}"));
        }
        let curves = self.curve_preferences.unwrap_or_default();
        if let Some(name) = curves.iter().find(|name| !CURVES.contains(&name.as_str())) {
            return Err(format!("unknown curve: {name}"));
        }
        let min = version(self.min_version.as_deref().unwrap_or("TLS12"))?;
        let max = version(self.max_version.as_deref().unwrap_or("TLS13"))?;
        Ok(Some(TlsOptions {
            certificate,
            key,
            clients: Clients { auth, ca, allowed_names: self.client_allowed_sans.unwrap_or_default() },
            versions: Versions { min, max },
            ciphers,
            curves,
            protocols,
        }))
    }
}

fn client_auth(name: &str) -> Result<ClientAuth, String> {
    match name {
        "" | "NoClientCert" => Ok(ClientAuth::NoClientCert),
        "RequestClientCert" => Ok(ClientAuth::RequestClientCert),
        "RequireAnyClientCert" | "RequireClientCert" => Ok(ClientAuth::RequireAnyClientCert),
        "VerifyClientCertIfGiven" => Ok(ClientAuth::VerifyClientCertIfGiven),
        "RequireAndVerifyClientCert" => Ok(ClientAuth::RequireAndVerifyClientCert),
        other => Err(format!("invalid ClientAuth: {other}")),
    }
}

fn version(name: &str) -> Result<Version, String> {
    match name {
        "TLS10" | "TLS11" | "TLS12" => Ok(Version::Tls12),
        "TLS13" => Ok(Version::Tls13),
        other => Err(format!("unknown TLS version: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Web, String> {
        parse("http.config", text, Path::new("/etc/uru")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_upstream_refuses_is_refused_in_its_words() {
        for (text, word) in [
            ("tls_server_config: {client_auth_type: x, cert_file: a, key_file: b}", "invalid ClientAuth: x"),
            ("tls_server_config: {client_auth_type: RequireAndVerifyClientCert}", "missing one of cert or cert_file"),
            ("tls_server_config: {cert_file: a}", "missing one of key or key_file"),
            ("tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}", "without a Client Auth Policy"),
            ("tls_server_config: {cert_file: a, key_file: b, min_version: TLS1}", "unknown TLS version: TLS1"),
            ("tls_server_config: {cert_file: a, key_file: b, cipher_suites: [x]}", "unknown cipher: x"),
            ("tls_server_config: {cert_file: a, key_file: b, curve_preferences: [x]}", "unknown curve: x"),
            ("basic_auth_users: {a: b}", "hashedSecret too short"),
            ("http_server_config: {headers: {X-Y: z}}", "HTTP header \"X-Y\" can not be configured"),
            ("http_server_config: {headers: {X-Frame-Options: z}}", "[\"deny\", \"sameorigin\"], but got: \"z\""),
            ("rate_limit: {burst: 1, interval: soon}", "rate_limit.interval"),
            ("tls: {}", "tls"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn files_lie_beside_the_configuration_and_the_rest_is_as_upstream_has_it() {
        assert!(parsed("").unwrap().tls.is_none());
        assert!(parsed("tls_server_config: {min_version: TLS13}").unwrap().tls.is_none());
        let text = "tls_server_config: {cert_file: a, key: KEY, client_auth_type: RequireClientCert}\n\
                    http_server_config: {http2: false, headers: {X-Frame-Options: deny}}\n\
                    rate_limit: {burst: 3, interval: 2s}\n\
                    basic_auth_users: {u: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}";
        let web = parsed(text).unwrap();
        let tls = web.tls.unwrap();
        assert_eq!(tls.certificate, Pem::File("/etc/uru/a".into()));
        assert_eq!(tls.key, Pem::Text("KEY".into()));
        assert_eq!(tls.clients.auth, ClientAuth::RequireAnyClientCert);
        assert_eq!(tls.versions, Versions::from(Version::Tls12));
        assert_eq!(tls.protocols, [b"http/1.1".to_vec()]);
        assert_eq!((web.users.len(), web.headers.len()), (1, 1));
        assert_eq!(web.rate, Some(Rate { burst: 3, interval: Duration::from_secs(2) }));
    }
}
