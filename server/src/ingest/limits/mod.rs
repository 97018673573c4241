//! What a tenant may send: the limits file, read again while the process runs.

mod active;
mod client;
mod config;
mod file;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::ConfigError;
use crate::telemetry::metrics::{Counters, Gauges, Histograms, MetricLabels, OfTenants, UnderWay};

pub use active::{ActiveSeries, Found, parse_series};
pub use config::{LimitsConfig, MetaMonitoring, RequestLimits};
pub use file::LimitsFile;

/// Time between two questions to meta-monitoring, as in Thanos.
pub const META_MONITORING_INTERVAL: Duration = Duration::from_secs(15);

/// What ends a request, with the words Thanos answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// `size_bytes_limit`.
    Size,
    /// `series_limit`.
    Series,
    /// `samples_limit`.
    Samples,
    /// `head_series_limit`.
    ActiveSeries,
}

impl Exceeded {
    /// The answer's text.
    pub fn message(self) -> &'static str {
        match self {
            Self::Size => "write request too large: size_bytes_limit of the tenant in --receive.limits-config",
            Self::Series => "too many timeseries: series_limit of the tenant in --receive.limits-config",
            Self::Samples => "too many samples: samples_limit of the tenant in --receive.limits-config",
            Self::ActiveSeries => {
                "tenant is above active series limit: head_series_limit of the tenant in --receive.limits-config"
            }
        }
    }

    /// The answer's status.
    pub fn status(self) -> http::StatusCode {
        match self {
            Self::ActiveSeries => http::StatusCode::TOO_MANY_REQUESTS,
            Self::Size | Self::Series | Self::Samples => http::StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Size => "body_size",
            Self::Series => "series",
            Self::Samples => "samples",
            Self::ActiveSeries => "head_series",
        }
    }
}

/// Holds requests to the limits.
pub struct Limiter {
    current: RwLock<Arc<Current>>,
    metrics: LimitMetrics,
    /// Series that tenants have, where meta-monitoring says so.
    pub active: ActiveSeries,
}

/// The limits and the gate that they name.
struct Current {
    config: LimitsConfig,
    gate: Option<Arc<Semaphore>>,
}

/// Metrics of limits.
#[derive(Clone, Debug)]
struct LimitMetrics {
    hit: Histograms,
    configured: Gauges,
    head_limit: Gauges,
    head_limited: Counters,
    of_tenants: OfTenants,
    reloads: Counters,
    reload_errors: Counters,
    meta_errors: Counters,
    gate: GateMetrics,
}

/// Requests at the gate of `max_concurrency`.
#[derive(Clone, Debug, Default)]
struct GateMetrics {
    max: Gauge,
    total: Counter,
    in_flight: Gauge,
}

/// A request's turn, given back when it is dropped.
#[derive(Debug)]
pub struct Turn {
    // Ends before another gets the turn.
    _in_flight: UnderWay,
    _permit: OwnedSemaphorePermit,
}

impl GateMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let name = |name: &str| format!("thanos_receive_write_request_concurrent_gate_write_requests_{name}");
        registry.register(name("max"), "Maximum number of concurrent write requests; 0: any", metrics.max.clone());
        registry.register(
            name("in_flight"),
            "Number of write requests that are currently in flight",
            metrics.in_flight.clone(),
        );
        registry.register(name("").trim_end_matches('_'), "Total number of write requests", metrics.total.clone());
        metrics
    }
}

impl LimitMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            // From one series too many to a gigabyte.
            hit: Histograms::new_with_constructor(|| Histogram::new(exponential_buckets(1.0, 10.0, 10))),
            configured: Gauges::default(),
            head_limit: Gauges::default(),
            head_limited: Counters::default(),
            of_tenants: OfTenants::default(),
            reloads: Counters::default(),
            reload_errors: Counters::default(),
            meta_errors: Counters::default(),
            gate: GateMetrics::register(registry),
        };
        let prefix = "thanos_receive";
        let mut counter = |name: &str, help: &str, counter: &Counters| {
            registry.register(format!("{prefix}_{name}"), help, counter.clone());
        };
        counter(
            "head_series_limited_requests",
            "The total number of remote write requests that have been dropped due to active series limiting",
            &metrics.head_limited,
        );
        counter("limits_config_reload", "How many times the limit configuration was reloaded", &metrics.reloads);
        counter(
            "limits_config_reload_err",
            "How many times the limit configuration failed to reload",
            &metrics.reload_errors,
        );
        counter(
            "metamonitoring_failed_queries",
            "The total number of meta-monitoring queries that failed while limiting",
            &metrics.meta_errors,
        );
        let help = "How far beyond the limit refused requests were";
        registry.register(format!("{prefix}_write_limits_hit"), help, metrics.hit.clone());
        registry.register(format!("{prefix}_write_limits"), "The configured write limits", metrics.configured.clone());
        registry.register(
            format!("{prefix}_head_series_limit"),
            "The configured limit for active (head) series of tenants",
            metrics.head_limit.clone(),
        );
        for plain in [&metrics.reloads, &metrics.reload_errors, &metrics.meta_errors] {
            plain.get_or_create(&Vec::new()).inc_by(0);
        }
        metrics
    }

    /// A request of `tenant` was refused for what the limits of series in all are.
    fn refused_for_series(&self, tenant: &str) {
        let labels = vec![("tenant", tenant.to_owned())];
        if self.head_limited.get(&labels).is_none() {
            self.remove(self.of_tenants.note(tenant, &labels));
        }
        self.head_limited.get_or_create(&labels).inc();
    }

    /// A request of `tenant` was so far beyond a limit.
    fn refused(&self, (tenant, what): (&str, Exceeded), beyond: u64) {
        let labels = vec![("tenant", tenant.to_owned()), ("limit", what.label().to_owned())];
        if self.hit.get(&labels).is_none() {
            self.remove(self.of_tenants.note(tenant, &labels));
        }
        self.hit.get_or_create(&labels).observe(beyond as f64);
    }

    fn remove(&self, gone: BTreeSet<MetricLabels>) {
        for labels in gone {
            self.hit.remove(&labels);
            self.head_limited.remove(&labels);
        }
    }

    fn publish(&self, config: &LimitsConfig) {
        let set = |tenant: &str, limit: &'static str, value: u64| {
            let labels = vec![("tenant", tenant.to_owned()), ("limit", limit.to_owned())];
            self.configured.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        // Tenants that are no longer named have no limits of their own.
        self.configured.clear();
        self.head_limit.clear();
        self.gate.max.set(i64::try_from(config.concurrency_max().unwrap_or(0)).unwrap_or(i64::MAX));
        for tenant in std::iter::once("").chain(config.tenants_with_request_limits()) {
            let limits = config.request_limits(tenant);
            set(tenant, "body_size", limits.size_bytes);
            set(tenant, "series", limits.series);
            set(tenant, "samples", limits.samples);
        }
        for tenant in std::iter::once("").chain(config.tenants()) {
            let head = i64::try_from(config.head_series_limit(tenant)).unwrap_or(i64::MAX);
            self.head_limit.get_or_create(&vec![("tenant", tenant.to_owned())]).set(head);
        }
    }
}

impl Limiter {
    /// Holds requests to `config`.
    pub fn new(config: LimitsConfig, registry: &mut Registry) -> Self {
        let metrics = LimitMetrics::register(registry);
        metrics.publish(&config);
        Self { current: RwLock::new(Arc::new(Current::new(config))), metrics, active: ActiveSeries::default() }
    }

    /// Takes changed limits; a text that can't be read leaves them as they were, and is counted. So does an
    /// empty one: a file that is being written is empty for a while, and would lift all limits.
    pub fn reload(&self, text: &str) -> Result<(), ConfigError> {
        self.metrics.reloads.get_or_create(&Vec::new()).inc();
        let is_blank = |line: &str| line.trim().is_empty() || line.trim().starts_with('#');
        let parsed = match text.lines().all(is_blank) {
            true => {
                let why = "the file is empty; to lift all limits write `write: {}`";
                Err(ConfigError::new("receive.limits-config-file", why))
            }
            false => LimitsConfig::parse(text),
        };
        match parsed {
            Ok(config) => {
                self.metrics.publish(&config);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Current::new(config));
                Ok(())
            }
            Err(error) => {
                self.metrics.reload_errors.get_or_create(&Vec::new()).inc();
                Err(error)
            }
        }
    }

    /// A file of limits could not be read.
    pub fn reload_failed(&self) {
        self.metrics.reload_errors.get_or_create(&Vec::new()).inc();
    }

    /// Waits for a turn where `max_concurrency` says how many requests run at once.
    pub async fn turn(&self) -> Option<Turn> {
        let gate = self.current().gate.clone()?;
        self.metrics.gate.total.inc();
        let permit = gate.acquire_owned().await.ok()?;
        Some(Turn { _in_flight: UnderWay::begin(&self.metrics.gate.in_flight), _permit: permit })
    }

    /// Whether a body of so many bytes may be read.
    pub fn size(&self, tenant: &str, bytes: u64) -> Result<(), Exceeded> {
        let max = self.current().config.request_limits(tenant).size_bytes;
        self.check(tenant, Exceeded::Size, (bytes, max))
    }

    /// Most bytes that a body of the tenant may have, also when it doesn't say how long it is.
    pub fn size_max(&self, tenant: &str) -> u64 {
        match self.current().config.request_limits(tenant).size_bytes {
            0 => u64::MAX,
            max => max,
        }
    }

    /// Whether a request of so many series and samples may be written.
    pub fn content(&self, tenant: &str, series: u64, samples: u64) -> Result<(), Exceeded> {
        let limits = self.current().config.request_limits(tenant);
        self.check(tenant, Exceeded::Series, (series, limits.series))?;
        self.check(tenant, Exceeded::Samples, (samples, limits.samples))
    }

    /// Whether the tenant has fewer series than its limit over all receivers. Where meta-monitoring is not configured
    /// nobody says so: the heads refuse series that are one too many, see [`Self::series_max`], and take what is sent
    /// of the others.
    pub fn active_series(&self, tenant: &str) -> Result<(), Exceeded> {
        let current = self.current();
        let max = current.config.head_series_limit(tenant);
        if max == 0 || current.config.meta_monitoring().is_none() {
            return Ok(());
        }
        if self.active.series(tenant).unwrap_or(0) < max {
            return Ok(());
        }
        self.refused_for_series(tenant);
        Err(Exceeded::ActiveSeries)
    }

    /// Counts a request of which series were refused as the tenant has as many as it may have.
    pub fn refused_for_series(&self, tenant: &str) {
        self.metrics.refused_for_series(tenant);
    }

    /// Most series that the tenant may have in this process; 0 is no limit. Meta-monitoring counts
    /// what all receivers hold, which this one doesn't know.
    pub fn series_max(&self, tenant: &str) -> u64 {
        let current = self.current();
        if current.config.meta_monitoring().is_some() { 0 } else { current.config.head_series_limit(tenant) }
    }

    /// Whom to ask for active series.
    pub fn meta_monitoring(&self) -> Option<MetaMonitoring> {
        let current = self.current();
        current.config.has_head_series_limit().then(|| current.config.meta_monitoring().cloned()).flatten()
    }

    /// A question to meta-monitoring failed.
    pub fn meta_monitoring_failed(&self) {
        self.metrics.meta_errors.get_or_create(&Vec::new()).inc();
    }

    /// A tenant is gone.
    pub fn forget(&self, tenant: &str) {
        self.metrics.remove(self.metrics.of_tenants.take(tenant));
        self.active.forget(tenant);
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn check(&self, tenant: &str, what: Exceeded, (found, max): (u64, u64)) -> Result<(), Exceeded> {
        if max == 0 || found <= max {
            return Ok(());
        }
        self.metrics.refused((tenant, what), found.saturating_sub(max));
        Err(what)
    }
}

impl Current {
    fn new(config: LimitsConfig) -> Self {
        let gate = config.concurrency_max().map(|max| Arc::new(Semaphore::new(max)));
        Self { config, gate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "write:\n  default:\n    request: {size_bytes_limit: 100, series_limit: 10}\n    \
                          head_series_limit: 5\n  tenants:\n    big: {request: {series_limit: 0}, head_series_limit: 0}\n";

    #[test]
    fn tenants_inherit_what_they_do_not_set() {
        let limiter = Limiter::new(LimitsConfig::parse(LIMITS).unwrap(), &mut Registry::default());
        assert_eq!(limiter.size("a", 101), Err(Exceeded::Size));
        assert_eq!(limiter.size("big", 101), Err(Exceeded::Size));
        assert_eq!(limiter.content("a", 11, 0), Err(Exceeded::Series));
        assert_eq!(limiter.content("big", 1_000_000, 1_000_000), Ok(()));
        assert_eq!([limiter.series_max("a"), limiter.series_max("big")], [5, 0]);
        assert_eq!(limiter.active_series("a"), Ok(()));
        assert_eq!(Exceeded::ActiveSeries.status(), 429);
        assert_eq!(Exceeded::Series.status(), 413);
    }

    #[test]
    fn what_meta_monitoring_says_is_held_to_the_limit_of_series() {
        let limits = LIMITS.replacen("write:\n", "write:\n  global: {meta_monitoring_url: 'http://m:9090'}\n", 1);
        let limiter = Limiter::new(LimitsConfig::parse(&limits).unwrap(), &mut Registry::default());
        let series = [("a", 4), ("b", 5), ("big", 5)].map(|(tenant, series)| (tenant.to_owned(), series));
        limiter.active.set(Found { series: series.into(), is_whole: true });
        assert_eq!(limiter.active_series("a"), Ok(()));
        assert_eq!(limiter.active_series("b"), Err(Exceeded::ActiveSeries));
        assert_eq!(limiter.active_series("big"), Ok(()));
        assert_eq!(limiter.active_series("new"), Ok(()));
        assert_eq!(limiter.series_max("b"), 0, "the heads don't know what other receivers have");
    }

    #[test]
    fn tenants_whose_limits_are_taken_away_are_no_longer_shown() {
        let mut registry = Registry::default();
        let limiter = Limiter::new(LimitsConfig::parse(LIMITS).unwrap(), &mut registry);
        let shown = |registry: &Registry| {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
            let of = |name: &str| text.lines().filter(|line| line.starts_with(name) && line.contains("big")).count();
            [of("thanos_receive_write_limits{"), of("thanos_receive_head_series_limit{")]
        };
        assert_eq!(shown(&registry), [3, 1]);
        limiter.reload("write: {tenants: {big: {head_series_limit: 7}}}").unwrap();
        assert_eq!(shown(&registry), [0, 1]);
        limiter.reload("write: {default: {head_series_limit: 7}}").unwrap();
        assert_eq!(shown(&registry), [0, 0]);
    }

    #[test]
    fn what_is_counted_for_a_tenant_goes_with_it() {
        let mut registry = Registry::default();
        let limiter = Limiter::new(LimitsConfig::parse(LIMITS).unwrap(), &mut registry);
        for tenant in ["gone", "stays"] {
            assert_eq!(limiter.size(tenant, 101), Err(Exceeded::Size));
            limiter.refused_for_series(tenant);
        }
        let shown = |tenant: &str| {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text.lines().filter(|line| line.contains(tenant)).count()
        };
        let before = shown("stays");
        assert!(before > 10 && shown("gone") == before, "{before}");
        limiter.active.set(Found { series: vec![("gone".to_owned(), 9)], is_whole: true });
        limiter.forget("gone");
        assert_eq!((shown("gone"), shown("stays")), (0, before));
        assert_eq!(limiter.active.series("gone"), None);
    }

    #[test]
    fn limits_that_cannot_be_read_leave_the_old_ones() {
        let limiter = Limiter::new(LimitsConfig::default(), &mut Registry::default());
        assert_eq!(limiter.content("a", 11, 0), Ok(()));
        limiter.reload(LIMITS).unwrap();
        for text in ["write: [", "", "\n  \n", "# only a comment was written so far\n"] {
            assert!(limiter.reload(text).is_err(), "{text:?}");
            assert_eq!(limiter.content("a", 11, 0), Err(Exceeded::Series));
        }
        limiter.reload("write: {}").unwrap();
        assert_eq!(limiter.content("a", 11, 0), Ok(()));
    }

    #[test]
    fn the_gate_lets_as_many_requests_through_as_it_says() {
        let limits = "write: {global: {max_concurrency: 1}}";
        let limiter = Limiter::new(LimitsConfig::parse(limits).unwrap(), &mut Registry::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let first = limiter.turn().await;
            assert!(tokio::time::timeout(Duration::from_millis(1), limiter.turn()).await.is_err());
            drop(first);
            assert!(limiter.turn().await.is_some());
        });
    }
}
