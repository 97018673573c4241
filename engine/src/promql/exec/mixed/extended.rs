//! `anchored` and `smoothed` windows: their bounds have values of their own.

use std::sync::Arc;

use crate::batch::Cell;
use crate::model::histogram::MixedSchemas;
use crate::model::{CounterReset, FloatHistogram};

use super::super::super::annotations::Annotation;
use super::super::super::function::RangeFunction as F;
use super::super::super::plan::Extension;
use super::interpolate::{self, Nature};
use super::rates::{add, subtract};
use super::{Function, Window};

/// The samples of a window between which its bounds lie.
#[derive(Clone, Copy)]
struct Span {
    first: usize,
    last: usize,
}

impl Span {
    /// The span of the samples at `times` for the window `(begin, end]`; `None` when nothing lies in it.
    fn find(times: &[i64], extension: Extension, (begin, end): (i64, i64)) -> Option<Self> {
        let mut last = times.len().checked_sub(1)?;
        let first = times[..last].partition_point(|time| *time <= begin).saturating_sub(1);
        if extension == Extension::Smoothed {
            last = times[..last].partition_point(|time| *time < end);
        }
        (times[last] > begin && (extension != Extension::Smoothed || times[first] <= end))
            .then_some(Self { first, last })
    }
}

/// `rate`, `increase` and `delta` between the bounds of the window that ends at `end`.
pub fn rate(function: &Function<'_>, window: &Window<'_>, end: i64) -> Cell {
    if window.is_mixed() {
        function.note(Annotation::mixed_floats_histograms(function.metric, function.first_position));
        return Cell::Empty;
    }
    let bounds = (end - function.range, end);
    if window.histograms.is_empty() {
        return floats(function, window, bounds).map_or(Cell::Empty, Cell::Float);
    }
    histograms(function, window, bounds).map_or(Cell::Empty, |histogram| Cell::Histogram(Arc::new(histogram)))
}

/// Values at both bounds.
fn float_bounds(
    (times, values): (&[i64], &[f64]),
    span: Span,
    extension: Extension,
    (begin, end): (i64, i64),
    between: fn((i64, f64), (i64, f64), i64) -> f64,
) -> (f64, f64) {
    let at = |index: usize| (times[index], values[index]);
    let smoothed = extension == Extension::Smoothed;
    let left = if smoothed && times[span.first] < begin {
        between(at(span.first), at(span.first + 1), begin)
    } else {
        values[span.first]
    };
    let right = if smoothed && span.last > 0 && times[span.last] > end {
        between(at(span.last - 1), at(span.last), end)
    } else {
        values[span.last]
    };
    (left, right)
}

/// Indexes of the samples strictly within the bounds.
fn inside(times: &[i64], span: Span, (begin, end): (i64, i64)) -> std::ops::Range<usize> {
    let first = span.first + usize::from(times[span.first] <= begin);
    let stop = span.last + usize::from(times[span.last] < end);
    first..stop.max(first)
}

fn floats(function: &Function<'_>, window: &Window<'_>, bounds: (i64, i64)) -> Option<f64> {
    let span = Span::find(window.timestamps, function.extension, bounds)?;
    let samples = (window.timestamps, window.values);
    let counter = function.function != F::Delta;
    let between = if counter { interpolate::counter } else { interpolate::float };
    let (left, right) = float_bounds(samples, span, function.extension, bounds, between);
    let mut result = right - left;
    if counter {
        let mut previous = left;
        let mut correction = 0.0;
        for value in window.values[inside(window.timestamps, span, bounds)].iter().chain([&right]) {
            if *value < previous {
                correction += previous;
            }
            previous = *value;
        }
        result += correction;
    }
    Some(if function.function == F::Rate { result / (function.range as f64 / 1000.0) } else { result })
}

/// The samples of an extended range selector with those at its bounds.
pub fn extend(times: &[i64], values: &[f64], extension: Extension, bounds: (i64, i64)) -> Vec<(i64, f64)> {
    let mut last = match times.len().checked_sub(1) {
        Some(last) => last,
        None => return Vec::new(),
    };
    let first = times[..last].partition_point(|time| *time <= bounds.0).saturating_sub(1);
    if extension == Extension::Smoothed {
        last = times[..last].partition_point(|time| *time < bounds.1);
    }
    if times[last] <= bounds.0 {
        return Vec::new();
    }
    let span = Span { first, last };
    let (left, right) = float_bounds((times, values), span, extension, bounds, interpolate::float);
    let mut out = vec![(bounds.0, left)];
    out.extend(inside(times, span, bounds).map(|at| (times[at], values[at])));
    out.push((bounds.1, right));
    out
}

fn histograms(function: &Function<'_>, window: &Window<'_>, bounds: (i64, i64)) -> Option<FloatHistogram> {
    let (times, points) = (window.histogram_timestamps, window.histograms);
    let span = Span::find(times, function.extension, bounds)?;
    let counter = function.function != F::Delta;
    if !check(function, &points[span.first..=span.last], counter) {
        return None;
    }
    let smoothed = function.extension == Extension::Smoothed;
    let left = if smoothed && times[span.first] < bounds.0 {
        between(function, window, (span.first, span.first + 1), bounds.0)?
    } else {
        (*points[span.first]).clone()
    };
    let right = if smoothed && span.last > 0 && times[span.last] > bounds.1 {
        between(function, window, (span.last - 1, span.last), bounds.1)?
    } else {
        (*points[span.last]).clone()
    };
    let is_gauge = |histogram: &FloatHistogram| histogram.counter_reset == CounterReset::Gauge;
    if !(counter || is_gauge(&left) && is_gauge(&right)) {
        function.note(Annotation::native_histogram_not_gauge(function.metric, function.first_position));
    }
    let mut result = right.clone();
    if !subtract(function, &mut result, &left) {
        return None;
    }
    if counter && let Some(correction) = correction(function, window, span, (&left, &right), bounds.0)? {
        add(function, &mut result, &correction).then_some(())?;
    }
    if function.function == F::Rate {
        result.div(function.range as f64 / 1000.0);
    }
    result.counter_reset = CounterReset::Gauge;
    result.compact(0);
    Some(result)
}

/// Whether all histograms have the same kind of buckets; says when one is a gauge.
fn check(function: &Function<'_>, points: &[Arc<FloatHistogram>], counter: bool) -> bool {
    let position = function.first_position;
    for point in points {
        if point.uses_custom_buckets() != points[0].uses_custom_buckets() {
            function.note(Annotation::mixed_exponential_custom(function.metric, position));
            return false;
        }
        if counter && point.counter_reset == CounterReset::Gauge {
            function.note(Annotation::native_histogram_not_counter(function.metric, position));
        }
    }
    true
}

fn between(
    function: &Function<'_>,
    window: &Window<'_>,
    (before, after): (usize, usize),
    time: i64,
) -> Option<FloatHistogram> {
    let at = |index: usize| (window.histogram_timestamps[index], &*window.histograms[index]);
    let nature = if function.function == F::Delta { Nature::Gauge } else { Nature::Counter };
    match interpolate::histogram(at(before), at(after), time, nature) {
        Ok((histogram, reconciled)) => {
            interpolate::note(function.query, reconciled, function.first_position);
            Some(histogram)
        }
        Err(MixedSchemas) => {
            function.note(Annotation::mixed_exponential_custom(function.metric, function.first_position));
            None
        }
    }
}

/// What resets within the window took away: the outer `None` when histograms did not combine.
fn correction(
    function: &Function<'_>,
    window: &Window<'_>,
    span: Span,
    (left, right): (&FloatHistogram, &FloatHistogram),
    begin: i64,
) -> Option<Option<FloatHistogram>> {
    let points = window.histograms;
    let mut first = span.first + 1;
    let mut previous = left;
    let spans_begin = function.extension == Extension::Smoothed && window.histogram_timestamps[span.first] < begin;
    if spans_begin && points[span.first + 1].detect_reset(&points[span.first]) {
        // The interpolation at the start has dealt with this reset.
        previous = &points[span.first + 1];
        first += 1;
    }
    if first > span.last {
        return Some(None);
    }
    let mut total: Option<FloatHistogram> = None;
    let between = points[first..span.last].iter().map(Arc::as_ref);
    for point in between.chain([right]) {
        if point.detect_reset(previous) {
            match &mut total {
                None => total = Some(previous.clone()),
                Some(total) => add(function, total, previous).then_some(())?,
            }
        }
        previous = point;
    }
    Some(total)
}
