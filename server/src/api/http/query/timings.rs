//! What queries take, under the names of Prometheus' engine and of Thanos', with Thanos' labels.

use std::borrow::Cow;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::telemetry::metrics::Histograms;
use crate::telemetry::summary::Summaries;

/// A part of the time that a query takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// Waiting for its turn.
    QueueTime,
    /// Planning.
    PrepareTime,
    /// Reading and computing.
    InnerEval,
    /// Sorting of the result, which is sorted as it is computed.
    ResultSort,
}

impl Slice {
    const ALL: [Self; 4] = [Self::QueueTime, Self::PrepareTime, Self::InnerEval, Self::ResultSort];

    const fn name(self) -> &'static str {
        match self {
            Self::QueueTime => "queue_time",
            Self::PrepareTime => "prepare_time",
            Self::InnerEval => "inner_eval",
            Self::ResultSort => "result_sort",
        }
    }
}

/// What queries took.
#[derive(Debug)]
pub struct EngineMetrics {
    samples: Counter,
    durations: Histograms,
    /// Those of each slice, which every query has anew.
    each: [Histogram; Slice::ALL.len()],
    summaries: Summaries,
}

impl Default for EngineMetrics {
    fn default() -> Self {
        let durations = Histograms::new_with_constructor(|| Histogram::new([0.01, 0.1, 1.0, 10.0]));
        let each = Slice::ALL.map(|slice| durations.get_or_create(&labels(slice)).clone());
        let summaries = Summaries::new("slice", &Slice::ALL.map(Slice::name));
        Self { samples: Counter::default(), durations, each, summaries }
    }
}

impl EngineMetrics {
    /// Publishes it, with the queries at work and the most there may be, and those that ever were;
    /// `mode` is that of `--query.mode`.
    pub fn register(&self, registry: &mut Registry, mode: &str, (now, max): (&Gauge, &Gauge), ever: &Counter) {
        // What is distributed is so by Thanos' own engine.
        let engine = if mode == "distributed" { "thanos" } else { "prometheus" };
        let labels = [("engine", engine), ("mode", mode)];
        let labels = labels.map(|(name, value)| (Cow::from(name.to_owned()), Cow::from(value.to_owned())));
        let of_prometheus = registry.sub_registry_with_labels(labels.into_iter());
        let of_prometheus = of_prometheus.sub_registry_with_prefix("prometheus_engine");
        // There is no such log.
        of_prometheus.register("query_log_enabled", "State of the query log", Gauge::<i64>::default());
        of_prometheus.register("query_log_failures", "The number of query log failures", Counter::<u64>::default());
        of_prometheus.register("queries", "The current number of queries being executed", now.clone());
        of_prometheus.register("queries_concurrent_max", "The max number of concurrent queries", max.clone());
        let help = "The total number of samples loaded by all queries";
        of_prometheus.register("query_samples", help, self.samples.clone());
        let help = "The duration of various parts of PromQL query execution";
        of_prometheus.register("query_duration_histogram_seconds", help, self.durations.clone());
        of_prometheus.register("query_duration_seconds", "Query timings", self.summaries.clone());
        let labels = [("engine", "thanos"), ("mode", mode)];
        let labels = labels.map(|(name, value)| (Cow::from(name), Cow::from(value.to_owned())));
        let of_thanos = registry.sub_registry_with_labels(labels.into_iter());
        let ever = if engine == "thanos" { ever.clone() } else { Counter::default() };
        of_thanos.register("thanos_engine_queries", "Number of PromQL queries", ever);
        let current = if engine == "thanos" { now.clone() } else { Gauge::default() };
        let help = "The current number of queries being executed or waiting";
        of_thanos.register("thanos_engine_queries", help, current);
    }

    /// A part of a query took `time`.
    pub fn took(&self, slice: Slice, time: Duration) {
        self.each[slice as usize].observe(time.as_secs_f64());
        self.summaries.observe(slice.name(), time.as_secs_f64());
    }

    /// A query loaded so many samples.
    pub fn loaded(&self, samples: u64) {
        self.samples.inc_by(samples);
    }
}

fn labels(slice: Slice) -> Vec<(&'static str, String)> {
    vec![("slice", slice.name().to_owned())]
}
