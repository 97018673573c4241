//! An S3 client out of a bucket's configuration.

use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{Attribute, AttributeValue, Attributes, BackoffConfig, Certificate, ClientOptions, RetryConfig};

use super::config::{HttpConfig, LookupType, S3Config};

/// Attempts where `max_retries` says nothing, as many as of the client that Thanos has.
const ATTEMPTS: usize = 10;

/// First and shortest pause between attempts; each may be twice as long as the one before.
const RETRY_PAUSE_FIRST: Duration = Duration::from_millis(200);

/// Longest pause between attempts. That client pauses for up to a second, but half of that in the mean: a
/// request that waits for another one before it is sent itself is to fail no later than there.
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(400);

/// Longest time that one operation is tried again.
const RETRY_TIME_MAX: Duration = Duration::from_secs(60);

/// The region where none is named.
const REGION: &str = "us-east-1";

/// Encoding alphabet of RFC 4648.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The client; an error says which key is at fault.
pub(super) fn open(config: &S3Config) -> Result<AmazonS3, String> {
    for key in config.without_effect() {
        tracing::warn!(bucket = %config.bucket, key, "a key of the bucket's configuration has no effect: leave it out");
    }
    let use_environment = config.access_key.is_empty();
    let builder = if use_environment { AmazonS3Builder::from_env() } else { AmazonS3Builder::new() };
    configured(builder, config)?.build().map_err(|error| format!("cannot make an S3 client: {error}"))
}

/// `builder`, which knows what the environment says where that counts, with what `config` says.
fn configured(builder: AmazonS3Builder, config: &S3Config) -> Result<AmazonS3Builder, String> {
    let scheme = if config.insecure { "http" } else { "https" };
    let virtual_hosted = match config.bucket_lookup_type {
        LookupType::Auto => is_aws(&config.endpoint),
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
        .with_region(region(config).or(of_environment).unwrap_or_else(|| REGION.to_owned()))
        .with_client_options(client_options(&config.http_config, config.insecure)?)
        .with_retry(retries(config.max_retries));
    if !config.access_key.is_empty() {
        builder = builder.with_access_key_id(&config.access_key).with_secret_access_key(&config.secret_key);
        if !config.session_token.is_empty() {
            builder = builder.with_token(&config.session_token);
        }
    }
    if !config.sts_endpoint.is_empty() {
        builder = builder.with_config(AmazonS3ConfigKey::StsEndpoint, &config.sts_endpoint);
    }
    encrypted(builder, config)
}

/// What every uploaded object carries.
pub(super) fn upload_attributes(config: &S3Config) -> Attributes {
    let mut attributes = Attributes::new();
    for (key, value) in &config.put_user_metadata {
        let value = AttributeValue::from(value.clone());
        if key.eq_ignore_ascii_case("x-amz-storage-class") {
            attributes.insert(Attribute::StorageClass, value);
        } else {
            attributes.insert(Attribute::Metadata(key.clone().into()), value);
        }
    }
    attributes
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
    let of_endpoint = config.endpoint.strip_prefix("s3.").or_else(|| config.endpoint.strip_prefix("s3-"));
    let (region, _) = of_endpoint?.split_once(".amazonaws.com")?;
    let region = region.strip_prefix("dualstack.").unwrap_or(region);
    Some(region.to_owned()).filter(|region| !region.is_empty())
}

fn is_aws(endpoint: &str) -> bool {
    let host = endpoint.split(':').next().unwrap_or(endpoint);
    host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
}

fn retries(max: usize) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { init_backoff: RETRY_PAUSE_FIRST, max_backoff: RETRY_PAUSE_MAX, base: 2.0 },
        max_retries: (if max == 0 { ATTEMPTS } else { max }) - 1,
        retry_timeout: RETRY_TIME_MAX,
    }
}

fn client_options(config: &HttpConfig, insecure: bool) -> Result<ClientOptions, String> {
    let of = |duration: Option<super::config::PromDuration>, default| duration.map_or(default, |given| given.0);
    let tls = &config.tls_config;
    let mut options = ClientOptions::new()
        .with_allow_http(insecure)
        .with_allow_invalid_certificates(config.insecure_skip_verify || tls.insecure_skip_verify)
        .with_connect_timeout(of(config.tls_handshake_timeout, Duration::from_secs(10)))
        .with_pool_idle_timeout(of(config.idle_conn_timeout, Duration::from_secs(90)))
        .with_pool_max_idle_per_host(config.max_idle_conns_per_host.unwrap_or(100))
        .with_read_timeout(of(config.response_header_timeout, Duration::from_secs(120)))
        .with_timeout_disabled();
    if insecure {
        // Plain HTTP needs no certificates, and a container may have none.
        options = options.with_no_system_certificates(true);
    }
    if !tls.ca_file.is_empty() {
        let text = std::fs::read(&tls.ca_file)
            .map_err(|error| format!("cannot read http_config.tls_config.ca_file {:?}: {error}", tls.ca_file))?;
        let certificates = Certificate::from_pem_bundle(&text)
            .map_err(|error| format!("http_config.tls_config.ca_file {:?}: {error}", tls.ca_file))?;
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
    use super::*;

    #[test]
    fn base64_pads_what_is_no_multiple_of_three() {
        for (plain, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn a_region_is_that_of_the_configuration_or_an_aws_endpoint_or_else_of_the_environment() {
        for (region, endpoint, of_environment, expected) in [
            ("", "s3.eu-west-1.amazonaws.com", "eu-central-1", "eu-west-1"),
            ("", "s3.dualstack.us-west-2.amazonaws.com", "", "us-west-2"),
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
