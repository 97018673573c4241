//! `thanos_receive_*`, and how long each stage of a request takes.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::telemetry::metrics::{Counters, Gauges, Histograms, MetricLabels, OfTenants, SecondCounters};
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
    of_tenants: OfTenants,
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
            of_tenants: OfTenants::default(),
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
        if self.write_samples.get(&labels).is_none() {
            self.remove(self.of_tenants.note(tenant, &labels));
        }
        self.write_timeseries.get_or_create(&labels).observe(series as f64);
        self.write_samples.get_or_create(&labels).observe(samples as f64);
    }

    /// A tenant is gone.
    pub fn forget(&self, tenant: &str) {
        self.remove(self.of_tenants.take(tenant));
    }

    fn remove(&self, gone: BTreeSet<MetricLabels>) {
        for labels in gone {
            self.write_timeseries.remove(&labels);
            self.write_samples.remove(&labels);
        }
    }

    /// Time that passed in a stage since `begin`.
    pub fn stage(&self, stage: Stage, begin: Instant) {
        self.stages[stage as usize].inc_by(begin.elapsed().as_secs_f64());
    }
}
