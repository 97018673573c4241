//! Step batches: many series on shared steps, a row of values and a validity bitmap for each.
//!
//! ```text
//! steps        0   1   2   3  …
//! row 0 values v   v   v   v      floats, one per step; undefined where not valid
//!       valid  1   0   1   1      64 steps per word
//! row 1 values …
//! histograms   (step, histogram) per row, only of rows that have any
//! ```
//! A step of a row holds a float, a histogram or nothing; where rows with the same labels became one
//! it may hold both, which [`StepBatch::floats_first`] and [`StepBatch::histograms_only`] end.

use std::sync::Arc;

use crate::model::{Error, FloatHistogram};
use crate::simd::steps::Limits;

use super::bitmap;
use super::rows::Rows;

/// Steps of an evaluation: `count` times from `start`, `interval` apart (Unix milliseconds). An
/// interval of 0 repeats one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepGrid {
    /// The first step.
    pub start: i64,
    /// Milliseconds between steps.
    pub interval: i64,
    /// Number of steps.
    pub count: usize,
    /// The end that was asked for: the last step, or behind it by less than an interval.
    pub until: i64,
}

/// What one step of one row holds.
#[derive(Clone, Debug)]
pub enum Cell {
    /// No sample.
    Empty,
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// Rows of values over one grid of steps.
#[derive(Clone, Debug, Default)]
pub struct StepBatch {
    steps: usize,
    words: usize,
    values: Rows,
    valid: Vec<u64>,
    histograms: Vec<Vec<(u32, Arc<FloatHistogram>)>>,
}

impl StepGrid {
    /// A single step.
    pub fn instant(at: i64) -> Self {
        Self { start: at, interval: 1, count: 1, until: at }
    }

    /// Steps from `start` to at most `end`, `interval` apart; none when they are reversed.
    pub fn range(start: i64, end: i64, interval: i64) -> Self {
        let interval = interval.max(1);
        let count = if end < start { 0 } else { (end.wrapping_sub(start) as u64 / interval as u64) as usize + 1 };
        Self { start, interval, count, until: end }
    }

    /// Time of step `at`.
    #[inline]
    pub fn time(&self, at: usize) -> i64 {
        self.start + self.interval * at as i64
    }

    /// The first step alone.
    pub fn first(&self) -> Self {
        Self { count: 1, until: self.start, ..*self }
    }

    /// Whether the steps are those of a range, which one step is too where more was asked for.
    pub fn is_range(&self) -> bool {
        self.until != self.start
    }

    /// The last step; the first when there is none.
    pub fn end(&self) -> i64 {
        self.time(self.count.saturating_sub(1))
    }

    /// The steps as kernels take them, `shift` milliseconds later.
    pub fn limits(&self, shift: i64) -> Limits {
        Limits { start: self.start, interval: self.interval, shift }
    }

    /// The same steps, `offset` milliseconds earlier; all at `pinned` minus the offset when given.
    pub fn shifted(&self, offset: i64, pinned: Option<i64>) -> Self {
        match pinned {
            Some(at) => Self { start: at - offset, interval: 0, count: self.count, until: at - offset },
            None => Self { start: self.start - offset, until: self.until - offset, ..*self },
        }
    }
}

impl StepBatch {
    /// A batch without rows over `steps` steps.
    pub fn new(steps: usize) -> Self {
        Self { steps, words: bitmap::words(steps), values: Rows::new(steps), ..Self::default() }
    }

    /// A batch of rows whose values lie behind each other, each with its steps that hold one in `valid`.
    pub fn from_columns(steps: usize, values: Vec<f64>, valid: Vec<u64>) -> Self {
        let values = Rows::from_values(steps, values);
        Self { steps, words: bitmap::words(steps), values, valid, histograms: Vec::new() }
    }

    /// Makes room for the first `cells` values: growing by doubling would touch as much memory again.
    pub fn reserve(&mut self, cells: usize) {
        self.values.reserve(cells);
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.valid.len().checked_div(self.words).unwrap_or(0)
    }

    /// Appends an empty row and gives its index.
    pub fn push_row(&mut self) -> usize {
        let row = self.rows();
        self.values.push_zeros();
        self.valid.resize(self.valid.len() + self.words, 0);
        if !self.histograms.is_empty() {
            self.histograms.push(Vec::new());
        }
        row
    }

    /// Removes the last row.
    pub fn pop_row(&mut self) {
        let rows = self.rows().saturating_sub(1);
        self.values.pop();
        self.valid.truncate(rows * self.words);
        self.histograms.truncate(rows);
    }

    /// Appends row `row` of `other`, which has as many steps.
    pub fn push_copy(&mut self, other: &Self, row: usize) -> usize {
        self.push_parts(other.values(row), other.valid(row), other.histograms(row))
    }

    /// Appends a row of `values` where `valid`, and `histograms` by step.
    pub fn push_parts(&mut self, values: &[f64], valid: &[u64], histograms: &[(u32, Arc<FloatHistogram>)]) -> usize {
        let row = self.rows();
        self.values.push(values);
        self.valid.extend_from_slice(valid);
        if !histograms.is_empty() {
            self.histograms.resize_with(row, Vec::new);
            self.histograms.push(histograms.to_vec());
        } else if !self.histograms.is_empty() {
            self.histograms.push(Vec::new());
        }
        row
    }

    /// Appends all rows of `other`, which has as many steps. Fails as soon as `check` does, which is asked in between,
    /// and leaves both without use.
    pub fn append(&mut self, other: &mut Self, check: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
        let rows = self.rows();
        if !other.histograms.is_empty() {
            self.histograms.resize_with(rows, Vec::new);
            self.histograms.append(&mut other.histograms);
        } else if !self.histograms.is_empty() {
            self.histograms.resize_with(rows + other.rows(), Vec::new);
        }
        self.valid.append(&mut other.valid);
        self.values.append(&mut other.values, check)
    }

    /// Removes all rows and keeps the room.
    pub fn clear(&mut self) {
        self.values.clear();
        self.valid.clear();
        self.histograms.clear();
    }

    /// Values of row `row`, defined where valid.
    #[inline]
    pub fn values(&self, row: usize) -> &[f64] {
        self.values.row(row)
    }

    /// Which steps of row `row` hold a float.
    #[inline]
    pub fn valid(&self, row: usize) -> &[u64] {
        &self.valid[row * self.words..(row + 1) * self.words]
    }

    /// Values and validity of row `row`, to be written.
    #[inline]
    pub fn row_mut(&mut self, row: usize) -> (&mut [f64], &mut [u64]) {
        (self.values.row_mut(row), &mut self.valid[row * self.words..(row + 1) * self.words])
    }

    /// Histograms of row `row`, by ascending step.
    pub fn histograms(&self, row: usize) -> &[(u32, Arc<FloatHistogram>)] {
        self.histograms.get(row).map_or(&[], Vec::as_slice)
    }

    /// Histograms of row `row`, to be written; steps must stay ascending.
    pub fn histograms_mut(&mut self, row: usize) -> &mut Vec<(u32, Arc<FloatHistogram>)> {
        if self.histograms.is_empty() {
            self.histograms.resize_with(self.rows().max(row + 1), Vec::new);
        }
        &mut self.histograms[row]
    }

    /// Removes the histograms of all rows.
    pub fn clear_histograms(&mut self) {
        self.histograms.clear();
    }

    /// Whether any row holds a histogram.
    pub fn has_histograms(&self) -> bool {
        self.histograms.iter().any(|row| !row.is_empty())
    }

    /// Which steps of row `row` hold a float or a histogram.
    pub fn present(&self, row: usize) -> Vec<u64> {
        let mut bits = self.valid(row).to_vec();
        for (step, _) in self.histograms(row) {
            bitmap::set(&mut bits, *step as usize);
        }
        bits
    }

    /// Whether row `row` holds anything.
    pub fn occupied(&self, row: usize) -> bool {
        bitmap::any(self.valid(row)) || !self.histograms(row).is_empty()
    }

    /// Leaves of each row what operators see who read it step by step: where a step holds both, its
    /// float, and no histogram from there on, since that step's is never passed.
    pub fn floats_first(&mut self) {
        for row in 0..self.histograms.len() {
            let valid = &self.valid[row * self.words..(row + 1) * self.words];
            let histograms = &mut self.histograms[row];
            if let Some(both) = histograms.iter().position(|(step, _)| bitmap::get(valid, *step as usize)) {
                histograms.truncate(both);
            }
        }
    }

    /// Leaves of steps that hold both the histogram.
    pub fn histograms_only(&mut self) {
        for row in 0..self.histograms.len() {
            let valid = &mut self.valid[row * self.words..(row + 1) * self.words];
            for (step, _) in &self.histograms[row] {
                bitmap::clear(valid, *step as usize);
            }
        }
    }

    /// Samples of all rows. A histogram counts as many as floats with their times have its size,
    /// as in Prometheus.
    pub fn samples(&self) -> usize {
        let native = self.histograms.iter().flatten().map(|(_, histogram)| histogram_samples(histogram));
        bitmap::count(&self.valid) + native.sum::<usize>()
    }

    /// Bytes that the batch occupies.
    pub fn heap_bytes(&self) -> usize {
        let native = self.histograms.iter().flatten().map(|(_, histogram)| histogram_bytes(histogram));
        self.values.values() * 8 + self.valid.len() * 8 + native.sum::<usize>()
    }

    /// What step `step` of row `row` holds.
    pub fn cell(&self, row: usize, step: usize) -> Cell {
        if bitmap::get(self.valid(row), step) {
            return Cell::Float(self.values(row)[step]);
        }
        let histograms = self.histograms(row);
        match histograms.binary_search_by_key(&(step as u32), |(step, _)| *step) {
            Ok(at) => Cell::Histogram(Arc::clone(&histograms[at].1)),
            Err(_) => Cell::Empty,
        }
    }

    /// Puts `cell` into an empty step of row `row`; steps of one row must come in ascending order.
    pub fn push_cell(&mut self, row: usize, step: usize, cell: Cell) {
        match cell {
            Cell::Empty => {}
            Cell::Float(value) => {
                let (values, valid) = self.row_mut(row);
                values[step] = value;
                bitmap::set(valid, step);
            }
            Cell::Histogram(histogram) => self.histograms_mut(row).push((step as u32, histogram)),
        }
    }
}

/// Samples that a histogram counts for, as in Prometheus: as many as floats with their times have its size.
pub fn histogram_samples(histogram: &FloatHistogram) -> usize {
    (histogram_bytes(histogram) + 8) / 16
}

/// Bytes of a histogram: its struct with six slices, as Prometheus counts it, and what they hold.
pub fn histogram_bytes(histogram: &FloatHistogram) -> usize {
    const FIXED: usize = 168;
    let spans = histogram.positive_spans.len() + histogram.negative_spans.len();
    let counts = histogram.positive_buckets.len() + histogram.negative_buckets.len();
    FIXED + 8 * (spans + counts + histogram.custom_values.len())
}
