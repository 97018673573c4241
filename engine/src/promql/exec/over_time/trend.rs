//! Straight lines through the samples of a window, and double exponential smoothing.

use std::ops::Range;

use crate::model::Error;
use crate::simd::{self, windows};

use super::{RangeInput, RowOut};

/// Room for the lines of one series after the other.
#[derive(Debug, Default)]
pub struct Lines {
    /// Milliseconds since the first sample.
    times: Vec<f64>,
    origins: Vec<f64>,
    /// Of each sample, the first of those before it that are all equal to it.
    level_since: Vec<u32>,
    found: windows::Lines,
}

impl Lines {
    /// The sums of all lines, with the origin of window `step` at `origin(step, its first sample)`
    /// (Unix milliseconds).
    fn find(&mut self, input: &RangeInput<'_>, origin: impl Fn(usize, usize) -> i64) {
        let first = input.timestamps.first().copied().unwrap_or(0);
        self.times.clear();
        self.times.extend(input.timestamps.iter().map(|time| (time - first) as f64));
        self.origins.clear();
        self.origins.extend((0..input.windows.len()).map(|step| {
            let window = input.windows.range(step);
            if window.is_empty() { 0.0 } else { (origin(step, window.start) - first) as f64 }
        }));
        windows::lines(simd::isa(), (&self.times, input.values), input.ranges(), &self.origins, &mut self.found);
        let mut before = f64::NAN;
        let mut since = 0;
        self.level_since.clear();
        self.level_since.extend((0..).zip(input.values).map(|(at, value)| {
            since = if *value == before { since } else { at };
            before = *value;
            since
        }));
    }

    /// Slope per second and value at its origin of the least-squares line of window `step`, which is `range` of the
    /// samples `values`.
    fn line(&self, step: usize, values: &[f64], range: Range<usize>) -> (f64, f64) {
        if self.level_since[range.end - 1] as usize <= range.start {
            let first = values[range.start];
            return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
        }
        (self.found.slopes[step], self.found.intercepts[step])
    }
}

pub fn deriv(input: &RangeInput<'_>, lines: &mut Lines, out: &mut RowOut<'_>) {
    lines.find(input, |_, first| input.timestamps[first]);
    input.each(2, out, |step, range| lines.line(step, input.values, range).0);
}

pub fn predict_linear(input: &RangeInput<'_>, lines: &mut Lines, out: &mut RowOut<'_>) {
    lines.find(input, |step, _| input.steps.time(step));
    input.each(2, out, |step, range| {
        let (slope, intercept) = lines.line(step, input.values, range);
        slope * input.params[0][step] + intercept
    });
}

pub fn double_exponential_smoothing(input: &RangeInput<'_>, out: &mut RowOut<'_>) -> Result<(), Error> {
    for step in 0..input.windows.len() {
        let window = input.window(step);
        if window.is_empty() {
            continue;
        }
        let (smoothing, trend) = (input.params[0][step], input.params[1][step]);
        check_factors(smoothing, trend)?;
        if window.len() >= 2 {
            out.set(step, smooth(window, smoothing, trend));
        }
    }
    Ok(())
}

/// Fails when a factor is not between 0 and 1.
pub fn check_factors(smoothing: f64, trend: f64) -> Result<(), Error> {
    let inside = |factor: f64| !(factor <= 0.0 || factor >= 1.0);
    if !inside(smoothing) {
        return Err(Error::invalid(format!(
            "invalid smoothing factor. Expected: 0 < sf < 1, got: {}",
            fixed(smoothing)
        )));
    }
    if !inside(trend) {
        return Err(Error::invalid(format!("invalid trend factor. Expected: 0 < tf < 1, got: {}", fixed(trend))));
    }
    Ok(())
}

/// A number with six digits behind the point.
fn fixed(value: f64) -> String {
    if value.is_infinite() { if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned() } else { format!("{value:.6}") }
}

fn smooth(window: &[f64], smoothing: f64, trend: f64) -> f64 {
    let (mut before, mut now) = (0.0, window[0]);
    let mut slope = window[1] - window[0];
    for (at, value) in window.iter().enumerate().skip(1) {
        let scaled = smoothing * value;
        if at > 1 {
            slope = trend * (now - before) + (1.0 - trend) * slope;
        }
        let carried = (1.0 - smoothing) * (now + slope);
        (before, now) = (now, scaled + carried);
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_that_are_refused_are_written_as_by_go() {
        let said = |smoothing, trend| check_factors(smoothing, trend).unwrap_err().message().to_owned();
        assert_eq!(said(f64::INFINITY, 0.5), "invalid smoothing factor. Expected: 0 < sf < 1, got: +Inf");
        assert_eq!(said(0.5, f64::NEG_INFINITY), "invalid trend factor. Expected: 0 < tf < 1, got: -Inf");
        assert_eq!(said(1.5, 0.5), "invalid smoothing factor. Expected: 0 < sf < 1, got: 1.500000");
        assert!(check_factors(0.5, f64::NAN).is_ok());
    }
}
