//! `thanos_bucket_store_*`: which blocks are open and what requests have touched.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::select::Stats;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::sent::SentSizes;
use crate::api::grpc::requested::Requested;
use crate::telemetry::metrics::{
    Counters, FloatGauge, Histograms, Labelled, MetricLabels, OfTenants, UnderWay, duration_histogram,
};

/// Upper bounds of the seconds that index-headers take to be opened.
const HEADER_BUCKETS: [f64; 14] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 90.0, 120.0];

/// The same of those that have to be made first.
const HEADER_DOWNLOAD_BUCKETS: [f64; 12] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 90.0, 120.0, 300.0];

/// The metrics of a gateway. Their names are Thanos'; clones share them.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    /// Blocks that were about to be opened.
    pub block_loads: Counter,
    /// Blocks that could not be opened.
    pub block_load_failures: Counter,
    /// Blocks that were closed because they no longer count.
    pub block_drops: Counter,
    /// Closed blocks whose local files could not be removed.
    pub block_drop_failures: Counter,
    /// Blocks that are open.
    pub blocks_loaded: Gauge,
    /// Column indexes that were built.
    pub index_builds: Counter,
    /// Blocks that are answered through their index-header until their column index is built.
    pub indexes_pending: Gauge,
    /// Column indexes that were found damaged and built anew.
    pub index_rebuilds: Counter,
    last_loaded: FloatGauge,
    load_duration: Histogram,
    data_touched: Histograms,
    data_fetched: Histograms,
    data_size_touched: Histograms,
    data_size_fetched: Histograms,
    blocks_queried: Histograms,
    get_all_duration: Histograms,
    merge_duration: Histograms,
    result_series: Histograms,
    sent_sizes: Labelled<SentSizes>,
    of_tenants: OfTenants,
    queries_dropped: Counters,
    gate_duration: Histogram,
    gate_in_flight: Gauge,
    gate_passed: Counter,
    postings_sizes: Histograms,
    postings_fetch: Histograms,
    postings_empty: Counters,
    series_fetch: Histograms,
    chunks_fetch: Histograms,
    /// What Series calls were answered with.
    pub requested: Requested,
    /// Seconds that index-headers took to be opened, and to be made of what was read for them.
    pub header_loads: Histogram,
    /// The second alone.
    pub header_downloads: Histogram,
}

/// How a Series request went.
#[derive(Clone, Copy, Debug)]
pub struct SeriesRun {
    /// What it has touched.
    pub stats: Stats,
    /// From its turn to the first part of the answer being in work.
    pub prepare: Duration,
    /// From there to the end.
    pub merge: Duration,
}

fn counts() -> Histogram {
    Histogram::new(exponential_buckets(200.0, 2.0, 15))
}

fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1024.0, 2.0, 15))
}

fn blocks() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 10))
}

/// From 1 KiB to 512 MiB.
fn postings() -> Histogram {
    Histogram::new([10, 20, 23, 24, 25, 26, 27, 28, 29].map(|power| (1u64 << power) as f64))
}

fn results() -> Histogram {
    Histogram::new(exponential_buckets(100.0, 2.0, 15))
}

impl StoreMetrics {
    /// Registers the metrics; `gate_max` is the number of Series requests that run at once.
    pub fn register(registry: &mut Registry, gate_max: u64) -> Self {
        let metrics = Self {
            block_loads: Counter::default(),
            block_load_failures: Counter::default(),
            block_drops: Counter::default(),
            block_drop_failures: Counter::default(),
            blocks_loaded: Gauge::default(),
            index_builds: Counter::default(),
            index_rebuilds: Counter::default(),
            indexes_pending: Gauge::default(),
            last_loaded: FloatGauge::default(),
            load_duration: Histogram::new([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 90.0, 120.0, 300.0]),
            data_touched: Histograms::new_with_constructor(counts),
            data_fetched: Histograms::new_with_constructor(counts),
            data_size_touched: Histograms::new_with_constructor(sizes),
            data_size_fetched: Histograms::new_with_constructor(sizes),
            blocks_queried: Histograms::new_with_constructor(blocks),
            get_all_duration: Histograms::new_with_constructor(duration_histogram),
            merge_duration: Histograms::new_with_constructor(duration_histogram),
            result_series: Histograms::new_with_constructor(results),
            sent_sizes: Labelled::default(),
            of_tenants: OfTenants::default(),
            queries_dropped: Counters::default(),
            gate_duration: duration_histogram(),
            gate_in_flight: Gauge::default(),
            gate_passed: Counter::default(),
            postings_sizes: Histograms::new_with_constructor(postings),
            postings_fetch: Histograms::new_with_constructor(duration_histogram),
            postings_empty: Counters::default(),
            series_fetch: Histograms::new_with_constructor(duration_histogram),
            chunks_fetch: Histograms::new_with_constructor(duration_histogram),
            requested: Requested::default(),
            header_loads: Histogram::new(HEADER_BUCKETS),
            header_downloads: Histogram::new(HEADER_DOWNLOAD_BUCKETS),
        };
        metrics.requested.register(registry);
        metrics.register_blocks(registry.sub_registry_with_prefix("thanos_bucket_store"));
        metrics.register_requests(registry.sub_registry_with_prefix("thanos_bucket_store"));
        let max: Gauge = Gauge::default();
        max.set(i64::try_from(gate_max).unwrap_or(i64::MAX));
        let gate = registry.sub_registry_with_prefix("thanos_bucket_store_series_gate");
        gate.register("queries_max", "Maximum number of concurrent queries", max);
        gate.register(
            "queries_in_flight",
            "Number of queries that are currently in flight",
            metrics.gate_in_flight.clone(),
        );
        gate.register("queries", "Total number of queries", metrics.gate_passed.clone());
        // Thanos calls it by the second name, its dashboards by the first.
        for name in ["duration_seconds", "queries_duration_seconds"] {
            gate.register(name, "How many seconds queries waited for their turn", metrics.gate_duration.clone());
        }
        metrics
    }

    fn register_blocks(&self, registry: &mut Registry) {
        let mut counter = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        counter("block_loads", "Total number of remote block loading attempts", &self.block_loads);
        counter("block_load_failures", "Total number of failed block loading attempts", &self.block_load_failures);
        counter("block_drops", "Total number of local blocks that were dropped", &self.block_drops);
        counter(
            "block_drop_failures",
            "Total number of local blocks that failed to be dropped",
            &self.block_drop_failures,
        );
        counter("column_index_builds", "Total number of column indexes that were built", &self.index_builds);
        counter("column_index_rebuilds", "Total number of damaged column indexes built anew", &self.index_rebuilds);
        registry.register("blocks_loaded", "Number of currently loaded blocks", self.blocks_loaded.clone());
        let help = "Number of blocks whose column index is yet to be built";
        registry.register("column_indexes_pending", help, self.indexes_pending.clone());
        let help = "Timestamp when last block got loaded";
        registry.register("blocks_last_loaded_timestamp_seconds", help, self.last_loaded.clone());
        let help = "The total time taken to load a block in seconds";
        registry.register("block_load_duration_seconds", help, self.load_duration.clone());
        let help = "Duration of the index-header loading in seconds";
        registry.register("indexheader_load_duration_seconds", help, self.header_loads.clone());
        let help = "Duration of the index-header download from objstore in seconds";
        registry.register("indexheader_download_duration_seconds", help, self.header_downloads.clone());
    }

    fn register_requests(&self, registry: &mut Registry) {
        let mut family = |name: &str, help: &str, family: &Histograms| registry.register(name, help, family.clone());
        family("series_data_touched", "Items of a data type touched by a Series request", &self.data_touched);
        family("series_data_fetched", "Items of a data type fetched by a Series request", &self.data_fetched);
        family("series_data_size_touched_bytes", "Size of items touched by a Series request", &self.data_size_touched);
        family("series_data_size_fetched_bytes", "Size of items fetched by a Series request", &self.data_size_fetched);
        family("series_blocks_queried", "Number of blocks touched by a Series request", &self.blocks_queried);
        family("series_get_all_duration_seconds", "Time until all blocks are prepared", &self.get_all_duration);
        family("series_merge_duration_seconds", "Time to merge the answers of all blocks", &self.merge_duration);
        family("series_result_series", "Number of series in the result of a Series request", &self.result_series);
        family("postings_size_bytes", "Size in bytes of the postings for a single series call", &self.postings_sizes);
        // In the second names Thanos adds up what is fetched at once, which is done in both here.
        let help = "Seconds that a Series request waited for postings, series or chunks";
        for (name, fetch) in [
            ("postings_fetch_duration_seconds", &self.postings_fetch),
            ("series_fetch_duration_seconds", &self.series_fetch),
            ("series_fetch_duration_sum_seconds", &self.series_fetch),
            ("chunks_fetch_duration_seconds", &self.chunks_fetch),
            ("chunks_fetch_duration_sum_seconds", &self.chunks_fetch),
        ] {
            family(name, help, fetch);
        }
        // Postings are expanded by column or not at all.
        let help = "Total number of times when lazy expanded posting optimization applies";
        registry.register("lazy_expanded_postings", help, Counter::<u64>::default());
        let help = "Total number of empty postings when fetching block series";
        registry.register("empty_postings", help, self.postings_empty.clone());
        let help = "Size in bytes of the chunks of each series that was sent";
        registry.register("sent_chunk_size_bytes", help, self.sent_sizes.clone());
        let help = "Number of queries that were dropped due to the limit";
        registry.register("queries_dropped", help, self.queries_dropped.clone());
    }

    /// A block was opened in `time`.
    pub fn block_loaded(&self, time: Duration) {
        self.load_duration.observe(time.as_secs_f64());
        self.last_loaded.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
    }

    /// A Series request got its turn after `waited`.
    pub fn gate_passed(&self, waited: Duration) -> UnderWay {
        self.gate_duration.observe(waited.as_secs_f64());
        self.gate_passed.inc();
        UnderWay::begin(&self.gate_in_flight)
    }

    /// A request of `tenant` hit the limit of `reason`.
    pub fn query_dropped(&self, reason: &str, tenant: &str) {
        let labels = vec![("reason", reason.to_owned()), ("tenant", tenant.to_owned())];
        if self.queries_dropped.get(&labels).is_none() {
            self.note(tenant, &labels);
        }
        self.queries_dropped.get_or_create(&labels).inc();
    }

    /// Counts the sizes of chunks that are sent to `tenant`.
    pub fn sent_sizes(&self, tenant: &str) -> SentSizes {
        let labels = vec![("tenant", tenant.to_owned())];
        if self.sent_sizes.get(&labels).is_none() {
            self.note(tenant, &labels);
        }
        self.sent_sizes.get_or_create(&labels).clone()
    }

    /// Metrics of `tenant` have these labels; those of a tenant that is one too many go.
    fn note(&self, tenant: &str, labels: &MetricLabels) {
        for gone in self.of_tenants.note(tenant, labels) {
            let touched = [&self.data_touched, &self.data_fetched, &self.data_size_touched, &self.data_size_fetched];
            let times = [&self.get_all_duration, &self.merge_duration, &self.postings_fetch, &self.series_fetch];
            let rest = [&self.chunks_fetch, &self.blocks_queried, &self.result_series, &self.postings_sizes];
            for histograms in touched.into_iter().chain(times).chain(rest) {
                histograms.remove(&gone);
            }
            self.postings_empty.remove(&gone);
            self.queries_dropped.remove(&gone);
            self.sent_sizes.remove(&gone);
        }
    }

    /// A Series request of `tenant` has ended.
    pub fn series_done(&self, run: &SeriesRun, tenant: &str) {
        let of_tenant: MetricLabels = vec![("tenant", tenant.to_owned())];
        if self.blocks_queried.get(&of_tenant).is_none() {
            self.note(tenant, &of_tenant);
        }
        let stats = &run.stats;
        self.blocks_queried.get_or_create(&of_tenant).observe(stats.blocks_queried as f64);
        self.get_all_duration.get_or_create(&of_tenant).observe(run.prepare.as_secs_f64());
        self.merge_duration.get_or_create(&of_tenant).observe(run.merge.as_secs_f64());
        self.result_series.get_or_create(&of_tenant).observe(stats.merged_series as f64);
        self.postings_sizes.get_or_create(&of_tenant).observe(stats.postings_touched_bytes as f64);
        self.postings_empty.get_or_create(&of_tenant).inc_by(stats.postings_empty);
        let fetch = |family: &Histograms, ns: u64| family.get_or_create(&of_tenant).observe(ns as f64 / 1e9);
        fetch(&self.postings_fetch, stats.postings_fetch_ns);
        fetch(&self.series_fetch, stats.series_fetch_ns);
        if stats.chunks_touched > 0 {
            fetch(&self.chunks_fetch, stats.read_ns);
        }
        let items = [
            (
                "postings",
                (stats.postings_touched, stats.postings_touched_bytes),
                (stats.postings_fetched, stats.postings_fetched_bytes),
            ),
            (
                "series",
                (stats.series_touched, stats.series_touched_bytes),
                (stats.series_fetched, stats.series_fetched_bytes),
            ),
            (
                "chunks",
                (stats.chunks_touched, stats.chunks_touched_bytes),
                (stats.chunks_fetched, stats.chunks_fetched_bytes),
            ),
        ];
        for (data_type, (touched, touched_bytes), (fetched, fetched_bytes)) in items {
            let labels = vec![("data_type", data_type.to_owned()), ("tenant", tenant.to_owned())];
            if self.data_touched.get(&labels).is_none() {
                self.note(tenant, &labels);
            }
            self.data_touched.get_or_create(&labels).observe(touched as f64);
            self.data_fetched.get_or_create(&labels).observe(fetched as f64);
            self.data_size_touched.get_or_create(&labels).observe(touched_bytes as f64);
            self.data_size_fetched.get_or_create(&labels).observe(fetched_bytes as f64);
        }
    }
}
