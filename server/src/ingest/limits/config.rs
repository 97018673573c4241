//! The limits file: YAML as Thanos reads it.
//!
//! ```text
//! write:
//!   global:  {max_concurrency, meta_monitoring_url, meta_monitoring_limit_query, …}
//!   default: {request: {size_bytes_limit, series_limit, samples_limit}, head_series_limit}
//!   tenants: {<tenant>: {request: …, head_series_limit}}
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

use super::client::HttpClient;
use crate::config::number::whole;
use crate::config::{ConfigError, from_yaml};

/// The query that says how many series a tenant has, unless the file names another.
const META_MONITORING_QUERY: &str = "sum(prometheus_tsdb_head_series) by (tenant)";

/// All limits; 0 is no limit.
#[derive(Clone, Debug, Default)]
pub struct LimitsConfig {
    concurrency_max: usize,
    meta_monitoring: Option<MetaMonitoring>,
    default: Limits,
    tenants: BTreeMap<String, Limits>,
}

/// Limits on one request; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestLimits {
    /// Bytes of the body, as sent and as decompressed.
    pub size_bytes: u64,
    /// Series.
    pub series: u64,
    /// Samples.
    pub samples: u64,
}

/// Whom to ask how many series tenants have.
#[derive(Clone, Debug, PartialEq)]
pub struct MetaMonitoring {
    /// The base of a Prometheus API.
    pub url: String,
    /// The query; its answer has a label `tenant`.
    pub query: String,
    /// How it is asked.
    pub client: HttpClient,
}

#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    request: RequestLimits,
    head_series: u64,
    /// Whether the tenant has limits on requests of its own.
    has_request: bool,
}

impl LimitsConfig {
    /// Reads a limits file. The error names the place and what to change.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let flag = "receive.limits-config";
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let file: File = from_yaml(flag, text)?;
        let Write { global, default, tenants } = file.write;
        let fallback = Limits {
            request: default.request.unwrap_or_default().over(RequestLimits::default()),
            head_series: default.head_series_limit.unwrap_or(0),
            has_request: false,
        };
        let tenants = tenants.into_iter().map(|(tenant, limits)| {
            let limits = limits.unwrap_or_default();
            let has_request = limits.request.is_some();
            let request = limits.request.unwrap_or_default().over(fallback.request);
            let head_series = limits.head_series_limit.unwrap_or(fallback.head_series);
            (tenant, Limits { request, head_series, has_request })
        });
        let meta_monitoring = match global.meta_monitoring_url {
            url if url.is_empty() => None,
            url => {
                let has_host =
                    url.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
                if !has_host {
                    let why = format!("{url:?} is not a valid meta-monitoring URL: write scheme://host:port");
                    return Err(ConfigError::new(flag, why));
                }
                let query = Some(global.meta_monitoring_limit_query).filter(|query| !query.is_empty());
                let query = query.unwrap_or_else(|| META_MONITORING_QUERY.into());
                Some(MetaMonitoring { url, query, client: global.meta_monitoring_http_client.unwrap_or_default() })
            }
        };
        let concurrency_max = global.max_concurrency.and_then(|max| usize::try_from(max).ok()).unwrap_or(0);
        Ok(Self { concurrency_max, meta_monitoring, default: fallback, tenants: tenants.collect() })
    }

    /// Requests that run at once; none: any number.
    pub fn concurrency_max(&self) -> Option<usize> {
        (self.concurrency_max > 0).then_some(self.concurrency_max)
    }

    /// Whom to ask for active series.
    pub fn meta_monitoring(&self) -> Option<&MetaMonitoring> {
        self.meta_monitoring.as_ref()
    }

    /// Tenants with limits of their own.
    pub fn tenants(&self) -> impl Iterator<Item = &str> {
        self.tenants.keys().map(String::as_str)
    }

    /// Tenants with limits of their own on requests.
    pub fn tenants_with_request_limits(&self) -> impl Iterator<Item = &str> {
        self.tenants.iter().filter(|(_, limits)| limits.has_request).map(|(tenant, _)| tenant.as_str())
    }

    /// The limits on a request of `tenant`.
    pub fn request_limits(&self, tenant: &str) -> RequestLimits {
        self.of(tenant).request
    }

    /// Most series of `tenant`.
    pub fn head_series_limit(&self, tenant: &str) -> u64 {
        self.of(tenant).head_series
    }

    /// Whether any tenant has a limit of series.
    pub fn has_head_series_limit(&self) -> bool {
        self.default.head_series > 0 || self.tenants.values().any(|limits| limits.head_series > 0)
    }

    fn of(&self, tenant: &str) -> &Limits {
        self.tenants.get(tenant).unwrap_or(&self.default)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    write: Write,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Write {
    global: Global,
    default: TenantLimits,
    tenants: BTreeMap<String, Option<TenantLimits>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Global {
    #[serde(deserialize_with = "whole")]
    max_concurrency: Option<i64>,
    meta_monitoring_url: String,
    meta_monitoring_http_client: Option<HttpClient>,
    meta_monitoring_limit_query: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TenantLimits {
    request: Option<RequestForm>,
    #[serde(deserialize_with = "whole")]
    head_series_limit: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RequestForm {
    #[serde(deserialize_with = "whole")]
    size_bytes_limit: Option<i64>,
    #[serde(deserialize_with = "whole")]
    series_limit: Option<i64>,
    #[serde(deserialize_with = "whole")]
    samples_limit: Option<i64>,
}

impl RequestForm {
    /// These limits, and `fallback`'s where they are not given; negative is no limit.
    fn over(&self, fallback: RequestLimits) -> RequestLimits {
        let or = |given: Option<i64>, fallback: u64| given.map_or(fallback, |given| u64::try_from(given).unwrap_or(0));
        RequestLimits {
            size_bytes: or(self.size_bytes_limit, fallback.size_bytes),
            series: or(self.series_limit, fallback.series),
            samples: or(self.samples_limit, fallback.samples),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_checked() {
        let bad = LimitsConfig::parse("write: {global: {meta_monitoring_url: 'path/only'}}").unwrap_err();
        assert!(bad.to_string().contains("meta-monitoring URL"), "{bad}");
        assert!(LimitsConfig::parse("write: {unknown: 1}").is_err());
        assert!(LimitsConfig::parse("").unwrap().meta_monitoring().is_none());
        let config = LimitsConfig::parse(
            "write: {global: {meta_monitoring_url: 'http://m:9090', meta_monitoring_http_client: {bearer_token: t}}}",
        );
        assert_eq!(config.unwrap().meta_monitoring().unwrap().query, META_MONITORING_QUERY);
    }

    /// With more than about 40,000 a file was refused.
    #[test]
    fn many_tenants_may_have_limits_of_their_own() {
        let tenant = |at: usize| format!("    t{at}: {{request: {{series_limit: 1, samples_limit: {at}}}}}\n");
        let text = (0..32_000).map(tenant).fold("write:\n  tenants:\n".to_owned(), |text, tenant| text + &tenant);
        let config = LimitsConfig::parse(&text).unwrap();
        assert_eq!(config.tenants().count(), 32_000);
        assert_eq!(config.request_limits("t31999").samples, 31_999);
    }

    #[test]
    fn numbers_are_taken_as_thanos_takes_them() {
        let text = "write: {global: {max_concurrency: 1e1}, default: {request: {series_limit: 1e6, samples_limit: 1_000}, \
                    head_series_limit: 2e6}}";
        let config = LimitsConfig::parse(text).unwrap();
        assert_eq!(config.request_limits("any"), RequestLimits { size_bytes: 0, series: 1_000_000, samples: 1000 });
        assert_eq!((config.head_series_limit("any"), config.concurrency_max()), (2_000_000, Some(10)));
    }

    #[test]
    fn the_files_of_upstream_are_read() {
        for name in ["limits.yaml", "limits_config/good_limits.yaml"] {
            let path = format!("{}/../../shared/golden/upstream/limits/{name}", env!("CARGO_MANIFEST_DIR"));
            if let Ok(text) = std::fs::read_to_string(path) {
                LimitsConfig::parse(&text).unwrap();
            }
        }
    }
}
