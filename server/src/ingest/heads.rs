//! `prometheus_tsdb_*` of what a receiver keeps. One log holds what all tenants have sent, so that its
//! metrics have no label `tenant`.

use engine::head::SampleCounts;
use engine::head::shapes::Distribution;
use engine::shard::Ingest;
use engine::shard::ingest::{CutCounters, IngestCounters, TenantStats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Held;
use crate::telemetry::metrics::{Counters, FloatGauges, Gauges, MetricLabels};

/// `prometheus_tsdb_*` of each tenant's heads and of all logs, read when they are asked for.
#[derive(Debug)]
pub struct HeadMetrics {
    held: HeldDebug,
    beside: Beside,
}

/// What else in the process tells of compactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// A compactor, which has metrics of the same names.
    Compactor,
}

/// What is kept; its contents are no text.
struct HeldDebug(Held);

impl std::fmt::Debug for HeldDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

/// What there is of one tenant.
struct Kept {
    stats: TenantStats,
    cuts: CutCounters,
    exemplars_max: usize,
    blocks: usize,
    blocks_min_time: i64,
}

impl Kept {
    fn of(ingest: &Ingest, tenant: &str) -> Option<Self> {
        let (stats, cuts, blocks) = (ingest.stats(tenant)?, ingest.cuts(tenant)?, ingest.local_blocks(tenant));
        let blocks_min_time = blocks.iter().map(|block| block.meta.min_time).min().unwrap_or(i64::MAX);
        Some(Self { stats, cuts, exemplars_max: ingest.exemplars_max(), blocks: blocks.len(), blocks_min_time })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// A gauge or counter of a tenant's heads and blocks, without `prometheus_tsdb_`.
type OfTenant = (&'static str, &'static str, Kind, fn(&Kept) -> i64);

const OF_TENANT: [OfTenant; 22] = [
    ("head_series", "Total number of series in the head block", Kind::Gauge, |kept| kept.stats.series as i64),
    ("head_chunks", "Total number of chunks in the head block", Kind::Gauge, |kept| kept.stats.chunks as i64),
    ("head_min_time", "Minimum time bound of the head block", Kind::Gauge, |kept| kept.stats.min_time),
    ("head_max_time", "Maximum timestamp of the head block", Kind::Gauge, |kept| kept.stats.max_time),
    ("head_series_created", "Total number of series created in the head", Kind::Counter, |kept| {
        kept.stats.series_created as i64
    }),
    ("head_series_removed", "Total number of series removed in the head", Kind::Counter, |kept| {
        kept.stats.series_removed as i64
    }),
    ("head_chunks_created", "Total number of chunks created in the head", Kind::Counter, |kept| {
        kept.stats.chunks_created as i64
    }),
    ("head_chunks_removed", "Total number of chunks removed in the head", Kind::Counter, |kept| {
        kept.stats.chunks_removed as i64
    }),
    ("head_truncations", "Total number of head truncations attempted", Kind::Counter, |kept| {
        kept.cuts.truncations as i64
    }),
    ("head_truncations_failed", "Total number of head truncations that failed", Kind::Counter, |kept| {
        kept.cuts.truncations_failed as i64
    }),
    ("head_active_appenders", "Number of requests that are being appended", Kind::Gauge, |kept| {
        kept.stats.appending as i64
    }),
    ("compaction_populating_block", "1 while a block is being written to the disk", Kind::Gauge, |kept| {
        i64::from(kept.cuts.is_writing)
    }),
    ("compactions", "Total number of blocks that heads were cut into", Kind::Counter, |kept| kept.cuts.blocks as i64),
    ("compactions_triggered", "Total number of looks whether a block is due", Kind::Counter, |kept| {
        kept.cuts.looks as i64
    }),
    ("compactions_failed", "Total number of such looks that failed", Kind::Counter, |kept| kept.cuts.failed as i64),
    ("exemplar_exemplars_appended", "Total number of appended exemplars", Kind::Counter, |kept| {
        kept.stats.exemplars as i64
    }),
    (
        "exemplar_out_of_order_exemplars",
        "Total number of out of order exemplar ingestion failed attempts",
        Kind::Counter,
        |kept| kept.stats.exemplars_out_of_order as i64,
    ),
    ("exemplar_exemplars_in_storage", "Number of exemplars currently in circular storage", Kind::Gauge, |kept| {
        // A head lets go of exemplars that newer ones of another head replace when it gets one itself.
        (kept.stats.exemplars_kept as i64).min(kept.exemplars_max as i64)
    }),
    (
        "exemplar_series_with_exemplars_in_storage",
        "Number of series with exemplars currently in circular storage",
        Kind::Gauge,
        |kept| kept.stats.exemplar_series as i64,
    ),
    ("exemplar_max_exemplars", "Total number of exemplars the exemplar storage can store", Kind::Gauge, |kept| {
        kept.exemplars_max as i64
    }),
    ("blocks_loaded", "Number of currently loaded data blocks", Kind::Gauge, |kept| kept.blocks as i64),
    ("lowest_timestamp", "Lowest timestamp value stored", Kind::Gauge, |kept| {
        kept.stats.min_time.min(kept.blocks_min_time)
    }),
];

/// A counter of a tenant's samples, by their type, without `prometheus_tsdb_`.
type OfSamples = (&'static str, &'static str, fn(&TenantStats) -> SampleCounts);

const OF_SAMPLES: [OfSamples; 5] = [
    ("head_samples_appended", "Total number of appended samples", |stats| stats.samples),
    ("head_out_of_order_samples_appended", "Total number of appended out of order samples", |stats| {
        stats.samples_out_of_order
    }),
    (
        "out_of_order_samples",
        "Total number of out of order samples ingestion failed attempts due to out of order being disabled",
        |stats| stats.refused_out_of_order,
    ),
    (
        "out_of_bound_samples",
        "Total number of out of bound samples ingestion failed attempts with out of order support disabled",
        |stats| stats.refused_out_of_bounds,
    ),
    (
        "too_old_samples",
        "Total number of out of order samples ingestion failed attempts with out of support enabled, but sample outside of time window",
        |stats| stats.refused_too_old,
    ),
];

/// A histogram of what a tenant's heads were cut into, without `prometheus_tsdb_`; and how often what is
/// counted goes into the metric's unit.
type OfCuts = (&'static str, &'static str, fn(&CutCounters) -> &Distribution, f64);

const OF_CUTS: [OfCuts; 4] = [
    ("compaction_chunk_size_bytes", "Final size of chunks on their first compaction", |cuts| &cuts.chunks.bytes, 1.0),
    ("compaction_chunk_samples", "Final number of samples on their first compaction", |cuts| &cuts.chunks.samples, 1.0),
    // In milliseconds all the same, as in Prometheus.
    (
        "compaction_chunk_range_seconds",
        "Final time range of chunks on their first compaction",
        |cuts| &cuts.chunks.ranges,
        1.0,
    ),
    ("compaction_duration_seconds", "Duration of compaction runs", |cuts| &cuts.took_ms, 1000.0),
];

/// A gauge or counter of all logs.
type OfLogs = (&'static str, &'static str, Kind, fn(&IngestCounters) -> f64);

const OF_LOGS: [OfLogs; 27] = [
    (
        "prometheus_tsdb_wal_writes_failed",
        "Total number of write log writes that failed, of all tenants",
        Kind::Counter,
        |counters| counters.wal.failed as f64,
    ),
    (
        "prometheus_tsdb_wal_record_part_writes",
        "Total number of record parts written before flushing, of all tenants",
        Kind::Counter,
        |counters| counters.wal.frames as f64,
    ),
    (
        "prometheus_tsdb_wal_record_parts_bytes_written",
        "Total number of record part bytes written before flushing, of all tenants",
        Kind::Counter,
        |counters| counters.wal.bytes as f64,
    ),
    (
        "prometheus_tsdb_wal_corruptions",
        "Total number of WAL corruptions: logs whose last write had been cut off, and relaxed ones that were damaged",
        Kind::Counter,
        |counters| (counters.torn_logs + counters.damaged_logs) as f64,
    ),
    (
        "uru_receive_wal_set_aside_bytes",
        "Bytes of relaxed WALs that were damaged which lay set aside at the start",
        Kind::Counter,
        |counters| counters.set_aside_bytes as f64,
    ),
    (
        "prometheus_tsdb_wal_truncations",
        "Total number of write log truncations that were attempted, of all tenants",
        Kind::Counter,
        |counters| (counters.snapshots + counters.snapshots_failed) as f64,
    ),
    (
        "prometheus_tsdb_wal_truncations_failed",
        "Total number of write log truncations that failed, of all tenants",
        Kind::Counter,
        |counters| counters.snapshots_failed as f64,
    ),
    (
        "prometheus_tsdb_wal_segment_current",
        "Number of the latest segment of the write logs, which are those of all tenants",
        Kind::Gauge,
        |counters| counters.segment as f64,
    ),
    (
        "prometheus_tsdb_checkpoint_creations",
        "Total number of checkpoint creations attempted, of all tenants",
        Kind::Counter,
        |counters| (counters.snapshots + counters.snapshots_failed) as f64,
    ),
    (
        "prometheus_tsdb_checkpoint_creations_failed",
        "Total number of checkpoint creations that failed, of all tenants",
        Kind::Counter,
        |counters| counters.snapshots_failed as f64,
    ),
    (
        "prometheus_tsdb_checkpoint_deletions",
        "Total number of removals of what a checkpoint made needless, of each log of all tenants",
        Kind::Counter,
        |counters| counters.removals as f64,
    ),
    (
        "prometheus_tsdb_checkpoint_deletions_failed",
        "Total number of such removals that failed",
        Kind::Counter,
        |counters| counters.removals_failed as f64,
    ),
    ("uru_receive_wal_raw_bytes", "Bytes of records before they are compressed", Kind::Counter, |counters| {
        counters.wal.raw_bytes as f64
    }),
    (
        "uru_receive_wal_broken_partitions",
        "Partitions that refuse samples until a restart, as their WAL could not be written",
        Kind::Gauge,
        |counters| counters.broken_partitions as f64,
    ),
    (
        "uru_receive_wal_full_partitions",
        "Partitions that refuse samples until there is room on the disk of their WAL",
        Kind::Gauge,
        |counters| counters.full_partitions as f64,
    ),
    ("uru_receive_wal_failed_commits", "Commits that the WAL could not make durable", Kind::Counter, |counters| {
        counters.wal.failed_commits as f64
    }),
    ("uru_receive_wal_commits", "Commits, of which several are written at once", Kind::Counter, |counters| {
        counters.wal.commits as f64
    }),
    ("uru_receive_wal_writes", "Writes to the WAL", Kind::Counter, |counters| counters.wal.frames as f64),
    ("uru_receive_wal_bytes", "Bytes written to the WAL", Kind::Counter, |counters| counters.wal.bytes as f64),
    ("uru_receive_wal_seconds", "Seconds spent in writing and syncing the WAL", Kind::Counter, |counters| {
        counters.wal.write_us as f64 / 1e6
    }),
    ("uru_receive_append_seconds", "Seconds that shards took to append to heads", Kind::Counter, |counters| {
        counters.append_ns as f64 / 1e9
    }),
    ("uru_receive_lookup_seconds", "Of these, seconds that finding series took", Kind::Counter, |counters| {
        counters.lookup_ns as f64 / 1e9
    }),
    (
        "uru_receive_metadata_bytes",
        "Bytes of what is kept of the metadata of metrics, of all tenants",
        Kind::Gauge,
        |counters| counters.metadata_bytes as f64,
    ),
    (
        "uru_receive_metadata_left_out",
        "Times that metadata of a metric was sent and not kept, as it was more than is kept of a tenant",
        Kind::Counter,
        |counters| counters.metadata_left_out as f64,
    ),
    ("uru_receive_open_seconds", "Seconds that replaying the WAL took at the start", Kind::Gauge, |counters| {
        counters.open_ms as f64 / 1e3
    }),
    (
        "uru_receive_memory_limited_requests",
        "Requests, for each tenant in them, of which new series or all samples were refused at --tsdb.memory-limit",
        Kind::Counter,
        |counters| counters.memory_limited as f64,
    ),
    (
        "uru_receive_memory_limit_bytes",
        "Bytes of the process beyond which new series are refused; 0: it may have any size",
        Kind::Gauge,
        |counters| counters.memory_limit as f64,
    ),
];

impl Beside {
    /// Whether the metric `name` is not told by it.
    fn leaves(self, name: &str) -> bool {
        const OF_BOTH: [&str; 3] = ["compactions", "compaction_duration_seconds", "compaction_populating_block"];
        self == Self::Nothing || !OF_BOTH.contains(&name)
    }
}

impl HeadMetrics {
    /// Registers the metrics of what `held` will keep.
    pub fn register(registry: &mut Registry, held: &Held, beside: Beside) {
        registry.register_collector(Box::new(Self { held: HeldDebug(Held::clone(held)), beside }));
    }
}

impl Collector for HeadMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(ingest) = self.held.0.get() else { return Ok(()) };
        let tenants = ingest.tenants().into_iter();
        let kept: Vec<(MetricLabels, Kept)> = tenants
            .filter_map(|tenant| Some((vec![("tenant", tenant.to_string())], Kept::of(ingest, &tenant)?)))
            .collect();
        let counters = ingest.counters();
        encode_logs(&mut encoder, &counters, ingest.wal_bytes())?;
        encode_counts(&mut encoder, &kept, self.beside)?;
        encode_samples(&mut encoder, &kept)?;
        encode_cuts(&mut encoder, &kept, self.beside)?;
        let replays = FloatGauges::default();
        for (labels, _) in &kept {
            replays.get_or_create(labels).set(counters.open_ms as f64 / 1000.0);
        }
        let help = "Seconds that the replay of the logs took, which are those of all tenants";
        let name = "prometheus_tsdb_data_replay_duration_seconds";
        replays.encode(encoder.encode_descriptor(name, help, None, replays.metric_type())?)?;
        let oldest = FloatGauges::default();
        for (labels, Kept { stats, .. }) in &kept {
            let time_ms = if stats.exemplars_kept > 0 { stats.exemplar_min_time } else { 0 };
            oldest.get_or_create(labels).set(time_ms as f64 / 1000.0);
        }
        let help = "The timestamp of the oldest exemplar stored in circular storage";
        let name = "prometheus_tsdb_exemplar_last_exemplars_timestamp_seconds";
        oldest.encode(encoder.encode_descriptor(name, help, None, oldest.metric_type())?)
    }
}

/// Metrics of the logs, which hold what all tenants have sent and take `bytes` on disk.
fn encode_logs(
    encoder: &mut DescriptorEncoder<'_>,
    counters: &IngestCounters,
    bytes: u64,
) -> Result<(), std::fmt::Error> {
    for (name, help, kind, value) in OF_LOGS {
        match kind {
            Kind::Gauge => {
                let gauge = ConstGauge::new(value(counters));
                gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
            }
            Kind::Counter => {
                let counter = ConstCounter::new(value(counters));
                counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
            }
        }
    }
    let saved = Counters::default();
    saved.get_or_create(&vec![("compression", "snappy".to_owned())]).inc_by(counters.wal.saved_bytes);
    let help = "Total number of bytes saved by the optional record compression, of all tenants";
    saved.encode(encoder.encode_descriptor(&tsdb("wal_record_bytes_saved"), help, None, saved.metric_type())?)?;
    let size = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
    let help = "Size of the write log directories, of all tenants";
    size.encode(encoder.encode_descriptor(&tsdb("wal_storage_size_bytes"), help, None, size.metric_type())?)?;
    let (seconds, syncs) = (counters.wal.sync_us as f64 / 1e6, counters.wal.syncs);
    let help = "Duration of writes to the write log that are durable when they are done, and of syncs, of all tenants";
    let name = tsdb("wal_fsync_duration_seconds");
    let mut synced = encoder.encode_descriptor(&name, help, None, MetricType::Unknown)?;
    synced.encode_histogram::<NoLabelSet>(seconds, syncs, &[], None)?;
    let (seconds, count) = (counters.snapshot_us as f64 / 1e6, counters.snapshots + counters.snapshots_failed);
    let help = "Duration of write log truncations, each with the snapshot before it, of all tenants";
    let name = tsdb("wal_truncate_duration_seconds");
    let mut truncated = encoder.encode_descriptor(&name, help, None, MetricType::Unknown)?;
    truncated.encode_histogram::<NoLabelSet>(seconds, count, &[], None)
}

fn encode_counts(
    encoder: &mut DescriptorEncoder<'_>,
    kept: &[(MetricLabels, Kept)],
    beside: Beside,
) -> Result<(), std::fmt::Error> {
    for (name, help, kind, value) in OF_TENANT.into_iter().filter(|(name, ..)| beside.leaves(name)) {
        let (gauges, counters) = (Gauges::default(), Counters::default());
        for (labels, kept) in kept {
            match kind {
                Kind::Gauge => _ = gauges.get_or_create(labels).set(value(kept)),
                Kind::Counter => _ = counters.get_or_create(labels).inc_by(value(kept).max(0) as u64),
            }
        }
        match kind {
            Kind::Gauge => {
                gauges.encode(encoder.encode_descriptor(&tsdb(name), help, None, gauges.metric_type())?)?
            }
            Kind::Counter => {
                counters.encode(encoder.encode_descriptor(&tsdb(name), help, None, counters.metric_type())?)?
            }
        }
    }
    Ok(())
}

fn encode_samples(encoder: &mut DescriptorEncoder<'_>, kept: &[(MetricLabels, Kept)]) -> Result<(), std::fmt::Error> {
    for (name, help, value) in OF_SAMPLES {
        let counters = Counters::default();
        for (labels, kept) in kept {
            let counts = value(&kept.stats);
            for (kind, count) in [("float", counts.floats), ("histogram", counts.histograms)] {
                let labels = labels.iter().cloned().chain([("type", kind.to_owned())]);
                counters.get_or_create(&labels.collect()).inc_by(count);
            }
        }
        counters.encode(encoder.encode_descriptor(&tsdb(name), help, None, counters.metric_type())?)?;
    }
    Ok(())
}

fn encode_cuts(
    encoder: &mut DescriptorEncoder<'_>,
    kept: &[(MetricLabels, Kept)],
    beside: Beside,
) -> Result<(), std::fmt::Error> {
    for (name, help, value, unit) in OF_CUTS.into_iter().filter(|(name, ..)| beside.leaves(name)) {
        let name = tsdb(name);
        let mut histograms = encoder.encode_descriptor(&name, help, None, MetricType::Histogram)?;
        for (labels, kept) in kept {
            let counted = value(&kept.cuts);
            let buckets: Vec<(f64, u64)> =
                counted.buckets().into_iter().map(|(bound, count)| (bound / unit, count)).collect();
            let count: u64 = buckets.iter().map(|(_, count)| count).sum();
            if count == 0 {
                // Of many tenants most of the text would say so.
                continue;
            }
            let mut histogram = histograms.encode_family(labels)?;
            histogram.encode_histogram::<NoLabelSet>(counted.sum() as f64 / unit, count, &buckets, None)?;
        }
    }
    let help = "Runtime of garbage collection in the head block";
    let name = tsdb("head_gc_duration_seconds");
    let mut sweeps = encoder.encode_descriptor(&name, help, None, MetricType::Unknown)?;
    for (labels, kept) in kept {
        let (seconds, sweeps_ever) = (kept.cuts.sweep_ns as f64 / 1e9, kept.cuts.sweeps);
        sweeps.encode_family(labels)?.encode_histogram::<NoLabelSet>(seconds, sweeps_ever, &[], None)?;
    }
    Ok(())
}

fn tsdb(name: &str) -> String {
    format!("prometheus_tsdb_{name}")
}
