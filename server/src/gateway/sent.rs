//! `thanos_bucket_store_sent_chunk_size_bytes`: counted where frames are written, without a lock for
//! each series.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds, as in Thanos.
const BOUNDS: [u64; 11] =
    [32, 256, 512, 1 << 10, 32 << 10, 256 << 10, 512 << 10, 1 << 20, 32 << 20, 256 << 20, 512 << 20];

/// Bytes of the chunks of each series that was sent; clones share them.
#[derive(Clone, Debug, Default)]
pub struct SentSizes(Arc<[AtomicU64; BOUNDS.len() + 2]>);

/// What one writer has sent so far; added to the others' when it is dropped.
#[derive(Debug)]
pub struct Sending {
    total: SentSizes,
    /// Series by the first bound that they do not exceed, then those above all bounds, then all bytes.
    counts: [u64; BOUNDS.len() + 2],
}

impl SentSizes {
    /// What a writer sends from now on.
    pub fn begin(&self) -> Sending {
        Sending { total: self.clone(), counts: Default::default() }
    }
}

impl Sending {
    /// A series whose chunks have so many bytes was sent.
    pub fn add(&mut self, bytes: u64) {
        self.counts[BOUNDS.partition_point(|bound| *bound < bytes)] += 1;
        self.counts[BOUNDS.len() + 1] += bytes;
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        for (total, count) in self.total.0.iter().zip(self.counts) {
            total.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl TypedMetric for SentSizes {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for SentSizes {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.0.each_ref().map(|count| count.load(Ordering::Relaxed));
        let bounds = BOUNDS.iter().map(|bound| *bound as f64).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(counts[BOUNDS.len() + 1] as f64, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::telemetry::metrics::render;

    #[test]
    fn sizes_are_counted_below_the_first_bound_that_they_do_not_exceed() {
        let sizes = SentSizes::default();
        let mut registry = Registry::default();
        registry.register("x_bytes", "Sizes", sizes.clone());
        let mut sending = sizes.begin();
        [0, 32, 33, 2 << 30].into_iter().for_each(|bytes| sending.add(bytes));
        drop(sending);
        let text = render(&registry, "").1;
        for line in ["{le=\"32.0\"} 2\n", "{le=\"256.0\"} 3\n", "{le=\"+Inf\"} 4\n", "x_bytes_count 4\n"] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(text.contains(&format!("x_bytes_sum {}.0\n", 65 + (2_u64 << 30))), "{text}");
    }
}
