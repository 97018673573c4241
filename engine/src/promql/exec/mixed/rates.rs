//! Rates of floats with start timestamps, and differences, changes and resets of windows in which
//! floats and histograms may meet.

use std::sync::Arc;

use crate::batch::Cell;

use super::super::super::annotations::Annotation;
use super::super::super::function::RangeFunction as F;
use super::super::super::histogram::{self, HistogramSample, is_start_reset, starts_overlap};
use super::super::super::plan::Extension;
use super::super::over_time::{Extrapolation, extrapolate};
use super::{Function, Window};

/// `rate`, `increase` and `delta` of floats, extrapolated to the bounds of the window that ends at
/// `end`. Windows of histograms alone have [`Function::histogram_rate`].
pub fn rate(function: &Function<'_>, window: &Window<'_>, end: i64) -> Cell {
    if window.is_mixed() {
        function.note(Annotation::mixed_floats_histograms(function.metric, function.first_position));
        return Cell::Empty;
    }
    let counter = function.function != F::Delta;
    let (times, first) = (window.timestamps, window.values[0]);
    let last = times.len() - 1;
    let begin = end - function.range;
    let starts = if function.uses_starts() { window.starts } else { &[] };
    let start = starts.first().copied().filter(|start| counter && *start != 0 && *start > begin && *start < times[0]);
    let mut difference = difference(function, window, starts);
    let mut factor = match start {
        Some(start) => {
            difference += first;
            factor_since(start, times, end)
        }
        None if last == 0 => return Cell::Empty,
        None => {
            let sampled = (times[last] - times[0]) as f64 / 1000.0;
            let rises = counter && difference > 0.0 && first >= 0.0;
            extrapolate(&Extrapolation {
                bounds: (begin, end),
                samples: (times[0], times[last]),
                intervals: last,
                to_zero: rises.then(|| sampled * (first / difference)),
            })
        }
    };
    if function.function == F::Rate {
        factor /= function.range as f64 / 1000.0;
    }
    Cell::Float(difference * factor)
}

/// By what the increase since `start`, at which the counter was zero, is multiplied to cover the
/// window that ends at `end`.
fn factor_since(start: i64, times: &[i64], end: i64) -> f64 {
    let last = times.len() - 1;
    let sampled = (times[last] - start) as f64 / 1000.0;
    let average = if last == 0 { 0.0 } else { (times[last] - times[0]) as f64 / 1000.0 / last as f64 };
    let to_end = (end - times[last]) as f64 / 1000.0;
    let to_end = if to_end >= average * 1.1 { average / 2.0 } else { to_end };
    if sampled == 0.0 { 1.0 } else { (sampled + to_end) / sampled }
}

/// Last less first, plus what was counted before each reset of a counter.
fn difference(function: &Function<'_>, window: &Window<'_>, starts: &[i64]) -> f64 {
    let (times, values) = (window.timestamps, window.values);
    let mut difference = values[values.len() - 1] - values[0];
    if function.function == F::Delta {
        return difference;
    }
    let times_of = |at: usize| (starts.get(at).copied().unwrap_or(0), times[at]);
    if (1..starts.len()).any(|at| starts_overlap(times_of(at - 1), starts[at])) {
        function.note(Annotation::start_time_overlap(function.metric, function.first_position));
    }
    for at in 1..values.len() {
        let start_reset = !starts.is_empty() && is_start_reset(times_of(at - 1), times_of(at));
        if values[at] < values[at - 1] || start_reset {
            difference += values[at - 1];
        }
    }
    difference
}

/// A sample with its time and start timestamp.
#[derive(Clone)]
struct Point {
    time: i64,
    start: i64,
    cell: Cell,
}

/// The floats and the histograms of a window.
fn points(function: &Function<'_>, window: &Window<'_>) -> (Vec<Point>, Vec<Point>) {
    let start = |starts: &[i64], at: usize| {
        if function.uses_starts() { starts.get(at).copied().unwrap_or(0) } else { 0 }
    };
    let floats = window.timestamps.iter().enumerate().map(|(at, time)| Point {
        time: *time,
        start: start(window.starts, at),
        cell: Cell::Float(window.values[at]),
    });
    let histograms = window.histogram_timestamps.iter().enumerate().map(|(at, time)| Point {
        time: *time,
        start: start(window.histogram_starts, at),
        cell: Cell::Histogram(Arc::clone(&window.histograms[at])),
    });
    (floats.collect(), histograms.collect())
}

/// A window's last two points, from its last two floats and its last two histograms. Of a float and a
/// histogram at the same time the float is the later one, and the histogram takes the place of what was
/// before it, as in Prometheus.
fn last_two((mut last, histograms): (Vec<Point>, Vec<Point>)) -> Option<[Point; 2]> {
    for histogram in histograms {
        match last.as_mut_slice() {
            [] => last.push(histogram),
            [only] => {
                let at = usize::from(histogram.time >= only.time);
                last.insert(at, histogram);
            }
            [before, now, ..] if histogram.time > now.time => {
                std::mem::swap(before, now);
                *now = histogram;
            }
            [before, ..] if histogram.time >= before.time => *before = histogram,
            _ => {}
        }
    }
    last.try_into().ok()
}

/// `irate` and `idelta`: the difference of the last two samples.
pub fn instant(function: &Function<'_>, window: &Window<'_>) -> Cell {
    let Some([before, now]) = &last_two(points(function, &window.last(2))) else { return Cell::Empty };
    let interval = now.time - before.time;
    if interval == 0 {
        return Cell::Empty;
    }
    let rate = function.function == F::Irate;
    match (&before.cell, &now.cell) {
        (Cell::Float(old), Cell::Float(new)) => {
            let start_reset = is_start_reset((before.start, before.time), (now.start, now.time));
            let difference = if rate && (new < old || start_reset) { *new } else { new - old };
            Cell::Float(if rate { difference / (interval as f64 / 1000.0) } else { difference })
        }
        (Cell::Histogram(old), Cell::Histogram(new)) => {
            let pair = [(before, old), (now, new)].map(|(point, histogram)| HistogramSample {
                timestamp: point.time,
                start: point.start,
                histogram,
            });
            function.noting(|notes| histogram::instant(pair, function.difference(), notes))
        }
        _ => {
            function.note(Annotation::mixed_floats_histograms(function.metric, function.first_position));
            Cell::Empty
        }
    }
}

/// `changes` and `resets`. Anchored, the newest sample at or before the start of the window counts
/// as its first.
pub fn count(function: &Function<'_>, window: &Window<'_>, end: i64) -> Cell {
    let (mut all, histograms) = points(function, window);
    all.extend(histograms);
    all.sort_by_key(|point| point.time);
    if function.extension == Extension::Anchored {
        let begin = end - function.range;
        let inside = all.partition_point(|point| point.time <= begin);
        if inside == all.len() {
            return Cell::Empty;
        }
        all.drain(..inside.saturating_sub(1));
    }
    if all.is_empty() {
        return Cell::Empty;
    }
    let resets = function.function == F::Resets;
    let differs = |pair: &[Point]| {
        let (before, now) = (&pair[0], &pair[1]);
        match (&before.cell, &now.cell) {
            (Cell::Float(old), Cell::Float(new)) if resets => {
                new < old || is_start_reset((before.start, before.time), (now.start, now.time))
            }
            (Cell::Float(old), Cell::Float(new)) => old != new && !(old.is_nan() && new.is_nan()),
            (Cell::Histogram(old), Cell::Histogram(new)) if resets => {
                is_start_reset((before.start, before.time), (now.start, now.time)) || new.detect_reset(old)
            }
            (Cell::Histogram(old), Cell::Histogram(new)) => !new.same_data(old),
            _ => true,
        }
    };
    Cell::Float(all.windows(2).filter(|pair| differs(pair)).count() as f64)
}
