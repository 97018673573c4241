//! Compensated sums, averages and variances of windows.
//!
//! Short windows are summed from their first sample, as Prometheus does. Long windows that overlap
//! are summed by two stacks: suffix sums of what will leave, one running sum of what came since;
//! nothing is ever subtracted, so nothing is lost. Windows of whole numbers lose nothing either way, and
//! are differences.

use crate::simd;
use crate::simd::windows::{self, Sums};

use super::super::math::kahan_add;
use super::{RangeInput, RowOut};

/// Average number of samples in a window from which on two stacks are used.
const LONG_WINDOW: usize = 64;

pub fn sum(input: &RangeInput<'_>, sums: &mut Sums, out: &mut RowOut<'_>) {
    if !is_summed_at_once(input, sums) {
        if is_long(input) {
            let mut stacks = Stacks::default();
            input.each(1, out, |_, range| {
                let (sum, c) = stacks.slide_to(input.values, range);
                if sum.is_infinite() { sum } else { sum + c }
            });
            return;
        }
        windows::sums(simd::isa(), input.values, input.ranges(), sums);
    }
    input.each(1, out, |step, _| {
        let (sum, c) = (sums.sums[step], sums.lost[step]);
        if sum.is_infinite() { sum } else { sum + c }
    });
}

pub fn avg(input: &RangeInput<'_>, sums: &mut Sums, out: &mut RowOut<'_>) {
    if !is_summed_at_once(input, sums) {
        if is_long(input) {
            let mut stacks = Stacks::default();
            input.each(1, out, |_, range| {
                let count = range.len() as f64;
                let (sum, c) = stacks.slide_to(input.values, range.clone());
                if sum.is_infinite() { mean(&input.values[range]) } else { sum / count + c / count }
            });
            return;
        }
        windows::sums(simd::isa(), input.values, input.ranges(), sums);
    }
    input.each(1, out, |step, range| {
        let (sum, c, count) = (sums.sums[step], sums.lost[step], range.len() as f64);
        // A sum that became infinite on its way is none to divide.
        if sum.is_finite() { sum / count + c / count } else { mean(&input.values[range]) }
    });
}

pub fn variance(input: &RangeInput<'_>, sums: &mut Sums, out: &mut RowOut<'_>, result: impl Fn(f64) -> f64) {
    windows::squares(simd::isa(), input.values, input.ranges(), sums);
    input.each(1, out, |step, range| result((sums.sums[step] + sums.lost[step]) / range.len() as f64));
}

/// The mean: directly while the sum is finite, incrementally from where it would overflow.
pub fn mean(window: &[f64]) -> f64 {
    let (mut sum, mut c) = (window[0], 0.0);
    for (at, value) in window.iter().enumerate().skip(1) {
        let (next, next_c) = kahan_add(*value, sum, c);
        if next.is_infinite() {
            return incremental_mean(window, at, (sum, c));
        }
        (sum, c) = (next, next_c);
    }
    let count = window.len() as f64;
    sum / count + c / count
}

#[cold]
fn incremental_mean(window: &[f64], from: usize, (sum, c): (f64, f64)) -> f64 {
    let mut mean = sum / from as f64;
    let mut c = c / from as f64;
    for (at, value) in window.iter().enumerate().skip(from) {
        let count = (at + 1) as f64;
        let q = (count - 1.0) / count;
        (mean, c) = kahan_add(value / count, q * mean, q * c);
    }
    mean + c
}

/// Whether `sums` are the windows' now: those of whole numbers are found by looking at each sample once.
fn is_summed_at_once(input: &RangeInput<'_>, sums: &mut Sums) -> bool {
    overlaps(input) && windows::whole_sums(simd::isa(), input.values, input.ranges(), sums)
}

/// Whether parts of windows are summed once for all of them. Where a sum could overflow it is made in the order of
/// the samples, which another order might not show.
fn is_long(input: &RangeInput<'_>) -> bool {
    let is_long = input.windows.total() > LONG_WINDOW * input.windows.len() && overlaps(input);
    is_long && !may_overflow(input.values)
}

fn may_overflow(values: &[f64]) -> bool {
    // Infinite ones make any sum of theirs infinite, in every order.
    let finite = values.iter().map(|value| value.abs()).filter(|value| value.is_finite());
    let greatest = finite.fold(0.0f64, f64::max);
    !(greatest * values.len() as f64).is_finite()
}

/// Whether a sample is in more than two windows on average.
fn overlaps(input: &RangeInput<'_>) -> bool {
    input.windows.total() > 2 * input.values.len()
}

/// The sum of a sliding window.
#[derive(Default)]
struct Stacks {
    /// `suffixes[i]`: sum of the samples from `base + i` up to `middle`.
    suffixes: Vec<(f64, f64)>,
    base: usize,
    middle: usize,
    end: usize,
    back: (f64, f64),
}

impl Stacks {
    fn slide_to(&mut self, samples: &[f64], range: std::ops::Range<usize>) -> (f64, f64) {
        if range.start >= self.middle {
            self.rebuild(samples, range.clone());
        }
        for value in &samples[self.end..range.end] {
            self.back = kahan_add(*value, self.back.0, self.back.1);
        }
        self.end = range.end;
        let front = self.suffixes[range.start - self.base];
        if self.end == self.middle {
            return front;
        }
        let (sum, c) = kahan_add(self.back.0, front.0, front.1);
        (sum, if sum.is_infinite() { 0.0 } else { c + self.back.1 })
    }

    fn rebuild(&mut self, samples: &[f64], range: std::ops::Range<usize>) {
        let mut total = (0.0, 0.0);
        self.suffixes.clear();
        for value in samples[range.clone()].iter().rev() {
            total = kahan_add(*value, total.0, total.1);
            self.suffixes.push(total);
        }
        self.suffixes.reverse();
        (self.base, self.middle, self.end) = (range.start, range.end, range.end);
        self.back = (0.0, 0.0);
    }
}
