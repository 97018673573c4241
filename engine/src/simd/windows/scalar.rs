//! The specification: one window after the other, one sample after the other.

use std::ops::Range;

use super::{Lines, Ranges, Sums};

/// Adds `value` to the compensated sum `(sum, lost)`: Kahan's summation with Neumaier's improvement.
#[inline(always)]
pub(super) fn add(value: f64, (sum, lost): (f64, f64)) -> (f64, f64) {
    let total = sum + value;
    let error = if sum.abs() >= value.abs() { (sum - total) + value } else { (value - total) + sum };
    (total, if total.is_infinite() { 0.0 } else { lost + error })
}

/// A mean that moves along with the samples, and the squared distances from it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread {
    pub(super) count: f64,
    pub(super) mean: (f64, f64),
    pub(super) squares: (f64, f64),
}

impl Spread {
    #[inline(always)]
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - (self.mean.0 + self.mean.1);
        self.mean = add(delta / self.count, self.mean);
        self.squares = add(delta * (value - (self.mean.0 + self.mean.1)), self.squares);
    }
}

/// The four sums of a line: x, y, xy and xx.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line(pub(super) [(f64, f64); 4]);

impl Line {
    #[inline(always)]
    fn add(&mut self, (time, origin): (f64, f64), y: f64) {
        let x = (time - origin) / 1e3;
        for (sum, value) in self.0.iter_mut().zip([x, y, x * y, x * x]) {
            *sum = add(value, *sum);
        }
    }

    /// Whether all sums and what they have lost are numbers.
    #[inline(always)]
    pub(super) fn is_finite(&self) -> bool {
        self.0.iter().all(|(sum, lost)| (sum + lost).is_finite())
    }

    #[inline(always)]
    pub(super) fn store(&self, at: usize, out: &mut Lines) {
        for (column, (sum, lost)) in out.sums.iter_mut().zip(self.0) {
            column[at] = sum + lost;
        }
    }
}

/// Sums from the first sample on.
pub fn sums(values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    sums_of(values, ranges, 0..ranges.len(), out);
}

/// The sums of some of the windows.
#[inline(always)]
pub(super) fn sums_of(values: &[f64], ranges: Ranges<'_>, windows: Range<usize>, out: &mut Sums) {
    for at in windows {
        let (start, end) = ranges.of(at);
        let Some((first, rest)) = values[start..end].split_first() else { continue };
        let sum = rest.iter().fold((*first, 0.0), |sum, value| add(*value, sum));
        (out.sums[at], out.lost[at]) = sum;
    }
}

/// Sums of squares.
pub fn squares(values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    squares_of(values, ranges, 0..ranges.len(), out);
}

/// The sums of squares of some of the windows.
#[inline(always)]
pub(super) fn squares_of(values: &[f64], ranges: Ranges<'_>, windows: Range<usize>, out: &mut Sums) {
    for at in windows {
        let (start, end) = ranges.of(at);
        let mut spread = Spread::default();
        values[start..end].iter().for_each(|value| spread.add(*value));
        (out.sums[at], out.lost[at]) = spread.squares;
    }
}

/// Sums of lines.
pub fn lines(samples: (&[f64], &[f64]), ranges: Ranges<'_>, origins: &[f64], out: &mut Lines) {
    lines_of(samples, ranges, (origins, 0..ranges.len()), out);
}

/// The sums of the lines of some of the windows.
#[inline(always)]
pub(super) fn lines_of(
    (times, values): (&[f64], &[f64]),
    ranges: Ranges<'_>,
    (origins, windows): (&[f64], Range<usize>),
    out: &mut Lines,
) {
    for at in windows {
        let (start, end) = ranges.of(at);
        let mut line = Line::default();
        for (time, value) in times[start..end].iter().zip(&values[start..end]) {
            line.add((*time, origins[at]), *value);
        }
        line.store(at, out);
    }
}
