//! Native histograms: count, sum and counter of each window. The sum is a gauge, for it falls when a
//! window has less.

use std::ops::Range;

use super::window::{Extent, RAW_STEP_MS, batch_len, for_each};
use crate::chunk::aggr::Aggregate;
use crate::chunk::samples::{Samples, Value};
use crate::compact::aggregates::{Timeline, Timelines, encode};
use crate::compact::output::Made;
use crate::model::value::is_stale_nan;
use crate::model::{CounterReset, FloatHistogram};

/// Windows of one chunk at most: batches are cut before.
const WINDOWS_MAX: usize = u16::MAX as usize;

/// Histograms of one series: two columns of one length.
#[derive(Debug, Default)]
pub(super) struct Histograms {
    /// Unix milliseconds.
    pub(super) times: Vec<i64>,
    /// Values.
    pub(super) values: Vec<FloatHistogram>,
}

impl Histograms {
    /// Appends the histograms of a chunk without stale ones and those that go back in time.
    pub(super) fn extend(&mut self, samples: Samples) {
        let mut last = i64::MIN;
        for (time, value) in samples.times.into_iter().zip(samples.values) {
            let histogram = match value {
                Value::Histogram(histogram) => histogram.to_float(),
                Value::FloatHistogram(histogram) => *histogram,
                Value::Float(_) => continue,
            };
            if !is_stale_nan(histogram.sum) && time >= last {
                last = time;
                self.times.push(time);
                self.values.push(histogram);
            }
        }
    }

    /// Appends the histograms of another run of chunks.
    pub(super) fn append(&mut self, other: &mut Self) {
        self.times.append(&mut other.times);
        self.values.append(&mut other.values);
    }

    /// Makes a chunk of the histograms from number `start` on, of all of a series, which either all have
    /// custom bounds or none has. Gives the histogram behind those that went into it; nothing when there
    /// is none left.
    pub(super) fn batch(&self, start: usize, resolution: i64, made: &mut Made) -> Option<usize> {
        let (min_time, max_time) = (*self.times.first()?, *self.times.last()?);
        let extent = Extent { min_time, max_time, samples: self.times.len() };
        let samples = self.times.len() / extent.chunks(RAW_STEP_MS, resolution) + 1;
        let end = start + batch_len(&self.times[start..], samples, resolution);
        if end == start {
            return None;
        }
        self.without_stale(start..end).chunk(resolution, made);
        Some(end)
    }

    /// The histograms of `range` but for stale ones. A sum that is not a number is one that was observed.
    fn without_stale(&self, range: Range<usize>) -> Self {
        let mut kept = Self::default();
        for at in range.filter(|at| !is_stale_nan(self.values[*at].sum)) {
            kept.times.push(self.times[at]);
            kept.values.push(self.values[at].clone());
        }
        kept
    }

    /// Makes one chunk of all histograms; more where one cannot follow another.
    fn chunk(&self, resolution: i64, made: &mut Made) {
        let mut timelines = Timelines::default();
        let mut counts = Samples::default();
        for_each(&self.times, resolution, |end, range| {
            counts.times.push(end);
            counts.values.push(Value::Float(range.len() as f64));
        });
        timelines[Aggregate::Count as usize] = Some(Timeline::new(counts));
        timelines[Aggregate::Sum as usize] = Some(Timeline::new(self.sums(resolution)));
        timelines[Aggregate::Counter as usize] = Some(Timeline::new(self.counters(resolution)));
        encode(&timelines, WINDOWS_MAX, made);
    }

    /// The coarsest schema.
    fn schema(&self) -> i32 {
        self.values.iter().map(|value| value.schema).min().unwrap_or(0)
    }

    /// The sum of each window.
    pub(super) fn sums(&self, resolution: i64) -> Samples {
        let (schema, mut sums) = (self.schema(), Samples::default());
        for_each(&self.times, resolution, |end, range| {
            let mut within = self.values[range].iter().map(|value| reduced(value, schema));
            let Some(mut sum) = within.next() else { return };
            for value in within {
                sum = match sum.add(&value) {
                    Ok(_) => sum,
                    // Custom bounds and others are never in one batch.
                    Err(_) => value,
                };
            }
            sum.counter_reset = CounterReset::Gauge;
            sums.times.push(end);
            sums.values.push(Value::FloatHistogram(Box::new(sum)));
        });
        sums
    }

    /// The counter at the end of each window, counted from the first histogram.
    pub(super) fn counters(&self, resolution: i64) -> Samples {
        let (schema, mut counters) = (self.schema(), Samples::default());
        let gauges = self.values.first().is_some_and(|first| first.counter_reset == CounterReset::Gauge);
        // The counter, and the histogram before: as it was, and in the counter's schema.
        let mut state: Option<(FloatHistogram, &FloatHistogram, FloatHistogram)> = None;
        for_each(&self.times, resolution, |end, range| {
            for original in &self.values[range] {
                let value = reduced(original, schema);
                state = Some(match state.take() {
                    None => (value.clone(), original, value),
                    Some((mut counter, before, previous)) => {
                        let reset = original.counter_reset != CounterReset::Gauge && original.detect_reset(before);
                        count(&mut counter, &value, (!reset).then_some(&previous));
                        (counter, original, value)
                    }
                });
            }
            let Some((counter, ..)) = &mut state else { return };
            if gauges {
                counter.counter_reset = CounterReset::Gauge;
            }
            counters.times.push(end);
            counters.values.push(Value::FloatHistogram(Box::new(counter.clone())));
        });
        counters
    }
}

/// Adds to `counter` what came since `previous`; all of `value` where there is none, after a reset.
fn count(counter: &mut FloatHistogram, value: &FloatHistogram, previous: Option<&FloatHistogram>) {
    let mut rise = value.clone();
    let combined = previous.map_or(Ok(()), |previous| rise.sub(previous).map(drop));
    // Custom bounds and others are never in one batch, so that they always combine.
    if combined.and_then(|()| counter.add(&rise).map(drop)).is_err() {
        counter.clone_from(value);
    }
}

/// The histogram in a schema that is as coarse or coarser.
fn reduced(value: &FloatHistogram, schema: i32) -> FloatHistogram {
    let mut reduced = value.clone();
    if value.schema > schema && !value.uses_custom_buckets() {
        reduced.reduce_resolution(schema);
    }
    reduced
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;
    use crate::model::value::stale_nan;

    fn histogram(schema: i32, count: f64, sum: f64) -> FloatHistogram {
        FloatHistogram {
            schema,
            count,
            sum,
            positive_spans: vec![Span { offset: 0, length: 1 }],
            positive_buckets: vec![count],
            ..FloatHistogram::default()
        }
    }

    fn counts(samples: &Samples) -> Vec<f64> {
        let count = |value: &Value| match value {
            Value::FloatHistogram(histogram) => histogram.count,
            other => panic!("{other:?} is no float histogram"),
        };
        samples.values.iter().map(count).collect()
    }

    #[test]
    fn a_finer_schema_is_one_reset_and_not_one_for_each_sample_that_has_it() {
        let seen = [(0, 10.0), (0, 20.0), (3, 30.0), (3, 40.0), (3, 50.0)];
        let values = seen.map(|(schema, count)| histogram(schema, count, 1.0)).to_vec();
        let all = Histograms { times: (0..5).map(|at| at * 1000).collect(), values };
        assert_eq!(counts(&all.counters(1000)), [10.0, 20.0, 50.0, 60.0, 70.0]);
    }

    #[test]
    fn histograms_whose_sum_is_not_a_number_are_counted() {
        let values = [1.0, f64::NAN, stale_nan(), f64::NAN].map(|sum| histogram(0, 10.0, sum)).to_vec();
        let all = Histograms { times: vec![0, 1000, 2000, 3000], values };
        assert_eq!(all.without_stale(0..4).times, [0, 1000, 3000]);
    }
}
