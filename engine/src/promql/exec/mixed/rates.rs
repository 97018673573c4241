//! Rates, differences, changes and resets of windows with histograms or start timestamps.

use std::sync::Arc;

use crate::batch::Cell;
use crate::model::histogram::MixedSchemas;
use crate::model::{CounterReset, FloatHistogram};

use super::super::super::annotations::{Annotation, HistogramOperation};
use super::super::super::function::RangeFunction as F;
use super::super::super::plan::Extension;
use super::super::over_time::{Extrapolation, extrapolate, is_start_reset, starts_overlap};
use super::{Function, Window};

/// What the samples of a window say about its increase.
struct Increase {
    value: Cell,
    times: (i64, i64),
    intervals: usize,
    /// The first sample, for the start timestamp and the zero point.
    first: Cell,
    first_start: i64,
}

/// `rate`, `increase` and `delta`, extrapolated to the bounds of the window that ends at `end`.
pub fn rate(function: &Function<'_>, window: &Window<'_>, end: i64) -> Cell {
    if window.is_mixed() {
        function.note(Annotation::mixed_floats_histograms(function.metric, function.first_position));
        return Cell::Empty;
    }
    let counter = function.function != F::Delta;
    let increase = if window.histograms.is_empty() {
        floats(function, window, counter)
    } else {
        match histograms(function, window, counter) {
            Some(increase) => increase,
            None => return Cell::Empty,
        }
    };
    scale(function, increase, counter, end)
}

fn scale(function: &Function<'_>, increase: Increase, counter: bool, end: i64) -> Cell {
    let begin = end - function.range;
    let (first_time, last_time) = increase.times;
    let start = increase.first_start;
    let uses_start = counter && start != 0 && start > begin && start < first_time;
    let (mut value, mut factor);
    if uses_start {
        value = match add_first(function, &increase) {
            Some(value) => value,
            None => return Cell::Empty,
        };
        let sampled = (last_time - start) as f64 / 1000.0;
        let average = match increase.intervals {
            0 => 0.0,
            count => (last_time - first_time) as f64 / 1000.0 / count as f64,
        };
        let mut to_end = (end - last_time) as f64 / 1000.0;
        if to_end >= average * 1.1 {
            to_end = average / 2.0;
        }
        factor = if sampled == 0.0 { 1.0 } else { (sampled + to_end) / sampled };
    } else if increase.intervals == 0 {
        return Cell::Empty;
    } else {
        let sampled = (last_time - first_time) as f64 / 1000.0;
        factor = extrapolate(&Extrapolation {
            bounds: (begin, end),
            samples: increase.times,
            intervals: increase.intervals,
            to_zero: if counter { seconds_to_zero(&increase, sampled) } else { None },
        });
        value = increase.value;
    }
    if function.function == F::Rate {
        factor /= function.range as f64 / 1000.0;
    }
    match &mut value {
        Cell::Float(value) => *value *= factor,
        Cell::Histogram(histogram) => Arc::make_mut(histogram).mul(factor),
        Cell::Empty => {}
    }
    value
}

/// Seconds before the first sample at which a counter with this increase was zero.
fn seconds_to_zero(increase: &Increase, sampled: f64) -> Option<f64> {
    match (&increase.value, &increase.first) {
        (Cell::Float(total), Cell::Float(first)) if *total > 0.0 && *first >= 0.0 => Some(sampled * (first / total)),
        (Cell::Histogram(total), Cell::Histogram(first)) if total.count > 0.0 && first.count >= 0.0 => {
            Some(sampled * (first.count / total.count))
        }
        _ => None,
    }
}

/// The increase since the start timestamp: that between the samples and the first sample itself.
fn add_first(function: &Function<'_>, increase: &Increase) -> Option<Cell> {
    match (&increase.value, &increase.first) {
        (Cell::Float(total), Cell::Float(first)) => Some(Cell::Float(total + first)),
        (Cell::Histogram(total), Cell::Histogram(first)) => {
            let mut sum = (**total).clone();
            add(function, &mut sum, first).then(|| Cell::Histogram(Arc::new(sum)))
        }
        (_, first) => Some(first.clone()),
    }
}

/// Adds `other` and says what was noteworthy; false when they do not combine.
pub fn add(function: &Function<'_>, sum: &mut FloatHistogram, other: &FloatHistogram) -> bool {
    let position = function.first_position;
    match sum.add(other) {
        Ok(combined) => {
            if combined.bounds_reconciled {
                let operation = HistogramOperation::Addition;
                function.note(Annotation::mismatched_custom_buckets(operation, position));
            }
            true
        }
        Err(MixedSchemas) => {
            function.note(Annotation::mixed_exponential_custom(function.metric, position));
            false
        }
    }
}

/// Subtracts `other` and says what was noteworthy; false when they do not combine.
pub fn subtract(function: &Function<'_>, from: &mut FloatHistogram, other: &FloatHistogram) -> bool {
    let position = function.first_position;
    match from.sub(other) {
        Ok(combined) => {
            if combined.bounds_reconciled {
                let operation = HistogramOperation::Subtraction;
                function.note(Annotation::mismatched_custom_buckets(operation, position));
            }
            true
        }
        Err(MixedSchemas) => {
            function.note(Annotation::mixed_exponential_custom(function.metric, position));
            false
        }
    }
}

fn floats(function: &Function<'_>, window: &Window<'_>, counter: bool) -> Increase {
    let (times, values) = (window.timestamps, window.values);
    let starts = if function.uses_starts() { window.starts } else { &[] };
    let last = values.len() - 1;
    let mut difference = values[last] - values[0];
    if counter {
        note_overlap(function, times, starts);
        for at in 1..values.len() {
            let start_reset =
                !starts.is_empty() && is_start_reset((starts[at - 1], times[at - 1]), (starts[at], times[at]));
            if values[at] < values[at - 1] || start_reset {
                difference += values[at - 1];
            }
        }
    }
    Increase {
        value: Cell::Float(difference),
        times: (times[0], times[last]),
        intervals: last,
        first: Cell::Float(values[0]),
        first_start: starts.first().copied().unwrap_or(0),
    }
}

fn note_overlap(function: &Function<'_>, times: &[i64], starts: &[i64]) {
    let overlaps = (1..starts.len()).any(|at| starts_overlap((starts[at - 1], times[at - 1]), starts[at]));
    if overlaps {
        function.note(Annotation::start_time_overlap(function.metric, function.first_position));
    }
}

fn histograms(function: &Function<'_>, window: &Window<'_>, counter: bool) -> Option<Increase> {
    let times = window.histogram_timestamps;
    let last = times.len() - 1;
    let starts = if function.uses_starts() { window.histogram_starts } else { &[] };
    let value = if last == 0 { Cell::Empty } else { Cell::Histogram(Arc::new(difference(function, window, counter)?)) };
    Some(Increase {
        value,
        times: (times[0], times[last]),
        intervals: last,
        first: Cell::Histogram(Arc::clone(&window.histograms[0])),
        first_start: starts.first().copied().unwrap_or(0),
    })
}

/// The increase between the histograms of a window, of which there are at least two.
fn difference(function: &Function<'_>, window: &Window<'_>, counter: bool) -> Option<FloatHistogram> {
    let (times, points) = (window.histogram_timestamps, window.histograms);
    let starts = if function.uses_starts() { window.histogram_starts } else { &[] };
    let reset_at =
        |at: usize| !starts.is_empty() && is_start_reset((starts[at - 1], times[at - 1]), (starts[at], times[at]));
    let last = &points[points.len() - 1];
    let mut previous = Arc::clone(&points[0]);
    if counter && (reset_at(1) || points[1].detect_reset(&previous)) {
        // What came before the reset is not looked at, whatever its buckets.
        previous = Arc::new(FloatHistogram {
            schema: points[1].schema,
            custom_values: Arc::clone(&points[1].custom_values),
            ..FloatHistogram::default()
        });
    }
    note_gauges(function, points, counter);
    let schema = common_schema(function, &previous, points, counter)?;
    let mut result = (**last).clone();
    if !last.uses_custom_buckets() {
        result.reduce_resolution(schema);
    }
    if !subtract(function, &mut result, &previous) {
        return None;
    }
    if counter {
        note_overlap(function, times, starts);
        for (at, point) in points.iter().enumerate().skip(1) {
            if (reset_at(at) || point.detect_reset(&previous)) && !add(function, &mut result, &previous) {
                return None;
            }
            previous = Arc::clone(point);
        }
    }
    result.counter_reset = CounterReset::Gauge;
    result.compact(0);
    Some(result)
}

fn note_gauges(function: &Function<'_>, points: &[Arc<FloatHistogram>], counter: bool) {
    let is_gauge = |point: &Arc<FloatHistogram>| point.counter_reset == CounterReset::Gauge;
    let position = function.first_position;
    if counter && points.iter().any(is_gauge) {
        function.note(Annotation::native_histogram_not_counter(function.metric, position));
    }
    if !(counter || is_gauge(&points[0]) && is_gauge(&points[points.len() - 1])) {
        function.note(Annotation::native_histogram_not_gauge(function.metric, position));
    }
}

/// The coarsest schema that takes part; `None` when exponential and custom buckets meet.
fn common_schema(
    function: &Function<'_>,
    first: &FloatHistogram,
    points: &[Arc<FloatHistogram>],
    counter: bool,
) -> Option<i32> {
    let last = &points[points.len() - 1];
    let between = if counter { &points[1..points.len() - 1] } else { &[] };
    let custom = first.uses_custom_buckets();
    let fits = |point: &Arc<FloatHistogram>| point.uses_custom_buckets() == custom;
    if !fits(last) || !between.iter().all(fits) {
        function.note(Annotation::mixed_exponential_custom(function.metric, function.first_position));
        return None;
    }
    Some(between.iter().map(|point| point.schema).fold(last.schema.min(first.schema), i32::min))
}

/// A sample with its time and start timestamp.
#[derive(Clone)]
struct Point {
    time: i64,
    start: i64,
    cell: Cell,
}

/// All samples of a window in the order of their times.
fn points(function: &Function<'_>, window: &Window<'_>) -> Vec<Point> {
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
    let mut all: Vec<Point> = floats.chain(histograms).collect();
    all.sort_by_key(|point| point.time);
    all
}

/// `irate` and `idelta`: the difference of the last two samples.
pub fn instant(function: &Function<'_>, window: &Window<'_>) -> Cell {
    let all = points(function, window);
    let [.., before, now] = all.as_slice() else { return Cell::Empty };
    let interval = now.time - before.time;
    if interval == 0 {
        return Cell::Empty;
    }
    let rate = function.function == F::Irate;
    let start_reset = is_start_reset((before.start, before.time), (now.start, now.time));
    let seconds = interval as f64 / 1000.0;
    match (&before.cell, &now.cell) {
        (Cell::Float(before), Cell::Float(now)) => {
            let reset = rate && (now < before || start_reset);
            let difference = if reset { *now } else { now - before };
            Cell::Float(if rate { difference / seconds } else { difference })
        }
        (Cell::Histogram(before), Cell::Histogram(now)) => {
            let Some(mut difference) = instant_histogram(function, (before, now), start_reset) else {
                return Cell::Empty;
            };
            if rate {
                difference.div(seconds);
            }
            Cell::Histogram(Arc::new(difference))
        }
        _ => {
            function.note(Annotation::mixed_floats_histograms(function.metric, function.first_position));
            Cell::Empty
        }
    }
}

fn instant_histogram(
    function: &Function<'_>,
    (before, now): (&FloatHistogram, &FloatHistogram),
    start_reset: bool,
) -> Option<FloatHistogram> {
    let rate = function.function == F::Irate;
    let gauges = [before, now].map(|histogram| histogram.counter_reset == CounterReset::Gauge);
    let position = function.first_position;
    if rate && gauges.contains(&true) {
        function.note(Annotation::native_histogram_not_counter(function.metric, position));
    }
    if !rate && gauges.contains(&false) {
        function.note(Annotation::native_histogram_not_gauge(function.metric, position));
    }
    let mut difference = now.clone();
    if (!rate || (!start_reset && !now.detect_reset(before))) && !subtract(function, &mut difference, before) {
        return None;
    }
    difference.counter_reset = CounterReset::Gauge;
    difference.compact(0);
    Some(difference)
}

/// `changes` and `resets`. Anchored, the newest sample at or before the start of the window counts
/// as its first.
pub fn count(function: &Function<'_>, window: &Window<'_>, end: i64) -> Cell {
    let mut all = points(function, window);
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
