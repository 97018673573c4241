//! `quantile` and `count_values`: aggregations that look at every value of a group.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::batch::bitmap;
use crate::model::float_text::{Notation, format_float_as};
use crate::model::text::Quoted;
use crate::model::{Error, Labels, LabelsBuilder};

use super::super::super::annotations::Annotation;
use super::super::super::plan::{Aggregate, Grouping, Operator};
use super::super::super::value::{Matrix, RowLabels};
use super::super::group::{Groups, Merged, View};
use super::super::labels::Made;
use super::super::{Evaluator, math};
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

/// How often each value occurs in each group at each step.
pub fn count_values(eval: &Evaluator<'_>, aggregate: &Aggregate) -> Result<Matrix, Error> {
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
    let mut known: HashMap<(usize, u64), usize> = HashMap::new();
    let mut out = Merged::new(eval.count());
    let rows = eval.eval(&aggregate.input)?;
    let (mut made, row_bytes) = (Made::new(eval), eval.count() * size_of::<f64>());
    for (row, labels) in rows.rows.iter().enumerate() {
        for (step, value) in rows.floats(row) {
            let to = match known.entry((row, value.to_bits())) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(place) => {
                    let text = format_float_as(value, Notation::Fixed);
                    let labels = counted(&mut groups, &labels.labels, label, &text);
                    made.add(&labels.labels, row_bytes)?;
                    *place.insert(out.row(&labels))
                }
            };
            count(&mut out.rows, to, step);
        }
        for (step, histogram) in rows.histograms(row) {
            let text = histogram.to_string();
            let (labels, before) = (counted(&mut groups, &labels.labels, label, &text), out.rows.len());
            let to = out.row(&labels);
            if out.rows.len() > before {
                made.add(&labels.labels, row_bytes)?;
            }
            count(&mut out.rows, to, *step as usize);
        }
    }
    Ok(out.rows)
}

/// Labels of the group that counts `text` among `labels`.
fn counted(groups: &mut Groups<'_>, labels: &Labels, label: &str, text: &str) -> RowLabels {
    let mut builder = LabelsBuilder::from_labels(labels);
    builder.set(label, text);
    let with_value = RowLabels::plain(Arc::new(builder.build()));
    let group = groups.find(&with_value, View::Whole);
    RowLabels::plain(Arc::clone(&groups.labels[group]))
}

fn count(rows: &mut Matrix, row: usize, step: usize) {
    let (values, valid) = rows.cells.row_mut(row);
    values[step] = if bitmap::get(valid, step) { values[step] + 1.0 } else { 1.0 };
    bitmap::set(valid, step);
}
