//! Straight lines through the samples of a window, and double exponential smoothing.

use crate::model::Error;

use super::super::math::kahan_add;
use super::{RangeInput, RowOut};

pub fn deriv(input: &RangeInput<'_>, out: &mut RowOut<'_>) {
    input.each(2, out, |_, range| {
        let timestamps = &input.timestamps[range.clone()];
        regression(timestamps, &input.values[range], timestamps[0]).0
    });
}

pub fn predict_linear(input: &RangeInput<'_>, out: &mut RowOut<'_>) {
    input.each(2, out, |step, range| {
        let now = input.steps.time(step);
        let (slope, intercept) = regression(&input.timestamps[range.clone()], &input.values[range], now);
        slope * input.params[0][step] + intercept
    });
}

/// Slope per second and value at `origin` (Unix milliseconds) of the least-squares line.
fn regression(timestamps: &[i64], values: &[f64], origin: i64) -> (f64, f64) {
    let first = values[0];
    if values[1..].iter().all(|value| *value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let (mut x_sum, mut y_sum, mut xy_sum, mut xx_sum) = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0));
    for (time, y) in timestamps.iter().zip(values) {
        let x = (time - origin) as f64 / 1e3;
        x_sum = kahan_add(x, x_sum.0, x_sum.1);
        y_sum = kahan_add(*y, y_sum.0, y_sum.1);
        xy_sum = kahan_add(x * y, xy_sum.0, xy_sum.1);
        xx_sum = kahan_add(x * x, xx_sum.0, xx_sum.1);
    }
    let n = values.len() as f64;
    let [x, y, xy, xx] = [x_sum, y_sum, xy_sum, xx_sum].map(|(sum, c)| sum + c);
    let covariance = xy - x * y / n;
    let variance = xx - x * x / n;
    let slope = covariance / variance;
    (slope, y / n - slope * x / n)
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
        return Err(Error::invalid(format!("invalid smoothing factor. Expected: 0 < sf < 1, got: {smoothing:.6}")));
    }
    if !inside(trend) {
        return Err(Error::invalid(format!("invalid trend factor. Expected: 0 < tf < 1, got: {trend:.6}")));
    }
    Ok(())
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
