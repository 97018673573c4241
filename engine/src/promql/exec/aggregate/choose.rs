//! `topk`, `bottomk`, `limitk` and `limit_ratio`: series chosen from their groups, step by step.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::batch::Cell;
use crate::model::{Error, FloatHistogram, Labels};

use super::super::super::annotations::Annotation;
use super::super::super::plan::{Aggregate, AggregateOperator as A};
use super::super::super::value::{Matrix, RowLabels};
use super::super::Evaluator;
use super::super::group::{Groups, View};
use super::{check_count, extremes};

/// A sample that may be chosen. There are as many as samples are wanted, so that it is small and nothing is to be done
/// when it goes.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    value: f64,
    row: u32,
    /// Which of the histograms it is, counted from 1.
    histogram: Option<NonZeroU32>,
}

/// The rows that `aggregate` chooses.
pub fn eval(eval: &Evaluator<'_>, aggregate: &Aggregate, params: &[f64]) -> Result<Matrix, Error> {
    let wants_any = wants_any(aggregate, params);
    if !matches!(wants_any, Ok(true)) {
        // What is wrong with the input is said also where nothing of it is wanted.
        eval.stream(&aggregate.input, &mut |_| Ok(()))?;
        return wants_any.map(|_| Matrix::new(eval.count()));
    }
    let mut choice = Choice {
        eval,
        aggregate,
        params,
        groups: Groups::new(&aggregate.grouping),
        rows: Vec::new(),
        heaps: Vec::new(),
        histograms: Vec::new(),
        candidates: 0,
    };
    let mut held = 0;
    eval.stream(&aggregate.input, &mut |batch| {
        for row in 0..batch.len() {
            eval.query.budget.check()?;
            choice.row(batch, row);
        }
        let now = choice.heap_bytes();
        let labels = batch.heap_bytes() - batch.cells.heap_bytes();
        eval.account.hold_bytes(labels + now - std::mem::replace(&mut held, now))
    })?;
    // Behind what the input says: of the same words the last place is told.
    note_ratio(eval, aggregate, params);
    choice.finish()
}

/// Whether the parameters choose anything at all; fails when they are no such numbers.
fn wants_any(aggregate: &Aggregate, params: &[f64]) -> Result<bool, Error> {
    let (min, max, nan) = extremes(params);
    if aggregate.operator != A::LimitRatio {
        if max < 1.0 {
            return Ok(false);
        }
        check_count(params)?;
        return Ok(true);
    }
    if max == 0.0 && min == 0.0 {
        return Ok(false);
    }
    if nan {
        return Err(Error::invalid("Ratio value is NaN"));
    }
    Ok(true)
}

/// Says so when a ratio is one that none can be.
fn note_ratio(eval: &Evaluator<'_>, aggregate: &Aggregate, params: &[f64]) {
    if aggregate.operator != A::LimitRatio {
        return;
    }
    let (min, max, _) = extremes(params);
    let position = aggregate.param.as_ref().map_or(0, |param| param.position);
    if max > 1.0 {
        eval.query.annotate(Annotation::invalid_ratio(max, 1.0, position));
    }
    if min < -1.0 {
        eval.query.annotate(Annotation::invalid_ratio(min, -1.0, position));
    }
}

struct Choice<'a> {
    eval: &'a Evaluator<'a>,
    aggregate: &'a Aggregate,
    params: &'a [f64],
    groups: Groups<'a>,
    rows: Vec<RowLabels>,
    /// For each group and step what is chosen so far.
    heaps: Vec<Vec<Candidate>>,
    /// Those that candidates are.
    histograms: Vec<Arc<FloatHistogram>>,
    /// How many candidates the heaps have room for.
    candidates: usize,
}

impl Choice<'_> {
    /// Bytes of what is chosen so far, without labels.
    fn heap_bytes(&self) -> usize {
        self.candidates * size_of::<Candidate>()
            + self.heaps.len() * size_of::<Vec<Candidate>>()
            + self.histograms.len() * size_of::<Arc<FloatHistogram>>()
    }

    fn row(&mut self, batch: &Matrix, row: usize) {
        let labels = &batch.rows[row];
        let steps = self.eval.count();
        let group = self.groups.find(labels, View::of(self.eval, labels));
        let cells = (group + 1) * steps;
        if self.heaps.len() < cells {
            self.heaps.resize_with(cells, Vec::new);
        }
        let number = self.rows.len() as u32;
        self.rows.push(labels.clone());
        let sampled = (self.aggregate.operator == A::LimitRatio).then(|| sample_offset(&labels.labels));
        for (step, value) in batch.floats(row) {
            self.offer(group * steps + step, Candidate { value, row: number, histogram: None }, sampled);
        }
        for (step, histogram) in batch.histograms(row) {
            if matches!(self.aggregate.operator, A::Topk | A::Bottomk) {
                let name = self.aggregate.operator.name();
                let position = self.aggregate.position;
                self.eval.query.annotate(Annotation::histogram_ignored_in_aggregation(name, position));
                continue;
            }
            let place = NonZeroU32::new(self.histograms.len() as u32 + 1);
            let candidate = Candidate { value: 0.0, row: number, histogram: place };
            if self.offer(group * steps + *step as usize, candidate, sampled) {
                self.histograms.push(Arc::clone(histogram));
            }
        }
    }

    /// Whether there is one candidate more for `cell`.
    fn offer(&mut self, cell: usize, candidate: Candidate, sampled: Option<f64>) -> bool {
        let param = self.params[cell % self.eval.count()];
        let heap = &mut self.heaps[cell];
        let (len, room) = (heap.len(), heap.capacity());
        match self.aggregate.operator {
            A::LimitRatio => {
                let ratio = param.clamp(-1.0, 1.0);
                let offset = sampled.unwrap_or(0.0);
                if (ratio >= 0.0 && offset < ratio) || (ratio < 0.0 && offset >= 1.0 + ratio) {
                    heap.push(candidate);
                }
            }
            A::Limitk => {
                if (heap.len() as i64) < param as i64 {
                    heap.push(candidate);
                }
            }
            A::Topk => offer_to_heap(heap, param as i64, candidate, |left, right| left < right),
            _ => offer_to_heap(heap, param as i64, candidate, |left, right| left > right),
        }
        self.candidates += heap.capacity() - room;
        heap.len() > len
    }

    fn finish(mut self) -> Result<Matrix, Error> {
        let steps = self.eval.count();
        let ranked: fn(f64, f64) -> bool = match self.aggregate.operator {
            A::Topk => |left, right| left > right,
            _ => |left, right| left < right,
        };
        if matches!(self.aggregate.operator, A::Topk | A::Bottomk) {
            for (cell, heap) in self.heaps.iter_mut().enumerate() {
                self.eval.query.budget.check_at(cell)?;
                rank(heap, ranked);
            }
        }
        let mut out = Matrix::new(steps);
        let mut placed: Vec<Option<NonZeroU32>> = vec![None; self.rows.len()];
        for group in 0..self.heaps.len().checked_div(steps).unwrap_or(0) {
            for step in 0..steps {
                self.eval.query.budget.check_at(step)?;
                for chosen in &self.heaps[group * steps + step] {
                    let from = chosen.row as usize;
                    let row = match placed[from] {
                        Some(number) => number.get() as usize - 1,
                        None => {
                            let row = out.push_row(self.rows[from].clone());
                            placed[from] = NonZeroU32::new(row as u32 + 1);
                            row
                        }
                    };
                    let cell = match chosen.histogram {
                        Some(number) => Cell::Histogram(Arc::clone(&self.histograms[number.get() as usize - 1])),
                        None => Cell::Float(chosen.value),
                    };
                    out.cells.push_cell(row, step, cell);
                }
            }
        }
        Ok(out)
    }
}

/// Keeps the `k` candidates that no other one `below`, the lowest of them first, as a binary heap
/// in which NaN is lowest.
fn offer_to_heap(heap: &mut Vec<Candidate>, k: i64, candidate: Candidate, below: impl Fn(f64, f64) -> bool) {
    if k < 1 {
        return;
    }
    let lower = |left: &Candidate, right: &Candidate| left.value.is_nan() || below(left.value, right.value);
    if (heap.len() as i64) < k {
        heap.push(candidate);
        let mut at = heap.len() - 1;
        while at > 0 && lower(&heap[at], &heap[(at - 1) / 2]) {
            heap.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
        return;
    }
    let lowest = heap[0].value;
    if !(below(lowest, candidate.value) || (lowest.is_nan() && !candidate.value.is_nan())) {
        return;
    }
    heap[0] = candidate;
    let mut at = 0;
    loop {
        let mut child = 2 * at + 1;
        if child >= heap.len() {
            return;
        }
        if child + 1 < heap.len() && lower(&heap[child + 1], &heap[child]) {
            child += 1;
        }
        if !lower(&heap[child], &heap[at]) {
            return;
        }
        heap.swap(at, child);
        at = child;
    }
}

/// Best first, NaN last.
fn rank(heap: &mut [Candidate], better: fn(f64, f64) -> bool) {
    heap.sort_by(|left, right| {
        let (left, right) = (left.value, right.value);
        if left.is_nan() || right.is_nan() {
            left.is_nan().cmp(&right.is_nan())
        } else if better(left, right) {
            std::cmp::Ordering::Less
        } else if better(right, left) {
            std::cmp::Ordering::Greater
        } else {
            std::cmp::Ordering::Equal
        }
    });
}

/// Where in [0, 1) a series lies: the hash of its labels, as Prometheus computes it.
fn sample_offset(labels: &Labels) -> f64 {
    let mut bytes = Vec::new();
    let mut push = |text: &str| {
        let size = text.len();
        if size < 255 {
            bytes.push(size as u8);
        } else {
            bytes.extend_from_slice(&[255, size as u8, (size >> 8) as u8, (size >> 16) as u8]);
        }
        bytes.extend_from_slice(text.as_bytes());
    };
    for (name, value) in labels.iter() {
        push(name);
        push(value);
    }
    xxhash_rust::xxh64::xxh64(&bytes, 0) as f64 / u64::MAX as f64
}
