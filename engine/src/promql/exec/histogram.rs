//! Functions of histograms, classic and native: `histogram_quantile` and its kin.

use std::collections::HashMap;
use std::sync::Arc;

use crate::batch::bitmap;
use crate::model::float_text::format_label_float;
use crate::model::{Error, FloatHistogram, Labels, LabelsBuilder};

use super::super::annotations::{Annotation, Monotonicity};
use super::super::function::HistogramFunction;
use super::super::histogram::{Notes, classic, native};
use super::super::plan::Node;
use super::super::value::{Matrix, RowLabels, without_name};
use super::group::{Merged, Room, same_labels};
use super::stepwise::Stepwise;
use super::{Evaluator, RowSink, scalar};

/// The label that holds the upper bound of a classic bucket.
const BUCKET_LABEL: &str = "le";

/// Streams a float for each native histogram; floats are left out.
pub fn stream(
    eval: &Evaluator<'_>,
    function: HistogramFunction,
    input: &Node,
    sink: &mut RowSink<'_>,
) -> Result<(), Error> {
    let of = |histogram: &FloatHistogram| match function {
        HistogramFunction::Count => histogram.count,
        HistogramFunction::Sum => histogram.sum,
        HistogramFunction::Avg => native::avg(histogram),
        HistogramFunction::Stddev => native::variance(histogram).sqrt(),
        HistogramFunction::Stdvar => native::variance(histogram),
    };
    let (before, mut work) = (eval.account.held(), Stepwise::new(eval, 0));
    let mut change = |batch: &mut Matrix| {
        work.take(batch);
        for row in 0..batch.len() {
            let histograms: Vec<_> = batch.cells.histograms(row).to_vec();
            let (values, valid) = batch.cells.row_mut(row);
            valid.fill(0);
            for (step, histogram) in histograms {
                values[step as usize] = of(&histogram);
                bitmap::set(valid, step as usize);
            }
        }
        batch.cells.clear_histograms();
        work.give(batch);
        Ok(())
    };
    // As in Prometheus, type and unit stay, though those of a count are others.
    eval.stream_without((without_name, Room::One), input, &mut change, sink)?;
    work.hold(eval, before)
}

/// `histogram_quantile(q, v)`
pub fn quantile(eval: &Evaluator<'_>, quantile: &Node, input: &Node) -> Result<Matrix, Error> {
    let quantiles = scalar::eval(eval, quantile)?;
    let histograms = Histograms::new(eval, input)?;
    // Behind what the input says: of the same words the last place is told.
    note_quantiles(eval, quantile, &quantiles);
    let mut out = Out::new(eval, input);
    histograms.each(eval, &mut |at, found| {
        let value = out.quantile(quantiles[at.step], at, found);
        out.set(at.labels, at.step, value)
    })?;
    out.finish(&histograms, 1)
}

/// `histogram_quantiles(v, label, q…)`
pub fn quantiles(eval: &Evaluator<'_>, label: &str, args: &[Node]) -> Result<Matrix, Error> {
    let input = &args[0];
    let mut wanted = Vec::new();
    for quantile in &args[2..] {
        wanted.push(scalar::eval(eval, quantile)?);
    }
    let histograms = Histograms::new(eval, input)?;
    for (quantile, quantiles) in args[2..].iter().zip(&wanted) {
        note_quantiles(eval, quantile, quantiles);
    }
    let mut out = Out::new(eval, input);
    histograms.each(eval, &mut |at, found| {
        for quantiles in &wanted {
            let quantile = quantiles[at.step];
            let value = out.quantile(quantile, at, found);
            let mut labels = LabelsBuilder::from_labels(&at.labels.labels);
            labels.set(label, &format_label_float(quantile));
            let labels = RowLabels { labels: Arc::new(labels.build()), ..*at.labels };
            out.set(&labels, at.step, value)?;
        }
        Ok(())
    })?;
    out.finish(&histograms, wanted.len())
}

/// `histogram_fraction(lower, upper, v)`
pub fn fraction(eval: &Evaluator<'_>, args: &[Node]) -> Result<Matrix, Error> {
    let lower = scalar::eval(eval, &args[0])?;
    let upper = scalar::eval(eval, &args[1])?;
    let histograms = Histograms::new(eval, &args[2])?;
    let mut out = Out::new(eval, &args[2]);
    histograms.each(eval, &mut |at, found| {
        let (lower, upper) = (lower[at.step], upper[at.step]);
        let value = match found {
            Found::Classic(buckets) => classic::fraction(lower, upper, buckets),
            Found::Native(histogram) => {
                let mut notes = Notes::default();
                let value = native::fraction(lower, upper, histogram, &mut notes);
                out.note(notes, at.labels);
                value
            }
        };
        out.set(at.labels, at.step, value)
    })?;
    out.finish(&histograms, 2)
}

fn note_quantiles(eval: &Evaluator<'_>, node: &Node, quantiles: &[f64]) {
    let mut last = None;
    for quantile in quantiles {
        let invalid = !(0.0..=1.0).contains(quantile);
        if invalid && last != Some(quantile.to_bits()) {
            eval.query.annotate(Annotation::invalid_quantile(*quantile, node.position));
            last = Some(quantile.to_bits());
        }
    }
}

/// Where a histogram was found.
#[derive(Clone, Copy)]
struct At<'a> {
    step: usize,
    labels: &'a RowLabels,
}

/// A histogram of one step.
enum Found {
    Classic(Vec<classic::ClassicBucket>),
    Native(Arc<FloatHistogram>),
}

/// The result under construction.
struct Out<'a> {
    eval: &'a Evaluator<'a>,
    position: usize,
    rows: Merged,
}

impl<'a> Out<'a> {
    fn new(eval: &'a Evaluator<'a>, input: &Node) -> Self {
        Self { eval, position: input.position, rows: Merged::new(eval.count()) }
    }

    /// The rows, made of `histograms` and `numbers` scalars.
    fn finish(self, histograms: &Histograms, numbers: usize) -> Result<Matrix, Error> {
        let mut work = Stepwise::new(self.eval, numbers);
        work.take(&histograms.rows);
        work.give(&self.rows.rows);
        work.pass(self.eval)?;
        Ok(self.rows.rows)
    }

    fn set(&mut self, labels: &RowLabels, step: usize, value: f64) -> Result<(), Error> {
        let row = self.rows.row(labels);
        let (values, valid) = self.rows.rows.cells.row_mut(row);
        if bitmap::get(valid, step) {
            return Err(same_labels());
        }
        values[step] = value;
        bitmap::set(valid, step);
        Ok(())
    }

    fn quantile(&self, quantile: f64, at: At<'_>, found: &mut Found) -> f64 {
        match found {
            Found::Classic(buckets) => {
                let result = classic::quantile(quantile, buckets);
                if let Some(forced) = result.forced {
                    self.note_forced(forced, at);
                }
                result.value
            }
            Found::Native(histogram) => {
                let mut notes = Notes::default();
                let value = native::quantile(quantile, histogram, &mut notes);
                self.note(notes, at.labels);
                value
            }
        }
    }

    fn note_forced(&self, forced: classic::Forced, at: At<'_>) {
        let time = self.eval.steps.time(at.step);
        let detail = Monotonicity {
            min_time: time,
            max_time: time,
            min_bucket: forced.min_bucket,
            max_bucket: forced.max_bucket,
            max_diff: forced.max_diff,
            samples: 1,
        };
        let metric = at.labels.labels.metric_name();
        self.eval.query.annotate(Annotation::forced_monotonicity(metric, detail, self.position));
    }

    fn note(&self, notes: Notes, labels: &RowLabels) {
        let metric = labels.labels.metric_name();
        for note in notes.iter() {
            self.eval.query.annotate(note.at(metric, self.position));
        }
    }
}

/// The rows of a vector as histograms: buckets that belong together, and native ones.
struct Histograms {
    rows: Matrix,
    groups: Vec<Group>,
}

struct Group {
    /// What the result is called, for buckets and for native histograms.
    classic_labels: RowLabels,
    native_labels: RowLabels,
    /// Upper bounds with their rows, ascending.
    buckets: Vec<(f64, usize)>,
    native: Option<usize>,
    /// Steps at which buckets and a native histogram meet.
    conflicts: Vec<u64>,
}

impl Histograms {
    fn new(eval: &Evaluator<'_>, input: &Node) -> Result<Self, Error> {
        let rows = eval.eval(input)?;
        let mut known: HashMap<Labels, usize> = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        let mut group_of = |labels: Labels, groups: &mut Vec<Group>, row: &RowLabels| -> usize {
            *known.entry(labels).or_insert_with_key(|labels| {
                groups.push(Group {
                    classic_labels: eval.renamed(&RowLabels { labels: Arc::new(labels.clone()), ..*row }),
                    native_labels: eval.renamed(row),
                    buckets: Vec::new(),
                    native: None,
                    conflicts: vec![0; bitmap::words(eval.count())],
                });
                groups.len() - 1
            })
        };
        for (at, row) in rows.rows.iter().enumerate() {
            if bitmap::any(rows.cells.valid(at)) {
                let bound = row.labels.get(BUCKET_LABEL).unwrap_or("");
                match parse_bound(bound) {
                    None => note_bad_bound(eval, input, row, bound),
                    Some(parsed) => {
                        let labels = row.labels.iter().filter(|(name, _)| *name != BUCKET_LABEL);
                        let group = group_of(Labels::from_sorted(labels), &mut groups, row);
                        groups[group].buckets.push((parsed, at));
                    }
                }
            }
            if !rows.cells.histograms(at).is_empty() {
                let group = group_of((*row.labels).clone(), &mut groups, row);
                groups[group].native_labels = eval.renamed(row);
                groups[group].native = Some(at);
            }
        }
        let mut histograms = Self { rows, groups };
        histograms.find_conflicts(eval, input);
        Ok(histograms)
    }

    fn find_conflicts(&mut self, eval: &Evaluator<'_>, input: &Node) {
        for group in &mut self.groups {
            group.buckets.sort_by(|left, right| left.0.total_cmp(&right.0));
            let Some(native) = group.native else { continue };
            for (step, _) in self.rows.cells.histograms(native) {
                let step = *step as usize;
                if group.buckets.iter().any(|(_, row)| bitmap::get(self.rows.cells.valid(*row), step)) {
                    bitmap::set(&mut group.conflicts, step);
                    let name = self.rows.rows[native].labels.metric_name();
                    let metric = if eval.query.delays_names() { name } else { "" };
                    eval.query.annotate(Annotation::mixed_classic_native(metric, input.position));
                }
            }
        }
    }

    /// Calls `visit` with each histogram of each step.
    fn each(
        &self,
        eval: &Evaluator<'_>,
        visit: &mut dyn FnMut(At<'_>, &mut Found) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for (at, group) in self.groups.iter().enumerate() {
            eval.query.budget.check_at(at)?;
            if let Some(native) = group.native {
                for (step, histogram) in self.rows.cells.histograms(native) {
                    let step = *step as usize;
                    if !bitmap::get(&group.conflicts, step) {
                        let at = At { step, labels: &group.native_labels };
                        visit(at, &mut Found::Native(Arc::clone(histogram)))?;
                    }
                }
            }
            self.each_classic(group, visit)?;
        }
        Ok(())
    }

    fn each_classic(
        &self,
        group: &Group,
        visit: &mut dyn FnMut(At<'_>, &mut Found) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut present = vec![0; group.conflicts.len()];
        for (_, row) in &group.buckets {
            bitmap::union(&mut present, self.rows.cells.valid(*row));
        }
        bitmap::subtract(&mut present, &group.conflicts);
        let mut found = Found::Classic(Vec::with_capacity(group.buckets.len()));
        for step in bitmap::ones(&present) {
            if let Found::Classic(buckets) = &mut found {
                buckets.clear();
                let there = group.buckets.iter().filter(|(_, row)| bitmap::get(self.rows.cells.valid(*row), step));
                buckets.extend(there.map(|(bound, row)| classic::ClassicBucket {
                    upper_bound: *bound,
                    count: self.rows.cells.values(*row)[step],
                }));
            }
            visit(At { step, labels: &group.classic_labels }, &mut found)?;
        }
        Ok(())
    }
}

fn note_bad_bound(eval: &Evaluator<'_>, input: &Node, row: &RowLabels, bound: &str) {
    let metric = if eval.query.delays_names() { row.labels.metric_name() } else { "" };
    eval.query.annotate(Annotation::bad_bucket_label(metric, bound, input.position));
}

/// An upper bound as Go reads floats; `None` when it is none.
fn parse_bound(text: &str) -> Option<f64> {
    let looks_like_number = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if looks_like_number { text.parse().ok() } else { None }
}
