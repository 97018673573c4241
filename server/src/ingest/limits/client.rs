//! The HTTP client that asks meta-monitoring: who it says it is, and whom it trusts.

use std::time::Duration;

use reqwest::{Certificate, Client, Identity, Proxy, RequestBuilder};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::objstore::config::TlsConfig;

/// Longest time of one question.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// `meta_monitoring_http_client`; files are read again for each question.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpClient {
    basic_auth: BasicAuth,
    bearer_token: String,
    bearer_token_file: String,
    proxy_url: String,
    /// Its `server_name` has no effect.
    tls_config: TlsConfig,
    /// Connections are not kept between questions.
    #[serde(rename = "transport_config")]
    _transport_config: IgnoredAny,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BasicAuth {
    username: String,
    password: String,
    password_file: String,
}

impl HttpClient {
    /// A question to `url`. The error is a sentence.
    pub fn get(&self, url: &str) -> Result<RequestBuilder, String> {
        let question = self.client()?.get(url);
        let token = given_or_file(&self.bearer_token, &self.bearer_token_file)?;
        let password = given_or_file(&self.basic_auth.password, &self.basic_auth.password_file)?;
        Ok(match (token, password) {
            (Some(token), _) => question.bearer_auth(token),
            (None, None) if self.basic_auth.username.is_empty() => question,
            (None, password) => question.basic_auth(&self.basic_auth.username, password),
        })
    }

    fn client(&self) -> Result<Client, String> {
        let failed = |error: reqwest::Error| format!("meta_monitoring_http_client: {error}");
        let TlsConfig { ca_file, cert_file, key_file, insecure_skip_verify, .. } = &self.tls_config;
        let builder = Client::builder().timeout(ANSWER_TIME_MAX).user_agent("uru");
        let mut builder = match &*self.proxy_url {
            "" => builder.no_proxy(),
            proxy => builder.proxy(Proxy::all(proxy).map_err(failed)?),
        };
        if !ca_file.is_empty() {
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(read(ca_file)?.as_bytes()).map_err(failed)?);
        }
        if !cert_file.is_empty() {
            let pem = [read(cert_file)?, read(key_file)?].concat();
            builder = builder.identity(Identity::from_pem(pem.as_bytes()).map_err(failed)?);
        }
        builder.tls_danger_accept_invalid_certs(*insecure_skip_verify).build().map_err(failed)
    }
}

/// What is given, or what a file holds; `None` when neither is named.
fn given_or_file(given: &str, file: &str) -> Result<Option<String>, String> {
    match (given, file) {
        ("", "") => Ok(None),
        ("", file) => Ok(Some(read(file)?.trim().to_owned())),
        (given, _) => Ok(Some(given.to_owned())),
    }
}

fn read(file: &str) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("meta_monitoring_http_client: {file}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_says_who_asks() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "p\n").unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let file = file.display();
        for (config, said) in [
            ("{}".to_owned(), None),
            ("{basic_auth: {username: u, password: p}}".to_owned(), Some("Basic dTpw")),
            (format!("{{basic_auth: {{username: u, password_file: '{file}'}}}}"), Some("Basic dTpw")),
            ("{bearer_token: t}".to_owned(), Some("Bearer t")),
            (format!("{{bearer_token_file: '{file}', transport_config: {{max_idle_conns: 1}}}}"), Some("Bearer p")),
        ] {
            let client: HttpClient = crate::config::from_yaml("receive.limits-config", &config).unwrap();
            let question = client.get("http://m:9090").unwrap().build().unwrap();
            let header = question.headers().get("authorization").map(|value| value.to_str().unwrap());
            assert_eq!(header, said, "{config}");
        }
        let missing = HttpClient { bearer_token_file: "/nowhere".into(), ..HttpClient::default() };
        assert!(missing.get("http://m:9090").unwrap_err().contains("/nowhere"));
    }
}
