//! Rates of counters and differences of gauges, extrapolated to the bounds of the window.

use super::{RangeInput, RowOut};

/// What is made of the difference between the samples of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateKind {
    /// Increase of a counter per second.
    Rate,
    /// Increase of a counter.
    Increase,
    /// Difference of a gauge.
    Delta,
}

impl RateKind {
    /// Whether the samples are a counter's.
    pub fn is_counter(self) -> bool {
        self != Self::Delta
    }
}

/// What is known of a window for extrapolation; times in Unix milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Extrapolation {
    /// Where the window begins (exclusive) and ends.
    pub bounds: (i64, i64),
    /// First and last sample.
    pub samples: (i64, i64),
    /// Number of samples less one.
    pub intervals: usize,
    /// Seconds before the first sample in which a counter of this value and increase was zero.
    pub to_zero: Option<f64>,
}

pub fn rate(input: &RangeInput<'_>, kind: RateKind, out: &mut RowOut<'_>) {
    let resets = if kind.is_counter() { resets(input.values) } else { Vec::new() };
    let mut corrections = resets.as_slice();
    let seconds = input.range as f64 / 1000.0;
    input.each(2, out, |step, range| {
        let (first, last) = (range.start, range.end - 1);
        let mut difference = input.values[last] - input.values[first];
        while corrections.first().is_some_and(|at| *at as usize <= first) {
            corrections = &corrections[1..];
        }
        for at in corrections.iter().take_while(|at| **at as usize <= last) {
            difference += input.values[*at as usize - 1];
        }
        let end = input.reference.time(step);
        let (first_time, last_time) = (input.timestamps[first], input.timestamps[last]);
        let start_value = input.values[first];
        let sampled = (last_time - first_time) as f64 / 1000.0;
        let rises = kind.is_counter() && difference > 0.0 && start_value >= 0.0;
        let factor = extrapolate(&Extrapolation {
            bounds: (end - input.range, end),
            samples: (first_time, last_time),
            intervals: last - first,
            to_zero: rises.then(|| sampled * (start_value / difference)),
        });
        let factor = if kind == RateKind::Rate { factor / seconds } else { factor };
        difference * factor
    });
}

/// By what a difference between samples is multiplied to cover the whole window.
#[inline(always)]
pub fn extrapolate(window: &Extrapolation) -> f64 {
    let mut to_start = (window.samples.0 - window.bounds.0) as f64 / 1000.0;
    let mut to_end = (window.bounds.1 - window.samples.1) as f64 / 1000.0;
    let sampled = (window.samples.1 - window.samples.0) as f64 / 1000.0;
    let average = sampled / window.intervals as f64;
    let threshold = average * 1.1;
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if let Some(to_zero) = window.to_zero
        && to_zero < to_start
    {
        to_start = to_zero;
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled }
}

/// The samples that are less than the one before them.
fn resets(values: &[f64]) -> Vec<u32> {
    let mut found = Vec::new();
    for (at, pair) in values.windows(2).enumerate() {
        if pair[1] < pair[0] {
            found.push(at as u32 + 1);
        }
    }
    found
}

pub fn instant(input: &RangeInput<'_>, kind: RateKind, out: &mut RowOut<'_>) {
    for step in 0..input.windows.len() {
        let range = input.windows.range(step);
        if range.len() < 2 {
            continue;
        }
        let last = range.end - 1;
        let interval = input.timestamps[last] - input.timestamps[last - 1];
        if interval == 0 {
            continue;
        }
        let (before, now) = (input.values[last - 1], input.values[last]);
        let reset = kind == RateKind::Rate && now < before;
        let difference = if reset { now } else { now - before };
        let per_second = kind == RateKind::Rate;
        out.set(step, if per_second { difference / (interval as f64 / 1000.0) } else { difference });
    }
}
