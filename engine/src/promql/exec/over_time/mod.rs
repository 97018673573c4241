//! Functions of range vectors over float samples: one row of steps from one series.
//!
//! Each sample enters and leaves a window once: windows are index ranges whose ends ascend.

mod counts;
mod extrema;
mod order;
mod pick;
mod rate;
mod sums;
mod trend;

use std::convert::Infallible;
use std::ops::Range;

use crate::batch::{StepGrid, Windows, bitmap};
use crate::model::Error;
use crate::simd;

use super::super::budget::Budget;
use super::super::function::RangeFunction;

pub use rate::{Extrapolation, RateKind, Spans, extrapolate};
pub use trend::check_factors;

/// One series with its windows.
#[derive(Clone, Copy, Debug)]
pub struct RangeInput<'a> {
    /// Unix milliseconds of the samples, ascending, without stale markers.
    pub timestamps: &'a [i64],
    /// Samples.
    pub values: &'a [f64],
    /// Whether a sample is less than the one before it.
    pub falls: bool,
    /// A window for each step.
    pub windows: &'a Windows,
    /// How far the windows reach, for rates.
    pub spans: &'a Spans,
    /// Steps of the evaluation.
    pub steps: &'a StepGrid,
    /// Length of the windows in milliseconds.
    pub range: i64,
    /// Scalar arguments, one value for each step.
    pub params: &'a [Vec<f64>],
    /// What is asked in between, where a window takes long, whether the query is still wanted.
    pub budget: &'a Budget,
}

/// Room that is used for one series after the other.
#[derive(Debug, Default)]
pub struct Scratch {
    ends: simd::rate::Ends,
    sums: simd::windows::Sums,
    lines: trend::Lines,
    ranks: order::Ranks,
}

/// A row to be filled.
#[derive(Debug)]
pub struct RowOut<'a> {
    /// Values by step.
    pub values: &'a mut [f64],
    /// Which steps have a value.
    pub valid: &'a mut [u64],
}

impl RowOut<'_> {
    /// Gives step `step` the value `value`.
    #[inline]
    pub fn set(&mut self, step: usize, value: f64) {
        self.values[step] = value;
        bitmap::set(self.valid, step);
    }
}

impl<'a> RangeInput<'a> {
    /// The values of window `step`.
    #[inline]
    pub fn window(&self, step: usize) -> &'a [f64] {
        &self.values[self.windows.range(step)]
    }

    /// The windows as kernels take them.
    fn ranges(&self) -> simd::windows::Ranges<'a> {
        simd::windows::Ranges { starts: &self.windows.starts, ends: &self.windows.ends }
    }

    /// Calls `f` for each window that has at least `least` samples and sets what it gives.
    #[inline]
    fn each(&self, least: usize, out: &mut RowOut<'_>, mut f: impl FnMut(usize, Range<usize>) -> f64) {
        let Ok(()) = self.try_each(least, out, |step, range| Ok::<_, Infallible>(f(step, range)));
    }

    /// The same; the first error of `f` ends it.
    #[inline]
    fn try_each<E>(
        &self,
        least: usize,
        out: &mut RowOut<'_>,
        mut f: impl FnMut(usize, Range<usize>) -> Result<f64, E>,
    ) -> Result<(), E> {
        for step in 0..self.windows.len() {
            let range = self.windows.range(step);
            if range.len() >= least {
                out.set(step, f(step, range)?);
            }
        }
        Ok(())
    }
}

/// Evaluates `function` for all windows of one series.
pub fn apply(
    function: RangeFunction,
    input: &RangeInput<'_>,
    scratch: &mut Scratch,
    out: &mut RowOut<'_>,
) -> Result<(), Error> {
    use RangeFunction as F;
    match function {
        F::Rate => rate::rate(input, RateKind::Rate, &mut scratch.ends, out),
        F::Increase => rate::rate(input, RateKind::Increase, &mut scratch.ends, out),
        F::Delta => rate::rate(input, RateKind::Delta, &mut scratch.ends, out),
        F::Irate => rate::instant(input, RateKind::Rate, out),
        F::Idelta => rate::instant(input, RateKind::Delta, out),
        F::Sum => sums::sum(input, &mut scratch.sums, out),
        F::Avg => sums::avg(input, &mut scratch.sums, out),
        F::Stddev => sums::variance(input, &mut scratch.sums, out, f64::sqrt),
        F::Stdvar => sums::variance(input, &mut scratch.sums, out, |variance| variance),
        F::Count => input.each(1, out, |_, range| range.len() as f64),
        F::Present | F::Absent => input.each(1, out, |_, _| 1.0),
        F::Min => extrema::min(input, out),
        F::Max => extrema::max(input, out),
        F::TsOfMin => extrema::time_of_min(input, out),
        F::TsOfMax => extrema::time_of_max(input, out),
        F::First => pick::first(input, out),
        F::Last => pick::last(input, out),
        F::TsOfFirst => pick::time_of_first(input, out),
        F::TsOfLast => pick::time_of_last(input, out),
        F::Quantile => return order::quantile(input, &mut scratch.ranks, out),
        F::Mad => return order::median_deviation(input, out),
        F::Changes => counts::changes(input, out),
        F::Resets => counts::resets(input, out),
        F::Deriv => trend::deriv(input, &mut scratch.lines, out),
        F::PredictLinear => trend::predict_linear(input, &mut scratch.lines, out),
        F::DoubleExponentialSmoothing => return trend::double_exponential_smoothing(input, out),
    }
    Ok(())
}
