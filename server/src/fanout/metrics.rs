//! What the fan-out counts, under Thanos' names.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::MetricConstructor;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::discovery::{Found, Grouping, Source};
use crate::telemetry::metrics::{Counters, CurrentGauges, Labelled, OfTenants, UnderWay};
use crate::telemetry::rpc::RpcMetrics;

/// The label `external_labels` of endpoints that have none, as in Thanos.
const NO_EXTERNAL_LABELS: &str = "no_external_labels";

/// A healthy endpoint.
#[derive(Clone, Debug)]
pub struct Connected {
    /// Its external label sets, as text.
    pub external: String,
    /// What it is, such as `store`.
    pub kind: String,
    /// Where it is.
    pub address: String,
}

/// Bytes of the label `external_labels` at most, as in Thanos.
const EXTERNAL_LABELS_BYTES_MAX: usize = 1000;

/// Upper bounds of seconds spent waiting for a turn, as in Thanos.
const GATE_BUCKETS: [f64; 16] =
    [0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0, 240.0, 360.0, 720.0];

/// Metrics of a fan-out; clones share them.
#[derive(Clone, Debug)]
pub struct FanoutMetrics {
    connections: CurrentGauges,
    lookups: Lookups,
    endpoint_lookups: Lookups,
    group_lookups: Lookups,
    /// Addresses that are given more than once, as often as they are found.
    pub duplicated: Counter,
    /// Selections that ended at a limit, by what it limits.
    pub selects_dropped: Counters,
    /// Selections that an endpoint answered with nothing at all.
    pub empty_streams: Counter,
    /// Calls of endpoints.
    pub calls: RpcMetrics,
    selects: Labelled<Histogram, Buckets>,
    of_tenants: OfTenants,
    select_waits: Histogram,
    selects_in_flight: Gauge,
    selects_begun: Counter,
    buckets: TelemetryBuckets,
    connection_labels: Vec<String>,
}

/// Lookups of names by DNS.
#[derive(Clone, Debug, Default)]
struct Lookups {
    tried: Counter,
    failed: Counter,
    results: CurrentGauges,
}

impl Lookups {
    fn register_counts(&self, registry: &mut Registry, prefix: &str) {
        registry.register(format!("{prefix}_lookups"), "Names that were looked up", self.tried.clone());
        let help = "Names that could not be looked up";
        registry.register(format!("{prefix}_failures"), help, self.failed.clone());
    }

    fn register(&self, registry: &mut Registry, prefix: &str) {
        self.register_counts(registry, prefix);
        let help = "Addresses that each name stands for";
        registry.register(format!("{prefix}_provider_results"), help, self.results.gauges());
    }
}

/// Bounds of the histogram of selections and of its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetryBuckets {
    /// Seconds (`--query.telemetry.request-duration-seconds-quantiles`).
    pub seconds: Vec<f64>,
    /// Samples (`--query.telemetry.request-samples-quantiles`).
    pub samples: Vec<f64>,
    /// Series (`--query.telemetry.request-series-seconds-quantiles`).
    pub series: Vec<f64>,
}

impl Default for TelemetryBuckets {
    /// Thanos' defaults.
    fn default() -> Self {
        Self {
            seconds: vec![0.1, 0.25, 0.75, 1.25, 1.75, 2.5, 3.0, 5.0, 10.0],
            samples: vec![100.0, 1000.0, 10_000.0, 100_000.0, 1_000_000.0],
            series: vec![10.0, 100.0, 1000.0, 10_000.0, 100_000.0],
        }
    }
}

/// Makes histograms of the same bounds.
#[derive(Clone, Debug)]
struct Buckets(Vec<f64>);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

impl Default for FanoutMetrics {
    fn default() -> Self {
        let labels = ["external_labels", "store_type"].map(str::to_owned).to_vec();
        Self::new(TelemetryBuckets::default(), labels)
    }
}

impl FanoutMetrics {
    /// Metrics with these bounds, connections told apart by these labels.
    pub fn new(buckets: TelemetryBuckets, connection_labels: Vec<String>) -> Self {
        Self {
            connections: CurrentGauges::default(),
            lookups: Lookups::default(),
            endpoint_lookups: Lookups::default(),
            group_lookups: Lookups::default(),
            duplicated: Counter::default(),
            selects_dropped: Counters::default(),
            empty_streams: Counter::default(),
            calls: RpcMetrics::default(),
            selects: Labelled::new_with_constructor(Buckets(buckets.seconds.clone())),
            of_tenants: OfTenants::default(),
            select_waits: Histogram::new(GATE_BUCKETS),
            selects_in_flight: Gauge::default(),
            selects_begun: Counter::default(),
            buckets,
            connection_labels,
        }
    }

    /// Publishes them.
    pub fn register(&self, registry: &mut Registry) {
        let name = "thanos_store_nodes_grpc_connections";
        registry.register(name, "Number of gRPC connections to healthy endpoints", self.connections.gauges());
        self.calls.register_client(registry);
        // Thanos calls them by the later names, its dashboards and alerts by the first.
        self.lookups.register_counts(registry, "thanos_query_store_apis_dns");
        self.endpoint_lookups.register(registry, "thanos_query_endpoints_dns");
        self.group_lookups.register(registry, "thanos_query_endpoint_groups_dns");
        let help = "Addresses of endpoints that are given more than once, as often as they are found";
        registry.register("thanos_query_duplicated_endpoint_addresses", help, self.duplicated.clone());
        let help = "Number of select queries that were dropped due to configured limits";
        registry.register("thanos_store_selects_dropped", help, self.selects_dropped.clone());
        let help = "Total number of empty responses received";
        registry.register("thanos_proxy_store_empty_stream_responses", help, self.empty_streams.clone());
        registry.register(
            "thanos_store_api_query_duration_seconds",
            "Seconds that selections from endpoints took, by how much they gave",
            self.selects.clone(),
        );
        // A query selects one after the other, so that none waits.
        let max = Gauge::<i64>::default();
        max.set(1);
        let gate = registry.sub_registry_with_prefix("thanos_query_concurrent_selects_gate_selects");
        gate.register("max", "Selections of a query that run at once, at most", max);
        gate.register("in_flight", "Selections that run now", self.selects_in_flight.clone());
        gate.register("duration_seconds", "Seconds that selections waited for their turn", self.select_waits.clone());
        registry.register(
            "thanos_query_concurrent_selects_gate_selects",
            "Selections that got their turn",
            self.selects_begun.clone(),
        );
    }

    /// A selection begins, and runs until what is returned is dropped.
    pub fn select_begins(&self) -> UnderWay {
        self.select_waits.observe(0.0);
        self.selects_begun.inc();
        UnderWay::begin(&self.selects_in_flight)
    }

    /// Healthy endpoints now.
    pub fn connected(&self, endpoints: impl Iterator<Item = Connected>) {
        let mut now = BTreeMap::new();
        for Connected { mut external, kind, address } in endpoints {
            let end =
                (0..=EXTERNAL_LABELS_BYTES_MAX.min(external.len())).rev().find(|at| external.is_char_boundary(*at));
            external.truncate(end.unwrap_or(0));
            if external.is_empty() {
                external.push_str(NO_EXTERNAL_LABELS);
            }
            let mut labels = vec![("external_labels", external), ("store_type", kind), ("ip_port", address)];
            labels.retain(|(name, _)| self.connection_labels.iter().any(|wanted| wanted == name));
            *now.entry(labels).or_default() += 1;
        }
        self.connections.set(now);
    }

    /// A name was looked up, if `source` has one.
    pub fn looked_up<T, E>(&self, source: &Source, outcome: &Result<T, E>) {
        if source.is_looked_up() {
            for lookups in [&self.lookups, self.lookups_of(source)] {
                lookups.tried.inc();
                lookups.failed.inc_by(u64::from(outcome.is_err()));
            }
        }
    }

    /// The addresses that each name stands for now.
    pub fn resolved(&self, found: &BTreeMap<Source, Vec<(String, Found)>>) {
        let (mut endpoints, mut groups) = (BTreeMap::new(), BTreeMap::new());
        for (source, found) in found.iter().filter(|(source, _)| source.is_looked_up()) {
            let members: usize = found.iter().map(|(_, found)| found.members.len()).sum();
            let results = match source.grouping {
                Grouping::Each => &mut endpoints,
                Grouping::Group => &mut groups,
            };
            results.insert(vec![("addr", source.name().to_owned())], members as i64);
        }
        self.endpoint_lookups.results.set(endpoints);
        self.group_lookups.results.set(groups);
    }

    fn lookups_of(&self, source: &Source) -> &Lookups {
        match source.grouping {
            Grouping::Each => &self.endpoint_lookups,
            Grouping::Group => &self.group_lookups,
        }
    }

    /// One selection of `tenant`, of `series` with `samples` samples, took `time`.
    pub fn selected(&self, time: Duration, (series, samples): (u64, u64), tenant: &str) {
        let labels = vec![
            ("series_le", bound(&self.buckets.series, series)),
            ("samples_le", bound(&self.buckets.samples, samples)),
            ("tenant", tenant.to_owned()),
        ];
        if self.selects.get(&labels).is_none() {
            for gone in self.of_tenants.note(tenant, &labels) {
                self.selects.remove(&gone);
            }
        }
        self.selects.get_or_create(&labels).observe(time.as_secs_f64());
    }
}

/// The first bound that `count` does not exceed.
fn bound(bounds: &[f64], count: u64) -> String {
    let found = bounds.iter().find(|bound| count as f64 <= **bound);
    found.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::discovery::Presence;

    fn published(metrics: &FanoutMetrics) -> String {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn connections_are_those_of_now_and_counted_by_labels() {
        let metrics = FanoutMetrics::default();
        let endpoint = |labels: &str, kind: &str| {
            let [external, kind, address] = [labels, kind, "10.0.0.1:1"].map(str::to_owned);
            Connected { external, kind, address }
        };
        metrics.connected([endpoint("{a=\"1\"}", "store"), endpoint("{a=\"1\"}", "store")].into_iter());
        metrics.connected([endpoint("{a=\"1\"}", "store"), endpoint(&"ä".repeat(800), "rule")].into_iter());
        metrics.selected(Duration::from_millis(200), (5, 2_000_000), "a");
        let by_address = FanoutMetrics::new(TelemetryBuckets::default(), vec!["ip_port".to_owned()]);
        by_address.connected([endpoint("", "store"), endpoint("{a=\"1\"}", "rule")].into_iter());
        let line = "thanos_store_nodes_grpc_connections{ip_port=\"10.0.0.1:1\"} 2";
        assert!(published(&by_address).contains(line), "{}", published(&by_address));
        metrics.connected([endpoint("", "rule"), endpoint("{a=\"1\"}", "store")].into_iter());
        assert!(published(&metrics).contains("{external_labels=\"no_external_labels\",store_type=\"rule\"} 1"));
        let text = published(&metrics);
        let line = "thanos_store_nodes_grpc_connections{external_labels=\"{a=\\\"1\\\"}\",store_type=\"store\"} 1";
        assert!(text.contains(line), "{text}");
        let line = "seconds_count{series_le=\"10\",samples_le=\"+Inf\",tenant=\"a\"} 1";
        assert!(text.contains(&format!("thanos_store_api_query_duration_{line}")), "{text}");
    }

    #[test]
    fn of_tenants_that_callers_make_up_not_all_are_told() {
        let metrics = FanoutMetrics::default();
        (0..=20_000).for_each(|tenant| metrics.selected(Duration::ZERO, (1, 1), &tenant.to_string()));
        let text = published(&metrics);
        let is_told = |tenant: u32| text.contains(&format!("tenant=\"{tenant}\""));
        assert_eq!([0, 1, 20_000].map(is_told), [false, true, true]);
    }

    #[test]
    fn what_names_stand_for_is_set_anew_without_being_away() {
        let metrics = FanoutMetrics::default();
        let found = |source: &Source, members: &[&str]| {
            let members = members.iter().map(|member| (*member).to_owned()).collect();
            let (presence, client) = (source.presence, source.client.clone());
            (source.clone(), vec![(String::new(), Found { presence, members, host: String::new(), client })])
        };
        let [stays, goes] = ["dns+a:1", "dns+b:1"].map(|address| Source::each(address, Presence::WhenHealthy));
        metrics.resolved(&BTreeMap::from([found(&stays, &["10.0.0.1:1"]), found(&goes, &["10.0.0.2:1"])]));
        let results = metrics.endpoint_lookups.results.gauges();
        let [stays_labels, goes_labels] = [&stays, &goes].map(|source| vec![("addr", source.address.clone())]);
        let gauge = results.get_or_create_owned(&stays_labels);
        metrics.resolved(&BTreeMap::from([found(&stays, &["10.0.0.1:1", "10.0.0.3:1"])]));
        assert_eq!(gauge.get(), 2);
        assert!(results.remove(&stays_labels) && !results.remove(&goes_labels));
    }
}
