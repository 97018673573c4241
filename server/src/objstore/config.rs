//! The YAML that describes a bucket, with Thanos' keys; a key that is not known is an error that
//! names its line.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::cli::Values;
use crate::cli::parse::parse_duration;
use crate::config::{ConfigError, content, from_yaml, or_default};

/// A bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct BucketConfig {
    /// Where it is.
    pub provider: Provider,
    /// What stands before every object's name; without slashes at either end.
    pub prefix: String,
}

/// Where a bucket is.
#[derive(Clone, Debug, PartialEq)]
pub enum Provider {
    /// A folder.
    Filesystem(PathBuf),
    /// S3, or a server that speaks its protocol.
    S3(Box<S3Config>),
}

/// The keys of a bucket of type S3.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct S3Config {
    #[serde(deserialize_with = "or_default")]
    pub bucket: String,
    #[serde(deserialize_with = "or_default")]
    pub endpoint: String,
    #[serde(deserialize_with = "or_default")]
    pub region: String,
    #[serde(deserialize_with = "or_default")]
    pub disable_dualstack: bool,
    #[serde(deserialize_with = "or_default")]
    pub aws_sdk_auth: bool,
    #[serde(deserialize_with = "or_default")]
    pub access_key: String,
    #[serde(deserialize_with = "or_default")]
    pub secret_key: String,
    #[serde(deserialize_with = "or_default")]
    pub session_token: String,
    #[serde(deserialize_with = "or_default")]
    pub insecure: bool,
    #[serde(deserialize_with = "or_default")]
    pub signature_version2: bool,
    #[serde(deserialize_with = "or_default")]
    pub put_user_metadata: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub http_config: HttpConfig,
    #[serde(deserialize_with = "or_default")]
    pub trace: TraceConfig,
    #[serde(deserialize_with = "or_default")]
    pub list_objects_version: String,
    #[serde(deserialize_with = "or_default")]
    pub bucket_lookup_type: LookupType,
    pub send_content_md5: Option<bool>,
    #[serde(deserialize_with = "or_default")]
    pub disable_multipart: bool,
    pub part_size: Option<u64>,
    #[serde(deserialize_with = "or_default")]
    pub sse_config: SseConfig,
    #[serde(deserialize_with = "or_default")]
    pub sts_endpoint: String,
    #[serde(deserialize_with = "or_default")]
    pub max_retries: usize,
    /// Whether `hedging_config`, which lies beside these keys, is enabled.
    #[serde(skip)]
    pub hedging: bool,
}

/// How a bucket's name gets into the URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LookupType {
    /// In the host at AWS, in the path elsewhere.
    #[default]
    Auto,
    /// In the host.
    #[serde(rename = "virtual-hosted")]
    VirtualHosted,
    /// In the path.
    Path,
}

/// The HTTP client of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct HttpConfig {
    pub idle_conn_timeout: Option<PromDuration>,
    pub response_header_timeout: Option<PromDuration>,
    #[serde(deserialize_with = "or_default")]
    pub insecure_skip_verify: bool,
    pub tls_handshake_timeout: Option<PromDuration>,
    pub expect_continue_timeout: Option<PromDuration>,
    pub max_idle_conns: Option<usize>,
    pub max_idle_conns_per_host: Option<usize>,
    pub max_conns_per_host: Option<usize>,
    #[serde(deserialize_with = "or_default")]
    pub tls_config: TlsConfig,
    #[serde(deserialize_with = "or_default")]
    pub disable_compression: bool,
}

/// TLS of a bucket's HTTP client.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct TlsConfig {
    #[serde(deserialize_with = "or_default")]
    pub ca_file: String,
    #[serde(deserialize_with = "or_default")]
    pub cert_file: String,
    #[serde(deserialize_with = "or_default")]
    pub key_file: String,
    #[serde(deserialize_with = "or_default")]
    pub server_name: String,
    #[serde(deserialize_with = "or_default")]
    pub insecure_skip_verify: bool,
}

/// Tracing of a bucket's requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct TraceConfig {
    #[serde(deserialize_with = "or_default")]
    pub enable: bool,
}

/// Encryption by the server.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct SseConfig {
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: String,
    #[serde(deserialize_with = "or_default")]
    pub kms_key_id: String,
    #[serde(deserialize_with = "or_default")]
    pub kms_encryption_context: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub encryption_key: String,
}

/// A duration as Prometheus writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PromDuration(pub std::time::Duration);

impl TryFrom<String> for PromDuration {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_duration(&text).map(Self)
    }
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<C> {
    #[serde(rename = "type")]
    _kind: String,
    config: Option<C>,
    #[serde(default, deserialize_with = "or_default")]
    prefix: String,
    #[serde(default)]
    hedging_config: Option<Hedging>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Hedging {
    #[serde(deserialize_with = "or_default")]
    enabled: bool,
    #[serde(rename = "up_to", deserialize_with = "or_default")]
    _up_to: u32,
    #[serde(rename = "quantile", deserialize_with = "or_default")]
    _quantile: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filesystem {
    #[serde(default, deserialize_with = "or_default")]
    directory: PathBuf,
}

const ELSEWHERE: [&str; 8] = ["GCS", "AZURE", "SWIFT", "COS", "ALIYUNOSS", "BOS", "OCI", "OBS"];

impl BucketConfig {
    /// Reads the YAML that came by `flag`.
    pub fn parse(flag: &str, text: &str) -> Result<Self, ConfigError> {
        let kind: Kind = from_yaml(flag, text)?;
        match kind.kind.to_ascii_uppercase().as_str() {
            "FILESYSTEM" => {
                let document: Document<Filesystem> = from_yaml(flag, text)?;
                let directory = document.config.map(|config| config.directory).unwrap_or_default();
                if directory.as_os_str().is_empty() {
                    let why = "config.directory is missing, the folder that is the bucket: give for example \
                               config: {directory: ./bucket}";
                    return Err(ConfigError::new(flag, why));
                }
                Self::new(flag, Provider::Filesystem(directory), &document.prefix)
            }
            "S3" => {
                let document: Document<S3Config> = from_yaml(flag, text)?;
                let hedging = document.hedging_config.is_some_and(|hedging| hedging.enabled);
                let config = S3Config { hedging, ..document.config.unwrap_or_default() };
                config.check().map_err(|why| ConfigError::new(flag, why))?;
                Self::new(flag, Provider::S3(Box::new(config)), &document.prefix)
            }
            known if ELSEWHERE.contains(&known) => Err(ConfigError::new(
                flag,
                format!("type {known} is not supported: use S3 (most providers speak it) or FILESYSTEM"),
            )),
            "" => Err(ConfigError::new(flag, "type is missing: S3 or FILESYSTEM")),
            other => Err(ConfigError::new(flag, format!("type {other:?} is not known: use S3 or FILESYSTEM"))),
        }
    }

    /// The bucket that the pair of flags `flag-file` and `flag` describes; one of them must be given.
    pub fn given(values: &Values, flag: &str) -> Result<Self, ConfigError> {
        let environment = |name: &str| std::env::var(name).ok();
        let Some(text) = content::read(values, flag, &environment)? else {
            let example = format!("--{flag}='{{type: FILESYSTEM, config: {{directory: ./bucket}}}}'");
            let why = format!("give the YAML that describes the bucket, for example\n  {example}");
            return Err(ConfigError::new(&format!("{flag}-file"), why));
        };
        Self::parse(flag, &text)
    }

    /// A folder as a bucket.
    pub fn filesystem(directory: impl Into<PathBuf>) -> Self {
        Self { provider: Provider::Filesystem(directory.into()), prefix: String::new() }
    }

    fn new(flag: &str, provider: Provider, prefix: &str) -> Result<Self, ConfigError> {
        let prefix = prefix.trim_matches('/');
        let is_odd = |part: &str| matches!(part, "." | "..") || part.contains(char::is_control);
        if prefix.split('/').any(is_odd) || prefix.contains("//") {
            let why = format!("prefix {prefix:?} must not hold empty parts, . or .. or control characters");
            return Err(ConfigError::new(flag, why));
        }
        Ok(Self { provider, prefix: prefix.to_owned() })
    }
}

impl S3Config {
    fn is_virtual_hosted_address(&self) -> bool {
        let host = self.endpoint.rsplit_once(':').map_or(self.endpoint.as_str(), |(host, _)| host);
        let is_address = |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        self.bucket_lookup_type == LookupType::VirtualHosted && (is_address(host) || is_address(&self.endpoint))
    }

    /// Keys that are given with other values than Thanos takes by itself, and that have no effect.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let http = &self.http_config;
        let second = Duration::from_secs(1);
        let given = [
            ("http_config.expect_continue_timeout", http.expect_continue_timeout.is_some_and(|time| time.0 != second)),
            ("http_config.max_idle_conns", http.max_idle_conns.is_some_and(|max| max != 100)),
            ("http_config.max_conns_per_host", http.max_conns_per_host.is_some_and(|max| max != 0)),
            ("hedging_config", self.hedging),
            ("trace", self.trace.enable),
        ];
        given.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key).collect()
    }

    fn check(&self) -> Result<(), String> {
        let both = "give both access_key and secret_key, or neither to take credentials from the environment";
        let address = "bucket_lookup_type virtual-hosted needs an endpoint with a name, not an address: use path";
        let context = "sse_config.kms_encryption_context is not supported: leave it out, or use a key whose policy asks \
                       for none";
        let server = "http_config.tls_config.server_name is not supported: give the name in the server's certificate \
                      as config.endpoint";
        let encryption = &self.sse_config;
        let has_context = encryption.kind == "SSE-KMS" && !encryption.kms_encryption_context.is_empty();
        let wrong = [
            (self.bucket.is_empty(), "config.bucket is missing"),
            (self.endpoint.is_empty(), "config.endpoint is missing, for example s3.eu-west-1.amazonaws.com"),
            (
                self.endpoint.contains('/'),
                "config.endpoint is a host without scheme and path: insecure: true asks by HTTP",
            ),
            (self.is_virtual_hosted_address(), address),
            (self.aws_sdk_auth && !self.access_key.is_empty(), "aws_sdk_auth and access_key exclude each other"),
            (self.access_key.is_empty() != self.secret_key.is_empty(), both),
            (self.signature_version2, "signature_version2 is not supported: version 4 is what servers speak"),
            (has_context, context),
            (self.sts_endpoint.starts_with("http://"), "sts_endpoint is asked by HTTPS alone: begin it with https://"),
            (!self.insecure && !self.http_config.tls_config.server_name.is_empty(), server),
            (self.list_objects_version == "v1", "list_objects_version v1 is not supported: use v2"),
        ];
        if let Some((_, why)) = wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            return Err(why.to_owned());
        }
        if !matches!(self.list_objects_version.as_str(), "" | "v2") {
            return Err(format!("list_objects_version {:?} is not known: use v2", self.list_objects_version));
        }
        let sse = &self.sse_config;
        match sse.kind.as_str() {
            "" | "SSE-S3" => Ok(()),
            "SSE-KMS" if sse.kms_key_id.is_empty() => Err("sse_config.kms_key_id is missing for SSE-KMS".into()),
            "SSE-C" if sse.encryption_key.is_empty() => Err("sse_config.encryption_key is missing for SSE-C".into()),
            "SSE-KMS" | "SSE-C" => Ok(()),
            other => Err(format!("sse_config.type {other:?} is not known: use SSE-S3, SSE-KMS or SSE-C")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY_S3_KEY: &str = "
type: S3
config:
  bucket: metrics
  endpoint: s3.example.com
  region: eu-1
  disable_dualstack: true
  aws_sdk_auth: false
  access_key: a
  secret_key: b
  session_token: c
  insecure: true
  signature_version2: false
  put_user_metadata: {X-Amz-Acl: private}
  http_config:
    idle_conn_timeout: 1m30s
    response_header_timeout: 2m
    insecure_skip_verify: true
    tls_handshake_timeout: 10s
    expect_continue_timeout: 1s
    max_idle_conns: 100
    max_idle_conns_per_host: 100
    max_conns_per_host: 0
    tls_config: {ca_file: '', cert_file: '', key_file: '', server_name: '', insecure_skip_verify: false}
    disable_compression: false
  trace: {enable: true}
  list_objects_version: v2
  bucket_lookup_type: virtual-hosted
  send_content_md5: true
  disable_multipart: false
  part_size: 67108864
  sse_config: {type: SSE-S3, kms_key_id: '', kms_encryption_context: {}, encryption_key: ''}
  sts_endpoint: ''
  max_retries: 3
prefix: /team/a/
hedging_config: {enabled: false, up_to: 3, quantile: 0.9}
";

    #[test]
    fn every_key_of_s3_is_read() {
        let config = BucketConfig::parse("objstore.config", EVERY_S3_KEY).unwrap();
        assert_eq!(config.prefix, "team/a");
        let Provider::S3(s3) = config.provider else { panic!("the type is S3") };
        assert_eq!(s3.bucket_lookup_type, LookupType::VirtualHosted);
        assert_eq!(s3.http_config.idle_conn_timeout.unwrap().0.as_secs(), 90);
        assert_eq!((s3.part_size, s3.max_retries), (Some(64 << 20), 3));
        // All others have the values that Thanos takes by itself.
        assert_eq!(s3.without_effect(), ["trace"]);
    }

    #[test]
    fn a_key_with_nothing_behind_it_is_one_that_is_left_out() {
        let within = |key: &str| ["http_config:", "trace:", "sse_config:"].iter().any(|outer| key.starts_with(outer));
        let kept = |line: &str| {
            let key = line.trim_start();
            within(key)
                || ["bucket:", "endpoint:", "config:", "type:", "hedging_config:"].iter().any(|k| key.starts_with(k))
        };
        let lines = EVERY_S3_KEY.lines().filter(|line| !line.is_empty());
        let blank = |line: &str| match line.split_once(':') {
            Some((key, _)) if !kept(line) => format!("{key}:"),
            _ => line.to_owned(),
        };
        let text = lines.map(blank).collect::<Vec<_>>().join("\n");
        let text = text
            .replace("{enable: true}", "{enable: }")
            .replace("{type: SSE-S3, kms_key_id: '', kms_encryption_context: {}, encryption_key: ''}", "{type: }")
            .replace("{enabled: false, up_to: 3, quantile: 0.9}", "{enabled: , up_to: ~, quantile: null}");
        let found = BucketConfig::parse("objstore.config", &text).unwrap();
        let short = "type: S3\nconfig: {bucket: metrics, endpoint: s3.example.com}";
        assert_eq!(found, BucketConfig::parse("objstore.config", short).unwrap(), "{text}");
        let nothing = format!("{short}\nprefix:\nhedging_config:\n");
        assert_eq!(found, BucketConfig::parse("objstore.config", &nothing).unwrap());
    }

    #[test]
    fn keys_without_effect_are_known() {
        let text = "type: S3\nconfig: {bucket: a, endpoint: b, http_config: {expect_continue_timeout: 2s, \
                    max_idle_conns: 10, max_conns_per_host: 20}}\nhedging_config: {enabled: true}";
        let Provider::S3(s3) = BucketConfig::parse("objstore.config", text).unwrap().provider else {
            panic!("the type is S3")
        };
        let http = ["expect_continue_timeout", "max_idle_conns", "max_conns_per_host"];
        let keys = http.map(|key| format!("http_config.{key}")).into_iter().chain(["hedging_config".to_owned()]);
        assert!(s3.without_effect().into_iter().eq(keys));
    }

    #[test]
    fn a_type_without_its_keys_is_told_which_it_needs() {
        for (text, key) in [
            ("type: FILESYSTEM", "config: {directory: ./bucket}"),
            ("type: FILESYSTEM\nconfig:\n", "config: {directory: ./bucket}"),
            ("type: S3", "config.bucket is missing"),
        ] {
            let error = BucketConfig::parse("objstore.config", text).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let text = "type: S3\nconfig:\n  bucket: a\n  endpoint: b\n  acces_key: c\n";
        let error = BucketConfig::parse("objstore.config", text).unwrap_err().to_string();
        assert!(error.contains("acces_key") && error.contains('5') && error.contains("--objstore.config"), "{error}");
    }

    #[test]
    fn what_is_missing_or_contradictory_is_said() {
        for (text, word) in [
            ("config: {}", "type is missing"),
            ("type: GCS\nconfig: {bucket: a}", "GCS is not supported"),
            ("type: FILESYSTEM\nconfig: {directory: ''}", "config.directory"),
            ("type: S3\nconfig: {bucket: a}", "config.endpoint"),
            ("type: S3\nconfig: {bucket: a, endpoint: 'http://b:1'}", "without scheme"),
            ("type: S3\nconfig: {bucket: a, endpoint: '127.0.0.1:1', bucket_lookup_type: virtual-hosted}", "use path"),
            ("type: S3\nconfig: {bucket: a, endpoint: '[::1]:1', bucket_lookup_type: virtual-hosted}", "use path"),
            ("type: S3\nconfig: {bucket: a, endpoint: b, access_key: c}", "both access_key and secret_key"),
            ("type: S3\nconfig: {bucket: a, endpoint: b, sse_config: {type: SSE-X}}", "SSE-X"),
            (
                "type: S3\nconfig: {bucket: a, endpoint: b, sse_config: {type: SSE-KMS, kms_key_id: c, \
                 kms_encryption_context: {d: e}}}",
                "kms_encryption_context",
            ),
            ("type: S3\nconfig: {bucket: a, endpoint: b, http_config: {tls_config: {server_name: c}}}", "server_name"),
            ("type: S3\nconfig: {bucket: a, endpoint: b, sts_endpoint: 'http://c'}", "sts_endpoint"),
            ("type:\nconfig: {bucket: a}", "type is missing"),
            ("type: FILESYSTEM\nconfig: {directory: }", "config.directory"),
            ("type: FILESYSTEM\nconfig: {directory: a}\nprefix: a/../b", ".."),
            ("type: FILESYSTEM\nconfig: {directory: a}\nprefix: a//b", "empty parts"),
            ("type: FILESYSTEM\nconfig: {directory: a}\nprefix: \"a\\tb\"", "control characters"),
        ] {
            let error = BucketConfig::parse("objstore.config", text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
