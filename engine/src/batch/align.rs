//! Instant vectors: for each step the newest sample at or before it, within the lookback delta.

use std::sync::Arc;

use crate::model::FloatHistogram;
use crate::model::value::is_stale_nan;

use super::bitmap;
use super::sample::SeriesSamples;
use super::step::StepGrid;
use super::window::bounds;

/// Where no sample was found.
pub const NONE: u32 = u32::MAX;

/// For each time of `grid` the index of the newest of `timestamps` in `(time - lookback, time]`,
/// or [`NONE`].
pub fn latest(grid: &StepGrid, lookback: i64, timestamps: &[i64], picks: &mut Vec<u32>) {
    bounds(grid, 0, timestamps, picks);
    for (step, pick) in picks.iter_mut().enumerate() {
        let newest = pick.checked_sub(1).filter(|at| timestamps[*at as usize] > grid.time(step) - lookback);
        *pick = newest.unwrap_or(NONE);
    }
}

/// Fills a row with the floats that `picks` chose; stale markers leave their step empty.
pub fn gather(picks: &[u32], samples: &[f64], values: &mut [f64], valid: &mut [u64]) {
    for (step, pick) in picks.iter().enumerate() {
        let Some(value) = samples.get(*pick as usize) else { continue };
        if !is_stale_nan(*value) {
            values[step] = *value;
            bitmap::set(valid, step);
        }
    }
}

/// For each step whichever of float and histogram is newer; what loses becomes [`NONE`].
pub fn newer(series: &SeriesSamples<'_>, floats: &mut [u32], histograms: &mut [u32]) {
    for (float, histogram) in floats.iter_mut().zip(histograms) {
        let (Some(left), Some(right)) =
            (series.timestamps.get(*float as usize), series.histogram_timestamps.get(*histogram as usize))
        else {
            continue;
        };
        if left >= right {
            *histogram = NONE;
        } else {
            *float = NONE;
        }
    }
}

/// The histograms that `picks` chose, by step, without stale ones.
pub fn gather_histograms(picks: &[u32], samples: &[Arc<FloatHistogram>], row: &mut Vec<(u32, Arc<FloatHistogram>)>) {
    for (step, pick) in picks.iter().enumerate() {
        let Some(histogram) = samples.get(*pick as usize) else { continue };
        if !is_stale_nan(histogram.sum) {
            row.push((step as u32, Arc::clone(histogram)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lookback_window_is_open_on_the_left() {
        let mut picks = Vec::new();
        let grid = StepGrid::range(0, 40, 10);
        latest(&grid, 20, &[0, 5], &mut picks);
        assert_eq!(picks, [0, 1, 1, NONE, NONE]);
        latest(&grid.shifted(0, Some(5)), 20, &[0, 5], &mut picks);
        assert_eq!(picks, [1; 5]);
    }
}
