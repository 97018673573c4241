//! `uru tools bucket replicate`: once, or every minute until it is told to end.

use std::time::{Duration, Instant};

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{META_CONCURRENCY, ProgressLine, filters, ids, understood, whole_view};
use crate::api::http::health::Health;
use crate::cli::{Subcommand, Values, flags, tools};
use crate::component::process::Ports;
use crate::objstore::{Bucket, BucketConfig};
use crate::sync::{FetchOptions, Fetcher, Filters, SyncMetrics};
use crate::telemetry::metrics::{self, Counters, Histograms, MetricLabels};
use crate::tools::matchers;
use crate::tools::replicate::{Choice, ReplicateMetrics, replicate, resolution};

/// The tool as the command line knows it.
pub const SUBCOMMAND: Subcommand = Subcommand {
    name: "tools bucket replicate",
    about: "Copy blocks into another bucket",
    flags: &[tools::REPLICATE, flags::HTTP_SERVER, flags::TIME_RANGE],
};

/// Time between two runs.
const INTERVAL: Duration = Duration::from_secs(60);

/// Bounds of the durations of a run, in seconds.
const RUN_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What runs may come to, as `result` says it.
const RESULTS: [&str; 2] = ["success", "error"];

/// A run of replication.
struct Replication {
    from: Bucket,
    to: Bucket,
    fetcher: Fetcher,
    filters: Filters,
    choice: Choice,
    metrics: ReplicateMetrics,
    runs: Counters,
    durations: Histograms,
}

/// Runs the tool.
pub fn run(values: &Values) -> Result<(), String> {
    let choice = choice(values)?;
    let is_single = values.is_on("single-run") || !choice.ids.is_empty();
    let mut filters = filters(values).map_err(|error| error.to_string())?;
    if values.is_on("ignore-marked-for-deletion") {
        filters.ignore_deletion_marks_delay = Duration::ZERO;
    }
    let from = BucketConfig::given(values, "objstore.config").map_err(|error| error.given_by(values).to_string())?;
    let to = BucketConfig::given(values, "objstore-to.config").map_err(|error| error.given_by(values).to_string())?;
    let ports = Ports::bind(values).map_err(|error| error.to_string())?;
    let mut registry = metrics::registry();
    let health = Health::register(&mut registry, "replicate");
    let (runs, durations) = (Counters::default(), Histograms::new_with_constructor(|| Histogram::new(RUN_BUCKETS)));
    let help = "The number of replication runs split by success and error";
    registry.register("thanos_replicate_replication_runs", help, runs.clone());
    let help = "The Duration of replication runs split by success and error";
    registry.register("thanos_replicate_replication_run_duration_seconds", help, durations.clone());
    for labels in RESULTS.map(result_labels) {
        runs.get_or_create(&labels).inc_by(0);
        drop(durations.get_or_create(&labels));
    }
    let open = |config, registry: &mut Registry| Bucket::open(config, registry).map_err(|error| error.to_string());
    // The metrics of two buckets would have the same names, so those of the source are not published.
    let from = open(&from, &mut Registry::default())?;
    let to = open(&to, &mut registry)?;
    let metrics = ReplicateMetrics::register(&mut registry);
    let fetch = FetchOptions { data_dir: None, concurrency: META_CONCURRENCY };
    // Thanos gives these names no prefix here.
    let fetcher = Fetcher::new(from.clone(), &fetch, SyncMetrics::register_all("blocks_meta", &mut registry));
    let replication = Replication { from, to, fetcher, filters, choice, metrics, runs, durations };
    let runtime = ports.runtime();
    tracing::info!(http = %ports.http_address(), from = replication.from.name(), to = replication.to.name(), "starting replication");
    let running = ports.start_http(axum::Router::new(), health, registry)?;
    let outcome = runtime.run(async {
        let mut interrupts = running.set_ready();
        if is_single {
            return replication.once().await;
        }
        let repeated = async {
            loop {
                replication.counted().await;
                tokio::time::sleep(INTERVAL).await;
            }
        };
        tokio::select! {
            () = repeated => {}
            () = interrupts.wait() => {}
        }
        Ok(())
    });
    running.end();
    outcome
}

impl Replication {
    async fn once(&self) -> Result<(), String> {
        let view = understood(whole_view(&self.fetcher, &self.filters).await?, &self.filters)?;
        let total = view.blocks.values().filter(|block| self.choice.takes(&block.meta)).count();
        let mut line = ProgressLine::new("copying", total);
        let buckets = (&self.from, &self.to);
        let copied = replicate(buckets, &view, &self.choice, &self.metrics, |_| line.step()).await;
        copied.map_err(|error| format!("replication execute: {error}"))
    }

    async fn counted(&self) {
        let begin = Instant::now();
        let outcome = self.once().await;
        let [success, error] = RESULTS;
        let labels = result_labels(if outcome.is_ok() { success } else { error });
        self.runs.get_or_create(&labels).inc();
        self.durations.get_or_create(&labels).observe(begin.elapsed().as_secs_f64());
        match outcome {
            Ok(()) => tracing::info!("ran replication successfully"),
            Err(error) => tracing::error!(error, "running replication failed"),
        }
    }
}

fn result_labels(result: &str) -> MetricLabels {
    vec![("result", result.to_owned())]
}

fn choice(values: &Values) -> Result<Choice, String> {
    let matchers = matchers::parse(values.text("matcher").unwrap_or_default());
    let matchers = matchers.map_err(|why| format!("--matcher: {why}"))?;
    let mut resolutions = values.list("resolution").to_vec();
    if resolutions.is_empty() {
        resolutions = ["0s", "5m", "1h"].map(str::to_owned).to_vec();
    }
    let level = |text: &String| text.parse::<u32>().map_err(|_| format!("--compaction: {text:?} is not a level"));
    let mut levels: Vec<u32> = values.list("compaction").iter().map(level).collect::<Result<_, _>>()?;
    if levels.is_empty() {
        let (min, max) = (values.integer("compaction-min") as u32, values.integer("compaction-max") as u32);
        if min > max {
            return Err("compaction-min must be less than or equal to compaction-max".into());
        }
        levels = (min..=max).collect();
    }
    Ok(Choice {
        ids: ids(values)?.into_iter().collect(),
        matchers,
        resolutions: resolutions.iter().map(|text| resolution(text)).collect::<Result<_, _>>()?,
        levels: levels.into_iter().collect(),
    })
}
