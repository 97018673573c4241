//! Values between two samples, along a straight line.

use std::sync::Arc;

use crate::batch::Cell;
use crate::model::{CounterReset, FloatHistogram};

use super::super::super::histogram::{self, Difference, Note, Notes};
use super::super::Query;

/// The value at `time` on the line through two samples (Unix milliseconds, value).
pub fn float(before: (i64, f64), after: (i64, f64), time: i64) -> f64 {
    before.1 + (after.1 - before.1) * (time - before.0) as f64 / (after.0 - before.0) as f64
}

/// As [`float`] for a counter, which starts from 0 at a reset.
pub fn counter(before: (i64, f64), after: (i64, f64), time: i64) -> f64 {
    let from = if after.1 < before.1 { 0.0 } else { before.1 };
    from + (after.1 - from) * (time - before.0) as f64 / (after.0 - before.0) as f64
}

/// The histogram of a smoothed instant selector at `time`.
pub fn at(query: &Query, (metric, position): (&str, usize), samples: &[(i64, Arc<FloatHistogram>)], time: i64) -> Cell {
    let next = samples.partition_point(|(at, _)| *at < time);
    let before = next.checked_sub(1).map(|at| &samples[at]);
    match (before, samples.get(next)) {
        (_, Some((at, histogram))) if *at == time => Cell::Histogram(Arc::clone(histogram)),
        (Some(before), Some(after)) => {
            let gauges = [before, after].iter().all(|sample| sample.1.counter_reset == CounterReset::Gauge);
            let difference = if gauges { Difference::Delta } else { Difference::Increase };
            let mut notes = Notes::default();
            let samples = [before, after].map(|(time, histogram)| (*time, &**histogram));
            let mixed = before.1.uses_custom_buckets() != after.1.uses_custom_buckets();
            let result = if mixed {
                notes.add(Note::MixedExponentialCustom);
                None
            } else {
                histogram::interpolate(samples, time, difference, &mut notes)
            };
            for note in notes.iter() {
                query.annotate(note.at(metric, position));
            }
            result.map_or(Cell::Empty, |histogram| Cell::Histogram(Arc::new(histogram)))
        }
        (Some((_, histogram)), None) => {
            let mut carried = (**histogram).clone();
            carried.counter_reset = CounterReset::Unknown;
            Cell::Histogram(Arc::new(carried))
        }
        (None, _) => Cell::Empty,
    }
}
