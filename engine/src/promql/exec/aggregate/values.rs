//! `quantile` and `count_values`: aggregations that look at every value of a group.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::batch::{SampleBatch, bitmap};
use crate::model::float_text::{Notation, format_float_as};
use crate::model::text::Quoted;
use crate::model::{Error, Labels, LabelsBuilder};

use super::super::super::annotations::Annotation;
use super::super::super::order::sort_while;
use super::super::super::plan::{Aggregate, Grouping, Operator};
use super::super::super::value::{Matrix, RowLabels};
use super::super::group::{Groups, View};
use super::super::labels::Made;
use super::super::stepwise::Stepwise;
use super::super::{CELLS_MAX, Evaluator, RowSink, math};
use super::extremes;

/// The quantile of each group at each step.
pub fn quantile(eval: &Evaluator<'_>, aggregate: &Aggregate, params: &[f64]) -> Result<Matrix, Error> {
    let steps = eval.count();
    let mut groups = Groups::new(&aggregate.grouping);
    let mut unnamed = Vec::new();
    let mut values: Vec<Vec<f64>> = Vec::new();
    eval.stream(&aggregate.input, &mut |batch| {
        let before = values.len();
        for (row, labels) in batch.rows.iter().enumerate() {
            eval.query.budget.check()?;
            let group = groups.find(labels, View::of(eval, labels));
            if values.len() < (group + 1) * steps {
                values.resize_with((group + 1) * steps, Vec::new);
                unnamed.resize(group + 1, false);
            }
            unnamed[group] |= labels.drop_name && eval.query.delays_names();
            for (step, value) in batch.floats(row) {
                values[group * steps + step].push(value);
            }
            if !batch.histograms(row).is_empty() {
                let position = aggregate.input.position;
                eval.query.annotate(Annotation::histogram_ignored_in_aggregation("quantile", position));
            }
        }
        let grown = (values.len() - before) * size_of::<Vec<f64>>() + batch.cells.samples() * size_of::<f64>();
        eval.account.hold_bytes(grown)
    })?;
    // Behind what the input says: of the same words the last place is told.
    note_quantile(eval, aggregate, params);
    let mut out = Matrix::new(steps);
    for (group, labels) in groups.labels.iter().enumerate() {
        let row = out.push_row(RowLabels { labels: Arc::clone(labels), drop_name: unnamed[group] });
        let (results, valid) = out.cells.row_mut(row);
        for step in 0..steps {
            eval.query.budget.check_at(step)?;
            let samples = &mut values[group * steps + step];
            if !samples.is_empty() {
                results[step] = math::quantile(params[step], samples);
                bitmap::set(valid, step);
            }
        }
    }
    eval.account.occupied(out)
}

fn note_quantile(eval: &Evaluator<'_>, aggregate: &Aggregate, params: &[f64]) {
    let (min, max, nan) = extremes(params);
    let position = aggregate.param.as_ref().map_or(0, |param| param.position);
    let note = |quantile: f64| eval.query.annotate(Annotation::invalid_quantile(quantile, position));
    if nan {
        note(f64::NAN);
    }
    if max > 1.0 {
        note(max);
    }
    if min < 0.0 {
        note(min);
    }
}

/// How often one value occurs in one group, at each step. Most values of a series that changes occur once, those of
/// one that doesn't at every step.
enum Counts {
    /// The step of each time it occurs.
    Few(Vec<u32>),
    /// How often it occurs at each step.
    Dense(Vec<u32>),
}

impl Counts {
    /// Counts a value at `step`, one of `steps`. What is counted more often than there are steps takes less room by
    /// step.
    fn add(&mut self, step: usize, steps: usize) {
        match self {
            Self::Few(seen) if seen.len() < steps => seen.push(step as u32),
            Self::Few(seen) => {
                let mut counts = vec![0; steps];
                seen.iter().chain([&(step as u32)]).for_each(|step| counts[*step as usize] += 1);
                *self = Self::Dense(counts);
            }
            Self::Dense(counts) => counts[step] += 1,
        }
    }

    fn heap_bytes(&self) -> usize {
        let (Self::Few(held) | Self::Dense(held)) = self;
        held.capacity() * size_of::<u32>()
    }

    /// Tells `take` the steps at which it occurs, ascending, and how often.
    fn each(&mut self, mut take: impl FnMut(usize, f64)) {
        match self {
            Self::Few(seen) => {
                seen.sort_unstable();
                let same = seen.chunk_by(|left, right| left == right);
                same.for_each(|same| take(same[0] as usize, same.len() as f64));
            }
            Self::Dense(counts) => {
                let counted = counts.iter().enumerate().filter(|(_, count)| **count > 0);
                counted.for_each(|(step, count)| take(step, f64::from(*count)));
            }
        }
    }
}

/// Counts values and hands the counts to `sink`, sorted by labels.
pub fn stream_counts(eval: &Evaluator<'_>, aggregate: &Aggregate, sink: &mut RowSink<'_>) -> Result<(), Error> {
    let mut out = Matrix::new(eval.count());
    let mut hand_on = |out: &mut Matrix| {
        eval.account.hold_samples(out.cells.samples())?;
        let result = sink(out);
        out.clear();
        result
    };
    for (at, (labels, mut counts)) in count(eval, aggregate)?.into_iter().enumerate() {
        eval.query.budget.check_at(at)?;
        let row = out.push_row(RowLabels::plain(labels));
        let (values, valid) = out.cells.row_mut(row);
        counts.each(|step, count| {
            values[step] = count;
            bitmap::set(valid, step);
        });
        if out.len() * out.steps() >= CELLS_MAX {
            hand_on(&mut out)?;
        }
    }
    hand_on(&mut out)
}

/// The counts of values as samples, sorted by labels.
pub fn count_few_values(eval: &Evaluator<'_>, aggregate: &Aggregate) -> Result<SampleBatch, Error> {
    let mut out = SampleBatch::default();
    for (at, (labels, mut counts)) in count(eval, aggregate)?.into_iter().enumerate() {
        eval.query.budget.check_at(at)?;
        counts.each(|step, count| {
            out.floats.timestamps.push(eval.steps.time(step));
            out.floats.values.push(count);
        });
        out.finish_series(labels);
    }
    eval.account.hold_bytes(out.heap_bytes())?;
    eval.account.hold_samples(out.samples())?;
    Ok(out)
}

/// The labels that each value of each group has, sorted, and how often it occurs.
fn count(eval: &Evaluator<'_>, aggregate: &Aggregate) -> Result<Vec<(Arc<Labels>, Counts)>, Error> {
    let (mut rows, steps) = (Vec::new(), eval.count());
    tell_values(eval, aggregate, |row, labels, step| {
        if row == rows.len() {
            rows.push((Arc::clone(labels), Counts::Few(Vec::new())));
        }
        let counts = &mut rows[row].1;
        let held = counts.heap_bytes();
        counts.add(step, steps);
        match counts.heap_bytes().checked_sub(held) {
            Some(more @ 1..) => eval.account.hold_bytes(more),
            _ => Ok(()),
        }
    })?;
    let order = rows.iter().enumerate().map(|(at, (labels, _))| (&**labels, at)).collect();
    let order = sort_while(order, |left: &(&Labels, _), right| left.0.cmp(right.0), || eval.query.budget.check())?;
    let order: Vec<usize> = order.into_iter().map(|(_, at)| at).collect();
    let mut rows: Vec<_> = rows.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|at| rows[at].take()).collect())
}

/// Tells `count` of each value the number of the row that counts it, counted from 0 in the order of first values, its
/// labels, and the step.
fn tell_values(
    eval: &Evaluator<'_>,
    aggregate: &Aggregate,
    mut count: impl FnMut(usize, &Arc<Labels>, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let label = match aggregate.param.as_ref().map(|param| &param.operator) {
        Some(Operator::Text(label)) => match label.as_str().filter(|label| !label.is_empty()) {
            Some(label) => label,
            None => {
                let name = Quoted(label.as_bytes());
                return Err(Error::invalid(format!("invalid label name {name}")));
            }
        },
        _ => return Err(Error::invalid("count_values needs the name of a label")),
    };
    let grouping = match &aggregate.grouping {
        Grouping::By(names) => {
            let mut names = names.clone();
            names.push(label.to_owned());
            Grouping::By(names)
        }
        without => without.clone(),
    };
    let mut groups = Groups::new(&grouping);
    // Rows of the values of one series.
    let mut known: HashMap<u64, usize> = HashMap::new();
    let rows = eval.eval(&aggregate.input)?;
    let mut work = Stepwise::new(eval, 0);
    work.take(&rows);
    // Beside the counts, which are all of them there at the last step.
    eval.account.hold_samples(work.beside_inputs())?;
    let mut made = Made::new(eval);
    let mut find = |groups: &mut Groups<'_>, labels: &Labels, text: &str| {
        let before = groups.labels.len();
        let mut builder = LabelsBuilder::from_labels(labels);
        builder.set(label, text);
        let group = groups.find(&RowLabels::plain(Arc::new(builder.build())), View::Whole);
        if groups.labels.len() > before {
            made.add(labels, 0)?;
        }
        Ok::<usize, Error>(group)
    };
    for (row, labels) in rows.rows.iter().enumerate() {
        eval.query.budget.check()?;
        known.clear();
        for (at, (step, value)) in rows.floats(row).enumerate() {
            eval.query.budget.check_at(at)?;
            let text = || format_float_as(value, Notation::Fixed);
            let group = match known.entry(value.to_bits()) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(place) => *place.insert(find(&mut groups, &labels.labels, &text())?),
            };
            count(group, &groups.labels[group], step)?;
        }
        for (at, (step, histogram)) in rows.histograms(row).iter().enumerate() {
            eval.query.budget.check_at(at)?;
            let group = find(&mut groups, &labels.labels, &histogram.to_string())?;
            count(group, &groups.labels[group], *step as usize)?;
        }
    }
    Ok(())
}
