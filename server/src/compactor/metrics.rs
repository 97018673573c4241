//! `thanos_compact_*`: what a compactor has done and has left to do.

use std::time::{Duration, Instant};

use engine::bucket::marker::reason;
use engine::bucket::name;
use engine::compact::backlog::Backlog;
use engine::model::Resolution;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::telemetry::metrics::{Counters, FloatGauge, Histograms, MetricLabels};
use crate::upkeep::clean::CleanMetrics;
use crate::upkeep::mark::Marked;

const GARBAGE_BUCKETS: [f64; 16] =
    [0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0, 240.0, 360.0, 720.0];

const DOWNSAMPLE_BUCKETS: [f64; 7] = [60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0];

/// The metrics of a compactor.
#[derive(Clone, Debug)]
pub struct CompactMetrics {
    /// Whether a group or block is left alone until somebody has looked at it.
    pub halted: Gauge,
    /// Runs that are tried again.
    pub retries: Counter,
    /// Runs that went well.
    pub iterations: Counter,
    /// Cleanups that went well.
    pub cleanups: Counter,
    /// Deletions.
    pub clean: CleanMetrics,
    /// Seconds from a block's deletion mark to its deletion.
    pub delete_delay: FloatGauge,
    /// Seconds that a block waits before it is worked on.
    pub consistency_delay: FloatGauge,
    pub(super) garbage_blocks: Counter,
    pub(super) garbage_collections: Counter,
    pub(super) garbage_failures: Counter,
    pub(super) garbage_duration: Histogram,
    marked: Counters,
    marked_for_deletion: Counter,
    groups: [Counters; 5],
    downsamples: Counters,
    downsample_failures: Counters,
    downsample_durations: Histograms,
    backlog: [Gauge; 4],
    /// Merges, as the library counts them that upstream merges with.
    pub(super) merges: MergeMetrics,
}

/// `prometheus_tsdb_*` of merges.
#[derive(Clone, Debug)]
pub(super) struct MergeMetrics {
    done: Counter,
    vertical: Counter,
    duration: Histogram,
    under_way: Gauge,
}

impl MergeMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            done: Counter::default(),
            vertical: Counter::default(),
            duration: Histogram::new((0..14).map(|power| f64::from(1 << power))),
            under_way: Gauge::default(),
        };
        let help = "Total number of compactions that were executed for the partition";
        registry.register("prometheus_tsdb_compactions", help, metrics.done.clone());
        let help = "Total number of compactions done on overlapping blocks";
        registry.register("prometheus_tsdb_vertical_compactions", help, metrics.vertical.clone());
        let help = "Duration of compaction runs";
        registry.register("prometheus_tsdb_compaction_duration_seconds", help, metrics.duration.clone());
        let help = "Set to 1 when a block is currently being written to the disk";
        registry.register("prometheus_tsdb_compaction_populating_block", help, metrics.under_way.clone());
        metrics
    }

    /// A merge begins.
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.under_way.inc();
        UnderWay { metrics: self, started: Instant::now() }
    }
}

/// Registers `prometheus_tsdb_compaction_chunk_*`, which are of chunks of blocks that come from heads: none do
/// where there are no heads.
pub fn register_first_compactions(registry: &mut Registry) {
    let growing = |first: f64, factor: f64, len: usize| {
        Histogram::new(std::iter::successors(Some(first), move |bound| Some(bound * factor)).take(len))
    };
    let name = |name: &str| format!("prometheus_tsdb_compaction_chunk_{name}");
    registry.register(name("size_bytes"), "Final size of chunks on their first compaction", growing(32.0, 1.5, 12));
    let help = "Final number of samples on their first compaction";
    registry.register(name("samples"), help, growing(4.0, 1.5, 12));
    let help = "Final time range of chunks on their first compaction";
    registry.register(name("range_seconds"), help, growing(100.0, 4.0, 10));
}

/// A merge, which is under way until this is dropped, also when nobody waits for it any more.
pub(super) struct UnderWay<'a> {
    metrics: &'a MergeMetrics,
    started: Instant,
}

impl UnderWay<'_> {
    /// It is over.
    pub(super) fn count(self, overlaps: bool) {
        self.metrics.done.inc();
        self.metrics.duration.observe(self.started.elapsed().as_secs_f64());
        if overlaps {
            self.metrics.vertical.inc();
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.metrics.under_way.dec();
    }
}

/// The metrics of groups of one resolution.
pub(super) struct GroupMetrics {
    pub(super) merged: Counter,
    pub(super) started: Counter,
    pub(super) completed: Counter,
    pub(super) failures: Counter,
    pub(super) vertical: Counter,
}

impl CompactMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            halted: Gauge::default(),
            retries: Counter::default(),
            iterations: Counter::default(),
            cleanups: Counter::default(),
            clean: CleanMetrics::default(),
            delete_delay: FloatGauge::default(),
            consistency_delay: FloatGauge::default(),
            garbage_blocks: Counter::default(),
            garbage_collections: Counter::default(),
            garbage_failures: Counter::default(),
            garbage_duration: Histogram::new(GARBAGE_BUCKETS),
            marked: Counters::default(),
            marked_for_deletion: Counter::default(),
            groups: Default::default(),
            downsamples: Counters::default(),
            downsample_failures: Counters::default(),
            downsample_durations: Histograms::new_with_constructor(|| Histogram::new(DOWNSAMPLE_BUCKETS)),
            backlog: Default::default(),
            merges: MergeMetrics::register(registry),
        };
        for (marker, reason) in [
            (name::NO_COMPACT_MARK, reason::OUT_OF_ORDER_CHUNKS),
            (name::NO_COMPACT_MARK, reason::INDEX_SIZE_EXCEEDING),
            (name::DELETION_MARK, ""),
        ] {
            drop(metrics.marked.get_or_create(&mark_labels(marker, reason)));
        }
        metrics.register_runs(registry);
        metrics.register_work(registry);
        metrics
    }

    fn register_runs(&self, registry: &mut Registry) {
        let mut counter = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        counter("thanos_compact_retries", "Total number of retries after retriable compactor error", &self.retries);
        let help = "Total number of iterations that were executed successfully";
        counter("thanos_compact_iterations", help, &self.iterations);
        let help = "Total number of cleanup loops that were executed successfully";
        counter("thanos_compact_block_cleanup_loops", help, &self.cleanups);
        let help = "Total number of started deletions of blocks that were only partially uploaded";
        counter("thanos_compact_aborted_partial_uploads_deletion_attempts", help, &self.clean.attempts);
        counter("thanos_compact_blocks_cleaned", "Total number of blocks deleted in compactor", &self.clean.cleaned);
        let help = "Failures encountered while deleting blocks in compactor";
        counter("thanos_compact_block_cleanup_failures", help, &self.clean.failures);
        let help = "Total number of blocks marked for deletion by compactor";
        counter("thanos_compact_garbage_collected_blocks", help, &self.garbage_blocks);
        let help = "Total number of garbage collection operations";
        counter("thanos_compact_garbage_collection", help, &self.garbage_collections);
        let help = "Total number of failed garbage collection operations";
        counter("thanos_compact_garbage_collection_failures", help, &self.garbage_failures);
        let help = "Set to 1 if the compactor halted due to an unexpected error";
        registry.register("thanos_compact_halted", help, self.halted.clone());
        let help = "Configured delete delay in seconds";
        registry.register("thanos_delete_delay_seconds", help, self.delete_delay.clone());
        let help = "Configured consistency delay in seconds";
        registry.register("thanos_consistency_delay_seconds", help, self.consistency_delay.clone());
        let help = "Time it took to perform garbage collection iteration";
        registry.register("thanos_compact_garbage_collection_duration_seconds", help, self.garbage_duration.clone());
    }

    fn register_work(&self, registry: &mut Registry) {
        let names = [
            ("thanos_compact_group_compactions", "Total number of group compactions that resulted in a new block"),
            ("thanos_compact_group_compaction_runs_started", "Total number of group compaction attempts"),
            ("thanos_compact_group_compaction_runs_completed", "Total number of group completed compaction runs"),
            ("thanos_compact_group_compactions_failures", "Total number of failed group compactions"),
            ("thanos_compact_group_vertical_compactions", "Total number of group compactions of overlapping blocks"),
        ];
        for ((name, help), counters) in names.into_iter().zip(&self.groups) {
            registry.register(name, help, counters.clone());
        }
        // Thanos' dashboards ask for these by names of their own.
        let help = "Total number of failed downsampling attempts";
        registry.register("thanos_compact_downsample_failed", help, self.downsample_failures.clone());
        let help = "Total number of blocks marked for deletion in compactor";
        registry.register("thanos_compact_blocks_marked_for_deletion", help, self.marked_for_deletion.clone());
        let help = "Total number of blocks marked in compactor";
        registry.register("thanos_compact_blocks_marked", help, self.marked.clone());
        registry.register(
            "thanos_compact_downsample",
            "Total number of downsampling attempts",
            self.downsamples.clone(),
        );
        let help = "Total number of failed downsampling attempts";
        registry.register("thanos_compact_downsample_failures", help, self.downsample_failures.clone());
        let help = "Duration of downsample runs";
        registry.register("thanos_compact_downsample_duration_seconds", help, self.downsample_durations.clone());
        let names = [
            ("thanos_compact_todo_compactions", "number of compactions to be done"),
            ("thanos_compact_todo_compaction_blocks", "number of blocks planned to be compacted"),
            ("thanos_compact_todo_downsample_blocks", "number of blocks to be downsampled"),
            ("thanos_compact_todo_deletion_blocks", "number of blocks that have crossed their retention period"),
        ];
        for ((name, help), gauge) in names.into_iter().zip(&self.backlog) {
            registry.register(name, help, gauge.clone());
        }
    }

    pub(super) fn group(&self, resolution: Resolution) -> GroupMetrics {
        let labels = resolution_labels(resolution);
        let [merged, started, completed, failures, vertical] =
            self.groups.each_ref().map(|counters| counters.get_or_create(&labels).clone());
        GroupMetrics { merged, started, completed, failures, vertical }
    }

    pub(super) fn count_deletion_mark(&self, marked: Marked) {
        if marked == Marked::Now {
            self.marked.get_or_create(&mark_labels(name::DELETION_MARK, "")).inc();
            self.marked_for_deletion.inc();
        }
    }

    pub(super) fn count_no_compact_mark(&self, reason: &str, marked: Marked) {
        if marked == Marked::Now {
            self.marked.get_or_create(&mark_labels(name::NO_COMPACT_MARK, reason)).inc();
        }
    }

    /// Blocks of a resolution have been seen: their counters are there from now on.
    pub(super) fn know_downsampling(&self, resolution: Resolution) {
        let labels = resolution_labels(resolution);
        drop(self.downsamples.get_or_create(&labels));
        drop(self.downsample_failures.get_or_create(&labels));
    }

    pub(super) fn count_downsampling(&self, resolution: Resolution) {
        self.downsamples.get_or_create(&resolution_labels(resolution)).inc();
    }

    pub(super) fn count_downsampling_failure(&self, resolution: Resolution) {
        self.downsample_failures.get_or_create(&resolution_labels(resolution)).inc();
    }

    pub(super) fn observe_downsampling(&self, resolution: Resolution, took: Duration) {
        self.downsample_durations.get_or_create(&resolution_labels(resolution)).observe(took.as_secs_f64());
    }

    pub(super) fn publish_backlog(&self, backlog: &Backlog) {
        let counts =
            [backlog.compactions, backlog.compaction_blocks, backlog.downsample_blocks, backlog.deletion_blocks];
        for (gauge, count) in self.backlog.iter().zip(counts) {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

fn mark_labels(marker: &str, reason: &str) -> MetricLabels {
    vec![("marker", marker.to_owned()), ("reason", reason.to_owned())]
}

fn resolution_labels(resolution: Resolution) -> MetricLabels {
    vec![("resolution", resolution.0.to_string())]
}
