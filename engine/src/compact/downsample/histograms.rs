//! Native histograms: count, sum and counter of each window. The sum is a gauge, for it falls when a
//! window has less.

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
        let mut batch = Self::default();
        for at in (start..end).filter(|at| !self.values[*at].sum.is_nan()) {
            batch.times.push(self.times[at]);
            batch.values.push(self.values[at].clone());
        }
        batch.chunk(resolution, made);
        Some(end)
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
        let mut state: Option<(FloatHistogram, FloatHistogram)> = None;
        for_each(&self.times, resolution, |end, range| {
            for original in &self.values[range] {
                let value = reduced(original, schema);
                state = Some(match state.take() {
                    None => (value.clone(), value),
                    Some((mut counter, previous)) => {
                        count(&mut counter, &previous, (original, &value));
                        (counter, value)
                    }
                });
            }
            let Some((counter, _)) = &mut state else { return };
            if gauges {
                counter.counter_reset = CounterReset::Gauge;
            }
            counters.times.push(end);
            counters.values.push(Value::FloatHistogram(Box::new(counter.clone())));
        });
        counters
    }
}

/// Adds to `counter` what came since `previous`: all of `value` after a reset, else the difference.
/// The histogram comes as it was and in the schema of the counter: a finer one counts as a reset.
fn count(
    counter: &mut FloatHistogram,
    previous: &FloatHistogram,
    (original, value): (&FloatHistogram, &FloatHistogram),
) {
    let reset = original.counter_reset != CounterReset::Gauge && original.detect_reset(previous);
    let mut rise = value.clone();
    let combined = if reset { Ok(()) } else { rise.sub(previous).map(drop) };
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
