//! `thanos_store_server_*`: how much Series calls of this process were answered with.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of the number of series, as Thanos has them.
const SERIES_BUCKETS: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];

/// Upper bounds of the number of chunks, as Thanos has them.
const CHUNK_BUCKETS: [f64; 8] = [1.0, 1e2, 1e3, 1e4, 1e5, 1e7, 1e8, 1e9];

/// Metrics of Series calls; clones share them.
#[derive(Clone, Debug)]
pub struct Requested {
    series: Histogram,
    chunks: Histogram,
    pending: Gauge,
}

/// A Series call under way; counted when it is dropped.
#[derive(Debug)]
pub struct Pending {
    metrics: Requested,
    /// Series that it was answered with so far.
    pub series: u64,
    /// Chunks that it was answered with so far.
    pub chunks: u64,
}

impl Default for Requested {
    fn default() -> Self {
        Self {
            series: Histogram::new(SERIES_BUCKETS),
            chunks: Histogram::new(CHUNK_BUCKETS),
            pending: Gauge::default(),
        }
    }
}

impl Requested {
    /// Publishes them.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("thanos_store_server");
        registry.register("series_requested", "Number of requested series for Series calls", self.series.clone());
        registry.register("chunks_requested", "Number of requested chunks for Series calls", self.chunks.clone());
        registry.register("pending_series_requests", "Number of pending series requests", self.pending.clone());
    }

    /// A Series call begins.
    pub fn begin(&self) -> Pending {
        self.pending.inc();
        Pending { metrics: self.clone(), series: 0, chunks: 0 }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.metrics.pending.dec();
        self.metrics.series.observe(self.series as f64);
        self.metrics.chunks.observe(self.chunks as f64);
    }
}
