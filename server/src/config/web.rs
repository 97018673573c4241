//! The file of `--http.config`: TLS of the HTTP server, in the words of Prometheus' web
//! configuration.

use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, from_yaml};
use crate::edge::tls::TlsOptions;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Web {
    tls_server_config: Option<Tls>,
    basic_auth_users: std::collections::BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    client_auth_type: String,
    client_ca_file: Option<PathBuf>,
    min_version: Option<String>,
    cipher_suites: Vec<String>,
    curve_preferences: Vec<String>,
}

/// TLS as the file's `text` describes it; `None` when it asks for none.
pub fn parse(flag: &str, text: &str) -> Result<Option<TlsOptions>, ConfigError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let web: Web = from_yaml(flag, text)?;
    if !web.basic_auth_users.is_empty() {
        return Err(ConfigError::new(flag, "basic_auth_users is not supported: use TLS with client certificates"));
    }
    let Some(tls) = web.tls_server_config else { return Ok(None) };
    let client_ca = match tls.client_auth_type.as_str() {
        "" | "NoClientCert" => None,
        "RequireAndVerifyClientCert" => Some(
            tls.client_ca_file.ok_or_else(|| ConfigError::new(flag, "tls_server_config.client_ca_file is missing"))?,
        ),
        other => {
            let why = format!("client_auth_type {other:?} is not supported: use RequireAndVerifyClientCert");
            return Err(ConfigError::new(flag, why));
        }
    };
    Ok(Some(TlsOptions {
        certificate: tls.cert_file,
        key: tls.key_file,
        client_ca,
        version_min: if tls.min_version.as_deref() == Some("TLS13") { "1.3" } else { "1.2" }.to_owned(),
        ciphers: tls.cipher_suites,
        curves: tls.curve_preferences,
        protocols: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_weaken_the_server_silently_is_refused() {
        for (text, word) in [
            ("basic_auth_users: {a: b}", "basic_auth_users"),
            ("tls_server_config: {client_auth_type: RequestClientCert}", "RequestClientCert"),
            ("tls_server_config: {client_auth_type: RequireAndVerifyClientCert}", "client_ca_file"),
            ("tls: {}", "tls"),
        ] {
            let error = parse("http.config", text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        assert_eq!(parse("http.config", "").unwrap(), None);
        let options = parse("http.config", "tls_server_config: {cert_file: a, key_file: b, min_version: TLS13}");
        assert_eq!(options.unwrap().unwrap().version_min, "1.3");
    }
}
