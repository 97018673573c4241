//! `absent` and `absent_over_time`: 1 where nothing is.

use std::collections::HashSet;
use std::sync::Arc;

use crate::batch::bitmap;
use crate::model::labels::METRIC_NAME;
use crate::model::matcher::{MatchKind, Matcher};
use crate::model::{Error, Labels, LabelsBuilder};

use super::super::plan::{Node, Operator, OverTime, RangeArgument};
use super::super::value::{Matrix, RowLabels};
use super::stepwise::Stepwise;
use super::{Evaluator, range};

/// `absent(v)`
pub fn eval(eval: &Evaluator<'_>, input: &Node) -> Result<Matrix, Error> {
    let mut present = vec![0; bitmap::words(eval.count())];
    let mut work = Stepwise::new(eval, 0);
    eval.stream(input, &mut |batch| {
        work.take(batch);
        bitmap::union(&mut present, &batch.present_anywhere());
        Ok(())
    })?;
    let labels = match &input.operator {
        Operator::Select(select) => labels_of(&select.matchers),
        _ => Labels::default(),
    };
    let row = row_of_ones(eval, RowLabels::plain(Arc::new(labels)), &present);
    work.give(&row);
    work.pass(eval)?;
    Ok(row)
}

/// `absent_over_time(m)`, and other functions over time as a whole.
pub fn eval_over_time(eval: &Evaluator<'_>, call: &OverTime) -> Result<Matrix, Error> {
    let mut present = vec![0; bitmap::words(eval.count())];
    range::stream(eval, call, &mut |batch| {
        bitmap::union(&mut present, &batch.present_anywhere());
        Ok(())
    })?;
    let labels = match &call.argument {
        RangeArgument::Select(select, _) => labels_of(&select.matchers),
        RangeArgument::Subquery(_) => Labels::default(),
    };
    let labels = RowLabels { labels: Arc::new(labels), drop_name: eval.query.delays_names() };
    Ok(row_of_ones(eval, labels, &present))
}

fn row_of_ones(eval: &Evaluator<'_>, labels: RowLabels, present: &[u64]) -> Matrix {
    let mut out = Matrix::new(eval.count());
    if bitmap::all(present, eval.count()) {
        return out;
    }
    let row = out.push_row(labels);
    let (values, valid) = out.cells.row_mut(row);
    values.fill(1.0);
    bitmap::fill(valid, eval.count());
    bitmap::subtract(valid, present);
    out
}

/// The labels that matchers ask for by one equality each.
fn labels_of(matchers: &[Matcher]) -> Labels {
    let mut builder = LabelsBuilder::default();
    let mut seen = HashSet::new();
    for matcher in matchers.iter().filter(|matcher| matcher.name() != METRIC_NAME) {
        let wanted = matcher.value().as_str().filter(|_| matcher.kind() == MatchKind::Eq);
        match wanted {
            Some(value) if seen.insert(matcher.name()) => builder.set(matcher.name(), value),
            _ => builder.remove(matcher.name()),
        };
    }
    builder.build()
}
