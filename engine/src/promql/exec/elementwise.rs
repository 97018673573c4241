//! Functions of floats, sample by sample, over whole rows.

use std::sync::Arc;

use crate::batch::{StepGrid, bitmap};
use crate::model::{Error, FloatHistogram, Labels};

use super::super::function::FloatFunction;
use super::super::plan::Node;
use super::super::value::{Matrix, RowLabels, without_metadata};
use super::calendar::Date;
use super::group::{self, Room};
use super::stepwise::Stepwise;
use super::{Evaluator, RowSink, elementary, math, scalar};

/// Streams `function` of the rows of its first argument.
pub fn stream(
    eval: &Evaluator<'_>,
    function: FloatFunction,
    args: &[Node],
    sink: &mut RowSink<'_>,
) -> Result<(), Error> {
    let before = eval.account.held();
    let params = args[1..].iter().map(|arg| scalar::eval(eval, arg)).collect::<Result<Vec<_>, _>>()?;
    let mut work = Stepwise::new(eval, params.len());
    let mut change = |batch: &mut Matrix| {
        work.take(batch);
        batch.cells.clear_histograms();
        for row in 0..batch.len() {
            eval.query.budget.check_at(row)?;
            let (values, valid) = batch.cells.row_mut(row);
            apply(function, &params, values, valid);
        }
        work.give(batch);
        Ok(())
    };
    eval.stream_renamed(&args[0], &mut change, sink)?;
    work.hold(eval, before)
}

/// A calendar function without an argument: of the steps themselves.
pub fn calendar_of_steps(steps: &StepGrid, function: FloatFunction) -> Matrix {
    let mut out = Matrix::new(steps.count);
    let row = out.push_row(RowLabels::plain(Labels::default().into()));
    let (values, valid) = out.cells.row_mut(row);
    for (step, value) in values.iter_mut().enumerate() {
        *value = (steps.time(step) / 1000) as f64;
    }
    bitmap::fill(valid, steps.count);
    apply(function, &[], values, valid);
    out
}

/// Streams the negative of all samples.
pub fn negate(eval: &Evaluator<'_>, input: &Node, sink: &mut RowSink<'_>) -> Result<(), Error> {
    let mut change = |batch: &mut Matrix| {
        let histograms = batch.cells.has_histograms();
        for row in 0..batch.len() {
            eval.query.budget.check_at(row)?;
            for value in batch.cells.row_mut(row).0 {
                *value = -*value;
            }
            if histograms {
                for (_, histogram) in batch.cells.histograms_mut(row) {
                    *histogram = Arc::new(scaled(histogram, -1.0));
                }
            }
        }
        Ok(())
    };
    if !input.merges_kinds() && (eval.query.delays_names() || input.distinct_without_name()) {
        return eval.stream_without((without_metadata, Room::Both), input, &mut change, sink);
    }
    let mut all = eval.eval_both(input)?;
    change(&mut all)?;
    eval.drop_names(&mut all);
    sink(&mut group::merge_same_labels(eval, all, Room::Both)?)
}

fn scaled(histogram: &FloatHistogram, factor: f64) -> FloatHistogram {
    let mut out = histogram.clone();
    out.mul(factor);
    out
}

fn apply(function: FloatFunction, params: &[Vec<f64>], values: &mut [f64], valid: &mut [u64]) {
    use FloatFunction as F;
    match function {
        F::Abs => map(values, f64::abs),
        F::Ceil => map(values, f64::ceil),
        F::Floor => map(values, f64::floor),
        F::Exp => elementary::exp_all(values),
        F::Sqrt => map(values, f64::sqrt),
        F::Ln => map(values, elementary::ln),
        F::Log2 => map(values, elementary::log2),
        F::Log10 => map(values, elementary::log10),
        F::Sin => map(values, f64::sin),
        F::Cos => map(values, f64::cos),
        F::Tan => map(values, f64::tan),
        F::Asin => map(values, f64::asin),
        F::Acos => map(values, f64::acos),
        F::Atan => map(values, f64::atan),
        F::Sinh => map(values, elementary::sinh),
        F::Cosh => map(values, elementary::cosh),
        F::Tanh => map(values, f64::tanh),
        F::Asinh => map(values, math::asinh),
        F::Acosh => map(values, math::acosh),
        F::Atanh => map(values, f64::atanh),
        F::Rad => map(values, |value| value * std::f64::consts::PI / 180.0),
        F::Deg => map(values, |value| value * 180.0 / std::f64::consts::PI),
        F::Sgn => map(values, |value| {
            if value < 0.0 {
                -1.0
            } else if value > 0.0 {
                1.0
            } else {
                value
            }
        }),
        F::Clamp => clamp(values, valid, Some(&params[0]), Some(&params[1])),
        F::ClampMin => clamp(values, valid, Some(&params[0]), None),
        F::ClampMax => clamp(values, valid, None, Some(&params[0])),
        F::Round => round(values, params.first()),
        F::DaysInMonth => dates(values, |date| f64::from(date.days_in_month())),
        F::DayOfMonth => dates(values, |date| f64::from(date.day)),
        F::DayOfWeek => dates(values, |date| f64::from(date.weekday)),
        F::DayOfYear => dates(values, |date| f64::from(date.day_of_year)),
        F::Hour => dates(values, |date| f64::from(date.hour)),
        F::Minute => dates(values, |date| f64::from(date.minute)),
        F::Month => dates(values, |date| f64::from(date.month)),
        F::Year => dates(values, |date| date.year as f64),
    }
}

#[inline]
fn map(values: &mut [f64], f: impl Fn(f64) -> f64) {
    for value in values {
        *value = f(*value);
    }
}

fn dates(values: &mut [f64], f: impl Fn(&Date) -> f64) {
    map(values, |value| f(&Date::from_unix(math::to_i64(value))));
}

/// Bounds values; where the bounds are reversed nothing stays.
fn clamp(values: &mut [f64], valid: &mut [u64], low: Option<&Vec<f64>>, high: Option<&Vec<f64>>) {
    for (step, value) in values.iter_mut().enumerate() {
        let low = low.map_or(f64::NEG_INFINITY, |low| low[step]);
        let high = high.map_or(f64::INFINITY, |high| high[step]);
        if high < low {
            bitmap::clear(valid, step);
        }
        *value = math::max(low, math::min(high, *value));
    }
}

/// Rounds to the nearest multiple, ties upwards.
fn round(values: &mut [f64], nearest: Option<&Vec<f64>>) {
    for (step, value) in values.iter_mut().enumerate() {
        let inverse = 1.0 / nearest.map_or(1.0, |nearest| nearest[step]);
        *value = (*value * inverse + 0.5).floor() / inverse;
    }
}
