//! `anchored` and `smoothed` windows: their bounds have values of their own.

use crate::batch::Cell;

use super::super::super::annotations::Annotation;
use super::super::super::function::RangeFunction as F;
use super::super::super::histogram::{Boundary, ExtendedRange};
use super::super::super::plan::Extension;
use super::interpolate;
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
    if window.histograms.is_empty() {
        let bounds = (end - function.range, end);
        return floats(function, window, bounds).map_or(Cell::Empty, Cell::Float);
    }
    let extended = ExtendedRange {
        timestamps: window.histogram_timestamps,
        histograms: window.histograms,
        boundary: if function.extension == Extension::Anchored { Boundary::Anchored } else { Boundary::Smoothed },
        range: function.rate_range(end),
    };
    function.noting(|notes| extended.rate(function.difference(), notes))
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
