//! What an evaluation gives: rows of labelled series over steps, and the answer of a query.

use std::sync::Arc;

use crate::batch::{Cell, SampleBatch, StepBatch, StepGrid, bitmap};
use crate::model::labels::{METRIC_NAME, is_type_or_unit};
use crate::model::{Error, FloatHistogram, Labels};

use super::order::sort_while;

/// Labels of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowLabels {
    /// The labels, metadata labels included unless they were dropped at once.
    pub labels: Arc<Labels>,
    /// Whether metric name, type and unit are to be dropped at the end of the query.
    pub drop_name: bool,
}

/// Labelled rows over the steps of an evaluation.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    /// Labels of each row.
    pub rows: Vec<RowLabels>,
    /// Values of each row.
    pub cells: StepBatch,
}

/// Bytes of a row's labels beside their text.
const LABELS_BYTES: usize = size_of::<RowLabels>() + size_of::<Labels>() + 2 * size_of::<usize>();

/// The value of a query.
#[derive(Clone, Debug)]
pub enum QueryValue {
    /// A number for each step; of an instant query there is one.
    Scalar(StepGrid, Vec<f64>),
    /// A string, at one time (Unix milliseconds).
    Text(i64, String),
    /// The instant vector of one step.
    Vector(StepGrid, Matrix),
    /// Rows over the steps of a range query, sorted by their labels.
    Matrix(StepGrid, Matrix),
    /// Series with times of their own: the stored samples that an instant query's range selector chose, or those of a
    /// range query whose steps few series have, sorted by their labels.
    Samples(SampleBatch),
}

impl QueryValue {
    /// Bytes that it holds.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Scalar(_, values) => size_of_val(values.as_slice()),
            Self::Text(_, text) => text.len(),
            Self::Vector(_, rows) | Self::Matrix(_, rows) => rows.heap_bytes(),
            Self::Samples(batch) => batch.heap_bytes(),
        }
    }
}

impl RowLabels {
    /// Labels that keep their name.
    pub fn plain(labels: Arc<Labels>) -> Self {
        Self { labels, drop_name: false }
    }
}

impl Matrix {
    /// No rows over `steps` steps.
    pub fn new(steps: usize) -> Self {
        Self { rows: Vec::new(), cells: StepBatch::new(steps) }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes that it holds; labels that rows share count for each.
    pub fn heap_bytes(&self) -> usize {
        let labels = self.rows.iter().map(|row| LABELS_BYTES + row.labels.heap_bytes()).sum::<usize>();
        self.cells.heap_bytes() + labels
    }

    /// Bytes of what grows by doubling where rows are gathered, and lies there twice meanwhile: all but values.
    pub fn doubled_bytes(&self) -> usize {
        self.len() * (size_of::<RowLabels>() + bitmap::words(self.steps()) * size_of::<u64>())
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.cells.steps()
    }

    /// Removes all rows and keeps the room.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.cells.clear();
    }

    /// Appends an empty row and gives its index.
    pub fn push_row(&mut self, labels: RowLabels) -> usize {
        self.rows.push(labels);
        self.cells.push_row()
    }

    /// Appends a copy of row `row` of `other`.
    pub fn push_copy(&mut self, other: &Self, row: usize) {
        self.rows.push(other.rows[row].clone());
        self.cells.push_copy(&other.cells, row);
    }

    /// Appends all rows of `other`. Fails as soon as `check` does, which is asked in between, and leaves both without
    /// use.
    pub fn append(&mut self, other: &mut Self, check: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
        self.rows.append(&mut other.rows);
        self.cells.append(&mut other.cells, check)
    }

    /// Which steps any row holds something at.
    pub fn present_anywhere(&self) -> Vec<u64> {
        let mut bits = vec![0; bitmap::words(self.steps())];
        for row in 0..self.len() {
            bitmap::union(&mut bits, self.cells.valid(row));
            for (step, _) in self.cells.histograms(row) {
                bitmap::set(&mut bits, *step as usize);
            }
        }
        bits
    }

    /// The same rows in the order of `order`, which names each row at most once. Fails as soon as `check`
    /// does, which is asked at each.
    pub fn reordered(&self, order: &[usize], check: impl Fn(usize) -> Result<(), Error>) -> Result<Self, Error> {
        let mut out = Self::new(self.steps());
        for (at, row) in order.iter().enumerate() {
            check(at)?;
            out.push_copy(self, *row);
        }
        Ok(out)
    }

    /// The rows that hold something; `None` where all do.
    pub fn occupied(&self) -> Option<Vec<usize>> {
        let is_occupied = |row: &usize| self.cells.occupied(*row);
        (!(0..self.len()).all(|row| is_occupied(&row))).then(|| (0..self.len()).filter(is_occupied).collect())
    }

    /// The order of rows by their labels; `None` where they have it. Fails as soon as `check` does.
    pub fn by_labels(&self, check: impl FnMut() -> Result<(), Error>) -> Result<Option<Vec<usize>>, Error> {
        if self.rows.is_sorted_by(|left, right| left.labels <= right.labels) {
            return Ok(None);
        }
        let by_labels = |left: &usize, right: &usize| self.rows[*left].labels.cmp(&self.rows[*right].labels);
        sort_while((0..self.len()).collect(), by_labels, check).map(Some)
    }

    /// The floats of row `row` with their steps.
    pub fn floats(&self, row: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let values = self.cells.values(row);
        bitmap::ones(self.cells.valid(row)).map(move |step| (step, values[step]))
    }

    /// The histograms of row `row` with their steps.
    pub fn histograms(&self, row: usize) -> &[(u32, Arc<FloatHistogram>)] {
        self.cells.histograms(row)
    }

    /// What row `row` holds at `step`.
    pub fn cell(&self, row: usize, step: usize) -> Cell {
        self.cells.cell(row, step)
    }
}

/// Whether `name` is the metric name or one of the labels for its type and unit.
pub fn is_metadata_label(name: &str) -> bool {
    name == METRIC_NAME || is_type_or_unit(name)
}

/// Whether `labels` hold a type or unit.
pub fn has_type_or_unit(labels: &Labels) -> bool {
    labels.iter().take_while(|(name, _)| *name <= "__unit__").any(|(name, _)| is_type_or_unit(name))
}

/// `labels` without metric name, type and unit.
pub fn without_metadata(labels: &Arc<Labels>) -> Arc<Labels> {
    without(labels, is_metadata_label)
}

/// `labels` without metric name.
pub fn without_name(labels: &Arc<Labels>) -> Arc<Labels> {
    without(labels, |name| name == METRIC_NAME)
}

fn without(labels: &Arc<Labels>, is_lost: impl Fn(&str) -> bool) -> Arc<Labels> {
    if !labels.iter().any(|(name, _)| is_lost(name)) {
        return Arc::clone(labels);
    }
    Arc::new(Labels::from_sorted(labels.iter().filter(|(name, _)| !is_lost(name))))
}
