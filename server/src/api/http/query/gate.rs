//! How many queries run at once (`--query.max-concurrent`); the others wait for their turn. Which ranges
//! they are about is counted.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use engine::model::{Error, ErrorKind};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::telemetry::metrics::{Histograms, duration_histogram};

/// The least upper bound of queries' ranges: 15 minutes.
const RANGE_FIRST_SECONDS: f64 = 15.0 * 60.0;

/// Lets queries in.
#[derive(Debug)]
pub struct Gate {
    turns: Arc<Semaphore>,
    in_flight: Gauge,
    max: Gauge,
    waits: Histogram,
    entered: Counter,
    ranges: Histogram,
    samples: Counter,
    durations: Histograms,
}

/// A query's turn; over when dropped. Whoever works on the query holds it, so that a query whose caller
/// has gone counts until its work has ended.
#[derive(Debug)]
pub struct Turn {
    in_flight: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Gate {
    /// A gate that `max` queries at a time pass.
    pub fn new(max: usize) -> Self {
        let gate = Self {
            turns: Arc::new(Semaphore::new(max)),
            in_flight: Gauge::default(),
            max: Gauge::default(),
            waits: duration_histogram(),
            entered: Counter::default(),
            ranges: Histogram::new(exponential_buckets(RANGE_FIRST_SECONDS, 2.0, 12)),
            samples: Counter::default(),
            durations: Histograms::new_with_constructor(|| Histogram::new([0.01, 0.1, 1.0, 10.0])),
        };
        gate.max.set(max as i64);
        gate
    }

    /// Publishes how it is used; `mode` is that of `--query.mode`.
    pub fn register(&self, registry: &mut Registry, mode: &str) {
        let name = |rest: &str| format!("thanos_query_concurrent_gate_{rest}");
        registry.register(name("queries_in_flight"), "Queries that run now", self.in_flight.clone());
        registry.register(name("queries_max"), "Queries that may run at once", self.max.clone());
        let help = "Seconds that queries waited for their turn";
        registry.register(name("queries_duration_seconds"), help, self.waits.clone());
        registry.register(name("queries"), "Queries that got their turn", self.entered.clone());
        let name = "thanos_query_range_requested_timespan_duration_seconds";
        registry.register(name, "A histogram of the query range window in seconds", self.ranges.clone());
        self.register_engine(registry, mode);
    }

    /// Publishes the same under the names of Prometheus' engine, with Thanos' labels.
    fn register_engine(&self, registry: &mut Registry, mode: &str) {
        // What is distributed is so by Thanos' own engine.
        let engine = if mode == "distributed" { "thanos" } else { "prometheus" };
        let labels = [("engine", engine), ("mode", mode)];
        let labels = labels.map(|(name, value)| (Cow::from(name.to_owned()), Cow::from(value.to_owned())));
        let registry = registry.sub_registry_with_labels(labels.into_iter());
        let registry = registry.sub_registry_with_prefix("prometheus_engine");
        // There is no such log.
        registry.register("query_log_enabled", "State of the query log", Gauge::<i64>::default());
        registry.register("query_log_failures", "The number of query log failures", Counter::<u64>::default());
        registry.register("queries", "The current number of queries being executed", self.in_flight.clone());
        registry.register("queries_concurrent_max", "The max number of concurrent queries", self.max.clone());
        registry.register("query_samples", "The total number of samples loaded by all queries", self.samples.clone());
        let help = "The duration of various parts of PromQL query execution";
        registry.register("query_duration_histogram_seconds", help, self.durations.clone());
    }

    /// A query was evaluated: the samples that it loaded, and its time.
    pub fn evaluated(&self, samples: u64, seconds: f64) {
        self.samples.inc_by(samples);
        self.observe("inner_eval", seconds);
    }

    fn observe(&self, slice: &str, seconds: f64) {
        self.durations.get_or_create(&vec![("slice", slice.to_owned())]).observe(seconds);
    }

    /// A query over a range of so many milliseconds is asked.
    pub fn range_asked(&self, milliseconds: i64) {
        self.ranges.observe(milliseconds as f64 / 1000.0);
    }

    /// Waits for a turn until `deadline`.
    pub async fn enter(&self, deadline: Instant) -> Result<Turn, Error> {
        let begin = Instant::now();
        let turn = tokio::time::timeout_at(deadline.into(), Arc::clone(&self.turns).acquire_owned()).await;
        self.waits.observe(begin.elapsed().as_secs_f64());
        self.observe("queue_time", begin.elapsed().as_secs_f64());
        let permit = turn
            .map_err(|_| Error::new(ErrorKind::Deadline, "query timed out in query queue"))?
            .map_err(|_| Error::new(ErrorKind::Unavailable, "the server is stopping"))?;
        self.in_flight.inc();
        self.entered.inc();
        Ok(Turn { in_flight: self.in_flight.clone(), _permit: permit })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}
