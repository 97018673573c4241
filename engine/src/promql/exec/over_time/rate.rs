//! Rates of counters and differences of gauges, extrapolated to the bounds of the window.

use crate::batch::{StepGrid, Windows, bitmap};
use crate::simd;
use crate::simd::rate::{Ends, Sign};

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

/// How far the windows of a series reach beyond their samples: it depends on the samples' times alone,
/// which the series of one target share.
#[derive(Debug, Default)]
pub struct Spans {
    reach: simd::rate::Reach,
}

impl Spans {
    /// Finds the spans of `windows` of samples at `timestamps`, which end at the steps of `reference`.
    pub fn find(&mut self, windows: &Windows, timestamps: &[i64], (reference, range): (&StepGrid, i64)) {
        let windows = simd::rate::Windows {
            timestamps,
            starts: &windows.starts,
            ends: &windows.ends,
            end: reference.start,
            interval: reference.interval,
            range,
        };
        simd::rate::reach(simd::isa(), windows, &mut self.reach);
    }
}

pub fn rate(input: &RangeInput<'_>, kind: RateKind, ends: &mut Ends, out: &mut RowOut<'_>) {
    let reach = &input.spans.reach;
    let simd::rate::Reach { firsts, lasts, valid, .. } = reach;
    if !bitmap::any(valid) {
        return;
    }
    let values = input.values;
    ends.first.clear();
    ends.first.extend(firsts.iter().map(|first| values[*first as usize]));
    ends.difference.clear();
    ends.difference.extend(lasts.iter().zip(&ends.first).map(|(last, first)| values[*last as usize] - first));
    if kind.is_counter() && input.falls {
        add_resets(values, (firsts, lasts), &mut ends.difference);
    }
    let seconds = if kind == RateKind::Rate { input.range as f64 / 1000.0 } else { 1.0 };
    let sign = if kind.is_counter() { Sign::Counter } else { Sign::Gauge };
    simd::rate::rates(simd::isa(), reach, ends, simd::rate::Kind { sign, seconds }, out.values);
    out.valid.copy_from_slice(valid);
}

/// Adds to the difference of each window the samples before its resets.
fn add_resets(values: &[f64], (firsts, lasts): (&[u32], &[u32]), differences: &mut [f64]) {
    let resets = resets(values);
    let mut corrections = resets.as_slice();
    for ((first, last), difference) in firsts.iter().zip(lasts).zip(differences) {
        if last == first {
            continue;
        }
        while corrections.first().is_some_and(|at| at <= first) {
            corrections = &corrections[1..];
        }
        for at in corrections.iter().take_while(|at| *at <= last) {
            *difference += values[*at as usize - 1];
        }
    }
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
