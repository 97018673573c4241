//! `thanos_objstore_*`: counts and durations of a bucket's operations.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::telemetry::metrics::{Counters, FloatGauges, Histograms, MetricLabels, duration_histogram};

const OPERATIONS: [&str; 7] = ["iter", "get", "get_range", "exists", "upload", "delete", "attributes"];

/// Those that transfer objects.
const TRANSFERS: [&str; 3] = ["get", "get_range", "upload"];

/// The metrics of one bucket.
#[derive(Clone, Debug)]
pub struct BucketMetrics {
    bucket: String,
    operations: Counters,
    failures: Counters,
    fetched_bytes: Counters,
    durations: Histograms,
    transferred_bytes: Histograms,
    last_upload: FloatGauges,
}

impl BucketMetrics {
    /// Registers the metrics of the bucket called `bucket`.
    pub fn register(registry: &mut Registry, bucket: &str) -> Self {
        let metrics = Self {
            bucket: bucket.to_owned(),
            operations: Counters::default(),
            failures: Counters::default(),
            fetched_bytes: Counters::default(),
            durations: Histograms::new_with_constructor(duration_histogram),
            transferred_bytes: Histograms::new_with_constructor(transfers),
            last_upload: FloatGauges::default(),
        };
        drop(metrics.last_upload.get_or_create(&metrics.bucket_labels()));
        for operation in OPERATIONS {
            let labels = metrics.labels(operation);
            drop(metrics.operations.get_or_create(&labels));
            drop(metrics.failures.get_or_create(&labels));
            drop(metrics.fetched_bytes.get_or_create(&labels));
            drop(metrics.durations.get_or_create(&labels));
        }
        for operation in TRANSFERS {
            drop(metrics.transferred_bytes.get_or_create(&metrics.labels(operation)));
        }
        registry.register(
            "thanos_objstore_bucket_operations",
            "Total number of all attempted operations against a bucket",
            metrics.operations.clone(),
        );
        registry.register(
            "thanos_objstore_bucket_operation_failures",
            "Total number of operations against a bucket that failed and were not expected to",
            metrics.failures.clone(),
        );
        registry.register(
            "thanos_objstore_bucket_operation_fetched_bytes",
            "Total number of bytes fetched from bucket, per operation",
            metrics.fetched_bytes.clone(),
        );
        registry.register(
            "thanos_objstore_bucket_operation_duration_seconds",
            "Duration of successful operations against the bucket per operation",
            metrics.durations.clone(),
        );
        registry.register(
            "thanos_objstore_bucket_operation_transferred_bytes",
            "Number of bytes transferred from bucket per operation",
            metrics.transferred_bytes.clone(),
        );
        registry.register(
            "thanos_objstore_bucket_last_successful_upload_time",
            "Second timestamp of the last successful upload to the bucket",
            metrics.last_upload.clone(),
        );
        metrics
    }

    /// An operation begins.
    pub(super) fn begin(&self, operation: &'static str) -> Timer<'_> {
        self.operations.get_or_create(&self.labels(operation)).inc();
        self.resume(operation, Instant::now())
    }

    /// An operation that began at `started` goes on.
    pub(super) fn resume(&self, operation: &'static str, started: Instant) -> Timer<'_> {
        Timer { metrics: self, operation, started }
    }

    fn bucket_labels(&self) -> MetricLabels {
        vec![("bucket", self.bucket.clone())]
    }

    fn labels(&self, operation: &str) -> MetricLabels {
        vec![("bucket", self.bucket.clone()), ("operation", operation.to_owned())]
    }
}

/// From 32 KiB to 1 GiB, as in Thanos.
fn transfers() -> Histogram {
    Histogram::new(exponential_buckets(32768.0, 2.0, 16))
}

/// An operation that has begun.
pub(super) struct Timer<'a> {
    metrics: &'a BucketMetrics,
    operation: &'static str,
    started: Instant,
}

impl Timer<'_> {
    /// The operation ended well and fetched `bytes`.
    pub(super) fn done(self, bytes: u64) {
        let labels = self.metrics.labels(self.operation);
        self.metrics.fetched_bytes.get_or_create(&labels).inc_by(bytes);
        self.end(&labels, bytes);
    }

    /// The upload of an object of `bytes` ended well.
    pub(super) fn sent(self, bytes: u64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.metrics.last_upload.get_or_create(&self.metrics.bucket_labels()).set(now.as_secs_f64());
        self.end(&self.metrics.labels(self.operation), bytes);
    }

    fn end(&self, labels: &MetricLabels, bytes: u64) {
        self.metrics.durations.get_or_create(labels).observe(self.started.elapsed().as_secs_f64());
        if bytes > 0 {
            self.metrics.transferred_bytes.get_or_create(labels).observe(bytes as f64);
        }
    }

    /// The operation failed.
    pub(super) fn failed(self) {
        self.metrics.failures.get_or_create(&self.metrics.labels(self.operation)).inc();
    }
}
