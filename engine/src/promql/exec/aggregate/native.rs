//! Sums and means of native histograms, one for each group and step.

use std::collections::{BTreeMap, HashMap};

use crate::batch::bitmap;
use crate::model::histogram::{Combined, KahanMean, KahanSum, MixedSchemas};
use crate::model::{CounterReset, FloatHistogram};

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
    /// `None` behind a float: with histograms it has no sum, and these are not looked at.
    total: Option<Total>,
    /// The metric of the first histogram whose buckets do not fit: what comes behind it is not looked at.
    mixed: Option<Box<str>>,
    reconciled: bool,
    reset_seen: bool,
    no_reset_seen: bool,
}

#[derive(Clone, Debug)]
enum Total {
    Sum(Box<KahanSum>),
    Mean(Box<KahanMean>),
}

/// What became of the histograms of a group and step.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The sum or mean, and whether counter resets were in conflict; `None` where there is none.
    pub result: Option<(FloatHistogram, bool)>,
    /// The metric at which exponential and custom buckets met.
    pub mixed: Option<Box<str>>,
    /// Whether custom buckets were made to fit.
    pub reconciled: bool,
}

impl NativeState {
    /// No group yet.
    pub fn new(operator: A) -> Self {
        Self { means: operator == A::Avg, ..Self::default() }
    }

    /// Takes a histogram, with the name of its metric, into a group (and step).
    pub fn add(&mut self, at: (usize, u32), (histogram, metric): (&FloatHistogram, &str)) {
        let means = self.means;
        match self.cells.entry(at) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                let first = histogram.clone();
                let total = if means {
                    Total::Mean(Box::new(KahanMean::new(first)))
                } else {
                    Total::Sum(Box::new(KahanSum::new(first)))
                };
                entry.insert(Cell::new(Some(total))).see(histogram);
                self.metrics.entry(at.0).or_insert_with(|| metric.into());
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().add(histogram, metric),
        }
    }

    /// Takes no histogram into a group (and step) that has a float already, unless one came before that.
    pub fn close(&mut self, at: (usize, u32), metric: &str) {
        self.cells.entry(at).or_insert_with(|| Cell::new(None));
        self.metrics.entry(at.0).or_insert_with(|| metric.into());
    }

    /// Takes group `from` of `other` into `group`, which has floats at the steps `floats`.
    pub fn merge(&mut self, (group, floats): (usize, &[u64]), (other, from): (&Self, usize)) {
        let Some(metric) = other.metrics.get(&from) else { return };
        self.metrics.entry(group).or_insert_with(|| metric.clone());
        for ((_, step), theirs) in other.cells.range((from, 0)..=(from, u32::MAX)) {
            if bitmap::get(floats, *step as usize) {
                self.close((group, *step), metric);
            }
            match self.cells.get_mut(&(group, *step)) {
                None => drop(self.cells.insert((group, *step), theirs.clone())),
                Some(mine) => mine.merge(theirs, metric),
            }
        }
    }

    /// What became of each group and step.
    pub fn finish(self) -> impl Iterator<Item = ((usize, u32), Outcome)> {
        self.cells.into_iter().map(|(at, cell)| {
            let Cell { total, mixed, reconciled, reset_seen, no_reset_seen } = cell;
            let result = total.filter(|_| mixed.is_none()).map(|total| {
                let mut histogram = total.finish();
                histogram.compact(0);
                (histogram, reset_seen && no_reset_seen)
            });
            (at, Outcome { result, mixed, reconciled })
        })
    }
}

impl Cell {
    fn new(total: Option<Total>) -> Self {
        Self { total, mixed: None, reconciled: false, reset_seen: false, no_reset_seen: false }
    }

    fn see(&mut self, histogram: &FloatHistogram) {
        self.reset_seen |= histogram.counter_reset == CounterReset::Yes;
        self.no_reset_seen |= histogram.counter_reset == CounterReset::No;
    }

    /// Takes a histogram behind others.
    fn add(&mut self, histogram: &FloatHistogram, metric: &str) {
        let Some(total) = self.total.as_mut().filter(|_| self.mixed.is_none()) else { return };
        match total.add(histogram) {
            Ok(combined) => {
                self.reconciled |= combined.bounds_reconciled;
                self.see(histogram);
            }
            Err(MixedSchemas) => self.mixed = Some(metric.into()),
        }
    }

    /// Takes in what another part has of the same group and step, where `metric` came first.
    fn merge(&mut self, other: &Self, metric: &str) {
        let mine = self.total.as_mut().filter(|_| self.mixed.is_none());
        let (Some(mine), Some(theirs)) = (mine, &other.total) else { return };
        match mine.merge(theirs) {
            Ok(combined) => {
                self.reconciled |= combined.bounds_reconciled || other.reconciled;
                self.reset_seen |= other.reset_seen;
                self.no_reset_seen |= other.no_reset_seen;
                self.mixed.clone_from(&other.mixed);
            }
            Err(MixedSchemas) => self.mixed = Some(metric.into()),
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
