//! The registry of metrics, written as OpenMetrics or in Prometheus' older text format.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Deref;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use engine::model::{Budget, Error, ErrorKind, Reservation};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use super::exposition::{Exposition, Form, Room};

/// The labels of a metric: names and values.
pub type MetricLabels = Vec<(&'static str, String)>;

/// A metric for each set of labels, described even before there is one, so that a dashboard finds every
/// name that it asks for; clones share them.
#[derive(Clone, Debug)]
pub struct Labelled<M, C = fn() -> M>(Family<MetricLabels, M, C>);

/// A counter for each set of labels.
pub type Counters = Labelled<Counter>;

/// A counter of seconds for each set of labels.
pub type SecondCounters = Labelled<Counter<f64, AtomicU64>>;

/// A gauge for each set of labels.
pub type Gauges = Labelled<Gauge>;

/// Something that a gauge counts as under way until this is dropped, also when its caller goes away.
#[derive(Debug)]
pub struct UnderWay(Gauge);

impl UnderWay {
    /// It begins.
    pub fn begin(count: &Gauge) -> Self {
        count.inc();
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Tenants that have metrics at a time: names that callers make up would be kept for ever.
const TENANTS_MAX: usize = 20_000;

/// The labels that metrics of each tenant have, by which these go with their tenant; clones share them.
#[derive(Clone, Debug, Default)]
pub struct OfTenants(Arc<Mutex<Noted>>);

/// Tenants that have metrics.
#[derive(Debug, Default)]
struct Noted {
    labels: BTreeMap<String, BTreeSet<MetricLabels>>,
    /// In the order in which they came.
    order: VecDeque<String>,
}

impl OfTenants {
    /// Metrics of `tenant` have these labels. Gives those of the tenant that came first, whose metrics are to go, where
    /// there are too many.
    #[must_use]
    pub fn note(&self, tenant: &str, labels: &MetricLabels) -> BTreeSet<MetricLabels> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = noted.labels.get_mut(tenant) {
            known.insert(labels.clone());
            return BTreeSet::new();
        }
        noted.labels.insert(tenant.to_owned(), BTreeSet::from([labels.clone()]));
        noted.order.push_back(tenant.to_owned());
        if noted.order.len() <= TENANTS_MAX {
            return BTreeSet::new();
        }
        let first = noted.order.pop_front().unwrap_or_default();
        noted.labels.remove(&first).unwrap_or_default()
    }

    /// All labels that were noted of `tenant`, which are known no longer.
    pub fn take(&self, tenant: &str) -> BTreeSet<MetricLabels> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.order.retain(|known| known != tenant);
        noted.labels.remove(tenant).unwrap_or_default()
    }
}

/// Gauges of what there is now; clones share them.
#[derive(Clone, Debug, Default)]
pub struct CurrentGauges {
    gauges: Gauges,
    now: Arc<Mutex<BTreeMap<MetricLabels, i64>>>,
}

/// A gauge of seconds or ratios for each set of labels.
pub type FloatGauges = Labelled<FloatGauge>;

/// A gauge of seconds or ratios.
pub type FloatGauge = Gauge<f64, AtomicU64>;

/// A histogram for each set of labels, all with the same buckets.
pub type Histograms = Labelled<Histogram>;

/// Upper bounds that Thanos uses for the durations of a request, in seconds.
pub const DURATION_BUCKETS: [f64; 14] = [0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0];

/// The content type of OpenMetrics.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The content type of OpenMetrics for those who only know its first version.
const OPENMETRICS_FIRST: &str = "application/openmetrics-text; version=0.0.1; charset=utf-8";

/// The content type of Prometheus' text format.
pub const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

impl<M, C> Labelled<M, C> {
    /// None yet; `make` makes one.
    pub fn new_with_constructor(make: C) -> Self {
        Self(Family::new_with_constructor(make))
    }
}

impl<M: Default> Default for Labelled<M> {
    fn default() -> Self {
        Self::new_with_constructor(M::default)
    }
}

impl<M, C> Deref for Labelled<M, C> {
    type Target = Family<MetricLabels, M, C>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<M, C> EncodeMetric for Labelled<M, C>
where
    M: EncodeMetric + TypedMetric,
    C: MetricConstructor<M>,
{
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

impl CurrentGauges {
    /// The gauges, to be published.
    pub fn gauges(&self) -> Gauges {
        self.gauges.clone()
    }

    /// These are there from now on, and no others. What stays is there all the time.
    pub fn set(&self, now: BTreeMap<MetricLabels, i64>) {
        let mut before = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        for (labels, value) in &now {
            self.gauges.get_or_create(labels).set(*value);
        }
        for gone in before.keys().filter(|labels| !now.contains_key(*labels)) {
            self.gauges.remove(gone);
        }
        *before = now;
    }
}

/// A histogram of request durations in seconds.
pub fn duration_histogram() -> Histogram {
    Histogram::new(DURATION_BUCKETS)
}

/// A registry that already knows the process and the build.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    let build = Gauges::default();
    build
        .get_or_create(&vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("goversion", String::new()),
            ("branch", String::new()),
            ("revision", option_env!("URU_REVISION").unwrap_or_default().to_owned()),
        ])
        .set(1);
    registry.register("thanos_build_info", "Version of this build", build);
    registry.register_collector(Box::new(Process));
    registry
}

/// All metrics as text; `accept` is the request's Accept header. Returns the content type and body.
pub fn render(registry: &Registry, accept: &str) -> (&'static str, String) {
    let memory = Budget::new("metrics", u64::MAX);
    let rendered = Room::of(&memory).and_then(|room| render_within(registry, accept, (room, 0)));
    let (kind, text, _) = rendered.expect("there is no limit, and writing to a string can't fail");
    (kind, text)
}

/// The same in `room`, with the memory that the body takes; about so many bytes of it are expected.
pub fn render_within(
    registry: &Registry,
    accept: &str,
    (room, bytes): (Room, usize),
) -> Result<(&'static str, String, Reservation), Error> {
    let kind = accepted(accept);
    let form = if kind == PROMETHEUS_TEXT { Form::Prometheus } else { Form::OpenMetrics };
    let mut exposition = Exposition::new(form, room, bytes);
    let written = prometheus_client::encoding::text::encode(&mut exposition, registry);
    let (text, held) = exposition.finish()?;
    written.map_err(|_| Error::new(ErrorKind::Bug, "a metric could not be written"))?;
    Ok((kind, text, held))
}

/// The content type that an Accept header weighs most, of those it weighs alike the one it names first; text when
/// it wants nothing that there is.
fn accepted(accept: &str) -> &'static str {
    let (mut best, mut kind) = (0.0, PROMETHEUS_TEXT);
    for clause in accept.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let (mut weight, mut version) = (1.0, "");
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key.trim_end() {
                "q" => weight = value.trim().parse::<f32>().unwrap_or_default(),
                "version" => version = value.trim(),
                _ => {}
            }
        }
        let offered = match (name, version) {
            ("application/openmetrics-text", "" | "1.0.0") => OPENMETRICS,
            ("application/openmetrics-text", "0.0.1") => OPENMETRICS_FIRST,
            ("text/plain" | "text/*" | "*/*", "" | "0.0.4") => PROMETHEUS_TEXT,
            _ => continue,
        };
        if weight > best {
            (best, kind) = (weight, offered);
        }
    }
    kind
}

/// What the kernel knows about this process.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(process) = read_process() else { return Ok(()) };
        let mut counter = |name: &str, help: &str, unit: Option<&Unit>, value: f64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, unit, counter.metric_type())?)
        };
        counter("process_cpu", "Total user and system CPU time.", Some(&Unit::Seconds), process.cpu_seconds)?;
        if let Some((received, sent)) = process.network_bytes {
            let help = "Number of bytes received by the process over the network.";
            counter("process_network_receive_bytes", help, None, received)?;
            let help = "Number of bytes sent by the process over the network.";
            counter("process_network_transmit_bytes", help, None, sent)?;
        }
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge("process_resident_memory_bytes", "Resident memory size in bytes.", process.resident_bytes)?;
        gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", process.virtual_bytes)?;
        gauge("process_open_fds", "Number of open file descriptors.", process.open_fds)?;
        gauge("process_max_fds", "Maximum number of open file descriptors.", process.max_fds)?;
        let help = "Maximum amount of virtual memory available in bytes.";
        gauge("process_virtual_memory_max_bytes", help, process.virtual_bytes_max)?;
        let help = "Start time of the process since unix epoch in seconds.";
        gauge("process_start_time_seconds", help, process.start_seconds)
    }
}

struct ProcessNumbers {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    open_fds: f64,
    max_fds: f64,
    virtual_bytes_max: f64,
    start_seconds: f64,
    /// Received and sent, of the process' network.
    network_bytes: Option<(f64, f64)>,
}

/// Reads `/proc/self`; `None` where there is none. The kernel counts CPU time in hundredths of a
/// second and memory in pages of 4 KiB on every platform that this is built for.
fn read_process() -> Option<ProcessNumbers> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let after_name: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| after_name.get(at).and_then(|text| text.parse::<f64>().ok());
    Some(ProcessNumbers {
        cpu_seconds: (number(11)? + number(12)?) / 100.0,
        virtual_bytes: number(20)?,
        resident_bytes: number(21)? * 4096.0,
        open_fds: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as f64,
        max_fds: soft_limit("Max open files")?,
        virtual_bytes_max: soft_limit("Max address space")?,
        start_seconds: booted()? + number(19)? / 100.0,
        network_bytes: network_bytes(),
    })
}

/// The soft limit of a resource, as `/proc/self/limits` names it; one that is unlimited is the greatest
/// number there is, as Go's client has it.
fn soft_limit(name: &str) -> Option<f64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let value = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
    if value == "unlimited" { Some(u64::MAX as f64) } else { value.parse().ok() }
}

/// When the machine started, in Unix seconds.
fn booted() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Bytes of IP that came and went, of the process' network; the kernel gives names and numbers in two
/// lines that start alike.
fn network_bytes() -> Option<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/self/net/netstat").ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let of = |wanted: &str| {
        let at = names.split_whitespace().position(|name| name == wanted)?;
        values.split_whitespace().nth(at)?.parse::<f64>().ok()
    };
    Some((of("InOctets")?, of("OutOctets")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::summary::Summaries;

    #[test]
    fn both_formats_name_counters_as_their_readers_expect() {
        let mut registry = Registry::default();
        let counter = Counters::default();
        counter.get_or_create(&vec![("op", "get".to_owned())]).inc_by(3);
        registry.register("thanos_x", "Things", counter);
        let (_, open) = render(&registry, "application/openmetrics-text;version=1.0.0");
        assert!(open.contains("# TYPE thanos_x counter") && open.ends_with("# EOF\n"), "{open}");
        let (kind, old) = render(&registry, "*/*");
        assert_eq!(kind, PROMETHEUS_TEXT);
        let expected = "# HELP thanos_x_total Things.\n# TYPE thanos_x_total counter\nthanos_x_total{op=\"get\"} 3\n";
        assert_eq!(old, expected);
    }

    #[test]
    fn the_format_that_is_weighed_most_is_told() {
        for (accept, expected) in [
            ("", PROMETHEUS_TEXT),
            ("text/html", PROMETHEUS_TEXT),
            ("application/openmetrics-text", OPENMETRICS),
            ("application/openmetrics-text;q=0,text/plain", PROMETHEUS_TEXT),
            ("text/plain;q=0.9,application/openmetrics-text;q=0.1", PROMETHEUS_TEXT),
            ("text/plain;q=0.1, application/openmetrics-text ; version=1.0.0 ; q=0.9", OPENMETRICS),
            ("application/openmetrics-text;version=0.0.1,*/*;q=0.1", OPENMETRICS_FIRST),
            ("application/openmetrics-text;version=9.0.0,*/*;q=0.1", PROMETHEUS_TEXT),
            ("text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0", PROMETHEUS_TEXT),
        ] {
            assert_eq!(accepted(accept), expected, "{accept}");
        }
    }

    #[test]
    fn a_gauge_named_as_a_counter_is_left_out_where_they_would_be_one_family() {
        let mut registry = Registry::default();
        registry.register("x_queries", "Ever", Counter::<u64>::default());
        registry.register("x_queries", "Now", Gauge::<i64>::default());
        let ever = |suffix: &str| format!("# HELP x_queries{suffix} Ever.\n# TYPE x_queries{suffix} counter\n");
        let now = "# HELP x_queries Now.\n# TYPE x_queries gauge\nx_queries 0\n";
        assert_eq!(render(&registry, "*/*").1, ever("_total") + "x_queries_total 0\n" + now);
        assert_eq!(render(&registry, OPENMETRICS).1, ever("") + "x_queries_total 0\n# EOF\n");
        // What is there twice otherwise is a mistake, to be seen.
        registry.register("x_queries", "Again", Counter::<u64>::default());
        assert!(render(&registry, OPENMETRICS).1.contains("# HELP x_queries Again.\n# TYPE x_queries counter\n"));
    }

    #[test]
    fn summaries_are_of_their_kind_in_both_formats() {
        let mut registry = Registry::default();
        let summaries = Summaries::new("slice", &["a"]);
        registry.sub_registry_with_label(("mode".into(), "local".into())).register(
            "x_seconds",
            "Time",
            summaries.clone(),
        );
        summaries.observe("a", 1.0);
        let line = |label: &str, value: &str| format!("x_seconds{label} {value}\n");
        let samples = [0.5, 0.9, 0.99].map(|quantile| {
            line(&format!("{{mode=\"local\",slice=\"a\",quantile=\"{quantile}\"}}"), "0.9950248756218907")
        });
        let samples = samples.concat()
            + "x_seconds_sum{mode=\"local\",slice=\"a\"} 1.0\nx_seconds_count{mode=\"local\",slice=\"a\"} 1\n";
        let expected = format!("# HELP x_seconds Time.\n# TYPE x_seconds summary\n{samples}");
        assert_eq!(render(&registry, "*/*").1, expected);
        assert_eq!(render(&registry, OPENMETRICS).1, expected + "# EOF\n");
    }

    #[test]
    fn the_process_is_told_of_as_go_tells_it() {
        let text = render(&registry(), "*/*").1;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name}\n{text}")).parse::<f64>().unwrap()
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_virtual_memory_max_bytes") >= value("process_virtual_memory_bytes"));
        assert!(value("process_network_receive_bytes_total") >= 0.0);
    }

    /// Whoever made up names of tenants once got metrics for each of them, for ever.
    #[test]
    fn of_too_many_tenants_the_metrics_of_the_first_go() {
        let (tenants, labels) = (OfTenants::default(), |number: usize| vec![("tenant", number.to_string())]);
        let note = |number: usize| tenants.note(&number.to_string(), &labels(number));
        assert!((0..TENANTS_MAX).all(|number| note(number).is_empty()));
        assert!(note(0).is_empty() && tenants.note("0", &vec![("code", "409".to_owned())]).is_empty());
        let first = BTreeSet::from([labels(0), vec![("code", "409".to_owned())]]);
        assert_eq!(note(TENANTS_MAX), first);
        assert_eq!(tenants.take("2"), BTreeSet::from([labels(2)]));
        assert!(note(0).is_empty(), "there is a place again");
        assert_eq!([note(2), note(2)], [BTreeSet::from([labels(1)]), BTreeSet::new()]);
    }

    #[test]
    fn families_without_labels_yet_are_described() {
        let mut registry = Registry::default();
        registry.register("thanos_x", "Things", Counters::default());
        registry.register("thanos_y_seconds", "Times", Histograms::new_with_constructor(duration_histogram));
        let expected = "# HELP thanos_x_total Things.\n# TYPE thanos_x_total counter\n\
                        # HELP thanos_y_seconds Times.\n# TYPE thanos_y_seconds histogram\n";
        assert_eq!(render(&registry, "*/*").1, expected);
    }
}
