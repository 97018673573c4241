//! An S3 client out of a bucket's configuration.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider, Checksum};
use object_store::{
    Attribute, AttributeValue, Attributes, BackoffConfig, Certificate, ClientOptions, RetryConfig,
    StaticCredentialProvider,
};

use super::config::{HttpConfig, LookupType, PromDuration, S3Config};
use super::credentials;
use super::wire::Connector;

/// Attempts where `max_retries` says nothing, as many as of the client that Thanos has.
const ATTEMPTS: usize = 10;

/// First and shortest pause between attempts; each may be twice as long as the one before.
const RETRY_PAUSE_FIRST: Duration = Duration::from_millis(200);

/// Longest pause between attempts. That client pauses for up to a second, but half of that in the mean: a
/// request that waits for another one before it is sent itself is to fail no later than there.
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(400);

/// How long an answer may take where `response_header_timeout` says nothing.
const ANSWER_TIME: Duration = Duration::from_secs(120);

/// Longest time that one operation is tried again; an upload that takes longer is tried once more.
const RETRY_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a connection may be idle where `idle_conn_timeout` is 0: for ever, as far as a process lives.
const IDLE_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Idle connections that are kept for one host where `max_idle_conns_per_host` is 0, as Go's client has it.
const IDLE_CONNECTIONS: usize = 2;

/// Length in bytes of a key of SSE-C.
const CUSTOMER_KEY_LEN: usize = 32;

/// The region where none is named.
const REGION: &str = "us-east-1";

/// What is wrong where the system has no certificates.
const NO_AUTHORITIES: &str = ": the system has no certificates of authorities: install ca-certificates, or name a file \
                              of them as http_config.tls_config.ca_file";

/// Encoding alphabet of RFC 4648.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The client; an error says which key is at fault.
pub(super) fn open(config: &S3Config) -> Result<AmazonS3, String> {
    for key in config.without_effect() {
        tracing::warn!(bucket = %config.bucket, key, "a key of the bucket's configuration has no effect: leave it out");
    }
    let use_environment = config.access_key.is_empty();
    let builder = if use_environment { credentials::of_environment() } else { AmazonS3Builder::new() };
    let builder = configured(builder, config)?;
    let credentials: AwsCredentialProvider = if use_environment {
        credentials::sought(found_credentials(builder.clone(), config)?)
    } else {
        let token = Some(config.session_token.clone()).filter(|token| !token.is_empty());
        let (key_id, secret_key) = (config.access_key.clone(), config.secret_key.clone());
        Arc::new(StaticCredentialProvider::new(AwsCredential { key_id, secret_key, token }))
    };
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_else(|| REGION.to_owned());
    let uploads = upload_headers(config)?;
    let builder =
        if has_checksums(config, &uploads) { builder.with_checksum_algorithm(Checksum::SHA256) } else { builder };
    let connector = Connector {
        uploads,
        credentials: Arc::clone(&credentials),
        region,
        answer_time: answer_time(&config.http_config),
        retry_time: Some(RETRY_TIME_MAX).filter(|_| retries(config.max_retries).max_retries > 0),
    };
    let builder = builder.with_credentials(credentials).with_http_connector(connector);
    builder.build().map_err(|error| failed(&error, lacks_authorities(config)))
}

/// Whether uploads carry checksums, without which a bucket that locks what comes takes nothing: at AWS, where the
/// configuration says so, and with headers that lock.
fn has_checksums(config: &S3Config, uploads: &HeaderMap) -> bool {
    let is_locked = uploads.keys().any(|name| name.as_str().starts_with("x-amz-object-lock-"));
    is_locked || config.send_content_md5.unwrap_or_else(|| is_aws(&config.endpoint))
}

/// The credentials that the environment says how to get.
fn found_credentials(builder: AmazonS3Builder, config: &S3Config) -> Result<AwsCredentialProvider, String> {
    let given = |key| builder.get_config_value(&key).is_some();
    let asks_sts = given(AmazonS3ConfigKey::WebIdentityTokenFile) && !given(AmazonS3ConfigKey::AccessKeyId);
    let (builder, lacks_authorities) = if asks_sts {
        let lacks_authorities = !has_ca_file(config) && !has_system_authorities();
        (builder.with_client_options(sts_options(config)?), lacks_authorities)
    } else {
        (builder, lacks_authorities(config))
    };
    let client = builder.build().map_err(|error| failed(&error, lacks_authorities))?;
    Ok(Arc::clone(client.credentials()))
}

/// How STS is asked: over TLS whatever the bucket speaks, and always verified, by the authorities of the system as in
/// Thanos, and by those of `ca_file`.
fn sts_options(config: &S3Config) -> Result<ClientOptions, String> {
    let mut http = config.http_config.clone();
    (http.insecure_skip_verify, http.tls_config.insecure_skip_verify) = (false, false);
    let options = client_options(&http, false)?;
    Ok(options.with_no_system_certificates(has_ca_file(config) && !has_system_authorities()))
}

fn failed(error: &object_store::Error, lacks_authorities: bool) -> String {
    let why = if lacks_authorities { NO_AUTHORITIES } else { "" };
    format!("cannot make an S3 client: {error}{why}")
}

/// Whether there is nobody whose certificates the server's could descend from.
fn lacks_authorities(config: &S3Config) -> bool {
    !config.insecure && !has_ca_file(config) && !has_system_authorities()
}

fn has_ca_file(config: &S3Config) -> bool {
    !config.http_config.tls_config.ca_file.is_empty()
}

fn has_system_authorities() -> bool {
    !rustls_native_certs::load_native_certs().certs.is_empty()
}

/// `builder`, which knows what the environment says where that counts, with what `config` says.
fn configured(builder: AmazonS3Builder, config: &S3Config) -> Result<AmazonS3Builder, String> {
    let scheme = if config.insecure { "http" } else { "https" };
    let virtual_hosted = match config.bucket_lookup_type {
        LookupType::Auto => is_virtual_hosted(config),
        LookupType::VirtualHosted => true,
        LookupType::Path => false,
    };
    let host = if virtual_hosted { format!("{}.{}", config.bucket, config.endpoint) } else { config.endpoint.clone() };
    let of_environment = builder.get_config_value(&AmazonS3ConfigKey::Region).filter(|region| !region.is_empty());
    let mut builder = builder
        .with_bucket_name(&config.bucket)
        .with_endpoint(format!("{scheme}://{host}"))
        .with_virtual_hosted_style_request(virtual_hosted)
        .with_allow_http(config.insecure)
        .with_region(region(config).or(of_environment.clone()).unwrap_or_else(|| REGION.to_owned()))
        .with_client_options(client_options(&config.http_config, config.insecure)?)
        // Nothing deletes several objects at once, and not every server can.
        .with_disable_bulk_delete(true)
        .with_retry(retries(config.max_retries));
    if !config.sts_endpoint.is_empty() {
        builder = builder.with_config(AmazonS3ConfigKey::StsEndpoint, &config.sts_endpoint);
    } else if builder.get_config_value(&AmazonS3ConfigKey::StsEndpoint).is_none()
        && let Some(region) = of_environment.or_else(|| region(config))
    {
        builder = builder.with_config(AmazonS3ConfigKey::StsEndpoint, sts_endpoint(&region));
    }
    encrypted(builder, config)
}

/// Where AWS has the STS of a region.
fn sts_endpoint(region: &str) -> String {
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://sts.{region}.amazonaws.com{suffix}")
}

/// What every uploaded object carries.
pub(super) fn upload_attributes(config: &S3Config) -> Attributes {
    let entries = config.put_user_metadata.iter();
    entries.filter_map(|(key, value)| Some((attribute(key)?, AttributeValue::from(value.clone())))).collect()
}

/// The headers that every object is uploaded with and that are no attributes.
fn upload_headers(config: &S3Config) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (key, value) in &config.put_user_metadata {
        let wrong = |why: &dyn std::fmt::Display| format!("put_user_metadata.{key} cannot be sent as a header: {why}");
        let name = key.to_ascii_lowercase().parse::<HeaderName>().map_err(|error| wrong(&error))?;
        let value = HeaderValue::from_str(value).map_err(|error| wrong(&error))?;
        if attribute(key).is_none() {
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

/// The attribute that an entry of `put_user_metadata` is; `None` for one that is a header of its own, as the client
/// that Thanos has takes them.
fn attribute(key: &str) -> Option<Attribute> {
    let key = key.to_ascii_lowercase();
    match key.as_str() {
        "cache-control" => Some(Attribute::CacheControl),
        "content-disposition" => Some(Attribute::ContentDisposition),
        "content-encoding" => Some(Attribute::ContentEncoding),
        "content-language" => Some(Attribute::ContentLanguage),
        "content-type" => Some(Attribute::ContentType),
        "x-amz-storage-class" => Some(Attribute::StorageClass),
        _ if is_header(&key) => None,
        _ => Some(Attribute::Metadata(key.strip_prefix("x-amz-meta-").unwrap_or(&key).to_owned().into())),
    }
}

fn is_header(key: &str) -> bool {
    let groups = ["x-amz-grant-", "x-amz-server-side-encryption", "x-amz-checksum-", "x-minio-"];
    let single = [
        "expires",
        "x-amz-acl",
        "x-amz-metadata-directive",
        "x-amz-object-lock-mode",
        "x-amz-object-lock-retain-until-date",
        "x-amz-replication-status",
        "x-amz-website-redirect-location",
    ];
    single.contains(&key) || groups.iter().any(|group| key.starts_with(group))
}

fn encrypted(builder: AmazonS3Builder, config: &S3Config) -> Result<AmazonS3Builder, String> {
    let sse = &config.sse_config;
    Ok(match sse.kind.as_str() {
        "SSE-S3" => {
            let key = "aws_server_side_encryption".parse().map_err(|error| format!("sse_config: {error}"))?;
            builder.with_config(key, "AES256")
        }
        "SSE-KMS" => builder.with_sse_kms_encryption(&sse.kms_key_id),
        "SSE-C" => {
            let path = &sse.encryption_key;
            let key = std::fs::read(path)
                .map_err(|error| format!("cannot read sse_config.encryption_key {path:?}: {error}"))?;
            if key.len() != CUSTOMER_KEY_LEN {
                let len = key.len();
                return Err(format!(
                    "sse_config.encryption_key {path:?} is {len} bytes long: it must be {CUSTOMER_KEY_LEN}, the key \
                     and nothing else"
                ));
            }
            builder.with_ssec_encryption(base64(&key))
        }
        _ => builder,
    })
}

/// The region that is configured, or that of an AWS endpoint such as `s3.eu-west-1.amazonaws.com`; `None` where
/// neither names one.
fn region(config: &S3Config) -> Option<String> {
    if !config.region.is_empty() {
        return Some(config.region.clone());
    }
    let of_endpoint = ["s3-fips.", "s3.", "s3-"].iter().find_map(|prefix| config.endpoint.strip_prefix(*prefix));
    let (region, _) = of_endpoint?.split_once(".amazonaws.com")?;
    let region = region.strip_prefix("dualstack.").unwrap_or(region);
    // The older name of us-east-1.
    Some(region.to_owned()).filter(|region| !region.is_empty() && region != "external-1")
}

/// Whether a bucket's name is in the host where the configuration leaves that open, as the client that Thanos has
/// decides: not a name with a dot over TLS, as no certificate of AWS holds for it.
fn is_virtual_hosted(config: &S3Config) -> bool {
    let is_named = config.insecure || !config.bucket.contains('.');
    is_named && (is_aws(&config.endpoint) || host(&config.endpoint).ends_with(".aliyuncs.com"))
}

fn is_aws(endpoint: &str) -> bool {
    let host = host(endpoint);
    host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
}

fn host(endpoint: &str) -> &str {
    endpoint.split(':').next().unwrap_or(endpoint)
}

fn retries(max: usize) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { init_backoff: RETRY_PAUSE_FIRST, max_backoff: RETRY_PAUSE_MAX, base: 2.0 },
        max_retries: (if max == 0 { ATTEMPTS } else { max }) - 1,
        retry_timeout: RETRY_TIME_MAX,
    }
}

/// How long an answer may take once all is sent; none for as long as it takes.
fn answer_time(config: &HttpConfig) -> Option<Duration> {
    let time = config.response_header_timeout.map_or(ANSWER_TIME, |given| given.0);
    // A time of 0 is none.
    Some(time).filter(|time| !time.is_zero())
}

fn client_options(config: &HttpConfig, insecure: bool) -> Result<ClientOptions, String> {
    let of = |duration: Option<PromDuration>, default| duration.map_or(Duration::from_secs(default), |given| given.0);
    let idle_connections = config.max_idle_conns_per_host.map(|max| if max == 0 { IDLE_CONNECTIONS } else { max });
    let idle = Some(of(config.idle_conn_timeout, 90)).filter(|time| !time.is_zero()).unwrap_or(IDLE_MAX);
    let connect = of(config.tls_handshake_timeout, 10);
    let tls = &config.tls_config;
    let mut options = ClientOptions::new()
        .with_allow_http(insecure)
        .with_allow_invalid_certificates(config.insecure_skip_verify || tls.insecure_skip_verify)
        .with_connect_timeout(connect)
        .with_pool_idle_timeout(idle)
        .with_pool_max_idle_per_host(idle_connections.unwrap_or(100))
        .with_timeout_disabled();
    // A time of 0 is none.
    if connect.is_zero() {
        options = options.with_connect_timeout_disabled();
    }
    if let Some(time) = answer_time(config) {
        options = options.with_read_timeout(time);
    }
    if insecure {
        // Plain HTTP needs no certificates, and a container may have none.
        options = options.with_no_system_certificates(true);
    }
    if !tls.ca_file.is_empty() {
        let text = std::fs::read(&tls.ca_file)
            .map_err(|error| format!("cannot read http_config.tls_config.ca_file {:?}: {error}", tls.ca_file))?;
        let certificates = Certificate::from_pem_bundle(&text)
            .map_err(|error| format!("http_config.tls_config.ca_file {:?}: {error}", tls.ca_file))?;
        if certificates.is_empty() {
            return Err(format!("http_config.tls_config.ca_file {:?}: it holds no certificate", tls.ca_file));
        }
        // They stand instead of the system's.
        options = options.with_no_system_certificates(true);
        for certificate in certificates {
            options = options.with_root_certificate(certificate);
        }
    }
    if !tls.cert_file.is_empty() || !tls.key_file.is_empty() {
        return Err("http_config.tls_config.cert_file is not supported: use access keys".into());
    }
    Ok(options)
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = BASE64[(word >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use object_store::{ClientConfigKey, ObjectStoreExt};

    use super::super::config::SseConfig;
    use super::*;
    use crate::objstore::config::TlsConfig;

    #[test]
    fn base64_pads_what_is_no_multiple_of_three() {
        for (plain, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    /// The system's authorities were once believed beside those of the file.
    #[test]
    fn authorities_of_a_file_stand_instead_of_the_systems() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem").display().to_string();
        let made = |ca_file: &str| {
            let tls_config = TlsConfig { ca_file: ca_file.to_owned(), ..TlsConfig::default() };
            let http_config = HttpConfig { tls_config, ..HttpConfig::default() };
            let config = S3Config { endpoint: "s3.example.com".into(), http_config, ..S3Config::default() };
            configured(AmazonS3Builder::new(), &config)
        };
        let key = AmazonS3ConfigKey::Client(ClientConfigKey::NoSystemCertificates);
        let without_system = |ca_file: &str| made(ca_file).unwrap().get_config_value(&key);
        assert_eq!(without_system("").as_deref(), Some("false"));
        std::fs::write(&path, "no certificate").unwrap();
        let error = made(&path).map(drop).unwrap_err();
        assert!(error.contains("ca.pem") && error.ends_with("it holds no certificate"), "{error}");
        let key_pair = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key_pair).unwrap();
        std::fs::write(&path, certificate.pem()).unwrap();
        assert_eq!(without_system(&path).as_deref(), Some("true"));
    }

    /// With `insecure` no certificate was once believed, and STS is asked over TLS alone.
    #[test]
    fn sts_is_asked_over_verified_tls_whatever_the_bucket_speaks() {
        let http_config = HttpConfig { insecure_skip_verify: true, ..HttpConfig::default() };
        let config = S3Config { insecure: true, http_config, ..S3Config::default() };
        let options = sts_options(&config).unwrap();
        for key in [
            ClientConfigKey::NoSystemCertificates,
            ClientConfigKey::AllowInvalidCertificates,
            ClientConfigKey::AllowHttp,
        ] {
            assert_eq!(options.get_config_value(&key).as_deref(), Some("false"), "{key:?}");
        }
    }

    #[test]
    fn sts_is_that_of_the_environments_region_or_of_the_buckets() {
        for (region, endpoint, of_environment, expected) in [
            ("", "s3.cn-north-1.amazonaws.com.cn", "", Some("https://sts.cn-north-1.amazonaws.com.cn")),
            ("", "s3.us-gov-west-1.amazonaws.com", "", Some("https://sts.us-gov-west-1.amazonaws.com")),
            ("of-minio", "127.0.0.1:9000", "eu-west-1", Some("https://sts.eu-west-1.amazonaws.com")),
            ("", "127.0.0.1:9000", "", None),
        ] {
            let config = S3Config { endpoint: endpoint.into(), region: region.into(), ..S3Config::default() };
            let builder = configured(AmazonS3Builder::new().with_region(of_environment), &config).unwrap();
            let found = builder.get_config_value(&AmazonS3ConfigKey::StsEndpoint);
            assert_eq!(found.as_deref(), expected, "{endpoint}");
        }
        let config = S3Config { endpoint: "s3.eu-west-1.amazonaws.com".into(), ..S3Config::default() };
        let builder = AmazonS3Builder::new().with_config(AmazonS3ConfigKey::StsEndpoint, "https://sts.own");
        let found = configured(builder, &config).unwrap().get_config_value(&AmazonS3ConfigKey::StsEndpoint);
        assert_eq!(found.as_deref(), Some("https://sts.own"), "the environment names one");
    }

    #[test]
    fn uploads_carry_checksums_where_a_bucket_may_lock_what_comes() {
        let aws = "s3.eu-west-1.amazonaws.com";
        for (endpoint, send_content_md5, expected) in [
            (aws, None, true),
            (aws, Some(false), false),
            ("minio:9000", None, false),
            ("minio:9000", Some(true), true),
        ] {
            let config = S3Config { endpoint: endpoint.into(), send_content_md5, ..S3Config::default() };
            assert_eq!(has_checksums(&config, &HeaderMap::new()), expected, "{endpoint} {send_content_md5:?}");
        }
    }

    #[test]
    fn a_bucket_is_named_in_the_host_where_a_certificate_can_hold_for_it() {
        for (endpoint, bucket, insecure, expected) in [
            ("s3.eu-west-1.amazonaws.com", "metrics", false, true),
            ("s3.eu-west-1.amazonaws.com", "metrics.of.team", false, false),
            ("s3.eu-west-1.amazonaws.com:80", "metrics.of.team", true, true),
            ("oss-eu-central-1.aliyuncs.com", "metrics", false, true),
            ("minio:9000", "metrics", false, false),
        ] {
            let config = S3Config { endpoint: endpoint.into(), bucket: bucket.into(), insecure, ..S3Config::default() };
            assert_eq!(is_virtual_hosted(&config), expected, "{endpoint} {bucket}");
        }
    }

    #[test]
    fn what_uploads_carry_are_attributes_metadata_without_its_prefix_and_headers() {
        let given = [
            ("X-Amz-Acl", "private"),
            ("X-Amz-Grant-Read", "id=1"),
            ("x-amz-storage-class", "GLACIER"),
            ("X-Amz-Meta-Team", "a"),
            ("Owner", "b"),
            ("Content-Type", "text/plain"),
        ];
        let put_user_metadata = given.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let config = S3Config { put_user_metadata, ..S3Config::default() };
        let attributes = upload_attributes(&config);
        let expected = [
            (Attribute::StorageClass, "GLACIER"),
            (Attribute::Metadata("team".into()), "a"),
            (Attribute::Metadata("owner".into()), "b"),
            (Attribute::ContentType, "text/plain"),
        ];
        assert_eq!(attributes.len(), expected.len());
        for (attribute, value) in expected {
            assert_eq!(attributes.get(&attribute).map(|found| &**found), Some(value), "{attribute:?}");
        }
        let headers = upload_headers(&config).unwrap();
        assert!(headers["x-amz-acl"] == "private" && headers["x-amz-grant-read"] == "id=1");
        assert_eq!(headers.len(), 2);
        let config = S3Config { put_user_metadata: [("a b".to_owned(), String::new())].into(), ..config };
        assert!(upload_headers(&config).unwrap_err().contains("put_user_metadata.a b"));
    }

    #[test]
    fn times_of_zero_are_none() {
        let zero = Some(PromDuration(Duration::ZERO));
        let config = HttpConfig {
            tls_handshake_timeout: zero,
            response_header_timeout: zero,
            idle_conn_timeout: zero,
            ..HttpConfig::default()
        };
        let options = client_options(&config, true).unwrap();
        let value = |key| options.get_config_value(&key);
        assert_eq!(value(ClientConfigKey::ConnectTimeout), None);
        assert_eq!(value(ClientConfigKey::ReadTimeout), None);
        let options = client_options(&HttpConfig::default(), true).unwrap();
        assert!(options.get_config_value(&ClientConfigKey::ReadTimeout).is_some());
    }

    /// Answers every request once all of it has come and a while has passed.
    fn slow_server(pause: Duration) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut len) = (String::new(), 0);
                while lines.read_line(&mut line).is_ok_and(|read| read > 2) {
                    if let Some(given) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                        len = given.trim().parse().unwrap();
                    }
                    line.clear();
                }
                // Who goes away before that is told nothing.
                let _ = lines.read_exact(&mut vec![0u8; len]);
                std::thread::sleep(pause);
                let answer = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        endpoint
    }

    /// The time of sending once counted as time without an answer, so that nothing was uploaded over a slow link.
    #[tokio::test]
    async fn an_upload_may_take_longer_than_an_answer() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let time = Some(PromDuration(Duration::from_millis(200)));
        let config = S3Config {
            bucket: "metrics".into(),
            endpoint: slow_server(Duration::from_millis(600)),
            access_key: "key".into(),
            secret_key: "secret".into(),
            insecure: true,
            max_retries: 1,
            http_config: HttpConfig { response_header_timeout: time, ..HttpConfig::default() },
            ..S3Config::default()
        };
        let store = open(&config).unwrap();
        let put = async |len: usize| store.put(&"a/index".into(), vec![7u8; len].into()).await;
        put(256 << 10).await.unwrap();
        put(1).await.unwrap_err();
    }

    #[test]
    fn a_key_of_sse_c_has_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        for (len, is_right) in [(32, true), (33, false)] {
            std::fs::write(&path, vec![7u8; len]).unwrap();
            let encryption_key = path.to_str().unwrap().to_owned();
            let sse_config = SseConfig { kind: "SSE-C".into(), encryption_key, ..SseConfig::default() };
            let config = S3Config { sse_config, ..S3Config::default() };
            assert_eq!(encrypted(AmazonS3Builder::new(), &config).is_ok(), is_right);
        }
    }

    #[test]
    fn a_region_is_that_of_the_configuration_or_an_aws_endpoint_or_else_of_the_environment() {
        for (region, endpoint, of_environment, expected) in [
            ("", "s3.eu-west-1.amazonaws.com", "eu-central-1", "eu-west-1"),
            ("", "s3.dualstack.us-west-2.amazonaws.com", "", "us-west-2"),
            ("", "s3-fips.us-gov-west-1.amazonaws.com", "", "us-gov-west-1"),
            ("", "s3-fips.dualstack.us-east-2.amazonaws.com", "", "us-east-2"),
            ("", "s3.cn-north-1.amazonaws.com.cn", "", "cn-north-1"),
            ("", "s3-external-1.amazonaws.com", "", "us-east-1"),
            ("eu-west-3", "s3.eu-west-1.amazonaws.com", "eu-central-1", "eu-west-3"),
            ("", "s3.amazonaws.com", "eu-central-1", "eu-central-1"),
            ("", "127.0.0.1:9000", "eu-central-1", "eu-central-1"),
            ("", "s3.amazonaws.com", "", "us-east-1"),
            ("", "127.0.0.1:9000", "", "us-east-1"),
        ] {
            let config = S3Config { endpoint: endpoint.into(), region: region.into(), ..S3Config::default() };
            let builder = configured(AmazonS3Builder::new().with_region(of_environment), &config).unwrap();
            let found = builder.get_config_value(&AmazonS3ConfigKey::Region);
            assert_eq!(found.as_deref(), Some(expected), "{endpoint}");
        }
    }
}
