//! Sums and means of native histograms, one for each group and step.

use std::collections::{BTreeMap, HashMap};

use crate::model::histogram::{Combined, KahanMean, KahanSum, MixedSchemas};
use crate::model::{CounterReset, FloatHistogram};

use super::super::super::annotations::{Annotation, HistogramOperation};
use super::super::super::plan::AggregateOperator as A;

/// State of all groups and steps that have seen a histogram.
#[derive(Debug, Default)]
pub struct NativeState {
    means: bool,
    cells: BTreeMap<(usize, u32), Cell>,
    /// The metric name of the first histogram of each group.
    metrics: HashMap<usize, Box<str>>,
}

#[derive(Clone, Debug)]
struct Cell {
    total: Option<Total>,
    reset_seen: bool,
    no_reset_seen: bool,
}

#[derive(Clone, Debug)]
enum Total {
    Sum(Box<KahanSum>),
    Mean(Box<KahanMean>),
}

/// What was noteworthy when a histogram was added.
#[derive(Clone, Copy, Debug)]
pub enum Note {
    /// Exponential and custom buckets met.
    Mixed,
    /// Custom buckets were made to fit.
    Reconciled,
}

impl Note {
    /// The annotation, for a series of `metric` in an expression at `position`.
    pub fn at(self, metric: &str, position: usize) -> Annotation {
        match self {
            Self::Mixed => Annotation::mixed_exponential_custom(metric, position),
            Self::Reconciled => Annotation::mismatched_custom_buckets(HistogramOperation::Aggregation, position),
        }
    }
}

impl NativeState {
    /// No group yet.
    pub fn new(operator: A) -> Self {
        Self { means: operator == A::Avg, ..Self::default() }
    }

    /// Takes a histogram, with the name of its metric, into a group (and step).
    pub fn add(&mut self, at: (usize, u32), (histogram, metric): (&FloatHistogram, &str), note: impl Fn(Note)) {
        let means = self.means;
        match self.cells.entry(at) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                let first = histogram.clone();
                let total = if means {
                    Total::Mean(Box::new(KahanMean::new(first)))
                } else {
                    Total::Sum(Box::new(KahanSum::new(first)))
                };
                let mut cell = Cell { total: Some(total), reset_seen: false, no_reset_seen: false };
                cell.see(histogram);
                entry.insert(cell);
                self.metrics.entry(at.0).or_insert_with(|| metric.into());
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let cell = entry.get_mut();
                let Some(total) = &mut cell.total else { return };
                match total.add(histogram) {
                    Ok(combined) if combined.bounds_reconciled => note(Note::Reconciled),
                    Ok(_) => {}
                    Err(MixedSchemas) => {
                        note(Note::Mixed);
                        cell.total = None;
                        return;
                    }
                }
                cell.see(histogram);
            }
        }
    }

    /// Takes group `from` of `other` into `group`; `note` is told the metric name too.
    pub fn merge(&mut self, group: usize, other: &Self, from: usize, note: impl Fn(Note, &str)) {
        let Some(metric) = other.metrics.get(&from) else { return };
        self.metrics.entry(group).or_insert_with(|| metric.clone());
        for ((_, step), theirs) in other.cells.range((from, 0)..=(from, u32::MAX)) {
            match self.cells.get_mut(&(group, *step)) {
                None => drop(self.cells.insert((group, *step), theirs.clone())),
                Some(mine) => mine.merge(theirs).into_iter().for_each(|noted| note(noted, metric)),
            }
        }
    }

    /// For each group and step the result, `None` where the buckets did not fit, and whether counter
    /// resets were in conflict.
    pub fn finish(self) -> impl Iterator<Item = ((usize, u32), Option<(FloatHistogram, bool)>)> {
        self.cells.into_iter().map(|(at, cell)| {
            let collided = cell.reset_seen && cell.no_reset_seen;
            let result = cell.total.map(|total| {
                let mut histogram = total.finish();
                histogram.compact(0);
                (histogram, collided)
            });
            (at, result)
        })
    }
}

impl Cell {
    fn see(&mut self, histogram: &FloatHistogram) {
        self.reset_seen |= histogram.counter_reset == CounterReset::Yes;
        self.no_reset_seen |= histogram.counter_reset == CounterReset::No;
    }

    /// Takes in what another part has of the same group and step; tells what was noteworthy.
    fn merge(&mut self, other: &Self) -> Option<Note> {
        self.reset_seen |= other.reset_seen;
        self.no_reset_seen |= other.no_reset_seen;
        let (Some(mine), Some(theirs)) = (&mut self.total, &other.total) else {
            self.total = None;
            return None;
        };
        match mine.merge(theirs) {
            Ok(combined) => combined.bounds_reconciled.then_some(Note::Reconciled),
            Err(MixedSchemas) => {
                self.total = None;
                Some(Note::Mixed)
            }
        }
    }
}

impl Total {
    fn add(&mut self, histogram: &FloatHistogram) -> Result<Combined, MixedSchemas> {
        match self {
            Self::Sum(sum) => sum.add(histogram),
            Self::Mean(mean) => mean.add(histogram),
        }
    }

    fn merge(&mut self, other: &Self) -> Result<Combined, MixedSchemas> {
        match (self, other) {
            (Self::Sum(mine), Self::Sum(theirs)) => mine.merge(theirs),
            (Self::Mean(mine), Self::Mean(theirs)) => mine.merge(theirs),
            _ => Err(MixedSchemas),
        }
    }

    fn finish(self) -> FloatHistogram {
        match self {
            Self::Sum(sum) => sum.finish(),
            Self::Mean(mean) => mean.finish(),
        }
    }
}
