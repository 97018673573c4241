//! What scripts have loaded, as a TSDB would give it back.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::batch::SampleBatch;
use engine::model::histogram::CUSTOM_BUCKETS_SCHEMA;
use engine::model::labels::METRIC_NAME;
use engine::model::value::is_stale_nan;
use engine::model::{CounterReset, FloatHistogram, Labels, LabelsBuilder, Span};

use super::script::Load;
use super::series::Point;

/// Series with their samples by time.
#[derive(Debug, Default)]
pub struct Store {
    series: BTreeMap<Labels, BTreeMap<i64, Stored>>,
}

#[derive(Clone, Debug)]
struct Stored {
    start: i64,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Store {
    /// Adds the series of `load`.
    pub fn load(&mut self, load: &Load) -> Result<(), String> {
        let mut classic: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
        for (sequence, starts) in &load.series {
            let stored = self.series.entry(sequence.labels.clone()).or_default();
            for (at, point) in sequence.points.iter().enumerate() {
                let time = load.step * at as i64;
                let start = starts.get(at).copied().flatten().map_or(0, |offset| time + offset);
                let value = match point {
                    Point::Omitted => continue,
                    Point::Float(value) => Value::Float(*value),
                    Point::Histogram { histogram, .. } => Value::Histogram(Arc::clone(histogram)),
                };
                if load.with_custom_buckets
                    && let Value::Float(value) = value
                {
                    Classic::take(&mut classic, &sequence.labels, time, value);
                }
                stored.insert(time, Stored { start, value });
            }
        }
        for (labels, histograms) in classic {
            let stored = self.series.entry(labels).or_default();
            for (time, histogram) in histograms {
                stored.insert(time, Stored { start: 0, value: Value::Histogram(Arc::new(histogram.convert()?)) });
            }
        }
        Ok(())
    }

    /// All series as they are read.
    pub fn batch(&self) -> SampleBatch {
        let mut batch = SampleBatch::default();
        let knows_starts = self.series.values().flat_map(BTreeMap::values).any(|stored| stored.start != 0);
        for (labels, samples) in &self.series {
            let mut chunk = Chunk::default();
            for (time, stored) in samples {
                match &stored.value {
                    Value::Float(value) => {
                        chunk = Chunk::default();
                        batch.floats.push(*time, *value);
                        if knows_starts {
                            batch.float_starts.push(stored.start);
                        }
                    }
                    Value::Histogram(histogram) => {
                        batch.histograms.timestamps.push(*time);
                        batch.histograms.values.push(chunk.append(histogram));
                        if knows_starts {
                            batch.histogram_starts.push(stored.start);
                        }
                    }
                }
            }
            batch.finish_series(Arc::new(labels.clone()));
        }
        batch
    }
}

/// The chunk that histograms are appended to: within one there is no counter reset, so that all
/// but its first histogram are read with the hint that there was none.
#[derive(Default)]
struct Chunk {
    last: Option<Arc<FloatHistogram>>,
}

impl Chunk {
    /// Appends to the chunk or to a new one; gives the histogram as it is read.
    fn append(&mut self, histogram: &Arc<FloatHistogram>) -> Arc<FloatHistogram> {
        let gauge = histogram.counter_reset == CounterReset::Gauge;
        let fits = self.last.as_ref().is_some_and(|last| is_appendable(last, histogram));
        let hint = match (gauge, fits) {
            (true, _) => CounterReset::Gauge,
            (false, true) => CounterReset::No,
            (false, false) => CounterReset::Unknown,
        };
        self.last = Some(Arc::clone(histogram));
        Arc::new(FloatHistogram { counter_reset: hint, ..(**histogram).clone() })
    }
}

/// Whether a counter histogram goes into the chunk that ends with `last`.
fn is_appendable(last: &FloatHistogram, next: &FloatHistogram) -> bool {
    if last.counter_reset == CounterReset::Gauge || next.counter_reset == CounterReset::Yes {
        return false;
    }
    if is_stale_nan(next.sum) {
        return true;
    }
    let same_kind = last.schema == next.schema && last.zero_threshold == next.zero_threshold;
    let unhinted = FloatHistogram { counter_reset: CounterReset::Unknown, ..next.clone() };
    !is_stale_nan(last.sum) && same_kind && last.custom_values == next.custom_values && !unhinted.detect_reset(last)
}

/// A classic histogram at one time, gathered from its series.
#[derive(Debug, Default)]
struct Classic {
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl Classic {
    /// Takes a sample of a series whose name has the suffix of a classic histogram's.
    fn take(all: &mut BTreeMap<Labels, BTreeMap<i64, Self>>, labels: &Labels, time: i64, value: f64) {
        let name = labels.metric_name();
        let Some((base, suffix)) =
            ["_bucket", "_count", "_sum"].iter().find_map(|suffix| Some((name.strip_suffix(suffix)?, *suffix)))
        else {
            return;
        };
        let bound = labels.get("le").and_then(|bound| bound.parse::<f64>().ok()).filter(|bound| !bound.is_nan());
        if suffix == "_bucket" && bound.is_none() {
            return;
        }
        let mut builder = LabelsBuilder::from_labels(labels);
        builder.set(METRIC_NAME, base).remove("le");
        let histogram = all.entry(builder.build()).or_default().entry(time).or_default();
        match (suffix, bound) {
            ("_bucket", Some(bound)) => {
                let at = histogram.buckets.partition_point(|(known, _)| *known < bound);
                if histogram.buckets.get(at).is_none_or(|(known, _)| *known != bound) {
                    histogram.buckets.insert(at, (bound, value));
                }
            }
            ("_count", _) => histogram.count = Some(value),
            _ => histogram.sum = value,
        }
    }

    /// The native histogram with custom buckets of the same counts.
    fn convert(mut self) -> Result<FloatHistogram, String> {
        let count = self.count.or_else(|| self.buckets.last().map(|last| last.1)).unwrap_or(0.0);
        if self.buckets.last().is_none_or(|last| last.0 != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        if self.buckets.last().is_some_and(|last| last.1 != count) {
            return Err("the count of a classic histogram is not that of its last bucket".to_owned());
        }
        let mut before = 0.0;
        let mut counts = Vec::new();
        for (_, cumulative) in &self.buckets {
            counts.push(cumulative - before);
            before = *cumulative;
        }
        let whole = self.buckets.iter().all(|(_, count)| count.fract() == 0.0);
        let mut histogram = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive_spans: vec![Span { offset: 0, length: counts.len() as u32 }],
            positive_buckets: counts,
            custom_values: self.buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect(),
            ..FloatHistogram::default()
        };
        // As when scraped: integer histograms keep narrow gaps.
        histogram.compact(if whole { 2 } else { 0 });
        histogram.validate().map_err(|error| error.to_string())?;
        Ok(histogram)
    }
}
