//! `thanos_receive_*`, and how long each stage of a request takes.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use engine::head::SampleCounts;
use engine::head::shapes::{ChunkShapes, Distribution};
use engine::shard::Ingest;
use engine::shard::ingest::{IngestCounters, TenantStats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Held;
use crate::telemetry::metrics::{Counters, FloatGauge, FloatGauges, Gauges, Histograms, MetricLabels, SecondCounters};
use crate::telemetry::rpc::RpcMetrics;

/// Upper bounds of the numbers of series and samples of a request, as in Thanos.
const SIZES: [f64; 7] = [10.0, 50.0, 100.0, 500.0, 1000.0, 5000.0, 10000.0];

/// What a request does, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for the body.
    Receive,
    /// Decompressing it.
    Decompress,
    /// Reading it and hashing labels.
    Parse,
    /// Placing series on receivers and writing what goes to each.
    Route,
    /// Waiting for other receivers.
    Forward,
    /// Waiting for the shards: lookup, append, WAL and fsync.
    Append,
}

/// Every stage with its name.
const STAGES: [(Stage, &str); 6] = [
    (Stage::Receive, "receive"),
    (Stage::Decompress, "decompress"),
    (Stage::Parse, "parse"),
    (Stage::Route, "route"),
    (Stage::Forward, "forward"),
    (Stage::Append, "append"),
];

/// Metrics of a receiver; clones share them.
#[derive(Clone, Debug)]
pub struct ReceiveMetrics {
    /// Requests forwarded to other receivers.
    pub forward_requests: Counters,
    /// Replications, and whether a quorum was met.
    pub replications: Counters,
    /// Calls of `RemoteWrite` under way.
    pub pending: Gauge,
    write_timeseries: Histograms,
    write_samples: Histograms,
    /// Calls of other receivers.
    pub calls: RpcMetrics,
    stages: [Counter<f64, AtomicU64>; STAGES.len()],
}

fn sizes() -> Histogram {
    Histogram::new(SIZES)
}

impl ReceiveMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry, replication_factor: usize) -> Self {
        let stage_seconds = SecondCounters::default();
        let stages = STAGES.map(|(_, name)| stage_seconds.get_or_create(&vec![("stage", name.to_owned())]).clone());
        let metrics = Self {
            forward_requests: Counters::default(),
            replications: Counters::default(),
            pending: Gauge::default(),
            write_timeseries: Histograms::new_with_constructor(sizes),
            write_samples: Histograms::new_with_constructor(sizes),
            calls: RpcMetrics::default(),
            stages,
        };
        let factor = Gauges::default();
        factor.get_or_create(&Vec::new()).set(i64::try_from(replication_factor.max(1)).unwrap_or(i64::MAX));
        for result in ["success", "error"] {
            let labels = vec![("result", result.to_owned())];
            metrics.forward_requests.get_or_create(&labels).inc_by(0);
            metrics.replications.get_or_create(&labels).inc_by(0);
        }
        let name = |name: &str| format!("thanos_receive_{name}");
        registry.register(name("forward_requests"), "The number of forward requests", metrics.forward_requests.clone());
        registry.register(
            name("replications"),
            "The number of replication operations done by the receiver; it succeeds when a quorum is met",
            metrics.replications.clone(),
        );
        registry.register(
            name("replication_factor"),
            "The number of times to replicate incoming write requests",
            factor,
        );
        registry.register(
            name("write_timeseries"),
            "The number of timeseries received in the incoming write requests",
            metrics.write_timeseries.clone(),
        );
        registry.register(
            name("write_samples"),
            "The number of samples received in the incoming write requests",
            metrics.write_samples.clone(),
        );
        registry.register(
            name("pending_write_requests"),
            "The number of pending write requests",
            metrics.pending.clone(),
        );
        metrics.calls.register_client(registry);
        registry.register(
            "uru_receive_stage_seconds",
            "Seconds that write requests spent in each stage",
            stage_seconds,
        );
        metrics
    }

    /// A request of `tenant` was answered with `code`.
    pub fn written(&self, (code, tenant): (u16, &str), (series, samples): (u64, u64)) {
        let labels = vec![("code", code.to_string()), ("tenant", tenant.to_owned())];
        self.write_timeseries.get_or_create(&labels).observe(series as f64);
        self.write_samples.get_or_create(&labels).observe(samples as f64);
    }

    /// Time that passed in a stage since `begin`.
    pub fn stage(&self, stage: Stage, begin: Instant) {
        self.stages[stage as usize].inc_by(begin.elapsed().as_secs_f64());
    }
}

/// `prometheus_tsdb_head_*` of each tenant, read when they are asked for.
#[derive(Debug)]
pub struct HeadMetrics {
    held: HeldDebug,
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
    blocks: usize,
    blocks_min_time: i64,
    cut_chunks: ChunkShapes,
}

impl Kept {
    fn of(ingest: &Ingest, tenant: &str) -> Option<Self> {
        let (stats, blocks) = (ingest.stats(tenant)?, ingest.local_blocks(tenant));
        let blocks_min_time = blocks.iter().map(|block| block.meta.min_time).min().unwrap_or(i64::MAX);
        let cut_chunks = ingest.cut_chunks(tenant)?;
        Some(Self { stats, blocks: blocks.len(), blocks_min_time, cut_chunks })
    }
}

/// A gauge or counter of a tenant's heads and blocks.
type OfTenant = (&'static str, &'static str, Kind, fn(&Kept) -> i64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

const OF_TENANT: [OfTenant; 9] = [
    ("prometheus_tsdb_head_series", "Total number of series in the head block", Kind::Gauge, |kept| {
        kept.stats.series as i64
    }),
    ("prometheus_tsdb_head_chunks", "Total number of chunks in the head block", Kind::Gauge, |kept| {
        kept.stats.chunks as i64
    }),
    ("prometheus_tsdb_head_min_time", "Minimum time bound of the head block", Kind::Gauge, |kept| kept.stats.min_time),
    ("prometheus_tsdb_head_max_time", "Maximum timestamp of the head block", Kind::Gauge, |kept| kept.stats.max_time),
    ("prometheus_tsdb_head_series_created", "Total number of series created in the head", Kind::Counter, |kept| {
        kept.stats.series_created as i64
    }),
    ("prometheus_tsdb_head_series_removed", "Total number of series removed in the head", Kind::Counter, |kept| {
        kept.stats.series_removed as i64
    }),
    ("prometheus_tsdb_exemplar_exemplars_appended", "Total number of appended exemplars", Kind::Counter, |kept| {
        kept.stats.exemplars as i64
    }),
    ("prometheus_tsdb_blocks_loaded", "Number of currently loaded data blocks", Kind::Gauge, |kept| kept.blocks as i64),
    ("prometheus_tsdb_lowest_timestamp", "Lowest timestamp value stored", Kind::Gauge, |kept| {
        kept.stats.min_time.min(kept.blocks_min_time)
    }),
];

/// A counter of a tenant's samples, by their type.
type OfSamples = (&'static str, &'static str, fn(&TenantStats) -> SampleCounts);

const OF_SAMPLES: [OfSamples; 5] = [
    ("prometheus_tsdb_head_samples_appended", "Total number of appended samples", |stats| stats.samples),
    ("prometheus_tsdb_head_out_of_order_samples_appended", "Total number of appended out of order samples", |stats| {
        stats.samples_out_of_order
    }),
    (
        "prometheus_tsdb_out_of_order_samples",
        "Total number of out of order samples ingestion failed attempts due to out of order being disabled",
        |stats| stats.refused_out_of_order,
    ),
    (
        "prometheus_tsdb_out_of_bound_samples",
        "Total number of out of bound samples ingestion failed attempts with out of order support disabled",
        |stats| stats.refused_out_of_bounds,
    ),
    (
        "prometheus_tsdb_too_old_samples",
        "Total number of out of order samples ingestion failed attempts with out of support enabled, but sample outside of time window",
        |stats| stats.refused_too_old,
    ),
];

/// A histogram of the chunks that a tenant's heads were cut into.
type OfChunks = (&'static str, &'static str, fn(&ChunkShapes) -> &Distribution);

const OF_CHUNKS: [OfChunks; 3] = [
    ("prometheus_tsdb_compaction_chunk_size_bytes", "Final size of chunks on their first compaction", |chunks| {
        &chunks.bytes
    }),
    ("prometheus_tsdb_compaction_chunk_samples", "Final number of samples on their first compaction", |chunks| {
        &chunks.samples
    }),
    // In milliseconds all the same, as in Prometheus.
    (
        "prometheus_tsdb_compaction_chunk_range_seconds",
        "Final time range of chunks on their first compaction",
        |chunks| &chunks.ranges,
    ),
];

/// A gauge or counter of all logs.
type OfLogs = (&'static str, &'static str, Kind, fn(&IngestCounters) -> f64);

const OF_LOGS: [OfLogs; 10] = [
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
        counters.wal.failed as f64
    }),
    ("uru_receive_wal_commits", "Commits, of which several are written at once", Kind::Counter, |counters| {
        counters.wal.commits as f64
    }),
    ("uru_receive_wal_writes", "Writes to the WAL, each made durable", Kind::Counter, |counters| {
        counters.wal.frames as f64
    }),
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
    ("uru_receive_open_seconds", "Seconds that replaying the WAL took at the start", Kind::Gauge, |counters| {
        counters.open_ms as f64 / 1e3
    }),
];

impl HeadMetrics {
    /// Registers the metrics of what `held` will keep.
    pub fn register(registry: &mut Registry, held: &Held) {
        registry.register_collector(Box::new(Self { held: HeldDebug(Held::clone(held)) }));
    }
}

impl Collector for HeadMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(ingest) = self.held.0.get() else { return Ok(()) };
        let counters = ingest.counters();
        for (name, help, kind, value) in OF_LOGS {
            match kind {
                Kind::Gauge => {
                    let gauge = FloatGauge::default();
                    gauge.set(value(&counters));
                    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
                }
                Kind::Counter => {
                    let counter = Counter::<f64, AtomicU64>::default();
                    counter.inc_by(value(&counters));
                    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
                }
            }
        }
        let tenants = ingest.tenants();
        let kept: Vec<(MetricLabels, Kept)> = tenants
            .iter()
            .filter_map(|tenant| Some((vec![("tenant", tenant.to_string())], Kept::of(ingest, tenant)?)))
            .collect();
        for (name, help, kind, value) in OF_TENANT {
            let (gauges, counters) = (Gauges::default(), Counters::default());
            for (labels, kept) in &kept {
                match kind {
                    Kind::Gauge => {
                        gauges.get_or_create(labels).set(value(kept));
                    }
                    Kind::Counter => {
                        counters.get_or_create(labels).inc_by(value(kept).max(0) as u64);
                    }
                }
            }
            match kind {
                Kind::Gauge => gauges.encode(encoder.encode_descriptor(name, help, None, gauges.metric_type())?)?,
                Kind::Counter => {
                    counters.encode(encoder.encode_descriptor(name, help, None, counters.metric_type())?)?
                }
            }
        }
        for (name, help, value) in OF_SAMPLES {
            let counters = Counters::default();
            for (labels, kept) in &kept {
                let counts = value(&kept.stats);
                for (kind, count) in [("float", counts.floats), ("histogram", counts.histograms)] {
                    let labels = labels.iter().cloned().chain([("type", kind.to_owned())]);
                    counters.get_or_create(&labels.collect()).inc_by(count);
                }
            }
            counters.encode(encoder.encode_descriptor(name, help, None, counters.metric_type())?)?;
        }
        for (name, help, value) in OF_CHUNKS {
            let mut histograms = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for (labels, kept) in &kept {
                let (buckets, sum) = (value(&kept.cut_chunks).buckets(), value(&kept.cut_chunks).sum());
                let count = buckets.iter().map(|(_, count)| count).sum();
                let mut histogram = histograms.encode_family(labels)?;
                histogram.encode_histogram::<NoLabelSet>(sum as f64, count, &buckets, None)?;
            }
        }
        let replays = FloatGauges::default();
        for tenant in &tenants {
            let labels = vec![("tenant", tenant.to_string())];
            replays.get_or_create(&labels).set(ingest.counters().open_ms as f64 / 1000.0);
        }
        let help = "Seconds that the replay of the logs took, which are those of all tenants";
        let name = "prometheus_tsdb_data_replay_duration_seconds";
        replays.encode(encoder.encode_descriptor(name, help, None, replays.metric_type())?)
    }
}
