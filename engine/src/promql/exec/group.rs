//! Rows found again by their labels: groups as integers, and rows that become one.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use crate::batch::{SampleBatch, bitmap};
use crate::model::labels::METRIC_NAME;
use crate::model::{Error, FloatHistogram, Labels, Mixed};

use super::super::order::sort_while;
use super::super::plan::Grouping;
use super::super::value::{Matrix, RowLabels, is_metadata_label, without_metadata};
use super::{CELLS_MAX, Evaluator, ROWS_AT_ONCE};

/// What a label set becomes when nothing distinguishes two rows any more.
const SAME_LABELS: &str = "vector cannot contain metrics with the same labelset";

/// Which labels of a row count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// All.
    Whole,
    /// All but metric name, type and unit.
    Unnamed,
}

impl View {
    /// How operators see `row`: one that is marked to lose its name has none any more, unless names
    /// stay to the end of the query.
    pub fn of(eval: &Evaluator<'_>, row: &RowLabels) -> Self {
        if row.drop_name && !eval.query.delays_names() { Self::Unnamed } else { Self::Whole }
    }
}

/// The group of rows that share labels, and these, so that nothing else comes to lie where they do.
type Known = (usize, Arc<Labels>);

/// Groups that were numbered, and how each is found.
#[derive(Debug, Default)]
pub struct Numbered {
    known: HashMap<Box<[u8]>, usize>,
    /// Labels of each group.
    pub labels: Vec<Arc<Labels>>,
}

/// Numbers the groups of rows, in the order in which they appear.
#[derive(Debug)]
pub struct Groups<'a> {
    grouping: &'a Grouping,
    known: HashMap<Box<[u8]>, usize>,
    by_pointer: HashMap<(usize, View), Known, BuildHasherDefault<Mixed>>,
    key: Vec<u8>,
    /// Labels of each group.
    pub labels: Vec<Arc<Labels>>,
}

impl<'a> Groups<'a> {
    /// No group yet.
    pub fn new(grouping: &'a Grouping) -> Self {
        Self::resume(grouping, Numbered::default())
    }

    /// Groups that go on from those that another made by the same `grouping`.
    pub fn resume(grouping: &'a Grouping, Numbered { known, labels }: Numbered) -> Self {
        Self { grouping, known, by_pointer: HashMap::default(), key: Vec::new(), labels }
    }

    /// What there is so far.
    pub fn finish(self) -> Numbered {
        Numbered { known: self.known, labels: self.labels }
    }

    /// The group of a row.
    pub fn find(&mut self, row: &RowLabels, view: View) -> usize {
        let pointer = (Arc::as_ptr(&row.labels) as usize, view);
        if Arc::strong_count(&row.labels) > 1
            && let Some((group, _)) = self.by_pointer.get(&pointer)
        {
            return *group;
        }
        let group = self.find_by_labels(&row.labels, view);
        if Arc::strong_count(&row.labels) > 1 && self.by_pointer.len() < POINTERS_MAX {
            self.by_pointer.insert(pointer, (group, Arc::clone(&row.labels)));
        }
        group
    }

    fn find_by_labels(&mut self, labels: &Arc<Labels>, view: View) -> usize {
        self.key.clear();
        let mut kept_count = 0;
        for (name, value) in kept(self.grouping, labels, view) {
            kept_count += 1;
            self.key.extend_from_slice(name.as_bytes());
            self.key.push(0xff);
            self.key.extend_from_slice(value.as_bytes());
            self.key.push(0xff);
        }
        if let Some(group) = self.known.get(self.key.as_slice()) {
            return *group;
        }
        let group = self.labels.len();
        self.labels.push(match kept_count == labels.len() {
            true => Arc::clone(labels),
            false => Arc::new(Labels::from_sorted(kept(self.grouping, labels, view))),
        });
        self.known.insert(self.key.as_slice().into(), group);
        group
    }
}

/// Shared label sets that are remembered by address.
const POINTERS_MAX: usize = 4096;

/// The labels that tell groups apart.
fn kept<'l>(grouping: &'l Grouping, labels: &'l Labels, view: View) -> impl Iterator<Item = (&'l str, &'l str)> + 'l {
    labels.iter().filter(move |(name, _)| {
        if view == View::Unnamed && is_metadata_label(name) {
            return false;
        }
        match grouping {
            Grouping::By(names) => names.iter().any(|wanted| wanted == name),
            Grouping::Without(names) => *name != METRIC_NAME && !names.iter().any(|unwanted| unwanted == name),
        }
    })
}

/// Rows under construction that are found by their labels.
#[derive(Debug, Default)]
pub struct Merged {
    known: HashMap<Arc<Labels>, usize>,
    /// The rows.
    pub rows: Matrix,
}

impl Merged {
    /// No rows over `steps` steps.
    pub fn new(steps: usize) -> Self {
        let mut rows = Matrix::new(steps);
        rows.cells.reserve(CELLS_MAX.min(ROWS_AT_ONCE * steps));
        Self { known: HashMap::new(), rows }
    }

    /// The row with `labels`, which is made when there is none.
    pub fn row(&mut self, labels: &RowLabels) -> usize {
        if let Some(row) = self.known.get(&labels.labels) {
            return *row;
        }
        let row = self.rows.push_row(labels.clone());
        self.known.insert(Arc::clone(&labels.labels), row);
        row
    }

    /// Adds row `row` of `other`; fails when a step would hold two samples.
    pub fn add(&mut self, labels: &RowLabels, other: &Matrix, row: usize) -> Result<(), Error> {
        self.add_within(Room::One, labels, (other, row))
    }

    fn add_within(&mut self, room: Room, labels: &RowLabels, (other, row): (&Matrix, usize)) -> Result<(), Error> {
        let Some(to) = self.known.get(&labels.labels).copied() else {
            self.known.insert(Arc::clone(&labels.labels), self.rows.len());
            self.rows.rows.push(labels.clone());
            self.rows.cells.push_copy(&other.cells, row);
            return Ok(());
        };
        if collide((&self.rows, to), (other, row), room) {
            return Err(same_labels());
        }
        let (values, valid) = self.rows.cells.row_mut(to);
        for step in bitmap::ones(other.cells.valid(row)) {
            values[step] = other.cells.values(row)[step];
        }
        bitmap::union(valid, other.cells.valid(row));
        let histograms = other.cells.histograms(row);
        if !histograms.is_empty() {
            let all = self.rows.cells.histograms_mut(to);
            all.extend_from_slice(histograms);
            all.sort_by_key(|(step, _)| *step);
        }
        Ok(())
    }
}

/// What a step of rows that become one may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// One sample.
    One,
    /// A float and a histogram.
    Both,
}

/// Rows with the same labels become one; fails when a step would hold more than there is `room` for.
pub fn merge_same_labels(eval: &Evaluator<'_>, rows: Matrix, room: Room) -> Result<Matrix, Error> {
    // Rows of one selector come in order, which says it without a hash of all their labels.
    let ascends = rows.rows.is_sorted_by(|left, right| left.labels < right.labels);
    let mut seen = HashSet::with_capacity(if ascends { 0 } else { rows.len() });
    if ascends || rows.rows.iter().all(|row| seen.insert(&row.labels)) {
        return Ok(rows);
    }
    eval.account.copied(rows, |rows| {
        let mut merged = Merged::new(rows.steps());
        for (row, labels) in rows.rows.iter().enumerate() {
            eval.query.budget.check_at(row)?;
            merged.add_within(room, labels, (rows, row))?;
        }
        Ok(merged.rows)
    })
}

/// The series of `batch` as an answer: sorted by their labels, without the names of those that `drops` says to lose
/// them at the end of the query. Those that have the same labels then become one; fails when a time of it would hold
/// two floats or two histograms.
pub fn named_at_the_end(eval: &Evaluator<'_>, mut batch: SampleBatch, drops: &[bool]) -> Result<SampleBatch, Error> {
    for (labels, _) in batch.labels.iter_mut().zip(drops).filter(|(_, is_dropped)| **is_dropped) {
        *labels = without_metadata(labels);
    }
    let labels = &batch.labels;
    if labels.is_sorted_by(|left, right| left < right) {
        return Ok(batch);
    }
    let by_labels = |left: &usize, right: &usize| labels[*left].cmp(&labels[*right]);
    let order = sort_while((0..labels.len()).collect(), by_labels, || eval.query.budget.check())?;
    let bytes = batch.heap_bytes();
    eval.account.hold_bytes(bytes)?;
    let mut merged = SampleBatch::default();
    for (at, group) in order.chunk_by(|left, right| labels[*left] == labels[*right]).enumerate() {
        eval.query.budget.check_at(at)?;
        push_merged(&batch, group, &mut merged)?;
    }
    eval.account.release_bytes(bytes);
    Ok(merged)
}

/// Appends the series of `group`, which have the same labels, as one.
fn push_merged(batch: &SampleBatch, group: &[usize], out: &mut SampleBatch) -> Result<(), Error> {
    let mut floats: Vec<(i64, f64)> = Vec::new();
    let mut histograms: Vec<(i64, &Arc<FloatHistogram>)> = Vec::new();
    for series in group.iter().map(|at| batch.series(*at)) {
        floats.extend(series.timestamps.iter().copied().zip(series.values.iter().copied()));
        histograms.extend(series.histogram_timestamps.iter().copied().zip(series.histograms));
    }
    floats.sort_by_key(|(time, _)| *time);
    histograms.sort_by_key(|(time, _)| *time);
    if !floats.is_sorted_by(|left, right| left.0 < right.0) || !histograms.is_sorted_by(|left, right| left.0 < right.0)
    {
        return Err(same_labels());
    }
    for (time, value) in floats {
        out.floats.push(time, value);
    }
    for (time, histogram) in histograms {
        out.histograms.timestamps.push(time);
        out.histograms.values.push(Arc::clone(histogram));
    }
    out.finish_series(Arc::clone(&batch.labels[group[0]]));
    Ok(())
}

/// Whether some step of two rows together holds more than there is `room` for.
fn collide((taken, to): (&Matrix, usize), (coming, row): (&Matrix, usize), room: Room) -> bool {
    if room == Room::One {
        return bitmap::first_common(&taken.cells.present(to), &coming.cells.present(row)).is_some();
    }
    let steps: HashSet<u32> = taken.histograms(to).iter().map(|(step, _)| *step).collect();
    bitmap::first_common(taken.cells.valid(to), coming.cells.valid(row)).is_some()
        || coming.histograms(row).iter().any(|(step, _)| steps.contains(step))
}

/// Two samples of one series at one step.
pub fn same_labels() -> Error {
    Error::invalid(SAME_LABELS)
}
