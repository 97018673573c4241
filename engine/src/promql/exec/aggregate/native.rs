//! Sums and means of native histograms, one for each group and step.

use std::borrow::Cow;
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
    /// Of each group the steps at which buckets did not fit: what comes behind is not looked at, be it a float.
    mixed: HashMap<usize, Vec<u32>>,
    /// The metric name of the first histogram of each group.
    metrics: HashMap<usize, Box<str>>,
}

#[derive(Clone, Debug, Default)]
struct Cell {
    /// Whether a float came first: with histograms it has no sum, and what these are is not looked at. In a part it is,
    /// as there may be histograms before that float.
    is_closed: bool,
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
        let cell = self.cells.entry(at).or_default();
        if cell.total.is_some() {
            if cell.add(histogram, metric) == Fit::Mixed {
                self.mixed.entry(at.0).or_default().push(at.1);
            }
            return;
        }
        let first = histogram.clone();
        cell.total = Some(match self.means {
            true => Total::Mean(Box::new(KahanMean::new(first))),
            false => Total::Sum(Box::new(KahanSum::new(first))),
        });
        cell.see(histogram);
        self.metrics.entry(at.0).or_insert_with(|| metric.into());
    }

    /// Leaves out of `valid`, the steps at which a float comes into `group`, those at which it is not looked at.
    pub fn without_mixed<'v>(&self, group: usize, valid: &'v [u64]) -> Cow<'v, [u64]> {
        match self.mixed.get(&group) {
            Some(mixed) => Cow::Owned(without(valid, mixed)),
            None => Cow::Borrowed(valid),
        }
    }

    /// Looks no longer at the histograms of a group (and step) that has a float already, unless one came before that.
    pub fn close(&mut self, at: (usize, u32)) {
        self.cells.entry(at).or_insert_with(|| Cell { is_closed: true, ..Cell::default() });
    }

    /// Takes group `from` of `other`, which has floats at the steps `theirs`, into `group`, which has floats at the
    /// steps `floats`. Gives those of `theirs` at which the float is looked at.
    pub fn merge<'v>(
        &mut self,
        (group, floats): (usize, &[u64]),
        (other, from): (&Self, usize),
        theirs: &'v [u64],
    ) -> Cow<'v, [u64]> {
        let Some(metric) = other.metrics.get(&from) else { return self.without_mixed(group, theirs) };
        let mut mixed = self.mixed.get(&group).cloned().unwrap_or_default();
        let mut mixed_behind = Vec::new();
        self.metrics.entry(group).or_insert_with(|| metric.clone());
        for ((_, step), theirs) in other.cells.range((from, 0)..=(from, u32::MAX)) {
            if bitmap::get(floats, *step as usize) {
                self.close((group, *step));
            }
            let Some(mine) = self.cells.get_mut(&(group, *step)) else {
                self.cells.insert((group, *step), theirs.clone());
                continue;
            };
            if mine.merge(theirs, metric) == Fit::Mixed {
                let behind = if theirs.is_closed { &mut mixed_behind } else { &mut mixed };
                behind.push(*step);
            }
        }
        // Where theirs did not fit among themselves, they left out themselves what came behind that; and what came
        // before all of theirs is looked at.
        let looked_at = if mixed.is_empty() { Cow::Borrowed(theirs) } else { Cow::Owned(without(theirs, &mixed)) };
        mixed.extend(mixed_behind.iter().chain(other.mixed.get(&from).into_iter().flatten()));
        if !mixed.is_empty() {
            self.mixed.insert(group, mixed);
        }
        looked_at
    }

    /// What became of each group and step.
    pub fn finish(self) -> impl Iterator<Item = ((usize, u32), Outcome)> {
        self.cells.into_iter().map(|(at, cell)| {
            let Cell { is_closed, total, mixed, reconciled, reset_seen, no_reset_seen } = cell;
            if is_closed {
                return (at, Outcome { result: None, mixed: None, reconciled: false });
            }
            let result = total.filter(|_| mixed.is_none()).map(|total| {
                let mut histogram = total.finish();
                histogram.compact(0);
                (histogram, reset_seen && no_reset_seen)
            });
            (at, Outcome { result, mixed, reconciled })
        })
    }
}

/// Whether histograms fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Fitting,
    /// The first of them does not.
    Mixed,
}

/// `valid` without the steps `out`.
fn without(valid: &[u64], out: &[u32]) -> Vec<u64> {
    let mut left = valid.to_vec();
    out.iter().for_each(|step| bitmap::clear(&mut left, *step as usize));
    left
}

impl Cell {
    fn see(&mut self, histogram: &FloatHistogram) {
        self.reset_seen |= histogram.counter_reset == CounterReset::Yes;
        self.no_reset_seen |= histogram.counter_reset == CounterReset::No;
    }

    /// Takes a histogram behind others.
    fn add(&mut self, histogram: &FloatHistogram, metric: &str) -> Fit {
        let Some(total) = self.total.as_mut().filter(|_| self.mixed.is_none()) else { return Fit::Fitting };
        match total.add(histogram) {
            Ok(combined) => {
                self.reconciled |= combined.bounds_reconciled;
                self.see(histogram);
                Fit::Fitting
            }
            Err(MixedSchemas) => {
                self.mixed = Some(metric.into());
                Fit::Mixed
            }
        }
    }

    /// Takes in what another part has of the same group and step, where `metric` came first.
    fn merge(&mut self, other: &Self, metric: &str) -> Fit {
        let mine = self.total.as_mut().filter(|_| self.mixed.is_none() && !self.is_closed);
        let (Some(mine), Some(theirs)) = (mine, &other.total) else { return Fit::Fitting };
        match mine.merge(theirs) {
            Ok(combined) => {
                self.reconciled |= combined.bounds_reconciled || other.reconciled;
                self.reset_seen |= other.reset_seen;
                self.no_reset_seen |= other.no_reset_seen;
                self.mixed.clone_from(&other.mixed);
                Fit::Fitting
            }
            Err(MixedSchemas) => {
                self.mixed = Some(metric.into());
                Fit::Mixed
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
