//! Aggregations over series: rows flow by, groups stay.

mod choose;
mod fold;
mod native;
mod values;

use std::sync::Arc;
use std::time::Instant;

use crate::batch::{SampleBatch, bitmap};
use crate::model::Error;

use super::super::annotations::{Annotation, HistogramOperation, Short};
use super::super::plan::{Aggregate, AggregateOperator as A, Node, Operator};
use super::super::value::{Matrix, RowLabels};
use super::cores::{self, Reading};
use super::group::{Groups, Numbered, View};
use super::{Evaluator, scalar};
use native::Outcome;

pub use values::stream_counts;

/// The rows of an aggregation that does not stream, one for each group or chosen series.
pub fn eval(eval: &Evaluator<'_>, node: &Node, aggregate: &Aggregate) -> Result<Matrix, Error> {
    let before = eval.account.held();
    let params = match &aggregate.param {
        Some(param) => scalar::eval(eval, param)?,
        None => Vec::new(),
    };
    let result = match aggregate.operator {
        A::Topk | A::Bottomk | A::Limitk | A::LimitRatio => choose::eval(eval, aggregate, &params),
        A::Quantile => values::quantile(eval, aggregate, &params),
        _ => fold(eval, node, aggregate),
    }?;
    eval.account.settle(before, &result)?;
    Ok(result)
}

/// The series of an aggregation `node` that counts values, sorted by their labels.
pub fn count_values(eval: &Evaluator<'_>, node: &Node, aggregate: &Aggregate) -> Result<SampleBatch, Error> {
    let (before, started) = (eval.account.held(), Instant::now());
    let result = values::count_few_values(eval, aggregate)?;
    eval.account.settle_bytes(before, result.heap_bytes())?;
    eval.account.settle_samples(before, result.samples())?;
    eval.query.profile.count(node.id, (result.len(), result.samples(), result.heap_bytes()));
    eval.query.profile.add_time(node.id, started.elapsed());
    Ok(result)
}

/// Aggregations that need no more than a few numbers for each group and step.
fn fold(eval: &Evaluator<'_>, node: &Node, aggregate: &Aggregate) -> Result<Matrix, Error> {
    let cut = match cores::cut(eval, &aggregate.input)? {
        Reading::Parts(cut) => cut,
        Reading::Whole(last) => return fold_rows(&eval.whole_down_to(last), aggregate)?.finish(),
    };
    let mut whole: Option<Fold<'_>> = None;
    for part in cut.run(eval, node, fold_part)? {
        match &mut whole {
            None => whole = Some(Fold::resume(eval, aggregate, part)),
            Some(whole) => whole.merge(&part),
        }
    }
    whole.map_or_else(|| Ok(Matrix::new(eval.count())), Fold::finish)
}

fn fold_rows<'a>(eval: &'a Evaluator<'a>, aggregate: &'a Aggregate) -> Result<Fold<'a>, Error> {
    let mut fold = Fold::new(eval, aggregate);
    let mut held = 0;
    eval.stream(&aggregate.input, &mut |batch| {
        fold.rows(batch)?;
        let now = fold.state.heap_bytes();
        eval.account.hold_bytes(now - std::mem::replace(&mut held, now))
    })?;
    Ok(fold)
}

/// What the aggregation `node` makes of one part of the series.
fn fold_part(eval: &Evaluator<'_>, node: &Node) -> Result<Partial, Error> {
    let Operator::Aggregate(aggregate) = &node.operator else {
        return Err(Error::new(crate::model::ErrorKind::Bug, "a part was folded by what is no aggregation"));
    };
    let Fold { groups, state, .. } = fold_rows(eval, aggregate)?;
    Ok(Partial { groups: groups.finish(), state })
}

/// What one part of the series came to.
struct Partial {
    groups: Numbered,
    state: fold::State,
}

/// An aggregation in progress.
struct Fold<'a> {
    eval: &'a Evaluator<'a>,
    aggregate: &'a Aggregate,
    groups: Groups<'a>,
    state: fold::State,
}

impl<'a> Fold<'a> {
    fn new(eval: &'a Evaluator<'a>, aggregate: &'a Aggregate) -> Self {
        let groups = Groups::new(&aggregate.grouping);
        Self { eval, aggregate, groups, state: fold::State::new(aggregate.operator, eval.count()) }
    }

    /// A fold that goes on from what a part came to.
    fn resume(eval: &'a Evaluator<'a>, aggregate: &'a Aggregate, part: Partial) -> Self {
        let groups = Groups::resume(&aggregate.grouping, part.groups);
        Self { eval, aggregate, groups, state: part.state }
    }

    fn merge(&mut self, part: &Partial) {
        for (from, labels) in part.groups.labels.iter().enumerate() {
            let group = self.groups.find(&RowLabels::plain(Arc::clone(labels)), View::Whole);
            self.state.grow(group + 1);
            self.state.merge(group, &part.state, from);
        }
    }

    fn rows(&mut self, batch: &Matrix) -> Result<(), Error> {
        let delayed = self.eval.query.delays_names();
        let histograms = batch.cells.has_histograms();
        for (row, labels) in batch.rows.iter().enumerate() {
            self.eval.query.budget.check_at(row)?;
            let group = self.groups.find(labels, View::of(self.eval, labels));
            self.state.grow(group + 1);
            if delayed && labels.drop_name {
                self.state.mark_unnamed(group);
            }
            self.state.add_row(group, batch.cells.values(row), batch.cells.valid(row));
            if histograms {
                self.add_histograms(group, batch, row);
            }
        }
        Ok(())
    }

    fn add_histograms(&mut self, group: usize, batch: &Matrix, row: usize) {
        let position = self.aggregate.input.position;
        let labels = &batch.rows[row];
        let metric = match View::of(self.eval, labels) {
            View::Whole => labels.labels.metric_name(),
            View::Unnamed => "",
        };
        for (step, histogram) in batch.cells.histograms(row) {
            match self.aggregate.operator {
                A::Count | A::Group => self.state.add_floats_at(group, *step as usize, 1.0),
                A::Sum | A::Avg => self.state.add_histogram((group, *step), (histogram, metric)),
                other => {
                    let name = other.name();
                    self.eval.query.annotate(Annotation::histogram_ignored_in_aggregation(name, position));
                }
            }
        }
    }

    fn finish(self) -> Result<Matrix, Error> {
        let Self { eval, aggregate, groups, mut state } = self;
        let position = aggregate.input.position;
        let native = std::mem::take(&mut state.native);
        let named = groups.labels.iter().enumerate();
        let rows =
            named.map(|(group, labels)| RowLabels { labels: Arc::clone(labels), drop_name: state.unnamed(group) });
        let mut out = Matrix { rows: rows.collect(), cells: state.finish() };
        for ((group, step), Outcome { result, mixed, reconciled }) in native.finish() {
            if let Some(metric) = mixed {
                eval.query.annotate(Annotation::mixed_exponential_custom(&metric, position));
            }
            if reconciled {
                let operation = HistogramOperation::Aggregation;
                eval.query.annotate(Annotation::mismatched_custom_buckets(operation, position));
            }
            let (_, valid) = out.cells.row_mut(group);
            if bitmap::get(valid, step as usize) {
                bitmap::clear(valid, step as usize);
                eval.query.annotate(Annotation::mixed_floats_histograms_aggregation(position));
            } else if let Some((histogram, collided)) = result {
                if collided {
                    let operation = HistogramOperation::Aggregation;
                    eval.query.annotate(Annotation::counter_reset_collision(operation, position));
                }
                out.cells.histograms_mut(group).push((step, Arc::new(histogram)));
            }
        }
        eval.account.occupied(out)
    }
}

/// The largest and smallest of `params` and whether one is NaN.
fn extremes(params: &[f64]) -> (f64, f64, bool) {
    let max = params.iter().fold(-f64::MAX, |max, value| super::math::max(max, *value));
    let min = params.iter().fold(f64::MAX, |min, value| super::math::min(min, *value));
    (min, max, params.iter().any(|value| value.is_nan()))
}

/// Fails when `k` is no number of series.
fn check_count(params: &[f64]) -> Result<(), Error> {
    let (min, max, nan) = extremes(params);
    if nan {
        return Err(Error::invalid("Parameter value is NaN"));
    }
    if min <= -9_223_372_036_854_775_808.0 {
        return Err(Error::invalid(format!("Scalar value {} underflows int64", Short(min))));
    }
    if max >= 9_223_372_036_854_774_784.0 {
        return Err(Error::invalid(format!("Scalar value {} overflows int64", Short(max))));
    }
    Ok(())
}
