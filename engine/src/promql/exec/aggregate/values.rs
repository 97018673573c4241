//! `quantile` and `count_values`: aggregations that look at every value of a group.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::batch::{SampleBatch, bitmap};
use crate::model::float_text::{Notation, format_float_as};
use crate::model::text::Quoted;
use crate::model::{Error, Labels, LabelsBuilder};

use super::super::super::annotations::Annotation;
use super::super::super::plan::{Aggregate, Grouping, Operator};
use super::super::super::value::{Matrix, RowLabels};
use super::super::group::{Groups, View};
use super::super::labels::Made;
use super::super::{CELLS_MAX, Evaluator, RowSink, math};
use super::extremes;

/// The quantile of each group at each step.
pub fn quantile(eval: &Evaluator<'_>, aggregate: &Aggregate, params: &[f64]) -> Result<Matrix, Error> {
    note_quantile(eval, aggregate, params);
    let steps = eval.count();
    let mut groups = Groups::new(&aggregate.grouping);
    let mut unnamed = Vec::new();
    let mut values: Vec<Vec<f64>> = Vec::new();
    eval.stream(&aggregate.input, &mut |batch| {
        let before = values.len();
        for (row, labels) in batch.rows.iter().enumerate() {
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
    let mut out = Matrix::new(steps);
    for (group, labels) in groups.labels.iter().enumerate() {
        let row = out.push_row(RowLabels { labels: Arc::clone(labels), drop_name: unnamed[group] });
        let (results, valid) = out.cells.row_mut(row);
        for step in 0..steps {
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

/// How often each value occurs in each group at each step, without room for steps that have no count: most
/// values of a series that changes occur once.
struct Counted {
    /// The labels of each row, sorted.
    rows: Vec<Arc<Labels>>,
    /// Row and step of each value that was counted, sorted.
    seen: Vec<(u32, u32)>,
}

/// A row of [`Counted`].
struct CountedRow<'a> {
    labels: &'a Arc<Labels>,
    seen: &'a [(u32, u32)],
}

impl Counted {
    fn rows(&self) -> impl Iterator<Item = CountedRow<'_>> {
        let of_rows = self.seen.chunk_by(|left, right| left.0 == right.0);
        of_rows.map(|seen| CountedRow { labels: &self.rows[seen[0].0 as usize], seen })
    }
}

impl CountedRow<'_> {
    /// The steps at which there is a count, and the count.
    fn counts(&self) -> impl Iterator<Item = (usize, f64)> {
        self.seen.chunk_by(|left, right| left == right).map(|same| (same[0].1 as usize, same.len() as f64))
    }
}

/// Counts values and hands the counts to `sink`, sorted by labels.
pub fn stream_counts(eval: &Evaluator<'_>, aggregate: &Aggregate, sink: &mut RowSink<'_>) -> Result<(), Error> {
    let counted = count(eval, aggregate)?;
    let mut out = Matrix::new(eval.count());
    let mut hand_on = |out: &mut Matrix| {
        eval.account.hold_samples(out.cells.samples())?;
        let result = sink(out);
        out.clear();
        result
    };
    for counted in counted.rows() {
        let row = out.push_row(RowLabels::plain(Arc::clone(counted.labels)));
        let (values, valid) = out.cells.row_mut(row);
        for (step, count) in counted.counts() {
            values[step] = count;
            bitmap::set(valid, step);
        }
        if out.len() * out.steps() >= CELLS_MAX {
            hand_on(&mut out)?;
        }
    }
    hand_on(&mut out)
}

/// The counts of values as samples, sorted by labels.
pub fn count_few_values(eval: &Evaluator<'_>, aggregate: &Aggregate) -> Result<SampleBatch, Error> {
    let counted = count(eval, aggregate)?;
    let mut out = SampleBatch::default();
    for row in counted.rows() {
        for (step, count) in row.counts() {
            out.floats.timestamps.push(eval.steps.time(step));
            out.floats.values.push(count);
        }
        out.finish_series(Arc::clone(row.labels));
    }
    eval.account.hold_bytes(out.heap_bytes())?;
    Ok(out)
}

fn count(eval: &Evaluator<'_>, aggregate: &Aggregate) -> Result<Counted, Error> {
    let mut rows: Vec<Arc<Labels>> = Vec::new();
    let mut seen: Vec<(u32, u32)> = Vec::new();
    let mut held = 0;
    tell_values(eval, aggregate, |row, labels, step| {
        if row == rows.len() {
            rows.push(Arc::clone(labels));
        }
        seen.push((row as u32, step as u32));
        let bytes = seen.capacity() * size_of::<(u32, u32)>();
        eval.account.hold_bytes(bytes - std::mem::replace(&mut held, bytes))
    })?;
    let mut order: Vec<u32> = (0..rows.len() as u32).collect();
    order.sort_unstable_by(|left, right| rows[*left as usize].cmp(&rows[*right as usize]));
    let mut places = vec![0; rows.len()];
    (0..).zip(&order).for_each(|(place, row)| places[*row as usize] = place);
    seen.iter_mut().for_each(|(row, _)| *row = places[*row as usize]);
    eval.query.budget.check()?;
    seen.sort_unstable();
    Ok(Counted { rows: order.iter().map(|row| Arc::clone(&rows[*row as usize])).collect(), seen })
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
        known.clear();
        for (step, value) in rows.floats(row) {
            let text = || format_float_as(value, Notation::Fixed);
            let group = match known.entry(value.to_bits()) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(place) => *place.insert(find(&mut groups, &labels.labels, &text())?),
            };
            count(group, &groups.labels[group], step)?;
        }
        for (step, histogram) in rows.histograms(row) {
            let group = find(&mut groups, &labels.labels, &histogram.to_string())?;
            count(group, &groups.labels[group], *step as usize)?;
        }
    }
    Ok(())
}
