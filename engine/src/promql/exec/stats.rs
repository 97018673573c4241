//! Native histograms of which only count and sum are looked at: without buckets, but with what the
//! buckets said about counter resets.

use std::sync::Arc;

use crate::batch::SampleBatch;
use crate::model::value::is_stale_nan;
use crate::model::{CounterReset, FloatHistogram};

/// Takes the buckets from all histograms of `batch`. Whether a counter was reset is found out first,
/// from the samples at or after `min_time` (Unix milliseconds).
pub fn strip(batch: &mut SampleBatch, min_time: i64) {
    if batch.histograms.values.is_empty() {
        return;
    }
    let mut stripped = Vec::with_capacity(batch.histograms.values.len());
    for series in batch.iter() {
        let mut last: Option<&Arc<FloatHistogram>> = None;
        for (time, histogram) in series.histogram_timestamps.iter().zip(series.histograms) {
            let counter_reset = match last {
                _ if is_stale_nan(histogram.sum) => histogram.counter_reset,
                Some(last) if histogram.counter_reset == CounterReset::Unknown => {
                    if histogram.detect_reset(last) {
                        CounterReset::Yes
                    } else {
                        CounterReset::No
                    }
                }
                _ => histogram.counter_reset,
            };
            if *time >= min_time && !is_stale_nan(histogram.sum) {
                last = Some(histogram);
            }
            stripped.push(Arc::new(FloatHistogram {
                counter_reset,
                schema: histogram.schema,
                count: histogram.count,
                sum: histogram.sum,
                ..FloatHistogram::default()
            }));
        }
    }
    batch.histograms.values = stripped;
}
