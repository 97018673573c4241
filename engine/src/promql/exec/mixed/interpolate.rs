//! Values between two samples, along a straight line.

use std::sync::Arc;

use crate::batch::Cell;
use crate::model::histogram::MixedSchemas;
use crate::model::{CounterReset, FloatHistogram};

use super::super::super::annotations::{Annotation, HistogramOperation};
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

/// What a histogram is to the function that looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It only grows, but for resets.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// Whether custom bounds were reconciled while two histograms were interpolated: by subtraction, by
/// addition.
pub type Reconciled = [bool; 2];

/// The histogram at `time` between two samples.
pub fn histogram(
    before: (i64, &FloatHistogram),
    after: (i64, &FloatHistogram),
    time: i64,
    nature: Nature,
) -> Result<(FloatHistogram, Reconciled), MixedSchemas> {
    if time == before.0 {
        return Ok((before.1.clone(), [false; 2]));
    }
    let mut result = after.1.clone();
    if time == after.0 {
        return Ok((result, [false; 2]));
    }
    let fraction = (time - before.0) as f64 / (after.0 - before.0) as f64;
    if nature == Nature::Counter && after.1.detect_reset(before.1) {
        result.mul(fraction);
        return Ok((result, [false; 2]));
    }
    let subtracted = result.sub(before.1)?;
    result.mul(fraction);
    let added = result.add(before.1)?;
    Ok((result, [subtracted.bounds_reconciled, added.bounds_reconciled]))
}

/// Notes what [`histogram`] reconciled.
pub fn note(query: &Query<'_>, reconciled: Reconciled, position: usize) {
    let operations = [HistogramOperation::Subtraction, HistogramOperation::Addition];
    for (happened, operation) in reconciled.into_iter().zip(operations) {
        if happened {
            query.annotate(Annotation::mismatched_custom_buckets(operation, position));
        }
    }
}

/// The histogram of a smoothed instant selector at `time`.
pub fn at(
    query: &Query<'_>,
    (metric, position): (&str, usize),
    samples: &[(i64, Arc<FloatHistogram>)],
    time: i64,
) -> Cell {
    let next = samples.partition_point(|(at, _)| *at < time);
    let before = next.checked_sub(1).map(|at| &samples[at]);
    match (before, samples.get(next)) {
        (_, Some((at, histogram))) if *at == time => Cell::Histogram(Arc::clone(histogram)),
        (Some(before), Some(after)) => {
            let gauges = [before, after].iter().all(|sample| sample.1.counter_reset == CounterReset::Gauge);
            let nature = if gauges { Nature::Gauge } else { Nature::Counter };
            let mixed = before.1.uses_custom_buckets() != after.1.uses_custom_buckets();
            let result = histogram((before.0, &before.1), (after.0, &after.1), time, nature);
            match result {
                Ok((histogram, reconciled)) if !mixed => {
                    note(query, reconciled, position);
                    Cell::Histogram(Arc::new(histogram))
                }
                _ => {
                    query.annotate(Annotation::mixed_exponential_custom(metric, position));
                    Cell::Empty
                }
            }
        }
        (Some((_, histogram)), None) => {
            let mut carried = (**histogram).clone();
            carried.counter_reset = CounterReset::Unknown;
            Cell::Histogram(Arc::new(carried))
        }
        (None, _) => Cell::Empty,
    }
}
